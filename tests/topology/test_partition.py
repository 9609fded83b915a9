"""Partitions: every agent owned once, even loads, small cuts, given owners, what a partition costs, and messages."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import time
import warnings
from typing import Any

import networkx as nx
import numpy as np
import pytest
from networks import GRAPHS, quiet_graph

from dist_hdnn.topology import (
    METHODS,
    BlockPattern,
    CommunicationGraph,
    Partition,
    as_graph,
    barabasi_albert,
    block_diagonal,
    describe_partition,
    from_mapping,
    grid,
    hops,
    make_partition,
    neighbours,
    path,
    ring,
    star,
    thinned,
    torus,
)

WORKERS = (1, 2, 3, 4, 8)
needs_metis = pytest.mark.skipif(importlib.util.find_spec("pymetis") is None, reason="needs pymetis")
every_method = pytest.mark.parametrize(
    "method", [pytest.param(m, marks=needs_metis if m == "metis" else ()) for m in METHODS]
)
every_graph = pytest.mark.parametrize("name", GRAPHS)


def loads(pattern: BlockPattern, widths: np.ndarray) -> np.ndarray:
    """An agent's share of all neurons plus its share of all block products, entry by entry."""
    products = np.zeros(len(widths))
    for row, column in zip(pattern.rows(), pattern.columns, strict=True):
        products[row] += widths[row] * widths[column]
    return np.asarray(widths / widths.sum() + products / products.sum())


@every_method
@every_graph
def test_every_agent_has_one_owner_and_every_worker_an_agent(name: str, method: str) -> None:
    graph = quiet_graph(name)
    for workers in WORKERS:
        if workers <= graph.agents:
            partition = make_partition(graph, workers, method)
            assert partition.agents == graph.agents and partition.workers == workers and partition.method == method
            assert partition.owners.dtype == np.int64
            owned = [partition.owned(worker) for worker in range(workers)]
            assert all(len(agents) and np.all(np.diff(agents) > 0) for agents in owned)
            assert np.array_equal(np.sort(np.concatenate(owned)), np.arange(graph.agents))


@every_method
@every_graph
def test_loads_are_even_to_within_the_heaviest_agent(name: str, method: str) -> None:
    graph = quiet_graph(name)
    for seed, pattern in enumerate((neighbours(graph), hops(graph, 2), thinned(graph, 0.5))):
        for workers in WORKERS[1:]:
            if workers > graph.agents:
                continue
            widths = np.random.default_rng(seed).integers(1, 6, graph.agents)
            owners = make_partition(graph, workers, method, widths, pattern).owners
            if method == "round_robin":
                assert np.array_equal(owners, np.arange(graph.agents) % workers)
                continue
            load = loads(pattern, widths)
            busiest = np.bincount(owners, load).max()
            tolerance = 0.03 if method == "metis" else 1e-12
            assert busiest <= load.sum() / workers * (1 + tolerance) + load.max()


@every_method
def test_equal_agents_are_shared_out_equally(method: str) -> None:
    for graph in (ring(64), torus(8, 8)):
        for workers in (2, 4, 8, 64):
            counts = np.bincount(make_partition(graph, workers, method).owners)
            assert counts.max() - counts.min() <= (2 if method == "metis" else 0)


@every_method
def test_one_agent_far_heavier_than_all_others_leaves_no_worker_idle(method: str) -> None:
    for graph in (path(6), star(6), quiet_graph("isolated agents"), ring(30)):
        for heavy in (0, 2, graph.agents - 1):
            widths = np.where(np.arange(graph.agents) == heavy, 10_000, 1)
            for workers in range(2, 7):
                assert make_partition(graph, workers, method, widths).workers == workers


def test_contiguous_runs_end_where_the_load_is_nearest_to_even() -> None:
    assert make_partition(path(4), 3, pattern=block_diagonal(4)).owners.tolist() == [0, 1, 1, 2]
    widths = [1, 1, 1, 1, 4, 4, 1, 1]
    assert make_partition(path(8), 2, widths=widths, pattern=block_diagonal(8)).owners.tolist() == [0] * 5 + [1] * 3


@every_method
def test_the_same_call_gives_the_same_owners(method: str) -> None:
    for graph in (barabasi_albert(300, 2, 0), torus(12, 30)):
        first, second = (make_partition(graph, 5, method, seed=3).owners for _ in range(2))
        assert np.array_equal(first, second)


@pytest.mark.parametrize("method", ["contiguous", "greedy", "spectral", pytest.param("metis", marks=needs_metis)])
def test_a_ring_is_cut_once_per_worker(method: str) -> None:
    graph = ring(600)
    owners = make_partition(graph, 6, method).owners
    assert np.count_nonzero(owners[graph.links[:, 0]] != owners[graph.links[:, 1]]) == 6


@pytest.mark.parametrize("method", ["greedy", "spectral", pytest.param("metis", marks=needs_metis)])
@pytest.mark.parametrize("sizes", [(40, 40), (20, 20, 20, 20), (10, 30, 40, 60)])
def test_components_are_kept_whole_where_loads_allow_it(method: str, sizes: tuple[int, ...]) -> None:
    mixed = np.random.default_rng(0).permutation(sum(sizes)).tolist()
    cliques = nx.disjoint_union_all([nx.complete_graph(size) for size in sizes])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = as_graph(nx.relabel_nodes(cliques, dict(enumerate(mixed))))
    partition = make_partition(graph, 2, method)
    if len(set(sizes)) == 1 or method == "metis":
        assert len(partition.crossings(neighbours(graph))[1]) == 0
    cut = [c for c in range(len(sizes)) if len(set(partition.owners[graph.components() == c])) > 1]
    assert len(cut) <= 1


@pytest.mark.parametrize("method", ["greedy", "spectral", pytest.param("metis", marks=needs_metis)])
def test_a_long_grid_is_cut_across_whatever_the_numbering(method: str) -> None:
    graph = grid(5, 80)  # numbered along the long side, so that contiguous runs are long and thin
    least = len(make_partition(graph, 4, method).crossings(neighbours(graph))[1])
    plain = len(make_partition(graph, 4).crossings(neighbours(graph))[1])
    assert least <= 45 and plain >= 160  # three cuts of 5 agents on either side are 30


@pytest.mark.parametrize("method", ["greedy", "spectral", pytest.param("metis", marks=needs_metis)])
def test_the_pattern_and_not_the_graph_says_who_is_close(method: str) -> None:
    graph = star(41)
    rows = np.arange(40)  # agent k reads its successor only: a directed path of its own
    chain = BlockPattern(np.append(np.arange(41), 40), rows + 1, "chain")
    owners = make_partition(graph, 2, method, pattern=chain).owners
    assert np.count_nonzero(np.diff(owners)) <= 2


@needs_metis
def test_metis_repairs_workers_that_it_leaves_without_an_agent() -> None:
    for agents in range(2, 14):
        for workers in range(1, agents + 1):
            for graph in (path(agents), star(agents)):
                assert len(set(make_partition(graph, workers, "metis").owners)) == workers


@needs_metis
def test_metis_minimises_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    pymetis = importlib.import_module("pymetis")
    given, seen = pymetis.part_graph, []

    def spy(*arguments: Any, **settings: Any) -> Any:
        seen.append((settings["options"], settings["recursive"]))
        return given(*arguments, **settings)

    monkeypatch.setattr(pymetis, "part_graph", spy)
    make_partition(ring(30), 3, "metis", seed=7)
    options, recursive = seen[0]
    assert options.objtype == int(pymetis.ObjType.VOL) and options.seed == 7 and not recursive


@needs_metis
def test_metis_takes_a_seed() -> None:
    graph = barabasi_albert(400, 3, 0)
    assert len({make_partition(graph, 4, "metis", seed=seed).owners.tobytes() for seed in range(4)}) > 1


def wide_torus() -> CommunicationGraph:
    """torus(250, 400), made at once."""
    number = np.arange(100_000).reshape(250, 400)
    ends = [np.stack([number, np.roll(number, -1, axis)], axis=-1).reshape(-1, 2) for axis in (0, 1)]
    links = np.sort(np.concatenate(ends), axis=1)
    return CommunicationGraph("torus", tuple(map(str, range(100_000))), links[np.lexsort((links[:, 1], links[:, 0]))])


@pytest.mark.parametrize(("method", "cut"), [("contiguous", 7_000), ("round_robin", 100_000), ("greedy", 7_000)])
def test_a_hundred_thousand_agents_take_seconds(method: str, cut: int) -> None:
    graph = wide_torus()
    start = time.perf_counter()
    partition = make_partition(graph, 16, method)
    pattern, halves = neighbours(graph), np.ones(graph.agents)
    costs = describe_partition(partition, graph, [pattern], halves, batch=1, itemsize=8)
    assert time.perf_counter() - start < 5
    assert costs["agents"]["max"] == 6250
    assert costs["cut_links"] <= cut


def test_owners_may_be_given_by_number_by_name_or_in_order() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = as_graph(nx.path_graph(["Berlin", "Denver", "Oslo"]))
    ways: list[Any] = [{"Denver": 1, "Berlin": 0, 2: 1}, {0: 0, 1: 1, "2": 1}, [0, 1, 1], np.array([0, 1, 1], np.uint8)]
    for given in ways:
        partition = from_mapping(graph, given)
        assert partition.owners.tolist() == [0, 1, 1] and partition.workers == 2 and partition.method == "mapping"
    assert from_mapping(graph, [1, 0, 2], workers=3).owned(1).tolist() == [0]


def test_owners_cannot_be_changed_afterwards() -> None:
    given = np.array([0, 1, 0])
    partition = from_mapping(path(3), given)
    given[0] = 1
    assert partition.owners[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        partition.owners[0] = 1


@every_graph
def test_the_description_counts_what_it_says(name: str) -> None:
    graph = quiet_graph(name)
    halves = np.random.default_rng(1).integers(1, 4, graph.agents)
    patterns = [neighbours(graph), block_diagonal(graph.agents)]
    for workers in WORKERS:
        if workers > graph.agents:
            continue
        partition = make_partition(graph, workers, "round_robin")
        costs = json.loads(json.dumps(describe_partition(partition, graph, patterns, halves, batch=10, itemsize=4)))
        owner = partition.owners.tolist()
        cut = [(i, j) for i, j in graph.links.tolist() if owner[i] != owner[j]]
        slices = {(i, owner[j]) for i, j in cut} | {(j, owner[i]) for i, j in cut}
        ghosts = [sum(worker == w for _, worker in slices) for w in range(workers)]
        neurons = [2 * int(halves[partition.owned(w)].sum()) for w in range(workers)]
        own = sum(int(half) ** 2 for half in halves)
        products = 2 * own + 2 * sum(int(halves[i] * halves[j]) for i, j in graph.links)
        assert costs["cut_links"] == len(cut)
        assert [costs["neurons"][key] for key in ("min", "max")] == [min(neurons), max(neurons)]
        assert costs["neurons"]["imbalance"] == pytest.approx(max(neurons) / np.mean(neurons))
        assert costs["block_products"]["mean"] == pytest.approx(products / workers)
        near, alone = costs["rounds"]
        assert near["pattern"] == "neighbours" and alone["pattern"] == "block_diagonal"
        assert near["messages"] == len({(owner[agent], worker) for agent, worker in slices})
        assert near["bytes"] == 40 * sum(int(halves[agent]) for agent, _ in slices)
        assert [near["ghosts"][key] for key in ("min", "mean", "max")] == [min(ghosts), np.mean(ghosts), max(ghosts)]
        assert alone["messages"] == alone["bytes"] == alone["ghosts"]["max"] == 0 and alone["ghosts"]["imbalance"] == 1


@every_method
def test_more_workers_than_agents_are_refused(method: str) -> None:
    with pytest.raises(ValueError, match=r"expected at most 3 workers, one per agent of path\(3\), got 4; use fewer"):
        make_partition(path(3), 4, method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers to be a whole number of at least 1, got 0"),
        ({"workers": True}, "workers to be a whole number of at least 1, got True"),
        ({"method": "metric"}, "expected a method of contiguous, .*, got 'metric'; did you mean 'metis'?"),
        ({"widths": [1, 2]}, r"expected 3 whole numbers of at least 1, got int64 of shape \(2,\)"),
        ({"widths": [1, 2, 0]}, "expected 3 whole numbers of at least 1, .*least 0"),
        ({"widths": [1, 2, 1.5]}, "expected 3 whole numbers of at least 1, got float64"),
        ({"pattern": block_diagonal(4)}, "expected 3 agents, got 4"),
        ({"seed": -1}, "seed to be a whole number of at least 0, got -1"),
    ],
)
def test_what_cannot_be_partitioned_is_said_in_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_partition(path(3), **({"workers": 2} | options))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mapping", "workers", "message"),
    [
        ([0, 2, 0], None, "an agent for each of 3 workers, got none for worker 1; give it one or use fewer"),
        ([0, 0, 0], 4, "an agent for each of 4 workers, got none for worker 1 and 2 more"),
        ([0, 1, 2], 2, "expected an owner 0..1 of agent 2, got 2"),
        ([-1, -1, -1], None, "expected an owner 0..0 of agent 0, got -1"),
        ([0, 1], None, r"expected 3 worker numbers, got int64 of shape \(2,\)"),
        ([0, 1.0, 1], None, "expected 3 worker numbers, got float64"),
        ({0: 0, 1: 1}, None, "expected a worker for every agent, got none for 2; add them"),
        ({0: 0, 1: 1, "1": 0, 2: 0}, None, "expected one worker per agent, got agent '1' twice"),
        ({0: 0, 1: 1, 3: 0}, None, "expected an agent number 0..2 or a name, got 3"),
        ({0: 0, 1: 1, 2: "one"}, None, "the worker of agent 2 to be a whole number of at least 0, got 'one'"),
    ],
)
def test_a_mapping_that_does_not_fit_is_said_in_one_line(mapping: object, workers: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        from_mapping(path(3), mapping, workers)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_an_unknown_worker_owns_nothing() -> None:
    with pytest.raises(ValueError, match="worker to be a whole number from 0 to 1, got 2"):
        Partition(np.array([0, 1]), 2, "mapping").owned(2)


def test_metis_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymetis", None)
    with pytest.raises(ValueError, match=r"expected the package pymetis.*pip install pymetis, or take"):
        make_partition(path(3), 2, "metis")
