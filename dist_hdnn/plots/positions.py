"""Where to draw the agents of a graph: (agents, 2) positions in arbitrary units, the same on every run.

Positions that the graph brings along (a grid, longitude and latitude) are used. Otherwise each component is drawn by
stress majorization, so that distances on paper follow distances in hops, and the components are packed in columns.
"""

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from dist_hdnn.data.batches import keyed_stream

Points = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

STRESS_LIMIT = 1000  # agents; above, the quadratic memory and time of stress are not worth it
PIVOTS = 60


def drawing_positions(links: Integers, agents: int, known: npt.ArrayLike | None = None) -> Points:
    """Positions of all agents. links: (links, 2) agent numbers; known: (agents, 2) finite places, or None.

    Agents in one place are fanned out a little; places that are all the same count as unknown.
    """
    if known is not None:
        places = np.array(known, dtype=np.float64).reshape(agents, 2)
        if agents == 1 or np.ptp(places, axis=0).max() > 0:
            return _fanned_out(places)
    return _by_components(np.asarray(links, dtype=np.int64).reshape(-1, 2), agents)


def _fanned_out(places: Points) -> Points:
    """Agents in one place moved onto a small circle around it, so that each can be seen."""
    extent = max(float(np.ptp(places, axis=0).max()), 1e-12)
    cells = np.round(places / (extent * 2e-3)).astype(np.int64)
    _, group, sizes = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    rank = np.empty(len(places), dtype=np.int64)
    rank[order] = np.arange(len(places)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    size = sizes[group]
    angle = 2 * np.pi * rank / size
    radius = np.where(size > 1, 0.012 * extent * np.maximum(1.0, size / 6), 0.0)
    moved: Points = places + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return moved


def _adjacency(ends: Integers, agents: int) -> csr_array:
    ones = np.ones(2 * len(ends))
    rows, columns = np.concatenate([ends, ends[:, ::-1]]).T
    return coo_array((ones, (rows, columns)), shape=(agents, agents)).tocsr()


def _by_components(ends: Integers, agents: int) -> Points:
    matrix = _adjacency(ends, agents)
    _, component = connected_components(matrix, directed=False)
    sizes = np.bincount(component)
    places = np.zeros((agents, 2))
    blocks: list[tuple[Integers, Points]] = []
    order: Integers = np.argsort(component, kind="stable").astype(np.int64)
    members = np.split(order, np.cumsum(sizes)[:-1])
    for number in np.argsort(-sizes, kind="stable"):
        if sizes[number] == 1:
            break
        inside = members[number]
        blocks.append((inside, _component_layout(matrix[inside][:, inside])))
    alone = np.flatnonzero(sizes[component] == 1).astype(np.int64)
    if len(alone):
        tallest = int(np.ptp(blocks[0][1][:, 1])) + 1 if blocks else 0
        rows = min(max(tallest, int(np.ceil(np.sqrt(len(alone) / 2)))), len(alone))
        place = np.arange(len(alone))
        blocks.append((alone, np.stack([place // rows, -(place % rows)], axis=1).astype(np.float64)))
    for (inside, _), corner in zip(blocks, _packed([points for _, points in blocks]), strict=True):
        places[inside] = corner
    return places


def _packed(blocks: list[Points]) -> list[Points]:
    """The blocks moved below one another into columns, first the largest; one hop is one unit in all of them."""
    extents = [np.ptp(points, axis=0) + 1.5 for points in blocks]
    area = float(sum(extent.prod() for extent in extents))
    limit = max(0.8 * float(np.sqrt(area)), float(extents[0][1]))
    packed, x, y, width = [], 0.0, 0.0, 0.0
    for points, extent in zip(blocks, extents, strict=True):
        if y > 0 and y + extent[1] > limit + 1e-9:
            x, y, width = x + width, 0.0, 0.0
        packed.append(points - np.array([points[:, 0].min() - x, points[:, 1].max() + y]))
        y, width = y + extent[1], max(width, extent[0])
    return packed


def _component_layout(matrix: csr_array) -> Points:
    """One connected component of two agents or more, one unit per hop, widest direction horizontal."""
    agents = matrix.shape[0]
    if matrix.nnz > agents * agents / 3 and agents > 2:  # all are near all: only the numbering can give it a shape
        angle = np.pi / 2 - 2 * np.pi * np.arange(agents) / agents
        circle: Points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * max(agents / 8, 1.0)
        return circle
    points = _pivot_scaling(matrix, min(agents, PIVOTS))
    # exact coincidences (a hypercube seen along an axis) would stay for ever
    points += 0.05 * (np.random.Generator(keyed_stream(0, "layout")).random(points.shape) - 0.5)
    if agents <= STRESS_LIMIT:
        points = _less_stress(points, dijkstra(matrix, unweighted=True))
    return points


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
    distances = np.stack(columns, axis=1) ** 2
    centred = -0.5 * (distances - distances.mean(0) - distances.mean(1, keepdims=True) + distances.mean())
    _, vectors = np.linalg.eigh(centred.T @ centred)
    points = np.zeros((agents, 2))
    axes = centred @ vectors[:, ::-1][:, :2]  # a component of two agents and one pivot has a single axis
    points[:, : axes.shape[1]] = axes
    signs = np.where(points[np.abs(points).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    spread = max(float(np.ptp(points, axis=0).max()), 1e-12)
    scaled: Points = points * signs * float(np.sqrt(distances.max())) / spread
    return scaled


def _less_stress(points: Points, hops: Points, rounds: int = 150) -> Points:
    """Stress majorization with weights 1 / hops², which lowers sum w (|xi - xj| - hops)² in every round.

    Source: E. Gansner, Y. Koren, S. North, "Graph drawing by stress majorization" (2004).
    """
    agents = len(points)
    np.fill_diagonal(hops, 1.0)
    weights = hops**-2.0
    np.fill_diagonal(weights, 0.0)
    laplacian = np.diag(weights.sum(axis=1)) - weights
    inverse = np.linalg.inv(laplacian + 1.0 / agents) - 1.0 / agents
    pull = weights * hops
    before = np.inf
    for _ in range(rounds):
        squares = (points**2).sum(axis=1)
        distances = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2.0 * points @ points.T, 1e-12))
        stress = float((weights * (distances - hops) ** 2).sum())
        if stress > before * (1.0 - 1e-4):
            break
        before = stress
        ratio = pull / distances
        points = inverse @ (ratio.sum(axis=1)[:, None] * points - ratio @ points)
    return points
