"""Graph families, from networkx wherever it has them. Each returns a `CommunicationGraph` named after its call.

A random family returns the same graph for the same whole-number seed. All raise ValueError for impossible sizes.
"""

import math
from collections.abc import Callable

import networkx as nx
import numpy as np

from dist_hdnn.topology.graphs import CommunicationGraph, whole_number
from dist_hdnn.topology.numbering import from_networkx

# networkx keeps a link in roughly 500 bytes: beyond this the machine is at risk, not the idea.
MOST_LINKS = 10_000_000


def path(n: int) -> CommunicationGraph:
    """n agents in a row: n - 1 links."""
    n = _agents("path", n)
    return from_networkx(nx.path_graph(n), f"path({n})", positions={i: (i, 0) for i in range(n)})


def ring(n: int) -> CommunicationGraph:
    """n agents in a circle: n links from n = 3 on. ring(1) is one agent, ring(2) one link."""
    n = _agents("ring", n)
    return from_networkx(nx.cycle_graph(n) if n > 1 else nx.empty_graph(1), f"ring({n})", positions=_circle(n))


def star(n: int) -> CommunicationGraph:
    """n agents in all: agent 0 in the middle, linked to the n - 1 others."""
    n = _agents("star", n)
    rim = {i + 1: place for i, place in _circle(n - 1).items()}
    return from_networkx(nx.star_graph(n - 1), f"star({n})", positions={0: (0, 0), **rim})


def grid(rows: int, columns: int) -> CommunicationGraph:
    """rows x columns agents named "(row, column)", each linked to those above, below, left and right of it."""
    return _lattice("grid", rows, columns, periodic=False)


def torus(rows: int, columns: int) -> CommunicationGraph:
    """A grid whose opposite sides are linked. A side of 1 or 2 has no further link to wrap around."""
    return _lattice("torus", rows, columns, periodic=True)


def complete(n: int) -> CommunicationGraph:
    """Every agent linked to every other: n (n - 1) / 2 links."""
    n = _agents("complete", n)
    _bounded("complete", n * (n - 1) // 2)
    return from_networkx(nx.complete_graph(n), f"complete({n})", positions=_circle(n))


def barbell(n: int) -> CommunicationGraph:
    """Two complete graphs of n / 2 agents, and one link between their first agents, 0 and n / 2."""
    n = _agents("barbell", n, 2)
    if n % 2:
        raise ValueError(f"barbell: expected an even number of agents, got {n}; use {n - 1} or {n + 1}")
    half = n // 2
    _bounded("barbell", half * (half - 1) + 1)
    graph = nx.disjoint_union(nx.complete_graph(half), nx.complete_graph(half))
    graph.add_edge(0, half)
    left, right = _circle(half), _circle(half)  # turned so that the two first agents face each other
    places = {i: (x, y) for i, (x, y) in left.items()} | {half + i: (3.0 - x, y) for i, (x, y) in right.items()}
    return from_networkx(graph, f"barbell({n})", positions=places)


def balanced_tree(branching: int, height: int) -> CommunicationGraph:
    """A rooted tree of `height` levels below the root, with `branching` children per inner agent."""
    branching = whole_number("balanced_tree", "branching", branching, 1)
    height = whole_number("balanced_tree", "height", height, 0)
    # Through logarithms, as the exact integer may have millions of digits.
    _bounded("balanced_tree", height if branching == 1 else math.exp(min(height * math.log(branching), 700)))
    return from_networkx(nx.balanced_tree(branching, height), f"balanced_tree({branching}, {height})")


def erdos_renyi(n: int, probability: float, seed: int = 0) -> CommunicationGraph:
    """G(n, p): every pair linked with this probability. Source: Batagelj, Brandes, Phys. Rev. E 71, 036113 (2005)."""
    n = _agents("erdos_renyi", n)
    probability = _probability("erdos_renyi", probability)
    _bounded("erdos_renyi", probability * n * (n - 1) / 2)
    graph = nx.fast_gnp_random_graph(n, probability, seed=whole_number("erdos_renyi", "seed", seed, 0))
    return from_networkx(graph, f"erdos_renyi({n}, {probability:g}, seed={seed})")


def watts_strogatz(n: int, neighbours: int, probability: float, seed: int = 0) -> CommunicationGraph:
    """A ring of agents linked to their `neighbours` (even) nearest, each link rewired with this probability.

    Source: Watts and Strogatz, Nature 393 (1998).
    """
    n = _agents("watts_strogatz", n)
    neighbours = whole_number("watts_strogatz", "neighbours", neighbours, 0, n - 1)
    if neighbours % 2:
        raise ValueError(
            f"watts_strogatz: expected neighbours to be even (half of them on each side), got {neighbours}; "
            f"use {neighbours - 1} or {neighbours + 1}"
        )
    probability = _probability("watts_strogatz", probability)
    _bounded("watts_strogatz", n * neighbours / 2)
    graph = nx.watts_strogatz_graph(n, neighbours, probability, seed=whole_number("watts_strogatz", "seed", seed, 0))
    return from_networkx(
        graph, f"watts_strogatz({n}, {neighbours}, {probability:g}, seed={seed})", positions=_circle(n)
    )


def barabasi_albert(n: int, attachments: int, seed: int = 0) -> CommunicationGraph:
    """Agents that join one by one, each with `attachments` links to well-linked ones. Source: Science 286 (1999)."""
    n = _agents("barabasi_albert", n, 2)
    attachments = whole_number("barabasi_albert", "attachments", attachments, 1, n - 1)
    _bounded("barabasi_albert", n * attachments)
    graph = nx.barabasi_albert_graph(n, attachments, seed=whole_number("barabasi_albert", "seed", seed, 0))
    return from_networkx(graph, f"barabasi_albert({n}, {attachments}, seed={seed})")


def random_regular(n: int, degree: int, seed: int = 0) -> CommunicationGraph:
    """Every agent has exactly `degree` neighbors, n * degree even. Source: Steger and Wormald (1999)."""
    n = _agents("random_regular", n)
    degree = whole_number("random_regular", "degree", degree, 0, n - 1)
    if n * degree % 2:
        raise ValueError(
            f"random_regular: expected n * degree to be even, got {n} * {degree} = {n * degree}; make one of them even"
        )
    _bounded("random_regular", n * degree / 2)
    graph = nx.random_regular_graph(degree, n, seed=whole_number("random_regular", "seed", seed, 0))
    return from_networkx(graph, f"random_regular({n}, {degree}, seed={seed})")


def hypercube(dimension: int) -> CommunicationGraph:
    """2^dimension agents, linked when their numbers differ in one binary digit."""
    dimension = whole_number("hypercube", "dimension", dimension, 0, 19)
    # Not networkx.hypercube_graph: it multiplies graphs, a minute for 2^16 corners, and has no cube of dimension 0.
    corners = np.arange(2**dimension)
    graph = nx.empty_graph(len(corners))
    for k in range(dimension):
        graph.add_edges_from(zip(corners.tolist(), (corners ^ (1 << k)).tolist(), strict=True))
    return from_networkx(graph, f"hypercube({dimension})")


def exponential_ring(n: int) -> CommunicationGraph:
    """Agent i linked to i ± 2^k mod n for every 2^k < n: about 2 log2(n) neighbors, diameter at most log2(n).

    Source: the exponential graph of decentralized optimization (arXiv:1811.10792, arXiv:2110.13363), undirected.
    """
    n = _agents("exponential_ring", n)
    offsets = [2**k for k in range((n - 1).bit_length())]
    return from_networkx(nx.circulant_graph(n, offsets), f"exponential_ring({n})", positions=_circle(n))


FAMILIES: dict[str, Callable[..., CommunicationGraph]] = {
    family.__name__: family
    for family in (
        path,
        ring,
        star,
        grid,
        torus,
        complete,
        barbell,
        balanced_tree,
        erdos_renyi,
        watts_strogatz,
        barabasi_albert,
        random_regular,
        hypercube,
        exponential_ring,
    )
}


def _lattice(who: str, rows: int, columns: int, periodic: bool) -> CommunicationGraph:
    rows, columns = whole_number(who, "rows", rows, 1), whole_number(who, "columns", columns, 1)
    _bounded(who, 2 * rows * columns)
    graph = nx.grid_2d_graph(rows, columns, periodic=periodic)
    return from_networkx(
        graph, f"{who}({rows}, {columns})", positions={(row, column): (column, -row) for row, column in graph}
    )


def _agents(who: str, n: int, least: int = 1) -> int:
    return whole_number(who, "n", n, least, MOST_LINKS)


def _circle(n: int) -> dict[int, tuple[float, float]]:
    angles = 2 * np.pi * np.arange(n) / max(n, 1)
    return dict(enumerate(zip(np.cos(angles).tolist(), np.sin(angles).tolist(), strict=True)))


def _bounded(who: str, links: float) -> None:
    if links > MOST_LINKS:
        raise ValueError(
            f"{who}: expected at most {MOST_LINKS} links, got about {links:.3g}; ask for fewer agents or links"
        )


def _probability(who: str, value: float) -> float:
    if isinstance(value, int | float | np.floating) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise ValueError(f"{who}: expected probability from 0 to 1, got {value!r}; change probability")
