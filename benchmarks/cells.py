"""The graphs of `layer.py`, by the names of its cells."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
from scipy.sparse import csgraph, csr_array
from scipy.spatial import cKDTree


def graph_of(cell: str) -> tuple[nx.Graph, int | dict[int, int]]:
    """Return graph and width (p and q together) of a cell such as 256x16, 256x16-power-law or 256x4..28."""
    size, _, kind = cell.partition("-")
    agents, neurons = size.split("x")
    count = int(agents)
    if kind == "power-law":
        return nx.barabasi_albert_graph(count, 2, seed=0), 2 * int(neurons)
    if kind == "hub":
        return nx.star_graph(count - 1), 2 * int(neurons)
    if kind == "torus":
        side = math.isqrt(count)
        return nx.grid_2d_graph(side, count // side, periodic=True), 2 * int(neurons)
    if kind in ("geometric", "shuffled"):
        return geometric(count, kind == "shuffled"), 2 * int(neurons)
    ring = nx.circulant_graph(count, [1] if count <= 256 or kind == "ring" else [1, 2])
    if ".." in neurons:
        low, high = map(int, neurons.split(".."))
        widths = np.random.default_rng(0).integers(low, high + 1, count)
        return ring, {agent: 2 * int(width) for agent, width in enumerate(widths)}
    return ring, 2 * int(neurons)


def geometric(agents: int, shuffled: bool) -> nx.Graph:
    """Return random points of a square linked up to a distance, in reverse Cuthill-McKee order or at random."""
    generator = np.random.default_rng(0)
    points = generator.random((agents, 2))
    links = cKDTree(points).query_pairs(np.sqrt(4.8 / np.pi / agents), output_type="ndarray")
    matrix = csr_array((np.ones(2 * len(links)), (links.ravel(), links[:, ::-1].ravel())), shape=(agents, agents))
    order = generator.permutation(agents) if shuffled else csgraph.reverse_cuthill_mckee(matrix, symmetric_mode=True)
    graph = nx.empty_graph(agents)
    graph.add_edges_from(np.argsort(order)[links].tolist())
    return graph
