"""Positions for drawing a graph, (agents, 2): one hop is about one unit, and every run gives the same.

A graph's own positions (a grid, longitude and latitude) are kept. Otherwise each component is laid out by its stress,
so that distances on paper follow distances in hops, and the components are packed in columns.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial.distance import cdist

from dist_hdnn.data.batches import keyed_stream

Points = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

STRESS_LIMIT = 1000  # agents; above, the quadratic memory and time of stress are not worth it
STRESS_ROUNDS = 100
PIVOTS = 60


def drawing_positions(links: Integers, agents: int, places: npt.ArrayLike | None = None) -> Points:
    """Return the position of every agent.

    links: (links, 2) agent numbers. places: (agents, 2) finite positions of the graph itself, or None. Agents at one
    place are fanned out a little. If all share one, places are ignored.
    """
    if places is not None:
        own = np.array(places, dtype=np.float64).reshape(agents, 2)
        if agents == 1 or np.ptp(own, axis=0).max() > 0:
            return _fanned_out(own)
    return _by_components(np.asarray(links, dtype=np.int64).reshape(-1, 2), agents)


def _fanned_out(places: Points) -> Points:
    """Move agents that share a place onto a small circle around it, so that each can be seen."""
    extent = max(float(np.ptp(places, axis=0).max()), 1e-12)
    cells = np.round(places / (extent * 2e-3)).astype(np.int64)  # two agents in a cell would hide each other
    _, cell, sizes = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    for shared in np.flatnonzero(sizes > 1):
        members = np.flatnonzero(cell.reshape(-1) == shared)
        places[members] += 0.012 * extent * max(1.0, len(members) / 6) * _circle(len(members))
    return places


def _circle(count: int) -> Points:
    """Return points on the unit circle, clockwise from the top."""
    angle = 2 * np.pi * np.arange(count) / count
    circle: Points = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return circle


def _by_components(ends: Integers, agents: int) -> Points:
    """Lay out each component alone, then pack the largest first, with single agents in a block at the end."""
    ones = np.ones(len(ends))
    half = coo_array((ones, (ends[:, 0], ends[:, 1])), shape=(agents, agents))
    matrix = (half + half.T).tocsr()
    _, component = connected_components(matrix, directed=False)
    sizes = np.bincount(component)
    members = [np.flatnonzero(component == number) for number in np.argsort(-sizes, kind="stable") if sizes[number] > 1]
    blocks = [_component_layout(matrix[inside][:, inside]) for inside in members]
    alone = np.flatnonzero(sizes[component] == 1)
    if len(alone):
        tallest = int(np.ptp(blocks[0][:, 1])) + 1 if blocks else 0
        rows = min(max(tallest, int(np.ceil(np.sqrt(len(alone) / 2)))), len(alone))
        place = np.arange(len(alone))
        members.append(alone)
        blocks.append(np.stack([place // rows, -(place % rows)], axis=1).astype(np.float64))
    places = np.empty((agents, 2))
    places[np.concatenate(members)] = np.concatenate(_packed(blocks))
    return places


def _packed(blocks: list[Points]) -> list[Points]:
    """Move the blocks below one another into columns, in their order."""
    extents = [np.ptp(points, axis=0) + 1.5 for points in blocks]  # 1.5 hops of room between two blocks
    area = float(sum(extent.prod() for extent in extents))
    limit = max(0.8 * float(np.sqrt(area)), float(extents[0][1]))  # height of a column
    packed, x, y, width = [], 0.0, 0.0, 0.0
    for points, extent in zip(blocks, extents, strict=True):
        if y > 0 and y + extent[1] > limit + 1e-9:
            x, y, width = x + width, 0.0, 0.0
        packed.append(points - np.array([points[:, 0].min() - x, points[:, 1].max() + y]))
        y, width = y + extent[1], max(width, extent[0])
    return packed


def _component_layout(matrix: csr_array) -> Points:
    """Lay out one connected component of two agents or more, its widest direction horizontal."""
    agents = matrix.shape[0]
    if matrix.nnz > agents * agents / 3 and agents > 2:  # all are near all: only the numbering can give it a shape
        points: Points = _circle(agents) * max(agents / 8, 1.0)
        return points
    points = _pivot_scaling(matrix, min(agents, PIVOTS))
    # Without a jitter, agents that coincide (a hypercube seen along an axis) would stay together.
    points += 0.05 * (np.random.Generator(keyed_stream(0, "layout")).random(points.shape) - 0.5)
    if agents <= STRESS_LIMIT:
        hops = dijkstra(matrix, unweighted=True) + np.eye(agents)
        rounds = {"maxiter": STRESS_ROUNDS}
        points[:] = minimize(_stress, points.ravel(), hops, "L-BFGS-B", jac=True, options=rounds).x.reshape(-1, 2)
    return points


def _stress(flat: Points, hops: Points) -> tuple[float, Points]:
    """Return the stress Σ (|xi - xj| / hops - 1)² of points (2 agents,), and its gradient.

    hops: (agents, agents) distances, 1 on the diagonal. Source: T. Kamada, S. Kawai, "An algorithm for drawing general
    undirected graphs" (1989).
    """
    points = flat.reshape(-1, 2)
    distances = np.maximum(cdist(points, points), 1e-9)
    np.fill_diagonal(distances, 1.0)  # no error of an agent to itself
    error = distances / hops - 1.0
    pull = 4.0 * error / (hops * distances)  # (agents, agents); the gradient at i is Σ_j pull_ij (xi - xj)
    gradient = pull.sum(axis=1)[:, None] * points - pull @ points
    return float((error**2).sum()), gradient.ravel()


def _pivot_scaling(matrix: csr_array, pivots: int) -> Points:
    """Pivot MDS: classical scaling on the hop distances to agents picked farthest-first.

    Source: U. Brandes, C. Pich, "Eigensolver methods for progressive multidimensional scaling of large data" (2006).
    """
    agents = matrix.shape[0]
    nearest = np.full(agents, np.inf)
    pivot, columns = 0, []
    for _ in range(pivots):
        column = dijkstra(matrix, unweighted=True, indices=pivot)
        columns.append(column)
        nearest = np.minimum(nearest, column)
        pivot = int(np.argmax(nearest))
    distances = np.stack(columns, axis=1) ** 2  # (agents, pivots)
    centered = -0.5 * (distances - distances.mean(0) - distances.mean(1, keepdims=True) + distances.mean())
    _, vectors = np.linalg.eigh(centered.T @ centered)
    points = np.zeros((agents, 2))
    axes = centered @ vectors[:, ::-1][:, :2]  # largest eigenvalues first; two agents and one pivot have a single axis
    points[:, : axes.shape[1]] = axes
    signs = np.where(points[np.abs(points).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)  # eigenvectors have no sign
    spread = max(float(np.ptp(points, axis=0).max()), 1e-12)
    scaled: Points = points * signs * float(np.sqrt(distances.max())) / spread
    return scaled
