"""Every memory mode gives the gradients of the stored sweep, on any workers, and says what it costs."""

import warnings
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from networks import (
    FAMILY,
    PLACEMENTS,
    hdnn,
    largest_difference_to_twin,
    minimum_bytes,
    network,
    quiet_graph,
    uneven_widths,
)
from on_workers import BATCH, largest_difference, random_owners, same_bits

import dist_hdnn
from dist_hdnn.dynamics.architectures import architecture
from dist_hdnn.sweep.reconstruction import ReconstructionError
from dist_hdnn.transport import Transport, run_threads

INVERTIBLE = [options for options in FAMILY if architecture(options["architecture"]).invertible]
MODES: list[dict[str, Any]] = [
    {"memory": "recompute"},
    {"memory": "recompute", "keep_every": 1},
    {"memory": "recompute", "keep_every": 100},
    {"memory": "reversible"},
    {"memory": "reversible", "keep_every": 2},
]
Tensors = list[torch.Tensor]
POINTS = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))


def gradients(net: dist_hdnn.HDNN, y: torch.Tensor) -> Tensors:
    """Output, δy0 and the gradient of every weight, for the loss Σ yN²."""
    y = y.clone().requires_grad_()
    output = net(y)
    return [output.detach(), *torch.autograd.grad(output.square().sum(), [y, *net.parameters()])]


def difference(found: Tensors, expected: Tensors) -> float:
    """Largest difference, of each tensor relative to its largest value."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))


def in_modes(graph: Any, *modes: dict[str, Any], **options: Any) -> list[Tensors]:
    """Gradients of a stored network, then those of the same network in other modes."""
    found = []
    for mode in ({}, *modes):
        net = network(graph, **options, **mode)
        found.append(
            gradients(net, torch.randn(5, net.neurons, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
        )
    return found


@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_recomputing_gives_the_very_bits_of_storing(options: dict[str, Any]) -> None:
    modes = [mode for mode in MODES if mode["memory"] == "recompute"] + [{"memory": "recompute", "keep_every": 3}]
    stored, *others = in_modes(quiet_graph("hubs"), *modes, width=uneven_widths(40), layers=7, **options)
    for found in others:
        assert all(torch.equal(a, b) for a, b in zip(found, stored, strict=True))


@pytest.mark.parametrize("sigma", ["tanh", "sigmoid"])
@pytest.mark.parametrize("options", INVERTIBLE, ids=str)
def test_reversible_gradients_are_the_stored_ones(options: dict[str, Any], sigma: str) -> None:
    modes = [mode for mode in MODES if mode["memory"] == "reversible"]
    options = {"width": uneven_widths(40), "layers": 4, "step": 0.2, "activation": sigma, **options}
    stored, *others = in_modes(quiet_graph("hubs"), *modes, **options)
    for found in others:
        assert difference(found, stored) <= 1e-12


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", ["one agent", "two strangers", "path", "star", "isolated agents"])
def test_parity_with_the_dense_twin(name: str, placement: str, mode: dict[str, Any]) -> None:
    graph = quiet_graph(name)
    net = network(graph, width=uneven_widths(graph.agents), layers=5, step=0.3, **PLACEMENTS[placement], **mode)
    assert largest_difference_to_twin(net) <= 1e-12


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("options", INVERTIBLE, ids=str)
def test_reversible_parity_of_every_architecture_with_one_process(options: dict[str, Any], workers: int) -> None:
    options = {"width": uneven_widths(17), "layers": 3, "step": 0.3, "memory": "reversible", **options}
    assert largest_difference(quiet_graph("random"), workers, random_owners(17, workers), **options) <= 1e-12


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("workers", [2, 3, 4, 8])
def test_parity_of_every_mode_with_one_process(workers: int, mode: dict[str, Any]) -> None:
    options = {"width": uneven_widths(17), "layers": 7, "step": 0.3, "X": "neighbours", **mode}
    assert largest_difference(quiet_graph("random"), workers, random_owners(17, workers), **options) <= 1e-12


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_deterministic_bits_do_not_depend_on_the_workers(placement: str, mode: dict[str, Any]) -> None:
    options = {
        "width": uneven_widths(17, widest=5),
        "layers": 5,
        "deterministic": True,
        **PLACEMENTS[placement],
        **mode,
    }
    assert same_bits(quiet_graph("random"), 3, options)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("options", [o for o in INVERTIBLE if o.get("integrator") != "yoshida4"], ids=str)
def test_cycled_graphs_with_own_x_per_layer(options: dict[str, Any], mode: dict[str, Any]) -> None:
    graphs = [nx.cycle_graph(8), nx.path_graph(8), nx.star_graph(7)]
    if options["architecture"] == "hamiltonian":
        options = options | {"shared_x": False}
    options = {"width": uneven_widths(8), "layers": 8, "step": 0.2, **options}
    stored, found = in_modes(graphs, mode, **options)
    assert difference(found, stored) <= 1e-12
    assert largest_difference(graphs, 3, random_owners(8, 3), **options, **mode) <= 1e-12


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_one_x_for_layers_of_several_graphs(mode: dict[str, Any]) -> None:
    graphs = [nx.cycle_graph(6), nx.path_graph(6), nx.star_graph(5)]
    for layers in (3, 7):
        stored, found = in_modes(graphs, mode, layers=layers, X="block_diagonal", width=4)
        assert difference(found, stored) <= 1e-12


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("time", ["shared", 3])
def test_weights_that_layers_share(time: str | int, mode: dict[str, Any]) -> None:
    stored, found = in_modes(quiet_graph("grid"), mode, layers=6, time=time)
    assert difference(found, stored) <= 1e-12


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_two_sweeps_at_once_and_a_graph_differentiated_again(mode: dict[str, Any]) -> None:
    net, plain = network(quiet_graph("ring"), layers=6, **mode), network(quiet_graph("ring"), layers=6)
    first, second = torch.randn(2, 4, net.neurons, dtype=torch.float64)
    expected = [gradients(plain, y)[2:] for y in (first, second)]
    outputs = [net(y).square().sum() for y in (first, second)]
    parameters = list(net.parameters())
    for disturbed in (False, True):
        for output, grads in zip(outputs, expected, strict=True):
            assert difference(list(torch.autograd.grad(output, parameters, retain_graph=True)), grads) <= 1e-12
        if disturbed:
            net(first + second).sum().backward()


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_evaluation_states_inverse_and_linearisation_are_those_of_the_stored_network(mode: dict[str, Any]) -> None:
    net, plain = (network(quiet_graph("grid"), layers=6, X="neighbours", **more) for more in (mode, {}))
    y = torch.randn(4, net.neurons, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(net(y), plain(y))
    assert torch.equal(net.states(y), plain.states(y))
    assert torch.equal(net.inverse(y), plain.inverse(y))
    with net.linearize(y) as ours, plain.linearize(y) as theirs:
        assert torch.equal(ours.pull(y, 6, 0), theirs.pull(y, 6, 0))
        assert torch.equal(ours.push(y, 0, 6), theirs.push(y, 0, 6))


# -- what it costs in messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_reversible_bytes_on_the_wire_are_the_analytical_minimum(placement: str, workers: int) -> None:
    """Two slices for one in the backward sweep, in as many rounds of K and twice as many of X."""
    graph, layers = quiet_graph("random"), 3
    options = {"width": uneven_widths(17), "layers": layers, "memory": "reversible", **PLACEMENTS[placement]}

    def work(transport: Transport) -> tuple[int, int, dict[str, Any]]:
        net = network(graph, workers=transport, partition=random_owners(17, workers), **options)
        before = transport.sent()
        net(torch.zeros(BATCH, net.neurons, dtype=torch.float64)).sum().backward()
        of_k = minimum_bytes(net, net.K_patterns[0], BATCH)
        of_x = minimum_bytes(net, net.X_patterns[0], BATCH) if net.X_patterns else 0
        forward = layers * (4 * of_k + 2 * of_x)
        totals = net.ownership.ledger.totals()
        assert net.traffic()["non_neighbour_messages"] == 0
        sent = net.traffic()["bytes"]
        if workers > 1:  # alone, bytes are those of the same agents, each on its own
            assert int((transport.sent() - before)[:, 1].sum()) - totals["check"]["bytes"] == sent
        return sent, 3 * forward, totals

    results = run_threads(workers, work, timeout=60)
    if workers > 1:
        assert sum(sent for sent, _, _ in results) == results[0][1]
    forward, backward = (sum(totals[phase]["bytes"] for _, _, totals in results) for phase in ("forward", "backward"))
    assert backward == 2 * forward
    in_forward, in_backward = (
        sum(totals[phase]["messages"] for _, _, totals in results) for phase in ("forward", "backward")
    )
    assert in_forward <= in_backward <= 2 * in_forward
    if placement == "K":
        assert in_backward == in_forward


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_recomputed_rounds_are_booked_to_the_backward_sweep(every: int) -> None:
    net = network(quiet_graph("ring"), layers=5, memory="recompute", keep_every=every)
    net(torch.zeros(BATCH, net.neurons, dtype=torch.float64)).sum().backward()
    totals, again = net.ownership.ledger.totals(), 4 // every * every
    a_layer = totals["forward"]["messages"] // 5
    assert a_layer == 4 * 16
    assert totals["backward"]["messages"] == (5 + again) * a_layer


# -- what it keeps, and how well it rebuilds -------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["recompute", "reversible"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_a_trained_deep_network(dtype: torch.dtype, memory: Any) -> None:
    def made(**mode: Any) -> dist_hdnn.HDNN:
        return hdnn(dist_hdnn.ring(8), width=4, layers=64, step=0.125, dtype=dtype, **mode)

    stored, other = made(), made(memory=memory)
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(64, stored.neurons, generator=generator, dtype=dtype)
    target = y.roll(3, dims=1)
    adam = torch.optim.Adam(stored.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        adam.zero_grad()
        loss = (stored(y) - target).square().mean()
        loss.backward()
        adam.step()
        losses.append(float(loss))
    assert losses[-1] < 0.6 * losses[0]
    other.load_state_dict(stored.state_dict())
    bound = 1e-3 if dtype == torch.float32 else 1e-9
    assert difference(gradients(other, y), gradients(stored, y)) <= (bound if memory == "reversible" else 0.0)
    if memory == "reversible":
        error = other.reconstruction_error()
        assert error is not None and 0 < error <= bound


def wild(**options: Any) -> dist_hdnn.HDNN:
    """A float32 network whose large weights amplify rounding errors from layer to layer."""
    return hdnn(dist_hdnn.ring(8), layers=64, initial_scale=1.8, memory="reversible", **options)


def test_a_large_reconstruction_error_is_reported_and_anchors_lower_it() -> None:
    errors = []
    for every in (None, 16, 4):
        net = wild(keep_every=every)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                gradients(net, POINTS)
        errors.append(net.reconstruction_error())
        assert len(caught) == (errors[-1] > 1e-3)
        assert all("relative error" in str(each.message) and "keep_every" in str(each.message) for each in caught)
    assert errors[0] > 1e-3 > errors[1] > errors[2] > 0


def test_the_reported_error_is_that_of_the_inverse() -> None:
    net = wild(keep_every=None)
    y = POINTS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gradients(net, y)
    rebuilt = net.inverse(net(y).detach())
    expected = float((rebuilt - y).abs().max() / y.abs().max())
    error = net.reconstruction_error()
    assert error is not None and 0.2 * expected <= error <= 5 * expected  # rounding differs, its size does not


@pytest.mark.parametrize("scale", [2.0, np.inf])
def test_states_that_cannot_be_rebuilt_end_the_sweep(scale: float) -> None:
    net = wild(keep_every=None)
    with torch.no_grad():
        for weights in net.matrices():
            weights.mul_(scale)
    with pytest.raises(ReconstructionError, match=r"relative error of .*network\.keep_every.*memory=recompute"):
        gradients(net, POINTS)


def test_without_a_reversible_sweep_there_is_no_error_to_report() -> None:
    net = network(quiet_graph("ring"))
    net(torch.zeros(2, 16, dtype=torch.float64)).sum().backward()
    assert net.reconstruction_error() is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"memory": "checkpoint"}, "network.memory: expected one of store, recompute, reversible, got 'checkpoint'"),
        ({"memory": "reversible", "architecture": "H1"}, "H1, whose layers have no exact inverse, got reversible"),
        ({"keep_every": 4}, "network.keep_every: expected nothing with memory=store"),
        ({"memory": "recompute", "keep_every": 0}, "network.keep_every: expected a number of layers >= 1, got 0"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        network(quiet_graph("ring"), **options)
