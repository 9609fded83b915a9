"""Halos: both ends agree, local rows are the global ones, nothing is fetched in vain, and digests see every change."""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from networks import GRAPHS, quiet_graph

from dist_hdnn.topology import (
    METHODS,
    BlockPattern,
    CommunicationGraph,
    Halo,
    Partition,
    build_halo,
    disagreement,
    hops,
    make_partition,
    message_digests,
    neighbours,
    path,
    plan_digest,
    ring,
    thinned,
)

METHODS_HERE = [m for m in METHODS if m != "metis" or importlib.util.find_spec("pymetis") is not None]
every_graph = pytest.mark.parametrize("name", GRAPHS)


def random_pattern(agents: int, seed: int, density: float = 0.2) -> BlockPattern:
    """A directed pattern: entry (i, j) says nothing about (j, i), and a row may be empty, its own agent left out."""
    rows, columns = np.nonzero(np.random.default_rng(seed).random((agents, agents)) < density)
    return BlockPattern(np.searchsorted(rows, np.arange(agents + 1)), columns, f"random({seed})")


def random_owners(agents: int, workers: int, seed: int) -> Partition:
    random = np.random.default_rng(seed)
    owners = np.concatenate([np.arange(workers), random.integers(0, workers, agents - workers)])
    return Partition(random.permutation(owners), workers, "random")


def partitions(graph: CommunicationGraph) -> Iterator[Partition]:
    for workers in (1, 2, 3, 4, 8):
        if workers <= graph.agents:
            yield from (make_partition(graph, workers, method) for method in METHODS_HERE)
            yield from (random_owners(graph.agents, workers, seed) for seed in range(2))


@functools.cache
def cases(name: str) -> list[tuple[BlockPattern, Partition, list[Halo]]]:
    """Every pattern with every partition of a graph, and the halos of all workers."""
    graph = quiet_graph(name)
    patterns = [neighbours(graph), hops(graph, 2), thinned(graph, 0.5)]
    patterns += [random_pattern(graph.agents, seed) for seed in range(2)]
    pairs = [(pattern, partition) for partition in partitions(graph) for pattern in patterns]
    return [(r, p, [build_halo(r, p, worker) for worker in range(p.workers)]) for r, p in pairs]


@every_graph
def test_what_one_worker_sends_is_what_the_other_receives(name: str) -> None:
    for _, partition, halos in cases(name):
        received = {(peer, halo.worker): agents.tolist() for halo in halos for peer, agents in halo.receive}
        sent = {(halo.worker, peer): agents.tolist() for halo in halos for peer, agents in halo.send}
        assert sent == received
        for (sender, receiver), agents in sent.items():
            assert sender != receiver and agents == sorted(set(agents))
            assert np.all(partition.owners[agents] == sender)
        for halo in halos:
            for lists in (halo.send, halo.receive):
                peers = [peer for peer, _ in lists]
                assert peers == sorted(set(peers)) and all(len(agents) for _, agents in lists)


@every_graph
def test_local_rows_are_the_rows_of_the_pattern(name: str) -> None:
    for pattern, partition, halos in cases(name):
        for halo in halos:
            assert np.array_equal(halo.owned, partition.owned(halo.worker))
            assert halo.row_start.dtype == halo.columns.dtype == np.int64
            for row, agent in enumerate(halo.owned):
                columns = halo.agents[halo.columns[halo.row_start[row] : halo.row_start[row + 1]]]
                expected = pattern.columns[pattern.row_start[agent] : pattern.row_start[agent + 1]]
                assert np.array_equal(columns, expected)
            assert len(halo.columns) == halo.row_start[-1]
        assert sum(len(halo.columns) for halo in halos) == pattern.entries


@every_graph
def test_every_ghost_is_needed_and_lies_in_the_run_of_its_owner(name: str) -> None:
    for _, partition, halos in cases(name):
        for halo in halos:
            used = set(halo.columns.tolist())
            assert set(range(len(halo.owned), len(halo.agents))) <= used
            owners = partition.owners[halo.ghosts]
            assert np.array_equal(np.lexsort((halo.ghosts, owners)), np.arange(len(halo.ghosts)))
            assert halo.worker not in owners
            runs = [agents for _, agents in halo.receive]
            assert np.array_equal(np.concatenate([np.empty(0, np.int64), *runs]), halo.ghosts)


@every_graph
def test_neurons_received_are_the_analytical_minimum(name: str) -> None:
    for pattern, partition, halos in cases(name):
        halves = np.random.default_rng(0).integers(1, 5, partition.agents)
        owner = partition.owners.tolist()
        needed = {(i, owner[k]) for k, i in zip(pattern.rows().tolist(), pattern.columns.tolist(), strict=True)}
        minimum = sum(int(halves[agent]) for agent, worker in needed if owner[agent] != worker)
        assert halves[partition.crossings(pattern)[1]].sum() == minimum
        assert sum(halves[agents].sum() for halo in halos for _, agents in halo.send) == minimum
        assert sum(halves[agents].sum() for halo in halos for _, agents in halo.receive) == minimum


@every_graph
def test_both_ends_of_every_message_have_the_same_digest(name: str) -> None:
    for _, partition, halos in cases(name):
        halves = np.random.default_rng(0).integers(1, 5, partition.agents)
        tables = np.stack([message_digests(halo, halves) for halo in halos])
        assert tables.shape == (partition.workers, partition.workers, 2) and tables.dtype == np.uint64
        assert disagreement(tables) is None
        for halo in halos:
            for kind, lists in enumerate((halo.send, halo.receive)):
                assert np.flatnonzero(tables[halo.worker, :, kind]).tolist() == [peer for peer, _ in lists]


def test_a_message_that_differs_at_one_end_is_found() -> None:
    graph, halves = ring(8), np.ones(8)
    partition = make_partition(graph, 4)
    right = np.stack([message_digests(build_halo(neighbours(graph), partition, w), halves) for w in range(4)])
    wider = np.where(np.arange(8) == 5, 2, 1)  # agent 5 of worker 2 goes to worker 3 only
    swapped = Partition(np.array([0, 0, 1, 1, 2, 3, 2, 3]), 4, "mapping")
    others = {
        "pattern": message_digests(build_halo(hops(graph, 2), partition, 2), halves),
        "partition": message_digests(build_halo(neighbours(graph), swapped, 2), halves),
        "widths": message_digests(build_halo(neighbours(graph), partition, 2), wider),
    }
    for what, other in others.items():
        wrong = right.copy()
        wrong[2] = other
        assert disagreement(wrong) in {(1, 2), (2, 1), (2, 3), (3, 2), (0, 2), (2, 0)}, what
    wrong[2] = others["widths"]
    assert disagreement(wrong) == (2, 3)


def test_a_message_of_equal_size_with_other_agents_is_found() -> None:
    partition = make_partition(ring(12), 3)
    halos = [build_halo(neighbours(ring(12)), partition, worker) for worker in range(3)]
    (peer, agents), *rest = halos[1].send
    halos[1] = replace(halos[1], send=((peer, agents + 1), *rest))
    assert disagreement(np.stack([message_digests(halo, np.ones(12)) for halo in halos])) == (1, peer)


@every_graph
def test_the_plan_digest_sees_any_change_of_pattern_partition_or_widths(name: str) -> None:
    graph = quiet_graph(name)
    pattern, halves = random_pattern(graph.agents, 0, 0.5), np.full(graph.agents, 2)
    partition = random_owners(graph.agents, min(3, graph.agents), 0)
    digest = plan_digest([pattern], partition, halves)
    assert len(digest) == 32 and digest == plan_digest(
        [pattern], Partition(partition.owners, partition.workers, "x"), halves
    )
    seen = {digest, plan_digest([pattern, pattern], partition, halves), plan_digest([], partition, halves)}
    assert len(seen) == 3
    matrix = pattern.to_scipy().toarray()
    changes = 0
    for i, j in np.ndindex(min(graph.agents, 8), min(graph.agents, 8)):  # add or take out one block
        other = matrix.copy()
        other[i, j] ^= True
        rows, columns = np.nonzero(other)
        flipped = BlockPattern(np.searchsorted(rows, np.arange(graph.agents + 1)), columns, pattern.kind)
        seen.add(plan_digest([flipped], partition, halves))
        changes += 1
    for agent in range(graph.agents):
        seen.add(plan_digest([pattern], partition, halves + (np.arange(graph.agents) == agent)))
        changes += 1
        for worker in set(range(partition.workers)) - {int(partition.owners[agent])}:
            owners = partition.owners.copy()
            owners[agent] = worker
            if len(set(owners)) == partition.workers:
                seen.add(plan_digest([pattern], Partition(owners, partition.workers, "mapping"), halves))
                changes += 1
    assert len(seen) == 3 + changes


def test_a_directed_pattern_sends_one_way_only() -> None:
    chain = BlockPattern(np.array([0, 1, 3, 5]), np.array([0, 0, 1, 1, 2]), "chain")  # 1 reads 0, 2 reads 1
    first, middle, last = (build_halo(chain, Partition(np.arange(3), 3, "mapping"), worker) for worker in range(3))
    assert [(peer, agents.tolist()) for peer, agents in middle.send] == [(2, [1])]
    assert [(peer, agents.tolist()) for peer, agents in middle.receive] == [(0, [0])]
    assert first.receive == last.send == ()
    assert middle.columns.tolist() == [1, 0]  # ascending in global numbers: the ghost 0 comes before the owned 1


def test_one_worker_has_no_halo() -> None:
    halo = build_halo(neighbours(ring(8)), make_partition(ring(8), 1), 0)
    assert len(halo.ghosts) == 0 and halo.send == halo.receive == ()


def wide_torus() -> CommunicationGraph:
    """torus(250, 400), made at once."""
    number = np.arange(100_000).reshape(250, 400)
    ends = [np.stack([number, np.roll(number, -1, axis)], axis=-1).reshape(-1, 2) for axis in (0, 1)]
    links = np.sort(np.concatenate(ends), axis=1)
    return CommunicationGraph("torus", tuple(map(str, range(100_000))), links[np.lexsort((links[:, 1], links[:, 0]))])


def test_a_hundred_thousand_agents_take_seconds() -> None:
    graph = wide_torus()
    pattern, halves = neighbours(graph), np.ones(graph.agents)
    partition = make_partition(graph, 16)
    start = time.perf_counter()
    halos = [build_halo(pattern, partition, worker) for worker in range(16)]
    tables = np.stack([message_digests(halo, halves) for halo in halos])
    plan_digest([pattern], partition, halves)
    assert time.perf_counter() - start < 5
    assert disagreement(tables) is None
    assert sum(len(halo.ghosts) for halo in halos) == len(partition.crossings(pattern)[1])


def test_what_does_not_fit_is_said_in_one_line() -> None:
    partition = make_partition(path(3), 2)
    with pytest.raises(
        ValueError, match="pattern neighbours: expected 3 agents, got 4; build the pattern for the same"
    ):
        build_halo(neighbours(path(4)), partition, 0)
    with pytest.raises(ValueError, match="worker to be a whole number from 0 to 1, got 2"):
        build_halo(neighbours(path(3)), partition, 2)
    with pytest.raises(ValueError, match=r"expected 3 whole numbers of at least 1, got int64 of shape \(2,\)"):
        plan_digest([neighbours(path(3))], partition, [1, 1])
    with pytest.raises(ValueError, match="expected 3 whole numbers of at least 1, got int64 .*least 0"):
        plan_digest([neighbours(path(3))], partition, [1, 0, 1])
