"""Agents whose rows lie in another order in memory: the same bits, messages and columns, over any workers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from networks import FAMILY, PLACEMENTS, hdnn, quiet_graph, uneven_widths
from on_workers import columns_of, largest_difference, random_owners

import dist_hdnn
from dist_hdnn.network import layout
from dist_hdnn.operators import choice
from dist_hdnn.operators.tiles.machine import available
from dist_hdnn.topology import as_graph, barabasi_albert, locality, memory_order, neighbours, ring, torus
from dist_hdnn.transport import Transport, run_threads

needs_tiles = pytest.mark.skipif(not available(), reason="no tiles without llvmlite")
MODES: list[dict[str, Any]] = [{"memory": "recompute"}, {"memory": "reversible"}]
CASES = [*FAMILY, *(PLACEMENTS["K and X"] | mode for mode in MODES), {"activation": "sigmoid"}, {"time": 3}]


@contextmanager
def ordered(on: bool = True) -> Iterator[None]:
    """Order the agents of any network, or of none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locality, "NEURONS", 0 if on else 1 << 60)
        patch.setattr(locality, "NEARER", -1.0)
        yield


def shuffled(agents: int) -> nx.Graph:
    """A circle of agents, each linked to the two next on either side, with labels at random."""
    labels = np.random.default_rng(0).permutation(agents).tolist()
    return nx.relabel_nodes(nx.circulant_graph(agents, [1, 2]), dict(enumerate(labels)))


def outcome(transport: Transport | None, options: dict[str, Any], replays: int = 1) -> list[torch.Tensor]:
    """Output, gradients, state after every layer, and messages of a network of 17 agents."""
    graph, widths = quiet_graph("random"), uneven_widths(17)
    partition = "contiguous" if transport is None else random_owners(17, transport.size)
    net = hdnn(graph, width=widths, layers=4, step=0.2, workers=transport, partition=partition, **options)
    assert transport or (net.layout.order is None) == (locality.NEURONS > 0)
    generator = torch.Generator().manual_seed(1)
    batch = 32 if "activation" in options else 37  # PyTorch computes the elements after the last full vector otherwise
    y = torch.randn(batch, int(net.ownership.all_widths.sum()), generator=generator)
    mine = y[:, columns_of(net.owned, net.ownership.all_widths)].requires_grad_()
    for _ in range(replays):
        net.reset_traffic()
        output = net(mine)
        gradients = torch.autograd.grad(output.square().sum(), [mine, *net.parameters()])
    messages = torch.tensor([*net.traffic().values()])
    return [output.detach(), *gradients, net.states(mine), messages]


def same(made: Callable[[], list[list[torch.Tensor]]]) -> bool:
    """Whether every worker's outcome is the same with and without another order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ordered():
            found = made()
        with ordered(False):
            expected = made()
    return all(torch.equal(*pair) for both in zip(found, expected, strict=True) for pair in zip(*both, strict=True))


@needs_tiles
@pytest.mark.parametrize("options", CASES, ids=str)
def test_bits_and_messages_do_not_depend_on_the_order(options: dict[str, Any]) -> None:
    assert same(lambda: [outcome(None, options, replays=3)])


@needs_tiles
@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_batched_gemms_take_states_in_any_order(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As after net.to("cuda") of a network that was made for tiles."""
    monkeypatch.setattr(choice, "available", lambda: False)
    assert same(lambda: [outcome(None, options)])


@needs_tiles
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("placement", ["K", "K and X"])
def test_bits_and_messages_on_workers_do_not_depend_on_the_order(placement: str, workers: int) -> None:
    def work(transport: Transport) -> list[torch.Tensor]:
        return outcome(transport, PLACEMENTS[placement])

    assert same(lambda: run_threads(workers, work, timeout=60))


@needs_tiles
def test_slices_that_only_seem_to_lie_side_by_side_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 4 agents has a neighbor on the other worker, so all slices travel, the first and the last in place."""
    orders = {4: np.array([0, 2, 1, 3]), 8: None}
    rungs = nx.Graph([(agent, agent + 4) for agent in range(4)] + [(0, 1)])
    options = {"width": 2, "layers": 3, "step": 0.3, "products": "tiles"}
    monkeypatch.setattr(layout, "memory_order", lambda patterns, owned, neurons: orders[len(owned)])
    assert largest_difference(rungs, 2, [0] * 4 + [1] * 4, **options) <= 1e-12


@needs_tiles
@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_parity_of_workers_in_another_order_with_one_process(options: dict[str, Any]) -> None:
    options = {"width": uneven_widths(17), "layers": 3, "step": 0.3, **options}
    with ordered():
        assert largest_difference(quiet_graph("random"), 3, random_owners(17, 3), **options) <= 1e-12


def test_neighbors_come_near_each_other() -> None:
    pattern = neighbours(as_graph(shuffled(5000)))
    order = memory_order([pattern], np.arange(5000), 4 * 5000)
    assert order is not None and np.array_equal(np.sort(order), np.arange(5000))
    place = np.argsort(order)
    assert np.abs(place[pattern.rows()] - place[pattern.columns]).max() <= 8
    some = np.flatnonzero(np.arange(5000) % 3 > 0)
    part = memory_order([pattern], some, 4 * len(some))
    assert part is not None and np.array_equal(np.sort(part), np.arange(len(some)))


@pytest.mark.parametrize("graph", [ring(5000), torus(70, 70), barabasi_albert(5000, 2)], ids=lambda graph: graph.name)
def test_agents_stay_as_they_are_where_no_order_is_much_better(graph: Any) -> None:
    assert memory_order([neighbours(graph)], np.arange(graph.agents), 4 * graph.agents) is None


def test_small_and_impaired_and_deterministic_networks_keep_their_order() -> None:
    graph = as_graph(shuffled(300))
    assert dist_hdnn.HDNN(graph, 4, 2).layout.order is None
    with ordered(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert hdnn(graph, width=4, layers=2, deterministic=True).layout.order is None
        assert hdnn(graph, width=4, layers=2, products="torch").layout.order is None
        assert (hdnn(graph, width=4, layers=2).layout.order is not None) == available()
