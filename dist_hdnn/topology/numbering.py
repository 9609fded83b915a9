"""From networkx graphs to communication graphs: canonical numbers, simple links, a warning for every change."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csgraph, csr_array
from scipy.sparse.linalg import spsolve

from dist_hdnn.topology.graphs import CommunicationGraph
from dist_hdnn.topology.readers.content import INTEGER, place_of

DIGITS = re.compile(r"([0-9]{1,18})")
ENOUGH = 0.5  # share of the agents, beyond which a file's places are those of its network
APART = 0.03  # of the picture's extent, between an agent without a place and the mean of its neighbors
TURN = np.pi * (3 - 5**0.5)  # the golden angle: no two of many directions are alike
INTEGER_TUPLE = re.compile(r"\(\s*-?[0-9]{1,18}\s*(,\s*-?[0-9]{1,18}\s*)*,?\s*\)")


def as_graph(graph: CommunicationGraph | nx.Graph) -> CommunicationGraph:
    """Return a CommunicationGraph for any undirected networkx graph, with its nodes as text for names.

    Raises ValueError for a directed or an empty graph, or one whose nodes have the same text.
    """
    if isinstance(graph, CommunicationGraph):
        return graph
    if not isinstance(graph, nx.Graph):
        raise ValueError(
            f"as_graph: expected a networkx.Graph or a CommunicationGraph, got {type(graph).__name__}; "
            "make one with a family such as ring(8), with read_graph, or with networkx.Graph(your_links)"
        )
    return from_networkx(graph, graph.name or "graph")


def from_networkx(
    graph: nx.Graph,
    name: str,
    labels: Mapping[Any, str] | None = None,
    positions: Mapping[Any, Sequence[float]] | None = None,
    notes: Sequence[str] = (),
) -> CommunicationGraph:
    """Number the nodes canonically, merge repeated links, drop self-loops, and warn in a line of each.

    labels: node -> display name instead of the node as text (the numbering stays with the nodes).
    positions: node -> (x, y), by default from attributes Longitude and Latitude, lon and lat, x and y, or pos, where
    more than half of the nodes have them. notes: of a reader, to be warned of as well.
    """
    if graph.is_directed():
        raise ValueError(
            f"{name}: expected undirected links, as training sends slices both ways over a link, got a directed graph; "
            "pass graph.to_undirected()"
        )
    nodes = list(graph)
    if any(isinstance(node, float) and node != node for node in nodes):
        raise ValueError(f"{name}: expected nodes with a name, got NaN, as pandas writes a gap; remove that node")
    texts = [str(node) for node in nodes]
    if len(set(texts)) < len(texts):
        first = dict(reversed(list(zip(texts, nodes, strict=True))))
        one, other = next((first[t], n) for t, n in zip(texts, nodes, strict=True) if first[t] is not n)
        raise ValueError(f"{name}: expected nodes that differ as text, got {one!r} and {other!r}; rename one of them")
    nodes = [nodes[i] for i in canonical_order(texts)]
    number = {node: i for i, node in enumerate(nodes)}
    ends = np.fromiter((number[v] for v in chain.from_iterable(graph.edges())), np.int64, 2 * graph.number_of_edges())
    ends = np.sort(ends.reshape(-1, 2), axis=1)
    proper = ends[ends[:, 0] != ends[:, 1]]  # (links, 2), i < j, repeats included
    links = np.column_stack(np.divmod(np.unique(proper[:, 0] * len(nodes) + proper[:, 1]), max(len(nodes), 1)))
    notes = [f"{name}: {note}" for note in notes]
    if loops := len(ends) - len(proper):
        notes.append(f"{name}: dropped {_count(loops, 'self-loop')} (an agent always hears itself)")
    if repeats := len(proper) - len(links):
        notes.append(f"{name}: merged {_count(repeats, 'repeated link')} (a pair of agents is linked once)")
    sites = [place_of(graph.nodes[node]) if positions is None else positions[node] for node in nodes]
    names = tuple(str(node) if labels is None else labels[node] for node in nodes)
    result = CommunicationGraph(name, names, links)
    result = replace(result, positions=_all_places(sites, result))
    sizes = result.component_sizes()
    if len(sizes) > 1:
        parts = f"{len(sizes)} components of {_sizes(sizes)} agents"
        notes.append(f"{name}: the graph is disconnected, {parts}; agents learn nothing from other components")
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=3)
    object.__setattr__(result, "notes", tuple(notes))
    return result


def canonical_order(names: Sequence[str]) -> list[int]:
    """Return the order that sorts the names: as integers or tuples of integers when all are, else as text.

    Digits after a letter count as numbers, so that station2 comes before station10.
    """
    parts = [DIGITS.split(name) if name[:1].isalpha() else [name] for name in names]
    keys: list[Any] = [[int(part) if i % 2 else part for i, part in enumerate(each)] for each in parts]
    if all(map(INTEGER.fullmatch, names)):
        keys = [int(name) for name in names]
    elif all(map(INTEGER_TUPLE.fullmatch, names)):
        keys = [tuple(int(part) for part in name[1:-1].split(",") if part.strip()) for name in names]
    return sorted(range(len(names)), key=lambda i: (keys[i], names[i]))


def _all_places(sites: Sequence[Sequence[float] | None], graph: CommunicationGraph) -> NDArray[np.float64] | None:
    """Return (agents, 2): the sites, and for each agent without one a place near the mean of its neighbors.

    Files of real networks have most sites, rarely all. None where half of the agents or more have no place, or one has
    no path to any that has.
    """
    located = np.array([place is not None for place in sites])
    if not located.any() or located.mean() <= ENOUGH:
        return None
    places = np.array([place or (0.0, 0.0) for place in sites], dtype=np.float64)
    if located.all():
        return places
    component = graph.components()
    if not np.isin(component, component[located]).all():
        return None
    laplacian = csr_array(csgraph.laplacian(graph.adjacency().astype(np.float64)))
    free = np.flatnonzero(~located)
    right = -(laplacian[free][:, located] @ places[located])  # free agents lie at the mean of their neighbors
    places[free] = spsolve(laplacian[free][:, free].tocsc(), right).reshape(-1, 2)
    angle, extent = TURN * np.arange(len(free)), np.ptp(places[located], axis=0).max()
    places[free] += APART * extent * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return places


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"


def _sizes(sizes: list[int]) -> str:
    """Return "138, 1 (55 times)" for descending sizes, of which it names the first few."""
    kinds = sorted(set(sizes), reverse=True)
    texts = [f"{size} ({sizes.count(size)} times)" if sizes.count(size) > 1 else str(size) for size in kinds[:5]]
    return ", ".join(texts) + (", ..." if len(kinds) > 5 else "")
