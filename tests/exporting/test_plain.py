"""A plain copy computes what the network computes, in every architecture, with operations that `torch.export` knows."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
import torch
from networks import FAMILY, GRAPHS, network, quiet_graph, uneven_widths
from torch import nn

import dist_hdnn
from dist_hdnn.ends.readout import GossipReadout
from dist_hdnn.exporting.program import PlainNetwork, plain_copy
from dist_hdnn.transport import run_threads

OPTIONS: dict[str, dict[str, Any]] = {
    "X of every layer": {"K": "neighbours", "X": "neighbours", "shared_x": False},
    "X within agents": {"X": "block_diagonal"},
    "knots": {"time": 3},
    "one set": {"time": "shared"},
    "another activation": {"activation": "softplus"},
}


def difference(net: dist_hdnn.HDNN) -> float:
    y = torch.randn(5, net.neurons, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = net(y).detach()
    return float((plain_copy(net)(y) - expected).abs().max() / expected.abs().max().clamp(min=1))


@pytest.mark.parametrize("options", FAMILY, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("graph", ["one agent", "hubs", "isolated agents"])
def test_a_plain_copy_gives_the_same_states_in_every_architecture(graph: str, options: dict[str, Any]) -> None:
    net = network(GRAPHS[graph], width=4, layers=3, step=0.3, **options)
    assert difference(net) <= 1e-12


@pytest.mark.parametrize("case", OPTIONS)
def test_a_plain_copy_cycles_through_graphs_and_takes_uneven_widths(case: str) -> None:
    graphs = [GRAPHS["ring"], nx.star_graph(7)]
    assert difference(network(graphs, width=uneven_widths(8), layers=5, **OPTIONS[case])) <= 1e-12


def test_a_plain_copy_of_a_module_replaces_networks_and_gossip_and_leaves_the_module_as_it_is() -> None:
    net = network(quiet_graph("grid"), width=4, layers=2)
    readout = GossipReadout(net.ownership, classes=3, rounds=3).double()
    model = nn.Sequential(net, readout)
    plain = plain_copy(model)
    y = torch.randn(5, net.neurons, dtype=torch.float64)
    assert torch.allclose(plain(y), model(y), rtol=0, atol=1e-12)
    assert isinstance(plain[0], PlainNetwork) and model[0] is net and not list(plain[0].parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_memory_of_a_plain_copy_follows_the_links() -> None:
    net = network(quiet_graph("hubs"), width=2, layers=2)
    blocks = 2 * len(net.graph.links) + net.graph.agents
    assert sum(b.numel() for name, b in plain_copy(net).named_buffers() if "values" in name) == 2 * 2 * blocks


def test_a_part_of_a_network_is_not_copied() -> None:
    def part(transport: Any) -> str:
        net = network(quiet_graph("ring"), workers=transport, layers=2)
        with pytest.raises(ValueError, match="expected a network of one process, got worker .'s part of one on 2"):
            plain_copy(net)
        return "refused"

    assert run_threads(2, part) == ["refused"] * 2
