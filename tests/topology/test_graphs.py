"""Communication graphs: canonical numbering, families, components, diameters, round trips and refusals."""

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_hdnn.network.arguments import agent_widths
from dist_hdnn.topology import (
    FAMILIES,
    CommunicationGraph,
    as_graph,
    balanced_tree,
    barabasi_albert,
    complete,
    erdos_renyi,
    exponential_ring,
    grid,
    hypercube,
    neighbours,
    path,
    random_regular,
    reach_warnings,
    read_graph,
    ring,
    star,
    torus,
    watts_strogatz,
)

LINK_LISTS = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30)


def quietly(make: Callable[[], CommunicationGraph]) -> CommunicationGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


@given(LINK_LISTS, st.randoms(), st.sampled_from([str, int, lambda i: f"agent {i}", lambda i: (i // 4, i % 4)]))
@settings(max_examples=60, deadline=None)
def test_numbering_does_not_depend_on_the_order_of_nodes_links_or_ends(
    links: list[tuple[int, int]], shuffler: random.Random, rename: Callable[[int], object]
) -> None:
    def build(nodes: list[int], pairs: list[tuple[int, int]]) -> CommunicationGraph:
        graph = nx.MultiGraph()
        graph.add_nodes_from(map(rename, nodes))
        graph.add_edges_from((rename(i), rename(j)) for i, j in pairs)
        return quietly(lambda: as_graph(graph))

    nodes = list(range(12))
    original = build(nodes, links)
    shuffler.shuffle(nodes)
    shuffled = [pair[::-1] if shuffler.random() < 0.5 else pair for pair in links]
    shuffler.shuffle(shuffled)
    again = build(nodes, shuffled)
    assert again.names == original.names
    assert np.array_equal(again.links, original.links)
    assert again.digest() == original.digest()


def test_names_sort_as_integers_or_tuples_of_integers_when_all_are_else_as_text() -> None:
    assert as_graph(nx.path_graph(11)).names == tuple(map(str, range(11)))
    assert as_graph(nx.path_graph(["10", "9", "-1"])).names == ("-1", "9", "10")
    assert as_graph(nx.path_graph([(10, 0), (9, 5), (9, 12)])).names == ("(9, 5)", "(9, 12)", "(10, 0)")
    assert as_graph(nx.path_graph(["10", "9", "a"])).names == ("10", "9", "a")


@given(LINK_LISTS)
@settings(max_examples=60, deadline=None)
def test_links_adjacency_degrees_components_and_diameter_agree_with_networkx(links: list[tuple[int, int]]) -> None:
    reference = nx.Graph([(i, j) for i, j in links if i != j])
    reference.add_nodes_from(range(12))
    graph = quietly(lambda: as_graph(reference))
    assert [tuple(link) for link in graph.links.tolist()] == sorted(tuple(sorted(edge)) for edge in reference.edges)
    dense = graph.adjacency().toarray()
    assert dense.dtype == np.bool_ and np.array_equal(dense, dense.T) and not dense.diagonal().any()
    assert np.array_equal(dense, nx.to_numpy_array(reference, nodelist=range(12)) > 0)
    assert all(graph.neighbours(i) == sorted(reference[i]) for i in range(12))
    assert graph.degrees().tolist() == [reference.degree[i] for i in range(12)]
    assert graph.component_sizes() == sorted(map(len, nx.connected_components(reference)), reverse=True)
    largest = np.flatnonzero(graph.components() == np.bincount(graph.components()).argmax())
    diameter = nx.diameter(reference.subgraph(largest.tolist()))
    assert graph.diameter() == (diameter, True)
    bound, exact = graph.diameter(exact_up_to=0)
    assert bound == diameter if exact else bound <= diameter
    assert nx.utils.graphs_equal(nx.Graph(graph.to_networkx().edges), nx.Graph(reference.edges))


@pytest.mark.parametrize(
    ("graph", "agents", "links", "diameter"),
    [
        (path(1), 1, 0, 0),
        (path(7), 7, 6, 6),
        (ring(1), 1, 0, 0),
        (ring(2), 2, 1, 1),
        (ring(3), 3, 3, 1),
        (ring(8), 8, 8, 4),
        (star(1), 1, 0, 0),
        (star(6), 6, 5, 2),
        (grid(3, 4), 12, 17, 5),
        (torus(1, 1), 1, 0, 0),
        (torus(1, 2), 2, 1, 1),
        (torus(2, 2), 4, 4, 2),
        (torus(2, 3), 6, 9, 2),
        (torus(1, 5), 5, 5, 2),
        (torus(4, 6), 24, 48, 5),
        (complete(1), 1, 0, 0),
        (complete(6), 6, 15, 1),
        (balanced_tree(1, 3), 4, 3, 3),
        (balanced_tree(2, 3), 15, 14, 6),
        (balanced_tree(5, 0), 1, 0, 0),
        (erdos_renyi(9, 1.0), 9, 36, 1),
        (watts_strogatz(12, 4, 0.0), 12, 24, 3),
        (watts_strogatz(1, 0, 0.0), 1, 0, 0),
        (barabasi_albert(10, 1, seed=3), 10, 9, None),
        (random_regular(10, 3, seed=1), 10, 15, None),
        (random_regular(4, 3), 4, 6, 1),
        (hypercube(0), 1, 0, 0),
        (hypercube(1), 2, 1, 1),
        (hypercube(4), 16, 32, 4),
        (exponential_ring(1), 1, 0, 0),
        (exponential_ring(2), 2, 1, 1),
        (exponential_ring(16), 16, 56, 2),
        (path(2500), 2500, 2499, 2499),
    ],
    ids=lambda value: value.name if isinstance(value, CommunicationGraph) else "",
)
def test_families_have_their_known_size_and_diameter(
    graph: CommunicationGraph, agents: int, links: int, diameter: int | None
) -> None:
    assert (graph.agents, len(graph.links)) == (agents, links)
    assert graph.names == tuple(sorted(graph.names, key=lambda name: eval(name)))
    assert graph.notes == ()
    if diameter is not None:
        assert graph.diameter() == (diameter, True)


def test_families_make_no_warning_even_at_the_smallest_sizes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (1, 2, 3):
            for family in (path, ring, star, complete, exponential_ring):
                assert family(n).component_sizes() == [n]
            for m in (1, 2, 3):
                assert grid(n, m).component_sizes() == torus(n, m).component_sizes() == [n * m]


def test_hypercube_and_exponential_ring_match_their_definitions() -> None:
    assert nx.is_isomorphic(hypercube(4).to_networkx(), nx.hypercube_graph(4))
    expected = {frozenset((i, (i + 2**k) % 10)) for i in range(10) for k in range(4)}
    assert {frozenset(link) for link in exponential_ring(10).links.tolist()} == expected


def test_random_families_depend_on_the_seed_and_on_nothing_else() -> None:
    makers: list[Callable[[int], CommunicationGraph]] = [
        lambda seed: erdos_renyi(30, 0.3, seed),
        lambda seed: watts_strogatz(30, 4, 0.5, seed),
        lambda seed: barabasi_albert(30, 2, seed),
        lambda seed: random_regular(30, 4, seed),
    ]
    for make in makers:
        random.seed(0)
        first = make(1)
        random.seed(99)
        assert make(1).digest() == first.digest() != make(2).digest()
    assert set(random_regular(30, 4, 7).degrees()) == {4}


def test_families_table_calls_every_family_by_its_name() -> None:
    assert FAMILIES["ring"](5).name == "ring(5)"
    assert FAMILIES["grid"](rows=2, columns=3).name == "grid(2, 3)"
    assert len(FAMILIES) == 14


def test_a_barbell_is_two_cliques_and_a_bridge() -> None:
    graph = FAMILIES["barbell"](8)
    links = {tuple(link) for link in graph.links.tolist()}
    assert len(links) == 2 * 6 + 1
    assert (0, 4) in links
    assert not any(i < 4 <= j for i, j in links - {(0, 4)})
    with pytest.raises(ValueError, match="barbell: expected an even number of agents, got 7; use 6 or 8"):
        FAMILIES["barbell"](7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ring(0), r"ring: expected n to be a whole number from 1 to .*, got 0; change n"),
        (lambda: path(-3), "path: .* got -3"),
        (lambda: FAMILIES["star"](2.5), "star: .* got 2.5"),
        (lambda: complete(True), "complete: .* got True"),
        (lambda: grid(0, 3), "grid: expected rows .* got 0"),
        (lambda: torus(3, -1), "torus: expected columns .* got -1"),
        (lambda: balanced_tree(0, 3), "balanced_tree: expected branching .* got 0"),
        (lambda: balanced_tree(10**9, 10**9), "balanced_tree: expected at most .* links"),
        (lambda: complete(10**6), "complete: expected at most .* links, got about 5e"),
        (lambda: erdos_renyi(5, 1.5), "erdos_renyi: expected probability from 0 to 1, got 1.5"),
        (lambda: erdos_renyi(5, float("nan")), "erdos_renyi: expected probability from 0 to 1, got nan"),
        (lambda: erdos_renyi(5, 0.5, seed=-1), "erdos_renyi: expected seed .* got -1"),
        (lambda: watts_strogatz(6, 3, 0.1), "watts_strogatz: expected neighbours to be even .* got 3; use 2 or 4"),
        (lambda: watts_strogatz(6, 6, 0.1), "watts_strogatz: expected neighbours .* from 0 to 5, got 6"),
        (lambda: barabasi_albert(5, 5), "barabasi_albert: expected attachments .* from 1 to 4, got 5"),
        (lambda: random_regular(5, 3), r"random_regular: expected n \* degree to be even, got 5 \* 3 = 15"),
        (lambda: random_regular(4, 4), "random_regular: expected degree .* from 0 to 3, got 4"),
        (lambda: hypercube(40), "hypercube: expected dimension .* got 40"),
        (lambda: exponential_ring(0), "exponential_ring: .* got 0"),
        (lambda: as_graph(nx.Graph()), "graph: expected at least one agent, got an empty graph"),
        (lambda: as_graph(nx.DiGraph([(0, 1)])), r"undirected links.*directed graph; pass graph.to_undirected\(\)"),
        (lambda: as_graph([(0, 1)]), "as_graph: expected a networkx.Graph .* got list"),
        (lambda: as_graph(nx.Graph([(1, "1")])), "expected nodes that differ as text, got 1 and '1'"),
        (lambda: ring(4).neighbours(4), r"ring\(4\): expected an agent 0..3, got 4"),
        (lambda: CommunicationGraph("g", ("a", "b"), np.array([[1, 0]])), "g: expected sorted links"),
        (lambda: CommunicationGraph("g", ("a", "a"), np.empty((0, 2), np.int64)), "got 'a' twice"),
    ],
)
def test_bad_requests_are_refused_in_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        make()
    assert "\n" not in str(refusal.value)


def test_self_loops_repeated_links_and_components_make_one_warning_line_each() -> None:
    messy = nx.MultiGraph([(0, 1), (1, 0), (0, 1), (2, 2), (3, 3), (2, 3)])
    messy.add_node(4)
    with pytest.warns(UserWarning) as caught:
        graph = as_graph(messy)
    texts = [str(warning.message) for warning in caught]
    assert texts == list(graph.notes)
    assert len(texts) == 3 and not any("\n" in text for text in texts)
    assert "dropped 2 self-loops" in texts[0]
    assert "merged 2 repeated links" in texts[1]
    assert "3 components of 2 (2 times), 1 agents" in texts[2]
    assert graph.links.tolist() == [[0, 1], [2, 3]]
    assert all(warning.filename == __file__ for warning in caught)


def test_positions_come_from_the_family_or_from_attributes_that_most_nodes_have() -> None:
    positions = grid(2, 3).positions
    assert positions is not None and len(np.unique(positions, axis=0)) == 6
    located = nx.path_graph(3)
    nx.set_node_attributes(located, {i: {"Longitude": 10.0 + i, "Latitude": 50.0} for i in range(3)})
    positions = as_graph(located).positions
    assert positions is not None and positions.tolist() == [[10.0, 50.0], [11.0, 50.0], [12.0, 50.0]]
    del located.nodes[1]["Latitude"]
    positions = as_graph(located).positions  # near the mean of its neighbors
    assert positions is not None and positions[[0, 2]].tolist() == [[10.0, 50.0], [12.0, 50.0]]
    assert 0 < np.abs(positions[1] - [11.0, 50.0]).max() <= 0.1
    del located.nodes[0]["Latitude"]
    assert as_graph(located).positions is None
    placed = nx.path_graph(2)
    nx.set_node_attributes(placed, {0: (0.0, 1.0), 1: (2.0, 3.0)}, "pos")
    positions = as_graph(placed).positions
    assert positions is not None and positions.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    nx.set_node_attributes(placed, {0: (0.0, 1.0), 1: (2.0, float("nan"))}, "pos")
    assert as_graph(placed).positions is None
    assert hypercube(3).positions is None
    lonely = nx.disjoint_union(placed, nx.empty_graph(1))  # an agent without a place or a way to one
    nx.set_node_attributes(lonely, {0: (0.0, 1.0), 1: (2.0, 3.0)}, "pos")
    with pytest.warns(UserWarning, match="disconnected"):
        assert as_graph(lonely).positions is None


def test_nodes_that_are_no_text_are_found_by_what_networkx_calls_them() -> None:
    graph = as_graph(nx.grid_2d_graph(2, 3))
    assert [graph.index_of(node) for node in [(0, 0), (1, 2), "(1, 2)", 5]] == [0, 5, 5, 5]
    widths = agent_widths(graph, {node: 2 + 2 * node[1] for node in nx.grid_2d_graph(2, 3)})
    assert widths.tolist() == [2, 4, 6, 2, 4, 6]


def test_index_of_takes_numbers_and_names_and_names_the_nearest() -> None:
    cities = as_graph(nx.path_graph(["Denver", "Seattle", "New York"]))
    assert cities.index_of("Denver") == cities.index_of(0) == cities.index_of("0") == 0
    assert cities.index_of(np.int64(2)) == 2
    for wrong in ("Denvr", 3, -1, "3", True, 1.0, None):
        with pytest.raises(ValueError, match="expected an agent number 0..2 or a name, got .*nearest names: .*Denver"):
            cities.index_of(wrong)  # type: ignore[arg-type]
    assert as_graph(nx.path_graph([1, 2, 3])).index_of("1") == 0


@pytest.mark.parametrize("graph", [ring(1), ring(8), grid(2, 5), hypercube(3)], ids=lambda graph: graph.name)
def test_json_round_trip_keeps_everything(graph: CommunicationGraph, tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text(json.dumps(graph.to_json()), encoding="utf-8")
    back = read_graph(tmp_path / "graph.json")
    assert (back.name, back.names, back.notes, back.digest()) == (graph.name, graph.names, graph.notes, graph.digest())
    assert back.to_json() == graph.to_json()
    assert as_graph(graph.to_networkx()).links.tolist() == graph.links.tolist()


def test_as_graph_passes_on_what_it_made_and_arrays_are_read_only() -> None:
    graph = ring(5)
    assert as_graph(graph) is graph
    with pytest.raises(ValueError, match="read-only"):
        graph.links[0, 0] = 3


@pytest.mark.parametrize(
    "graph", [torus(9, 13), hypercube(6), erdos_renyi(150, 0.4), star(130), random_regular(200, 3)]
)
def test_exact_diameter_agrees_with_networkx(graph: CommunicationGraph) -> None:
    assert graph.diameter() == (nx.diameter(graph.to_networkx()), True)


def test_information_reach_warns_in_one_line_when_the_graph_is_wider_than_the_network_is_deep() -> None:
    assert ring(8).diameter() == (4, True)
    assert reach_warnings(ring(8), [neighbours(ring(8))], 1) == []
    (text,) = reach_warnings(ring(100), [neighbours(ring(100))], 3, hops_per_layer=4)
    assert "\n" not in text
    assert "at most 12 hops in 3 layers (4 each) but the diameter is 50" in text and "use 13 layers or more" in text
    assert "couple agents" in reach_warnings(path(3), [], 5, hops_per_layer=0)[0]


def test_a_torus_of_100_000_agents_is_made_and_measured_in_seconds() -> None:
    graph = torus(316, 316)
    assert (graph.agents, len(graph.links)) == (99856, 2 * 99856)
    assert graph.diameter() == (316, False)
    assert graph.component_sizes() == [99856]
