"""Sweeps that are recorded and replayed give the bits of sweeps that are run, and book the same messages."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import networkx as nx
import pytest
import torch
from networks import FAMILY, PLACEMENTS, hdnn, quiet_graph, uneven_widths

import dist_hdnn
from dist_hdnn.config import Config
from dist_hdnn.dynamics.architectures import architecture
from dist_hdnn.operators.tiles import threads
from dist_hdnn.operators.tiles.machine import available
from dist_hdnn.sweep.program import TRIES
from dist_hdnn.transport import Transport, run_threads

pytestmark = pytest.mark.skipif(not available(), reason="no kernels without llvmlite")

MODES: list[dict[str, Any]] = [
    {},
    {"keep_dtype": torch.bfloat16},
    {"memory": "recompute"},
    {"memory": "reversible"},
    {"memory": "reversible", "keep_every": 2, "keep_dtype": torch.bfloat16},
]
STEPS = 4
CASES = [
    options | mode
    for options in [*FAMILY, *PLACEMENTS.values()]
    for mode in MODES
    if mode.get("memory") != "reversible" or architecture(options.get("architecture", "hamiltonian")).invertible
]
OTHERS: list[dict[str, Any]] = [
    {"activation": "sigmoid"},
    {"time": "shared"},
    {"time": 3},
    {"shared_x": False, "X": "neighbours"},
    {"dtype": torch.float64},
    {"architecture": "hamiltonian", "integrator": "stormer_verlet"},
]


def made(graph: Any, **options: Any) -> dist_hdnn.HDNN:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hdnn(graph, **options)


def replays(net: dist_hdnn.HDNN) -> list[int]:
    """Return how often each direction was replayed, over all tapes."""
    programs = [tape.programs for tape in net.sweep.pool._idle.values() if tape.programs]
    return [sum(program.replays for program in direction) for direction in zip(*programs, strict=True)]


def step(net: dist_hdnn.HDNN, y: torch.Tensor) -> list[torch.Tensor]:
    """Output, δy0 and all gradients; the weights move on a little."""
    y = y.to(next(net.parameters()).dtype, copy=True).requires_grad_()
    output = net(y)
    found = list(torch.autograd.grad(output.square().sum(), [y, *net.parameters()]))
    with torch.no_grad():
        for parameter, gradient in zip(net.parameters(), found[1:], strict=True):
            parameter.sub_(1e-3 * gradient)
    return [output.detach(), *found]


def same_steps(ours: dist_hdnn.HDNN, theirs: dist_hdnn.HDNN, steps: int = STEPS, batch: int = 5) -> None:
    """Steps on ever new batches have the same bits and messages."""
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        y = torch.randn(batch, ours.neurons, generator=generator)
        for a, b in zip(step(ours, y), step(theirs, y), strict=True):
            assert torch.equal(a, b)
        assert ours.ownership.ledger.totals() == theirs.ownership.ledger.totals()
        assert ours.reconstruction_error() == theirs.reconstruction_error()


@pytest.mark.parametrize("options", CASES, ids=str)
def test_replayed_steps_have_the_bits_of_steps_that_are_run(options: dict[str, Any]) -> None:
    options = {"width": uneven_widths(17), "layers": 5, "step": 0.2, **options}
    graph = quiet_graph("random")
    net = made(graph, **options)
    same_steps(net, made(graph, **options, replay=False))
    assert replays(net) == [STEPS - 2] * 2


@pytest.mark.parametrize(
    "options",
    [each | mode for each in OTHERS for mode in MODES if not ("dtype" in each and "keep_dtype" in mode)],
    ids=str,
)
def test_other_options(options: dict[str, Any]) -> None:
    options = {"width": 4, "layers": 6, "step": 0.2, **options}
    graphs = [nx.cycle_graph(8), nx.path_graph(8)]
    same_steps(made(graphs, **options), made(graphs, **options, replay=False))


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_workers_replay_what_lies_between_their_exchanges(mode: dict[str, Any]) -> None:
    graph = quiet_graph("random")
    options: dict[str, Any] = {"width": uneven_widths(17), "layers": 4, "step": 0.2, "X": "neighbours", **mode}

    def work(transport: Transport) -> None:
        ours, theirs = (made(graph, workers=transport, replay=on, **options) for on in (True, False))
        same_steps(ours, theirs)
        assert replays(ours) == [STEPS - 2] * 2

    for workers in (2, 3):
        run_threads(workers, work, timeout=60)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_two_sweeps_at_once_and_a_graph_differentiated_again(mode: dict[str, Any]) -> None:
    net, plain = (made(quiet_graph("ring"), layers=6, **mode, replay=on) for on in (True, False))
    same_steps(net, plain)
    found = []
    for each in (net, plain):
        parameters = list(each.parameters())
        losses = [each(torch.full((5, net.neurons), value)).square().sum() for value in (1.0, 2.0)]
        of_each = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses * 2]
        found.append([gradient for gradients in of_each for gradient in gradients])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    same_steps(net, plain)


@pytest.mark.parametrize("every", [8, 16, 24])
@pytest.mark.parametrize("options", [{"architecture": "antisymmetric"}, {"X": "neighbours"}, {}], ids=str)
def test_a_further_backward_after_replays(options: dict[str, Any], every: int) -> None:
    mode = {"layers": 16, "width": 2, "memory": "recompute", "keep_every": every, "step": 0.1}
    net, plain = (made(dist_hdnn.ring(8), **mode, **options, replay=on) for on in (True, False))
    same_steps(net, plain)  # every layer's panels do not fit at a time
    found = []
    for each in (net, plain):
        loss = each(torch.ones(5, net.neurons)).square().sum()
        parameters = list(each.parameters())
        for _ in range(3):
            found.append(torch.autograd.grad(loss, parameters, retain_graph=True))
    for first, second in zip(found[:3], found[3:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_gradients_and_outputs_that_were_handed_out_stay() -> None:
    net = made(quiet_graph("ring"), layers=4)
    ys = torch.randn(6, 5, net.neurons, generator=torch.Generator().manual_seed(2))
    kept = [(net(y), torch.autograd.grad(net(y).square().sum(), list(net.parameters()))) for y in ys]
    plain = made(quiet_graph("ring"), layers=4, replay=False)
    for y, (output, gradients) in zip(ys, kept, strict=True):
        assert torch.equal(output, plain(y))
        again = torch.autograd.grad(plain(y).square().sum(), list(plain.parameters()))
        assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))


def test_states_that_are_watched_are_run() -> None:
    net, plain = (made(quiet_graph("ring"), layers=3, memory="reversible", replay=on) for on in (True, False))
    same_steps(net, plain)
    seen: list[int] = []
    handle = net.register_state_hook(lambda layer, state: seen.append(layer))
    same_steps(net, plain, 1)
    assert seen == [0, 1, 2, 3]
    handle.remove()
    same_steps(net, plain, 2)
    assert len(seen) == 4


@pytest.mark.parametrize(
    "options", [{}, {"X": "neighbours"}, {"architecture": "leapfrog"}, {"integrator": "stormer_verlet"}], ids=str
)
def test_sweeps_of_gradients_are_kernels_alone(options: dict[str, Any]) -> None:
    net = made(quiet_graph("grid"), **{"layers": 4, "width": 4, "architecture": "hamiltonian", **options})
    for _ in range(3):
        step(net, torch.ones(5, net.neurons))
    (tape,) = net.sweep.pool._idle.values()
    for program in tape.programs:
        assert len(program._recording._steps) == 1, "one call of the compiled loop"


def test_weights_in_other_memory_are_recorded_anew() -> None:
    net, plain = (made(quiet_graph("grid"), layers=3, replay=on) for on in (True, False))
    same_steps(net, plain)
    for each in (net, plain):
        for parameter in each.parameters():
            parameter.data = parameter.data.clone()
    before = replays(net)
    same_steps(net, plain)
    assert replays(net) == [count + STEPS - 2 for count in before]


def test_weights_that_move_at_every_step_are_not_recorded_for_ever() -> None:
    net, plain = (made(quiet_graph("grid"), layers=3, replay=on) for on in (True, False))
    keep = []  # so that no address comes again
    for _ in range(3 * TRIES):
        for each in (net, plain):
            keep += [parameter.data for parameter in each.parameters()]
            for parameter in each.parameters():
                parameter.data = parameter.data.clone()
        same_steps(net, plain, 2)
    (tape,) = net.sweep.pool._idle.values()
    assert [program.unused for program in tape.programs] == [TRIES] * 2 and replays(net) == [0, 0]


def test_a_copy_and_another_batch_and_evaluation() -> None:
    net, plain = (made(quiet_graph("grid"), layers=3, X="neighbours", replay=on) for on in (True, False))
    same_steps(net, plain)
    same_steps(copy.deepcopy(net), copy.deepcopy(plain))
    y = torch.randn(9, net.neurons, generator=torch.Generator().manual_seed(3))
    same_steps(net, plain, batch=9)
    assert torch.equal(net.states(y), plain.states(y))
    for mode in (torch.inference_mode, torch.no_grad, torch.inference_mode):
        for _ in range(3):
            with mode():
                assert torch.equal(net(y), plain(y))
    with net.linearize(y) as ours, plain.linearize(y) as theirs:
        assert torch.equal(ours.pull(y, 3, 0), theirs.pull(y, 3, 0))
    assert net.sweep.first_non_finite() is None


def test_kernels_on_several_threads_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "WORTH", 0)
    net, plain = (made(quiet_graph("ring"), layers=3, replay=on) for on in (True, False))
    same_steps(net, plain)
    assert replays(net) == []


def test_an_update_of_the_learning_rate_or_of_the_weights_in_place_needs_no_recording() -> None:
    net, plain = (made(quiet_graph("ring"), layers=3, replay=on) for on in (True, False))
    optimizers = [torch.optim.Adam(each.parameters(), lr=0.01) for each in (net, plain)]
    y = torch.randn(5, net.neurons, generator=torch.Generator().manual_seed(3))
    for count in range(6):
        for each, optimizer in zip((net, plain), optimizers, strict=True):
            optimizer.zero_grad(set_to_none=bool(count % 2))
            each(y).square().sum().backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), plain.parameters(), strict=True))
    assert replays(net) == [4, 4] and Config().replay
