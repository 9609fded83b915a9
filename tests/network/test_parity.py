"""The network is its dense twin, and both are the published network: outputs and every gradient, in float64."""

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
import torch
from networks import FAMILY, GRAPHS, PLACEMENTS, largest_difference_to_twin, network, quiet_graph, uneven_widths

from dist_hdnn.exporting.published import from_published
from dist_hdnn.network.dense import DenseTwin

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-12


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", GRAPHS)
def test_network_equals_its_dense_twin_with_unequal_widths(name: str, placement: str) -> None:
    graph = quiet_graph(name)
    net = network(graph, width=uneven_widths(graph.agents), layers=3, step=0.4, **PLACEMENTS[placement])
    assert largest_difference_to_twin(net) <= TOLERANCE


@pytest.mark.parametrize("options", [{"width": 2}, {"width": 4}, {"width": 40}, {"activation": "sigmoid"}], ids=str)
@pytest.mark.parametrize("name", ["ring", "torus", "hubs"])
def test_network_equals_its_dense_twin_for_equal_widths(name: str, options: dict[str, object]) -> None:
    assert largest_difference_to_twin(network(quiet_graph(name), layers=4, step=0.3, **options)) <= TOLERANCE


@pytest.mark.parametrize("pattern", ["dense", "hops=2", {"kind": "thinned", "keep": 0.5, "seed": 3}], ids=str)
def test_network_equals_its_dense_twin_on_other_patterns(pattern: object) -> None:
    net = network(quiet_graph("torus"), width=uneven_widths(20), layers=3, K=pattern, X="neighbours")
    assert largest_difference_to_twin(net) <= TOLERANCE


def test_custom_activation_and_its_slope_come_from_autograd() -> None:
    net = network(quiet_graph("ring"), layers=3, activation=lambda u: torch.sin(u) + 0.1 * u**3, width=4)
    assert largest_difference_to_twin(net) <= TOLERANCE


@pytest.mark.parametrize("shared_x", [True, False])
def test_graphs_are_cycled_through_the_layers(shared_x: bool) -> None:
    graphs = [nx.cycle_graph(8), nx.path_graph(8), nx.star_graph(7)]
    placement = {"X": "block_diagonal"} if shared_x else {"K": "block_diagonal", "X": "neighbours"}
    net = network(graphs, width=uneven_widths(8), layers=7, shared_x=shared_x, **placement)
    assert largest_difference_to_twin(net) <= TOLERANCE
    assert [len(net.layer_weights("Kp", j)) for j in range(3)] == [
        len(net.layer_weights("Kp", j + 3)) for j in range(3)
    ]


@pytest.mark.parametrize("time", ["shared", 2, 3])
@pytest.mark.parametrize("graphs", [1, 2])
def test_weights_over_time_are_those_of_the_twin(time: str | int, graphs: int) -> None:
    cycled = [nx.cycle_graph(6), nx.star_graph(5)][:graphs]
    net = network(cycled, width=uneven_widths(6), layers=5, time=time, X="block_diagonal")
    assert largest_difference_to_twin(net) <= TOLERANCE


@pytest.mark.parametrize("options", FAMILY, ids=str)
@pytest.mark.parametrize("name", ["one agent", "two strangers", "star", "random", "disconnected"])
def test_every_architecture_equals_its_dense_twin(name: str, options: dict[str, Any]) -> None:
    graph = quiet_graph(name)
    widths = {agent: 4 for agent in range(graph.agents)} if name == "star" else uneven_widths(graph.agents)
    assert largest_difference_to_twin(network(graph, width=widths, layers=3, step=0.4, **options)) <= TOLERANCE


@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_every_architecture_cycles_graphs_and_knows_other_activations(options: dict[str, Any]) -> None:
    """Three graphs on seven layers: a version of a part that two layers read keeps the ghosts of both."""
    graphs: list[nx.Graph] = [nx.cycle_graph(6), nx.path_graph(6), nx.star_graph(5)]
    options = options | ({"shared_x": False} if options["architecture"] == "hamiltonian" else {})
    if options.get("X") == "neighbours" and options["architecture"] == "H1":
        graphs = [nx.cycle_graph(6)] * 2  # one J for all layers needs one pattern
    net = network(graphs, width=uneven_widths(6), layers=7, step=0.2, activation="sigmoid", **options)
    assert largest_difference_to_twin(net) <= TOLERANCE


@pytest.mark.parametrize("name", ["neighbours", "random"])
def test_a_given_j_is_the_interconnection(name: str) -> None:
    graph = quiet_graph("ring")
    widths = uneven_widths(8) | {3: 3, 4: 1}
    neurons = sum(widths.values())
    agent = np.repeat(np.arange(8), list(widths.values()))
    linked = np.abs(agent[:, None] - agent[None, :]) % 7 <= 1
    J = np.random.default_rng(0).normal(size=(neurons, neurons)) * linked
    J -= J.T
    given = scipy.sparse.coo_array(J) if name == "random" else J
    net = network(graph, width=widths, layers=3, step=0.3, architecture="H1", J=given, X="neighbours")
    twin = DenseTwin(net)
    S = twin.matrix("J")[0].numpy()
    np.testing.assert_array_equal(S - S.T, J)
    assert largest_difference_to_twin(net) <= TOLERANCE
    assert not any(name.startswith(("J", "skew")) for name in net.state_dict())


@pytest.mark.parametrize("name", ["MS1", "MS2", "MS3", "H1_J1", "H1_J2", "H2", "H2_ring8", "H2_ring8_full"])
def test_network_equals_the_published_code(name: str) -> None:
    """Golden values; of the 8 agents, agent i owns first[i] and second[i], else one agent owns all."""
    graph = {"H2_ring8": nx.cycle_graph(8), "H2_ring8_full": nx.complete_graph(8)}.get(name)
    net, order, golden = published = from_published(GOLDEN / f"{name}.npz", graph)
    y = torch.from_numpy(golden["y0"][:, order]).requires_grad_()
    output = net(y)
    (output * torch.from_numpy(golden["cotangent"][:, order])).sum().backward()

    def close(ours: torch.Tensor | None, theirs: torch.Tensor) -> None:
        assert ours is not None
        largest = max(1.0, float(theirs.abs().max()))  # gradients of the full ring reach 48, with 1e-12 rounding
        torch.testing.assert_close(ours.detach(), theirs, rtol=0, atol=TOLERANCE * largest)

    close(output, torch.from_numpy(golden["yN"][:, order]))
    close(y.grad, torch.from_numpy(golden["grad_y0"][:, order]))
    compared = set()
    for parameter, tensor in net.named_parameters():
        gradient = published.of_parameter(parameter, "grad_")
        if gradient is not None:
            close(tensor.grad, gradient)
            compared.add(parameter)
    given = {key for key in golden if key.startswith("grad_") and key != "grad_y0"}
    assert compared and (compared == {key for key, _ in net.named_parameters()} - {"X.0", "S.0"} or not given)
