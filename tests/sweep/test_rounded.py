"""What a sweep keeps may be rounded to bfloat16: the forward bits stay, gradients are near, memory is half."""

from __future__ import annotations

import warnings
from typing import Any

import networkx as nx
import pytest
import torch
from allocations import allocations
from networks import FAMILY, PLACEMENTS, hdnn, quiet_graph, uneven_widths
from on_workers import random_owners

import dist_hdnn
from dist_hdnn.dynamics.architectures import architecture
from dist_hdnn.sweep.sweep import run, run_back
from dist_hdnn.transport import Transport, run_threads

MODES: list[dict[str, Any]] = [{}, {"memory": "recompute"}, {"memory": "reversible", "keep_every": 2}]
CASES = [
    {**options, **mode}
    for options in FAMILY
    for mode in MODES
    if architecture(options["architecture"]).invertible or mode.get("memory") != "reversible"
]
Tensors = list[torch.Tensor]


def made(graph: Any, **options: Any) -> dist_hdnn.HDNN:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hdnn(graph, **options)


def gradients(net: dist_hdnn.HDNN, y: torch.Tensor) -> Tensors:
    """Output, δy0 and the gradient of every weight, for the loss Σ yN² / 2."""
    y = y.clone().requires_grad_()
    output = net(y)
    return [output.detach(), *torch.autograd.grad(0.5 * output.square().sum(), [y, *net.parameters()])]


def apart(found: Tensors, expected: Tensors) -> float:
    """Largest relative difference of two lists of tensors, in the Euclidean norm of each."""
    return max(float((a - b).norm() / b.norm().clamp_min(1e-30)) for a, b in zip(found, expected, strict=True))


def rounded_and_not(graph: Any, **options: Any) -> tuple[Tensors, Tensors]:
    """Output and gradients of a network that rounds what it keeps, and of the same that stores all as computed."""
    modes = {name: options.pop(name) for name in ("memory", "keep_every") if name in options}
    plain, rounded = made(graph, **options), made(graph, **options, **modes, keep_dtype=torch.bfloat16)
    y = torch.randn(32, plain.neurons, generator=torch.Generator().manual_seed(2))
    return gradients(rounded, y), gradients(plain, y)


@pytest.mark.parametrize("sigma", ["tanh", "sigmoid"])
@pytest.mark.parametrize("options", CASES, ids=str)
def test_the_forward_bits_stay_and_gradients_are_near(options: dict[str, Any], sigma: str) -> None:
    options = {"width": uneven_widths(40), "layers": 7, "step": 0.2, "activation": sigma, **options}
    found, expected = rounded_and_not(quiet_graph("hubs"), **options)
    assert torch.equal(found[0], expected[0])
    assert 0 < apart(found[1:], expected[1:]) < 0.02


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_cycled_graphs(mode: dict[str, Any]) -> None:
    graphs = [nx.cycle_graph(8), nx.path_graph(8), nx.star_graph(7)]
    options = {"width": uneven_widths(8), "layers": 8, "step": 0.2, "integrator": "stormer_verlet", **mode}
    found, expected = rounded_and_not(graphs, **options)
    assert torch.equal(found[0], expected[0])
    assert 0 < apart(found[1:], expected[1:]) < 0.02


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_bits_do_not_depend_on_the_workers_in_deterministic_mode(mode: dict[str, Any]) -> None:
    graph = quiet_graph("random")
    options = {
        "width": uneven_widths(17, widest=5),
        "layers": 5,
        "deterministic": True,
        **PLACEMENTS["K and X"],
        **mode,
    }
    alone = made(graph, **options, keep_dtype=torch.bfloat16)
    y = torch.randn(6, alone.neurons, generator=torch.Generator().manual_seed(2))
    expected = gradients(alone, y)

    def work(transport: Transport) -> bool:
        net = made(graph, workers=transport, partition=random_owners(17, 3), **options, keep_dtype=torch.bfloat16)
        output, dy, *found = gradients(net, net.local(y))
        same = torch.equal(output, net.local(expected[0])) and torch.equal(dy, net.local(expected[1]))
        for (name, _), gradient, whole in zip(net.named_parameters(), found, expected[2:], strict=True):
            shard = net.shards[name]
            same = same and torch.equal(gradient, whole.index_select(shard.dimension, torch.from_numpy(shard.index)))
        return same

    assert all(run_threads(3, work, timeout=60))


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_gradients_of_a_trained_deep_network(mode: dict[str, Any]) -> None:
    plain = made(dist_hdnn.ring(8), width=4, layers=64, step=0.125)
    rounded = made(dist_hdnn.ring(8), width=4, layers=64, step=0.125, **mode, keep_dtype=torch.bfloat16)
    y = torch.randn(64, plain.neurons, generator=torch.Generator().manual_seed(0))
    adam = torch.optim.Adam(plain.parameters(), lr=0.02)
    for _ in range(60):
        adam.zero_grad()
        (plain(y) - y.roll(3, dims=1)).square().mean().backward()
        adam.step()
    rounded.load_state_dict(plain.state_dict())
    found, expected = gradients(rounded, y), gradients(plain, y)
    assert torch.equal(found[0], expected[0])
    assert 0 < apart(found[1:], expected[1:]) < 0.02


def test_anchors_that_are_rounded_help_as_long_as_states_are_worse_than_they() -> None:
    """Float32 states of wild weights, rebuilt over 64 layers: anchors cut a large error, and spoil no small one."""
    y = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    errors = {}
    for scale in (1.2, 1.9):
        for every, dtype in ((None, None), (4, None), (4, torch.bfloat16)):
            net = made(
                dist_hdnn.ring(8),
                layers=64,
                initial_scale=scale,
                memory="reversible",
                keep_every=every,
                keep_dtype=dtype,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                gradients(net, y)
            errors[scale, every, dtype] = net.reconstruction_error() or 0.0
    wild, tame = (errors[scale, None, None] for scale in (1.9, 1.2))
    assert wild > 1e-3 > tame
    assert errors[1.9, 4, None] < errors[1.9, 4, torch.bfloat16] < wild
    assert errors[1.2, 4, torch.bfloat16] <= tame


@pytest.mark.parametrize("mode", [{"memory": "recompute", "keep_every": 4}], ids=str)
def test_what_grows_with_depth_takes_half_the_memory(mode: dict[str, Any]) -> None:
    def grown(dtype: torch.dtype | None) -> int:
        peaks = []
        for layers in (16, 256):
            net = made(dist_hdnn.ring(8), layers=layers, step=0.05, keep_dtype=dtype, **mode)
            y = torch.randn(4096, net.neurons)
            handed_out = sum(parameter.nbytes for parameter in net.parameters())
            peaks.append(allocations(lambda net=net, y=y: gradients(net, y)).peak - handed_out)
        return peaks[1] - peaks[0]

    assert 0.4 < grown(torch.bfloat16) / grown(None) < 0.6


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_layer_allocates_nothing(mode: dict[str, Any]) -> None:
    found = []
    for layers in (4, 12):
        every = {"keep_every": 4} if mode else {}
        net = made(
            dist_hdnn.ring(8), layers=layers, step=0.05, keep_dtype=torch.bfloat16, X="neighbours", **mode | every
        )
        y = torch.randn(256, net.neurons)
        weights = {name: [tensor.detach() for tensor in tensors] for name, tensors in net.weights().items()}
        handed_out = sum(tensor.nbytes for tensors in weights.values() for tensor in tensors)

        def sweep(net: dist_hdnn.HDNN = net, y: torch.Tensor = y, weights: Any = weights) -> None:
            with torch.no_grad():
                tape = net.sweep.lease(y)
                run_back(net.sweep, tape, y, run(net.sweep, tape, y, weights), weights)
                net.sweep.pool.give_back(tape)

        for _ in range(2):  # the second one is recorded
            sweep()
        found.append(allocations(sweep).allocated - handed_out)
    assert abs(found[1] - found[0]) < 0.1 * 256 * net.neurons * 4


def test_a_graph_differentiated_again_and_the_first_layer_that_is_not_finite() -> None:
    net = made(quiet_graph("ring"), layers=6, keep_dtype=torch.bfloat16)
    y = torch.randn(4, net.neurons, generator=torch.Generator().manual_seed(2))
    loss, parameters = net(y).square().sum(), list(net.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    again = torch.autograd.grad(loss, parameters, retain_graph=True)
    assert apart(list(again), list(first)) < 0.02  # the first starts from the last state as it was computed
    assert net.sweep.first_non_finite() is None
    with torch.no_grad():
        net.bp[3].fill_(torch.nan)
    net(y)
    assert net.sweep.first_non_finite() == 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dtype": torch.float64}, "expected bfloat16 with dtype=float32, got bfloat16 with dtype=float64"),
        ({"keep_dtype": torch.float16}, "expected bfloat16 with dtype=float32, got float16 with dtype=float32"),
        ({"memory": "reversible"}, "expected nothing with memory=reversible, which keeps no state but the last"),
    ],
)
def test_formats_that_do_not_fit_are_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"network.keep_dtype: {text}"):
        made(quiet_graph("ring"), **{"keep_dtype": torch.bfloat16, **options})
