"""Distances in hops: diameters, and the reach of information in the layers of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csgraph, csr_array

if TYPE_CHECKING:
    from dist_hdnn.topology.graphs import CommunicationGraph
    from dist_hdnn.topology.patterns import BlockPattern

SWEEPS = 4


def exact_diameter(adjacency: csr_array) -> int:
    """Return the diameter of a connected graph of two agents or more, breadth-first from all of them, 64 per word.

    Takes hops * links * agents / 64 steps. Source: Then et al., The more the merrier, PVLDB 8(4), 2014.
    """
    agents = adjacency.shape[0]
    start, columns = adjacency.indptr, adjacency.indices
    if 2 * np.diff(start).min() >= agents - 1:  # two agents that are not linked share a neighbor
        return 1 if len(columns) == agents * (agents - 1) else 2
    width = -(-agents // 64) * 64
    everyone = np.packbits(np.arange(width) < agents).view(np.uint64)  # a bit per agent
    reached = np.packbits(np.eye(agents, width, dtype=np.bool_), axis=1).view(np.uint64)  # (agents, words)
    # In pieces, so that the words gathered from all neighbors stay below about 64 MiB.
    rows = np.array_split(np.arange(agents), min(len(columns) * width // 2**29 + 1, agents))
    hops = 0
    while np.any(reached != everyone):
        heard = [
            np.bitwise_or.reduceat(reached[columns[start[r[0]] : start[r[-1] + 1]]], start[r] - start[r[0]], axis=0)
            for r in rows
        ]
        reached |= np.concatenate(heard)
        hops += 1
    return hops


def bounded_diameter(adjacency: csr_array) -> tuple[int, bool]:
    """Return (hops, exact) of a connected graph from a few breadth-first sweeps.

    A sweep from v bounds every eccentricity: max(d(v, w), ecc(v) - d(v, w)) <= ecc(w) <= ecc(v) + d(v, w). The sweeps
    start from the most promising end and middle in turn. The result is exact when no other agent can lie further out.
    Source: Takes and Kosters, Determining the diameter of small world networks, CIKM 2011.
    """
    agents = adjacency.shape[0]
    weights = adjacency.astype(np.float64)
    lower, upper = np.zeros(agents), np.full(agents, np.inf)
    source, best = int(np.diff(adjacency.indptr).argmax()), 0.0
    for sweep in range(SWEEPS):
        distance = csgraph.dijkstra(weights, unweighted=True, indices=source)
        eccentricity = distance.max()
        best = max(best, eccentricity)
        lower = np.maximum(lower, np.maximum(distance, eccentricity - distance))
        upper = np.minimum(upper, eccentricity + distance)
        upper[source] = eccentricity
        left = np.flatnonzero(upper > best)
        if left.size == 0:
            return int(best), True
        source = int(left[lower[left].argmin() if sweep % 2 else upper[left].argmax()])
    return int(best), False


def exchange_graph(graph: CommunicationGraph, patterns: Sequence[BlockPattern]) -> CommunicationGraph:
    """Return the pairs of agents that exchange over any of these patterns, as a graph on the same agents.

    A thinned pattern has fewer links than the communication graph, hops and dense have more. Where they are the same,
    this is the graph itself; else its name begins with the kinds of the patterns. Raises ValueError
    for a pattern of other agents.
    """
    keys = [np.zeros(0, dtype=np.int64)]
    for pattern in patterns:
        pattern.check_agents(graph.agents)
        i, j = pattern.rows(), pattern.columns
        keys.append((np.minimum(i, j) * graph.agents + np.maximum(i, j))[i != j])  # one number per unordered pair
    links = np.column_stack(np.divmod(np.unique(np.concatenate(keys)), graph.agents)).astype(np.int64)
    if np.array_equal(links, graph.links):
        return graph
    kinds = (
        " and ".join(dict.fromkeys(pattern.kind for pattern in patterns if not pattern.is_block_diagonal))
        or "no exchange"
    )
    return replace(graph, name=f"{kinds} on {graph.name}", links=links, notes=())


def reach_warnings(
    graph: CommunicationGraph, patterns: Sequence[BlockPattern], layers: int, hops_per_layer: int = 4
) -> list[str]:
    """Return warnings of agents that cannot influence each other: parted by the patterns, or in too few layers.

    hops_per_layer: rounds of a layer: 4 when K couples agents, 2 when X does, 6 when both do.
    """
    exchange = exchange_graph(graph, patterns) if hops_per_layer else graph
    lines, sizes, whole = [], exchange.component_sizes(), len(graph.component_sizes())
    if len(sizes) > whole:
        remedy = "keep more links, or set spanning_forest" if "thinned" in exchange.name else "join them in the pattern"
        lines.append(
            f"{exchange.name}: falls into {len(sizes)} parts, the largest of {sizes[0]} agents, where the graph has "
            f"{whole}; agents of different parts never influence each other; {remedy}"
        )
    diameter, exact = exchange.diameter()
    if diameter > (reached := layers * hops_per_layer):
        remedy = "couple agents through K or X"
        if hops_per_layer:
            remedy = f"use {-(-diameter // hops_per_layer)} layers or more, or a graph with shorter paths"
        lines.append(
            f"{exchange.name}: information travels at most {reached} hops in {layers} layers ({hops_per_layer} each) "
            f"but the diameter is {'' if exact else 'at least '}{diameter}, so far agents cannot influence each other; "
            f"{remedy}"
        )
    return lines
