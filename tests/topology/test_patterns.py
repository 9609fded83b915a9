"""Block patterns: inclusion, symmetry, nestedness, hops, the paper's test, given matrices and what a config may say."""

import warnings
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array

from dist_hdnn.topology import (
    BlockPattern,
    CommunicationGraph,
    as_graph,
    block_diagonal,
    build_pattern,
    complete,
    dense,
    erdos_renyi,
    from_matrix,
    grid,
    hops,
    is_locally_computable,
    neighbours,
    non_links,
    path,
    ring,
    star,
    thinned,
    torus,
)


def disconnected() -> CommunicationGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return as_graph(nx.disjoint_union_all([nx.cycle_graph(5), nx.complete_graph(4), nx.empty_graph(2)]))


GRAPHS = [path(1), path(2), path(6), ring(8), star(7), complete(5), grid(3, 4), torus(2, 3), erdos_renyi(20, 0.3, 1)]
GRAPHS.append(disconnected())
every_graph = pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)


@every_graph
def test_neighbours_is_adjacency_plus_identity(graph: CommunicationGraph) -> None:
    pattern = neighbours(graph)
    expected = graph.adjacency().toarray() | np.eye(graph.agents, dtype=bool)
    assert np.array_equal(pattern.to_scipy().toarray(), expected)
    assert pattern.entries == graph.agents + 2 * len(graph.links)
    assert pattern.links_used == len(graph.links)
    assert pattern.density == pattern.entries / graph.agents**2
    assert pattern.is_block_diagonal == (len(graph.links) == 0)
    assert len(non_links(pattern, graph)) == 0
    assert pattern.row_start.dtype == pattern.columns.dtype == np.int64


@every_graph
def test_hops_are_the_distances_of_networkx_and_grow_with_k(graph: CommunicationGraph) -> None:
    distances = dict(nx.all_pairs_shortest_path_length(graph.to_networkx()))
    smaller = block_diagonal(graph.agents)
    for k in range(5):
        pattern = hops(graph, k)
        pairs = {(i, j) for i, row in distances.items() for j, hop in row.items() if hop <= k}
        assert set(zip(pattern.rows().tolist(), pattern.columns.tolist(), strict=True)) == pairs
        assert pattern.contains(smaller)
        outside = {tuple(pair) for pair in non_links(pattern, graph).tolist()}
        assert outside == {(i, j) for i, j in pairs if distances[i][j] > 1}
        smaller = pattern
    assert np.array_equal(hops(graph, 1).columns, neighbours(graph).columns)


@every_graph
def test_block_diagonal_and_dense_bound_every_pattern(graph: CommunicationGraph) -> None:
    least, most = block_diagonal(graph.agents), dense(graph.agents)
    assert least.is_block_diagonal and least.links_used == 0 and least.entries == graph.agents
    assert most.density == 1 and most.links_used == graph.agents * (graph.agents - 1) // 2
    assert most.contains(neighbours(graph)) and neighbours(graph).contains(least)
    assert neighbours(graph).contains(most) == (most.links_used == len(graph.links))


@given(st.sampled_from(GRAPHS), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**40), st.booleans())
@settings(max_examples=150, deadline=None)
def test_thinned_patterns_are_nested_symmetric_and_keep_the_diagonal(
    graph: CommunicationGraph, one: float, other: float, seed: int, forest: bool
) -> None:
    fewer, more = (thinned(graph, keep, seed, forest) for keep in sorted((one, other)))
    assert more.contains(fewer) and neighbours(graph).contains(more)
    assert fewer.contains(block_diagonal(graph.agents))
    assert np.array_equal(fewer.columns, fewer.transpose().columns)
    spanning = graph.agents - len(graph.component_sizes())
    kept = round(max(one, other) * len(graph.links))
    assert more.links_used == (max(kept, spanning) if forest else kept)
    if forest:
        links = CommunicationGraph("kept", graph.names, as_links(fewer))
        assert links.component_sizes() == graph.component_sizes()


def as_links(pattern: BlockPattern) -> np.ndarray:
    pairs = np.column_stack([pattern.rows(), pattern.columns])
    return pairs[pairs[:, 0] < pairs[:, 1]]


def test_thinned_depends_on_the_seed_and_uses_every_link_equally_often() -> None:
    graph = ring(12)
    assert np.array_equal(thinned(graph, 0.5, 3).columns, thinned(graph, 0.5, 3).columns)
    kept = np.zeros((12, 12))
    for seed in range(400):
        kept += thinned(graph, 0.5, seed).to_scipy().toarray()
    share = kept[tuple(graph.links.T)] / 400
    assert np.all(np.abs(share - 0.5) < 0.13)  # five standard deviations
    assert len({thinned(graph, 0.5, seed).columns.tobytes() for seed in range(20)}) > 15


@pytest.mark.parametrize("keep", [-0.1, 1.1, float("nan"), "half", True])
def test_thinned_refuses_a_fraction_outside_0_to_1(keep: float) -> None:
    with pytest.raises(ValueError, match="thinned: expected keep, the fraction of links, from 0 to 1, got"):
        thinned(ring(4), keep)


@given(
    st.integers(1, 8).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=n, max_size=n)
    )
)
@settings(max_examples=60, deadline=None)
def test_any_0_1_matrix_on_a_complete_graph_is_kept_as_it_is(rows: list[list[bool]]) -> None:
    matrix = np.array(rows)
    graph = complete(len(rows))
    for given_as in (matrix, matrix.astype(float), coo_array(matrix), rows):
        pattern = from_matrix(graph, given_as)
        assert np.array_equal(pattern.to_scipy().toarray(), matrix)
    assert np.array_equal(pattern.transpose().to_scipy().toarray(), matrix.T)
    assert pattern.links_used == np.triu(matrix | matrix.T, 1).sum()
    assert np.array_equal(np.column_stack([pattern.rows(), pattern.columns]), np.argwhere(matrix))


def test_a_matrix_entry_on_a_non_link_is_refused_with_the_neighbours_and_the_fix() -> None:
    matrix = np.eye(6)
    matrix[1, 4] = matrix[4, 1] = 1
    expected = (
        r"block \(1, 4\) is set but agents 1 and 4 are not linked in path\(6\) \(1 more such blocks\); "
        r"neighbors of 1: \[0, 2\]; add the link, or build the pattern with hops=2"
    )
    with pytest.raises(ValueError, match=expected):
        from_matrix(path(6), matrix)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), r"expected a matrix of shape \(4, 4\) for ring\(4\), got \(3, 3\)"),
        (np.ones(4), r"got \(4,\)"),
        (2 * np.eye(4), r"expected entries 0 or 1, got 2.0 \(4 in all\)"),
        (np.diag([1, 1, 1, np.nan]), "expected entries 0 or 1, got nan"),
        (np.full((4, 4), "x"), "expected entries 0 or 1, got entries of type"),
    ],
)
def test_a_matrix_of_wrong_shape_or_values_is_refused(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_matrix(ring(4), matrix)


@every_graph
def test_local_computability_is_the_papers_inequality(graph: CommunicationGraph) -> None:
    candidates = [block_diagonal(graph.agents), neighbours(graph), thinned(graph, 0.5), dense(graph.agents)]
    for T in candidates:
        for R in candidates:
            t, r = (pattern.to_scipy().toarray().astype(int) for pattern in (T, R))
            for S in (neighbours(graph), hops(graph, 3)):
                expected = not np.any((t @ r.T @ r > 0) & ~S.to_scipy().toarray())
                assert is_locally_computable(T, R, S) == expected
    assert is_locally_computable(candidates[0], candidates[0], graph)
    assert is_locally_computable(candidates[0], candidates[1], hops(graph, 2))


def test_local_computability_asks_who_shares_a_column_not_a_row() -> None:
    """Of a pattern R that is not symmetric, RᵀR and R Rᵀ differ; the ends of a path of three are not linked."""
    graph, T = path(3), block_diagonal(3)
    both_ends_read_the_middle = from_matrix(graph, [[0, 1, 0], [0, 1, 0], [0, 1, 0]])
    the_middle_reads_both_ends = from_matrix(graph, [[0, 0, 0], [1, 0, 1], [0, 0, 0]])
    assert is_locally_computable(T, both_ends_read_the_middle, graph)
    assert not is_locally_computable(T, the_middle_reads_both_ends, graph)


def test_every_spelling_of_a_spec_gives_its_pattern(tmp_path: Path) -> None:
    graph = ring(6)
    matrix = neighbours(graph).to_scipy().toarray().astype(int)
    np.savetxt(tmp_path / "R.csv", matrix, delimiter=",", fmt="%d")
    np.save(tmp_path / "R.npy", matrix)
    for spec, expected in [
        ("neighbours", neighbours(graph)),
        ("block_diagonal", block_diagonal(6)),
        ("dense", dense(6)),
        ("hops=2", hops(graph, 2)),
        ({"kind": "hops", "hops": 2, "keep": None, "seed": 0, "spanning_forest": False, "file": None}, hops(graph, 2)),
        ({"kind": "thinned", "keep": 0.5, "seed": 4}, thinned(graph, 0.5, 4)),
        ({"kind": "thinned", "keep": 0, "spanning_forest": True}, thinned(graph, 0.0, 0, True)),
        ({"kind": "matrix", "file": str(tmp_path / "R.csv")}, neighbours(graph)),
        ({"kind": "matrix", "file": tmp_path / "R.npy"}, neighbours(graph)),
        (matrix, neighbours(graph)),
        (matrix.tolist(), neighbours(graph)),
        (thinned(graph, 0.3), thinned(graph, 0.3)),
    ]:
        pattern = build_pattern(graph, spec)
        assert np.array_equal(pattern.row_start, expected.row_start)
        assert np.array_equal(pattern.columns, expected.columns)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("neighbors", "got 'neighbors'; did you mean 'neighbours'"),
        ("hop=2", "did you mean 'hops=2'"),
        ("hops=two", "did you mean 'hops=2'"),
        ({"kind": "thined", "keep": 0.5}, "did you mean 'thinned'"),
        ({"keep": 0.5}, "got None"),
        ({"kind": "thinned"}, "pattern thinned: expected the setting 'keep', got none"),
        ({"kind": "hops"}, "pattern hops: expected the setting 'hops', got none"),
        ({"kind": "hops", "hops": -1}, "hops: expected k to be a whole number of at least 0, got -1"),
        ({"kind": "thinned", "keep": 0.5, "sed": 1}, "got sed=1; did you mean 'seed'"),
        ({"kind": "neighbours", "keep": 0.5}, "neighbours: expected no settings, got keep=0.5; remove it"),
        (block_diagonal(5), "block_diagonal: expected 4 agents, got 5"),
        ({"kind": "matrix", "file": "nowhere.csv"}, "nowhere.csv: expected a 0/1 matrix, .* found nothing there"),
        ({"kind": "matrix", "file": "R.xlsx"}, "R.xlsx: expected a matrix file .csv or .npy, found the suffix '.xlsx'"),
    ],
)
def test_a_wrong_spec_is_refused_in_one_line_with_the_nearest_known_one(spec: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        build_pattern(ring(4), spec)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("R.csv", b""),
        ("R.csv", b"1,0\n0,x\n"),
        ("R.csv", b"1,0\n0\n"),
        ("R.csv", b"\x80\x81\x00"),
        ("R.csv", b"1,0\n0,1\n"),
        ("R.npy", b""),
        ("R.npy", b"\x93NUMPY\x01"),
        ("R.npy", b"not an array"),
    ],
)
def test_a_damaged_matrix_file_is_refused_in_one_line_naming_it(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name) as refusal:
        build_pattern(ring(4), {"kind": "matrix", "file": str(tmp_path / name)})
    assert "\n" not in str(refusal.value)


def test_patterns_that_would_fill_the_memory_are_refused() -> None:
    with pytest.raises(ValueError, match="pattern dense: expected at most .* blocks, got 10000000000"):
        dense(100_000)
    with pytest.raises(ValueError, match="pattern hops=2: expected a sparse result"):
        hops(star(60_000), 2)


@pytest.mark.parametrize(
    ("row_start", "columns"), [([0, 1], [1]), ([0, 2, 2], [1, 0]), ([0, 2, 2], [1, 1]), ([0, 2, 1], [0]), ([1, 1], [])]
)
def test_broken_compressed_rows_are_refused(row_start: list[int], columns: list[int]) -> None:
    with pytest.raises(ValueError, match="pattern mine: expected"):
        BlockPattern(np.array(row_start), np.array(columns), "mine")


def test_patterns_of_100_000_agents_take_seconds() -> None:
    graph = torus(316, 316)
    near, wide = neighbours(graph), hops(graph, 2)
    assert (near.entries, wide.entries) == (5 * graph.agents, 13 * graph.agents)
    assert wide.contains(near) and thinned(graph, 0.5, spanning_forest=True).links_used == len(graph.links) // 2
    assert not is_locally_computable(near, near, graph)
