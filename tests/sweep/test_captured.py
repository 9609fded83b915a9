"""Sweeps that are recorded and replayed give the bits of sweeps that are run, and book the same messages."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import networkx as nx
import pytest
import torch
from networks import FAMILY, PLACEMENTS, hdnn, quiet_graph, uneven_widths
from tape import READING, Tape, TapeRecorder

import dist_hdnn
from dist_hdnn.config import Config
from dist_hdnn.dynamics.architectures import architecture
from dist_hdnn.sweep import cuda_graphs
from dist_hdnn.sweep.sweep import run, run_back

MODES: list[dict[str, Any]] = [
    {},
    {"keep_dtype": torch.bfloat16},
    {"memory": "recompute"},
    {"memory": "reversible"},
    {"memory": "reversible", "keep_every": 2, "keep_dtype": torch.bfloat16},
]
CASES = [
    *FAMILY,
    *(options | {"memory": "reversible"} for options in FAMILY if architecture(options["architecture"]).invertible),
    *(PLACEMENTS["K and X"] | mode for mode in MODES),
]
STEPS = 3


class Recorder(TapeRecorder):
    """Counts from nothing for every test."""


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Recorder]]:
    monkeypatch.setitem(cuda_graphs.RECORDERS, "cpu", Recorder)
    monkeypatch.setattr(Recorder, "replays", 0)
    yield Recorder


def made(graph: Any, **options: Any) -> dist_hdnn.HDNN:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hdnn(graph, plan="torch", **{"cuda_graphs": True, **options})  # tiles are no operations of PyTorch


def step(net: dist_hdnn.HDNN, y: torch.Tensor) -> list[torch.Tensor]:
    """Output, δy0 and all gradients; the weights move on a little."""
    y = y.clone().requires_grad_()
    output = net(y)
    found = list(torch.autograd.grad(output.square().sum(), [y, *net.parameters()]))
    with torch.no_grad():
        for parameter, gradient in zip(net.parameters(), found[1:], strict=True):
            parameter.sub_(1e-3 * gradient)
    return [output.detach(), *found]


def same_steps(ours: dist_hdnn.HDNN, theirs: dist_hdnn.HDNN, steps: int = STEPS) -> None:
    """Steps on ever new batches have the same bits and messages."""
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        y = torch.randn(5, ours.neurons, generator=generator)
        for a, b in zip(step(ours, y), step(theirs, y), strict=True):
            assert torch.equal(a, b)
        assert ours.ownership.ledger.totals() == theirs.ownership.ledger.totals()
        assert ours.reconstruction_error() == theirs.reconstruction_error()


@pytest.mark.parametrize("options", CASES, ids=str)
def test_replayed_steps_have_the_bits_of_steps_that_are_run(options: dict[str, Any], recorder: type[Recorder]) -> None:
    options = {"width": uneven_widths(17), "layers": 5, "step": 0.2, **options}
    graph = quiet_graph("random")
    same_steps(made(graph, **options), made(graph, **options, cuda_graphs=False))
    assert recorder.replays == 2 * (STEPS - 1)


def test_nothing_is_recorded_unless_it_is_asked_for(recorder: type[Recorder]) -> None:
    net = hdnn(quiet_graph("ring"), layers=2, plan="torch")
    for _ in range(STEPS):
        step(net, torch.ones(3, net.neurons))
    assert recorder.replays == 0 and not Config().cuda_graphs


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"activation": "sigmoid"},
        {"time": "shared"},
        {"time": 3},
        {"deterministic": True},
        {"shared_x": False, "X": "neighbours"},
    ],
    ids=str,
)
def test_other_options(options: dict[str, Any], mode: dict[str, Any], recorder: type[Recorder]) -> None:
    options = {"width": 4, "layers": 6, "step": 0.2, **options, **mode}
    graphs = [nx.cycle_graph(8), nx.path_graph(8)]
    same_steps(made(graphs, **options), made(graphs, **options, cuda_graphs=False))
    assert recorder.replays == 2 * (STEPS - 1)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_gradients_that_were_handed_out_stay(mode: dict[str, Any], recorder: type[Recorder]) -> None:
    net, plain = (made(quiet_graph("ring"), layers=4, **mode, cuda_graphs=on) for on in (True, False))
    batches = torch.randn(5, 6, net.neurons, generator=torch.Generator().manual_seed(2))
    for y in batches:  # gradients add up in `.grad`
        for each in (net, plain):
            each(y).square().sum().backward()
    outputs = [[each(y) for y in batches[:2]] for each in (net, plain)]
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None and torch.equal(ours.grad, theirs.grad)
    for ours, theirs in zip(*outputs, strict=True):
        assert torch.equal(ours, theirs)
    assert recorder.replays > 0


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_two_sweeps_at_once_and_a_graph_differentiated_again(mode: dict[str, Any], recorder: type[Recorder]) -> None:
    net, plain = (made(quiet_graph("ring"), layers=6, **mode, cuda_graphs=on) for on in (True, False))
    same_steps(net, plain)
    found = []
    for each in (net, plain):
        parameters = list(each.parameters())
        losses = [each(torch.full((5, net.neurons), value)).square().sum() for value in (1.0, 2.0)]
        of_each = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses * 2]
        found.append([gradient for gradients in of_each for gradient in gradients])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_states_that_are_watched_are_run_and_then_recorded_anew(recorder: type[Recorder]) -> None:
    net, plain = (made(quiet_graph("ring"), layers=3, memory="reversible", cuda_graphs=on) for on in (True, False))
    same_steps(net, plain)
    seen: list[int] = []
    handle = net.register_state_hook(lambda layer, state: seen.append(layer))
    replays = recorder.replays
    same_steps(net, plain, 1)
    assert seen == [0, 1, 2, 3] and recorder.replays == replays
    handle.remove()
    same_steps(net, plain, 2)
    assert len(seen) == 4 and recorder.replays == replays + 4


def test_a_copy_and_another_batch_and_evaluation(recorder: type[Recorder]) -> None:
    net, plain = (made(quiet_graph("grid"), layers=3, cuda_graphs=on) for on in (True, False))
    same_steps(net, plain)
    same_steps(copy.deepcopy(net), copy.deepcopy(plain))
    y = torch.randn(9, net.neurons, generator=torch.Generator().manual_seed(3))
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(step(net, y), step(plain, y), strict=True))
    assert torch.equal(net.states(y), plain.states(y))
    with net.linearize(y) as ours, plain.linearize(y) as theirs:
        assert torch.equal(ours.pull(y, 3, 0), theirs.pull(y, 3, 0))
    assert net.sweep.first_non_finite() is None


def test_a_sweep_that_cannot_be_recorded_is_run(recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "fails", True)
    net, plain = (made(quiet_graph("ring"), layers=3, memory="recompute", cuda_graphs=on) for on in (True, False))
    same_steps(net, plain, 1)
    with pytest.warns(
        UserWarning, match=r"cuda_graphs: .*not permitted when stream is capturing.*leave cuda_graphs out"
    ):
        same_steps(net, plain, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same_steps(net, plain)
    assert recorder.replays == 0


def test_workers_run_their_sweeps(recorder: type[Recorder]) -> None:
    def work(transport: dist_hdnn.transport.Transport) -> None:
        net = made(quiet_graph("ring"), layers=3, workers=transport)
        for _ in range(3):
            net(torch.ones(4, net.neurons)).sum().backward()

    dist_hdnn.transport.run_threads(2, work, timeout=60)
    assert recorder.replays == 0


# -- nothing that the host waits for ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_no_operation_of_a_sweep_is_read_by_the_host(mode: dict[str, Any]) -> None:
    """The recorder of these tests asserts the same of every sweep that it records."""
    net = made(quiet_graph("random"), width=uneven_widths(17), layers=4, step=0.2, **mode)
    y = torch.randn(5, net.neurons)
    weights = {name: [tensor.detach() for tensor in tensors] for name, tensors in net.weights().items()}
    leased = net.sweep.lease(y)
    with torch.no_grad(), Tape() as tape:
        run_back(net.sweep, leased, y, run(net.sweep, leased, y, weights), weights)
    names = tape.names()
    assert names & {"bmm", "baddbmm"} and not names & set(READING)
    with torch.no_grad(), Tape() as tape:
        assert float(y[0, 0]) and torch.equal(y, y)
    assert tape.names() & set(READING) == {"_local_scalar_dense", "equal"}


@pytest.mark.parametrize("options", [*CASES, *(mode | {"deterministic": True} for mode in MODES)], ids=str)
def test_all_tensors_of_a_sweep_are_on_its_device(options: dict[str, Any]) -> None:
    """The device "meta" has shapes alone: it refuses tensors of other devices, and whatever reads a number."""
    net = made(quiet_graph("random"), width=uneven_widths(17), layers=4, step=0.2, **options).to("meta")
    y = torch.empty(5, net.neurons, device="meta", requires_grad=True)
    for _ in range(2):
        net(y).sum().backward()
    assert y.grad is not None and y.grad.device.type == "meta"


# -- on a GPU ----------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", CASES, ids=str)
def test_replayed_steps_on_a_gpu_are_those_of_the_cpu(options: dict[str, Any]) -> None:
    options = {"width": uneven_widths(17), "layers": 5, "step": 0.2, "dtype": torch.float64, **options}
    if options.pop("keep_dtype", None):
        options |= {"dtype": torch.float32, "keep_dtype": torch.bfloat16}
    bound = 1e-10 if options["dtype"] == torch.float64 else 1e-3
    on_cpu = made(quiet_graph("random"), **options)
    on_gpu = copy.deepcopy(on_cpu).to("cuda")
    generator = torch.Generator().manual_seed(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a sweep that could not be captured warns
        for _ in range(STEPS):
            y = torch.randn(5, on_cpu.neurons, generator=generator, dtype=options["dtype"])
            for a, b in zip(step(on_gpu, y.cuda()), step(on_cpu, y), strict=True):
                assert float((a.cpu() - b).abs().max() / b.abs().max().clamp(min=1)) < bound
    assert on_gpu.ownership.ledger.totals() == on_cpu.ownership.ledger.totals()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_on_a_gpu_waits_for_nothing() -> None:
    net = made(quiet_graph("random"), width=4, layers=5, memory="reversible", keep_every=2, device="cuda")
    y = torch.randn(5, net.neurons, device="cuda")
    for _ in range(3):
        net(y).square().sum().backward()
    expected = [parameter.grad.clone() / 3 for parameter in net.parameters() if parameter.grad is not None]
    net.zero_grad(set_to_none=False)
    torch.cuda.set_sync_debug_mode("error")  # whatever waits for the GPU raises
    try:
        net(y).square().sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
