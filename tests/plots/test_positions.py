"""Positions of the agents in a picture: apart, the same in every run, in the shape of the graph."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from dist_hdnn.plots.positions import Points, drawing_positions

GRAPHS = {
    "one agent": nx.empty_graph(1),
    "two agents": nx.path_graph(2),
    "no links": nx.empty_graph(7),
    "ring": nx.cycle_graph(8),
    "star": nx.star_graph(12),
    "hypercube": nx.hypercube_graph(4),
    "complete": nx.complete_graph(10),
    "parts": nx.Graph([(0, 1), (1, 2), (3, 4), (5, 6), (6, 7), (5, 7)]),
    "sixty": nx.gnm_random_graph(60, 100, seed=0),
    "two thousand": nx.gnm_random_graph(2000, 3000, seed=0),
}
PLACES = {
    "in one place": np.zeros((4, 2)),
    "two in one place": np.array([[5.0, 50], [5.0, 50], [9, 48], [2, 49]]),
}


def positions(graph: nx.Graph) -> Points:
    links = np.array(list(nx.convert_node_labels_to_integers(graph).edges), dtype=np.int64).reshape(-1, 2)
    return drawing_positions(links, len(graph))


def lengths(graph: nx.Graph, points: Points) -> np.ndarray:
    links = np.array(list(nx.convert_node_labels_to_integers(graph).edges))
    return np.linalg.norm(points[links[:, 0]] - points[links[:, 1]], axis=1)


@pytest.mark.parametrize("case", GRAPHS)
def test_agents_are_apart_and_the_layout_repeats(case: str) -> None:
    points = positions(GRAPHS[case])
    assert points.shape == (len(GRAPHS[case]), 2) and np.isfinite(points).all()
    assert np.array_equal(points, positions(GRAPHS[case]))
    assert len(np.unique(points, axis=0)) == len(points)


@pytest.mark.parametrize("case", PLACES)
def test_agents_that_share_a_place_are_apart(case: str) -> None:
    points = drawing_positions(np.array([(0, 1), (2, 3)]), 4, PLACES[case])
    assert len(np.unique(points, axis=0)) == 4


def test_places_of_the_graph_are_kept_and_agents_in_one_place_stay_near_it() -> None:
    places = PLACES["two in one place"]
    points = drawing_positions(np.array([(0, 1), (2, 3)]), 4, places)
    assert np.array_equal(points[2:], places[2:])
    assert 0 < np.linalg.norm(points[:2] - places[:2], axis=1).max() < 0.02 * np.ptp(places[:, 0])


def test_a_ring_is_drawn_round_and_a_path_straight() -> None:
    ring = positions(nx.cycle_graph(20))
    radii = np.hypot(*(ring - ring.mean(axis=0)).T)
    assert np.ptp(radii) < 0.02 * radii.mean()
    path = positions(nx.path_graph(10))
    assert np.allclose(np.abs(np.diff(path[:, 0])), 1.0, atol=0.02) and np.ptp(path[:, 1]) < 0.1


@pytest.mark.parametrize("case", ["star", "hypercube"])
def test_links_have_the_same_length(case: str) -> None:
    found = lengths(GRAPHS[case], positions(GRAPHS[case]))
    assert found.max() < 1.35 * found.min()


def test_a_grid_is_a_grid() -> None:
    grid = nx.grid_2d_graph(6, 8)
    points = positions(grid).reshape(6, 8, 2)
    down, along = points[-1, 0] - points[0, 0], points[0, -1] - points[0, 0]
    assert abs(down @ along) < 0.02 * np.linalg.norm(down) * np.linalg.norm(along)
    found = lengths(grid, points.reshape(-1, 2))
    assert found.max() < 1.15 * found.min()


def test_components_lie_apart() -> None:
    graph = nx.disjoint_union_all([nx.cycle_graph(6), nx.path_graph(3), nx.empty_graph(4)])
    points = positions(graph)
    parts = [points[:6], points[6:9], *points[9:, None]]
    for number, part in enumerate(parts):
        low, high = part.min(axis=0), part.max(axis=0)
        others = np.concatenate(parts[:number] + parts[number + 1 :])
        assert not ((others >= low) & (others <= high)).all(axis=1).any()
