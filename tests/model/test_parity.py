"""The network is its dense twin, and both are the published network: outputs and every gradient, in float64."""

from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from networks import GRAPHS, PLACEMENTS, largest_difference_to_twin, network, quiet_graph, uneven_widths

import dist_hdnn
from dist_hdnn.model.dense import dense

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


@pytest.mark.parametrize("name", ["H2_ring8", "H2_ring8_full", "H2"])
def test_network_equals_the_published_code(name: str, shared: Path) -> None:
    """Golden values: p = second, q = first, X = I on the ring and -I otherwise; agent i owns first[i] and second[i]."""
    golden = np.load(shared / "golden" / f"{name}.npz")
    layers, agents = golden["K_first"].shape[:2]
    ring = name == "H2_ring8"
    net = dist_hdnn.HDNN(
        nx.cycle_graph(agents) if ring else nx.complete_graph(agents),
        layers=layers,
        step=float(golden["h"]),
        X="identity" if name.startswith("H2_ring8") else "block_diagonal",
        dtype=torch.float64,
    )
    positions = {which: net.scalar_positions(which, 0) for which in ("Kp", "Kq")}
    with torch.no_grad():
        for which, source in (("Kp", "K_second"), ("Kq", "K_first")):
            rows, columns = positions[which]
            getattr(net, which)[0].copy_(torch.from_numpy(golden[source])[:, rows, columns])
        net.bq.copy_(torch.from_numpy(golden["b"][:, :agents]))
        net.bp.copy_(torch.from_numpy(golden["b"][:, agents:]))
        for x in net.X:
            x.copy_(torch.full_like(x, -1.0))
    order = np.stack([np.arange(agents) + agents, np.arange(agents)], axis=1).ravel()  # agent by agent, p before q
    y = torch.from_numpy(golden["y0"][:, order]).requires_grad_()
    output = net(y)
    (output * torch.from_numpy(golden["cotangent"][:, order])).sum().backward()

    def close(ours: torch.Tensor, theirs: np.ndarray) -> None:
        largest = max(1.0, float(np.abs(theirs).max()))  # gradients of the full ring reach 48, with 1e-12 rounding
        torch.testing.assert_close(ours.detach(), torch.from_numpy(theirs), rtol=0, atol=TOLERANCE * largest)

    close(output, golden["yN"][:, order])
    assert y.grad is not None and net.bq.grad is not None and net.bp.grad is not None
    close(y.grad, golden["grad_y0"][:, order])
    close(torch.cat([net.bq.grad, net.bp.grad], dim=1), golden["grad_b"])
    for which, source in (("Kp", "grad_K_second"), ("Kq", "grad_K_first")):
        rows, columns = positions[which]
        on_pattern = np.zeros_like(golden[source])
        on_pattern[:, rows, columns] = golden[source][:, rows, columns]
        close(dense(net, which, "grad"), on_pattern)
