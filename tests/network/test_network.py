"""The network as a module: what theory promises, how it behaves in a user's loop, and what it says of bad input."""

import copy
import warnings
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from networks import GRAPHS, PLACEMENTS, network, quiet_graph, uneven_widths

import dist_hdnn
from dist_hdnn.network.dense import DenseTwin
from dist_hdnn.network.keyed_random import Purpose, normal, philox
from dist_hdnn.sweep.sweep import Layers
from dist_hdnn.sweep.weights import flatten, unflatten


def canonical_j(net: dist_hdnn.HDNN) -> torch.Tensor:
    """J = [[0, -Xᵀ], [X, 0]] over the state columns of the network."""
    half = net.neurons // 2
    x = torch.zeros(half, half, dtype=torch.float64)
    if net.X_patterns is None:
        x = torch.eye(half, dtype=torch.float64)
    else:
        x[net.scalar_positions("X", 0)] = net.layer_weights("X", 0).detach()
    j = torch.zeros(net.neurons, net.neurons, dtype=torch.float64)
    p, q = (torch.from_numpy(columns) for columns in net.columns)
    j[p[:, None], q[None, :]] = -x.T
    j[q[:, None], p[None, :]] = x
    return j


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_layer_jacobian_is_symplectic_and_keeps_gradients_from_vanishing(placement: str) -> None:
    net = network(quiet_graph("ring"), layers=12, step=0.5, width=4, **PLACEMENTS[placement])
    y = torch.randn(1, net.neurons, dtype=torch.float64)
    m = torch.autograd.functional.jacobian(lambda state: net(state), y)[0, :, 0, :]
    j = canonical_j(net)
    scale = torch.linalg.matrix_norm(m, 2) ** 2 * torch.linalg.matrix_norm(j, 2)
    assert torch.linalg.matrix_norm(m @ j @ m.T - j, 2) <= 1e-13 * scale
    assert torch.linalg.matrix_norm(m, 2) >= 1.0


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", ["one agent", "path", "hubs", "isolated agents"])
def test_inverse_undoes_the_network(name: str, placement: str) -> None:
    graph = quiet_graph(name)
    net = network(graph, width=uneven_widths(graph.agents), layers=6, step=0.3, **PLACEMENTS[placement])
    y = torch.randn(4, net.neurons, dtype=torch.float64)
    torch.testing.assert_close(net.inverse(net(y).detach()), y, rtol=0, atol=1e-10)


def test_states_are_the_network_layer_by_layer() -> None:
    net = network(quiet_graph("path"), layers=5)
    y = torch.randn(3, net.neurons, dtype=torch.float64)
    states = net.states(y)
    assert states.shape == (6, 3, net.neurons)
    assert torch.equal(states[0], y)
    assert torch.equal(states[-1], net(y).detach())
    with torch.no_grad():
        assert torch.equal(net(y), states[-1])


def test_gradients_pass_gradcheck() -> None:
    net = network(quiet_graph("path"), layers=2, K="neighbours", X="neighbours")
    y = torch.randn(2, net.neurons, dtype=torch.float64, requires_grad=True)
    flat = [parameter.detach().clone().requires_grad_() for parameter in flatten(net.weights())]
    counts = {name: len(tensors) for name, tensors in net.weights().items()}

    def run(state: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return Layers.apply(*net.sweep.arguments(state, unflatten(weights, counts)))

    assert torch.autograd.gradcheck(run, (y, *flat))


def test_weights_get_gradients_when_the_input_needs_none() -> None:
    net = network(quiet_graph("ring"))
    net(torch.randn(3, 16, dtype=torch.float64)).square().sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in net.parameters())


def test_two_forwards_before_two_backwards_do_not_share_memory() -> None:
    net = network(quiet_graph("ring"))
    first, second = torch.randn(2, 3, 16, dtype=torch.float64)

    def gradient(*inputs: torch.Tensor) -> torch.Tensor:
        net.zero_grad()
        outputs = [net(y) for y in inputs]
        for output in outputs:
            output.square().sum().backward()
        assert net.bp.grad is not None
        return net.bp.grad.clone()

    torch.testing.assert_close(gradient(first, second), gradient(first) + gradient(second))


def test_a_gradient_is_not_overwritten_by_the_next_sweep() -> None:
    net = network(quiet_graph("ring"), width=32)
    y = torch.randn(3, net.neurons, dtype=torch.float64)
    net(y).sum().backward()
    kept = [parameter.grad for parameter in net.parameters()]
    copies = [gradient.clone() for gradient in kept if gradient is not None]
    net.zero_grad(set_to_none=True)
    net(2 * y).square().sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True) if a is not None)


@pytest.mark.parametrize("disturbed", [False, True])
def test_a_retained_graph_can_be_differentiated_again(disturbed: bool) -> None:
    net = network(quiet_graph("ring"))
    y = torch.randn(3, 16, dtype=torch.float64, requires_grad=True)
    output = net(y).square().sum()
    first = torch.autograd.grad(output, [y, net.bp], retain_graph=True)
    if disturbed:
        net(2 * y).sum().backward()
    second = torch.autograd.grad(output, [y, net.bp])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_copies_and_converted_networks_compute_the_same() -> None:
    net = network(quiet_graph("hubs"), layers=3)
    y = torch.randn(2, net.neurons, dtype=torch.float64)
    net(y)
    assert torch.equal(copy.deepcopy(net)(y), net(y))
    other = network(quiet_graph("hubs"), layers=3, seed=9)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(y), net(y))
    torch.testing.assert_close(copy.deepcopy(net).float()(y.float()).double(), net(y), rtol=1e-4, atol=1e-4)


def test_smoothness_is_the_sum_over_layers_of_dense_differences() -> None:
    graphs = [nx.cycle_graph(6), nx.star_graph(5)]
    for graph in (graphs, graphs[:1]):
        net = network(graph, layers=5, X="block_diagonal", step=0.3)
        whole = [DenseTwin(net).matrix(name) for name in ("Kp", "Kq", "bp", "bq")]
        expected = sum(((w[1:] - w[:-1]) ** 2).sum() for w in whole) * 0.15
        torch.testing.assert_close(net.smoothness().detach(), expected)
        net.smoothness().backward()
        assert net.Kp[0].grad is not None


@pytest.mark.parametrize("options", [{}, {"time": "shared"}, {"time": 3}, {"graphs": 2}, {"layers": 1}], ids=str)
def test_the_gradient_of_smoothness_is_added_to_what_is_there(options: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setattr("dist_hdnn.network.time_course.CHUNK", 20)
    graphs = [nx.cycle_graph(6), nx.star_graph(5)][: options.pop("graphs", 1)]
    net, other = (network(graphs, **{"layers": 5, "X": "block_diagonal", "step": 0.3} | options) for _ in range(2))
    y = torch.randn(2, net.neurons, dtype=torch.float64)
    (net(y).sum() + 0.7 * net.smoothness()).backward()
    other(y).sum().backward()
    other.add_smoothness_gradient(0.7)
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-12, atol=1e-14)


def test_initial_weights_depend_on_seed_layer_and_the_two_agents_alone() -> None:
    ring, complete = (network_without_noise(graph) for graph in (nx.cycle_graph(8), nx.complete_graph(8)))

    def blocks(net: dist_hdnn.HDNN, layer: int) -> dict[tuple[int, int], float]:
        rows, columns = net.scalar_positions("Kp", layer)
        length = torch.bincount(rows)[rows].double().sqrt()
        values = net.layer_weights("Kp", layer) * length
        return dict(zip(zip(rows.tolist(), columns.tolist(), strict=True), values.tolist(), strict=True))

    on_ring, everywhere = blocks(ring, 1), blocks(complete, 1)
    assert all(abs(everywhere[key] - value) < 1e-12 for key, value in on_ring.items())
    values = torch.cat([parameter.detach().flatten() for parameter in (*ring.Kp, *ring.Kq)])
    assert len(values.unique()) == len(values)


def network_without_noise(graph: nx.Graph) -> dist_hdnn.HDNN:
    return dist_hdnn.HDNN(graph, layers=2, dtype=torch.float64)


def test_philox_gives_the_published_words() -> None:
    """Known answers of Random123 for Philox 4x32 with 10 rounds."""
    ones = np.full(1, 0xFFFFFFFF, dtype=np.uint64)
    zeros = np.zeros(1, dtype=np.uint64)
    assert [int(w[0]) for w in philox((zeros,) * 4, (0, 0))] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    expected = [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert [int(w[0]) for w in philox((ones,) * 4, (0xFFFFFFFF, 0xFFFFFFFF))] == expected


def test_normal_numbers_are_standard_normal_and_differ_by_every_part_of_the_key() -> None:
    elements = np.arange(400_000, dtype=np.uint64)
    zeros = np.zeros_like(elements)
    sample = normal(0, Purpose.K_P, 0, zeros, zeros, elements)
    assert abs(sample.mean()) < 0.01 and abs(sample.std() - 1) < 0.01 and abs((sample**4).mean() - 3) < 0.1
    others = [
        normal(1, Purpose.K_P, 0, zeros, zeros, elements),
        normal(0, Purpose.K_Q, 0, zeros, zeros, elements),
        normal(0, Purpose.K_P, 1, zeros, zeros, elements),
        normal(0, Purpose.K_P, 0, zeros + np.uint64(1), zeros, elements),
        normal(0, Purpose.K_P, 0, zeros, zeros + np.uint64(1), elements),
        normal(2**40, Purpose.K_P, 0, zeros, zeros, elements),
    ]
    assert all(abs(np.corrcoef(sample, other)[0, 1]) < 0.02 for other in others)


@pytest.mark.parametrize(
    ("name", "placement", "rounds"),
    [("ring", "K", 4), ("ring", "X", 2), ("ring", "K and X", 6), ("two strangers", "K", 0), ("one agent", "K", 0)],
)
def test_rounds_and_messages_are_those_of_the_design(name: str, placement: str, rounds: int) -> None:
    graph = quiet_graph(name)
    net = network(graph, layers=3, **PLACEMENTS[placement])
    net.reset_traffic()
    net(torch.randn(7, net.neurons, dtype=torch.float64)).sum().backward()
    traffic = net.traffic()
    assert traffic["messages"] == 2 * 3 * rounds * 2 * len(graph.links)  # both sweeps, 3 layers, both directions
    assert traffic["bytes"] == traffic["messages"] * 1 * 7 * 8  # one neuron, 7 samples, 8 bytes
    assert traffic["non_neighbour_messages"] == 0


def test_patterns_beyond_the_links_are_counted_and_announced() -> None:
    with pytest.warns(UserWarning, match="16 ordered pairs.*needs a relay"):
        net = dist_hdnn.HDNN(dist_hdnn.ring(8), layers=2, K="hops=2")
    net(torch.zeros(1, 16))
    assert net.traffic()["non_neighbour_messages"] == 2 * 4 * 16


def test_too_few_layers_for_the_graph_are_announced() -> None:
    with pytest.warns(UserWarning, match="hops"):
        dist_hdnn.HDNN(dist_hdnn.path(20), layers=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dist_hdnn.HDNN(dist_hdnn.path(20), layers=5)


def test_own_x_per_layer_is_announced() -> None:
    with pytest.warns(UserWarning, match="needs one X shared by all layers"):
        dist_hdnn.HDNN(dist_hdnn.ring(4), layers=2, X="neighbours", shared_x=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 3}, "network.width: expected an even number.*got 3"),
        ({"width": 0}, "network.width.*got 0"),
        ({"width": {0: 2}}, "network.width: expected a width for each of the 8 agents"),
        ({"width": {99: 2}}, "99"),
        ({"layers": 0}, "network.layers: expected at least 1, got 0"),
        ({"step": 0.0}, "network.step: expected a positive number"),
        ({"step": float("nan")}, "network.step: expected a positive number"),
        ({"activation": "tanhh"}, "network.activation: expected one of tanh"),
        ({"activation": lambda u: u.cumsum(0)}, "elementwise"),
        ({"seed": -1}, "seed: expected an integer"),
    ],
    ids=lambda value: str(value)[:30],  # a lambda shows its address after that
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dist_hdnn.HDNN(dist_hdnn.ring(8), **options)  # type: ignore[arg-type]


def test_graphs_to_cycle_must_have_the_same_agents() -> None:
    with pytest.raises(ValueError, match="expected graphs on the same agents"):
        dist_hdnn.HDNN([dist_hdnn.ring(8), dist_hdnn.ring(9)])
    with pytest.raises(ValueError, match=r"graph: expected at most one graph for each of the 1 layers.*got 2\. Drop 1"):
        dist_hdnn.HDNN([dist_hdnn.ring(4), dist_hdnn.path(4)], layers=1)
    with pytest.raises(ValueError, match="one pattern of X for all layers"):
        dist_hdnn.HDNN([nx.cycle_graph(8), nx.path_graph(8)], X="neighbours")


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [((3, 15), torch.float32, r"\(batch, 16\), got \(3, 15\)"), ((3, 16), torch.float64, "float32.*got torch.float64")],
)
def test_a_wrong_state_is_named(shape: tuple[int, int], dtype: torch.dtype, message: str) -> None:
    net = dist_hdnn.HDNN(dist_hdnn.ring(8))
    with pytest.raises(ValueError, match=message):
        net(torch.zeros(shape, dtype=dtype))


def test_every_graph_works_for_an_empty_batch() -> None:
    for name in GRAPHS:
        net = network(quiet_graph(name), layers=2)
        assert net(torch.zeros(0, net.neurons, dtype=torch.float64)).shape == (0, net.neurons)
