"""Communication graphs: who may talk to whom, numbered canonically.

Agents are 0..agents-1, links are unordered pairs (i, j) with i < j. Numbers follow the sorted node names (`numbering`),
never the order of insertion or of the lines of a file, so the same graph has the same digest wherever it comes from.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csgraph, csr_array

INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
SWEEPS = 4


@dataclass(frozen=True, eq=False)
class CommunicationGraph:
    """An undirected, simple communication graph. Make one with a family, `as_graph` or `read_graph`.

    name: for reports, "ring(8)". names: agent i's name in the source, all different.
    links: (links, 2) int64, i < j, sorted, no repeats. positions: (agents, 2) float64 for plots, or None.
    notes: what was merged or dropped on the way in, one line each. All arrays are read-only.
    Raises ValueError when there is no agent, or names, links or positions break these rules.
    """

    name: str
    names: tuple[str, ...] = field(repr=False)
    links: NDArray[np.int64] = field(repr=False)
    positions: NDArray[np.float64] | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        agents = len(self.names)
        if agents == 0:
            raise ValueError(f"{self.name}: expected at least one agent, got an empty graph; add nodes to it")
        if len(self._numbers) < agents:
            twice = next(name for i, name in enumerate(self.names) if self._numbers[name] != i)
            raise ValueError(f"{self.name}: expected one name per agent, got {twice!r} twice; rename one of them")
        links = np.array(self.links, dtype=np.int64).reshape(-1, 2)
        ordered = bool(np.all((links[:, 0] >= 0) & (links[:, 0] < links[:, 1]) & (links[:, 1] < agents)))
        if not ordered or np.any(np.diff(links[:, 0] * agents + links[:, 1]) <= 0):
            raise ValueError(
                f"{self.name}: expected sorted links (i, j), 0 <= i < j < {agents}, no repeats; as_graph makes them so"
            )
        self._freeze("links", links)
        if self.positions is not None:
            positions = np.array(self.positions, dtype=np.float64)
            if positions.shape != (agents, 2) or not np.all(np.isfinite(positions)):
                raise ValueError(
                    f"{self.name}: expected finite positions ({agents}, 2), got {positions.shape}; give one per agent"
                )
            self._freeze("positions", positions)

    def _freeze(self, field_name: str, array: np.ndarray) -> None:
        array.setflags(write=False)
        object.__setattr__(self, field_name, array)

    @property
    def agents(self) -> int:
        """Number of agents."""
        return len(self.names)

    @cached_property
    def _adjacency(self) -> csr_array:
        i, j = self.links.T
        pairs = (np.concatenate([i, j]), np.concatenate([j, i]))
        matrix = coo_array((np.ones(2 * len(i), dtype=np.bool_), pairs), shape=(self.agents, self.agents)).tocsr()
        matrix.sort_indices()
        return matrix

    def adjacency(self) -> csr_array:
        """(agents, agents) bool, symmetric, empty diagonal, columns ascending. Cached: do not write to it."""
        return self._adjacency

    def neighbours(self, agent: int) -> list[int]:
        """The agents linked to `agent`, ascending."""
        if not 0 <= agent < self.agents:
            raise ValueError(
                f"{self.name}: expected an agent 0..{self.agents - 1}, got {agent}; see index_of for names"
            )
        start, stop = self._adjacency.indptr[agent : agent + 2]
        neighbours: list[int] = self._adjacency.indices[start:stop].tolist()
        return neighbours

    def degrees(self) -> NDArray[np.int64]:
        """(agents,) number of neighbours of every agent."""
        return np.bincount(self.links.ravel(), minlength=self.agents).astype(np.int64)

    def components(self) -> NDArray[np.int64]:
        """(agents,) the number of the connected component every agent lies in."""
        return np.asarray(csgraph.connected_components(self._adjacency, directed=False)[1], dtype=np.int64)

    def component_sizes(self) -> list[int]:
        """Agents in every connected component, largest first."""
        sizes: list[int] = np.sort(np.bincount(self.components()))[::-1].tolist()
        return sizes

    def diameter(self, exact_up_to: int = 2000) -> tuple[int, bool]:
        """(hops, exact): the longest shortest path inside the largest component.

        A component above `exact_up_to` agents gets a few breadth-first sweeps only: a lower bound, exact=False
        unless they happen to prove it.
        """
        component = self.components()
        members = np.flatnonzero(component == np.bincount(component).argmax())
        part = self._adjacency[members][:, members]
        hops, exact = _bounded_diameter(part)
        return (hops, exact) if exact or len(members) > exact_up_to else (_exact_diameter(part), True)

    def index_of(self, agent: object) -> int:
        """The number of an agent given by number (3), by name ("Denver") or by number as text ("3"; a name goes first).

        A node of a networkx graph that is neither, such as (0, 1) of a grid, has its text for a name.
        Raises ValueError naming the nearest names when there is no such agent.
        """
        if not isinstance(agent, int | np.integer) and str(agent) in self._numbers:
            return self._numbers[str(agent)]
        written = isinstance(agent, int | np.integer) or (isinstance(agent, str) and INTEGER.fullmatch(agent))
        if written and not isinstance(agent, bool) and 0 <= int(agent) < self.agents:  # type: ignore[call-overload]
            return int(agent)  # type: ignore[call-overload, no-any-return]
        nearest = difflib.get_close_matches(str(agent), self.names, n=3, cutoff=0.5) or self.names[:3]
        raise ValueError(
            f"{self.name}: expected an agent number 0..{self.agents - 1} or a name, got {agent!r}; "
            f"nearest names: {', '.join(nearest)}"
        )

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def digest(self) -> str:
        """SHA-256 (hex) over names and links: equal exactly when two graphs have the same agents and links."""
        return hashlib.sha256(json.dumps(self.names).encode() + self.links.astype("<i8").tobytes()).hexdigest()

    def to_networkx(self) -> nx.Graph:
        """Nodes 0..agents-1 with attributes `name` and, where known, `pos`."""
        graph = nx.Graph(name=self.name)
        graph.add_nodes_from((i, {"name": name}) for i, name in enumerate(self.names))
        if self.positions is not None:
            nx.set_node_attributes(graph, dict(enumerate(map(tuple, self.positions.tolist()))), "pos")
        graph.add_edges_from(self.links.tolist())
        return graph

    def to_json(self) -> dict[str, Any]:
        """Node-link form, for graph.json: `read_graph` and networkx read it as well as `from_json`."""
        nodes: list[dict[str, Any]] = [{"id": i, "label": name} for i, name in enumerate(self.names)]
        if self.positions is not None:
            for node, (x, y) in zip(nodes, self.positions.tolist(), strict=True):
                node.update(x=x, y=y)
        edges = [{"source": i, "target": j} for i, j in self.links.tolist()]
        head = {"name": self.name, "notes": list(self.notes)}
        return {"directed": False, "multigraph": False, "graph": head, "nodes": nodes, "edges": edges}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CommunicationGraph":
        """The graph that `to_json` wrote; its notes are kept, not warned about again. ValueError for anything else."""
        try:
            nodes, head = data["nodes"], data["graph"]
            links = np.array([(edge["source"], edge["target"]) for edge in data["edges"]], dtype=np.int64)
            located = bool(nodes) and all("x" in node and "y" in node for node in nodes)
            positions = np.array([(node["x"], node["y"]) for node in nodes], dtype=np.float64) if located else None
            names = tuple(str(node["label"]) for node in nodes)
            name, notes = str(head["name"]), tuple(map(str, head["notes"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"graph.json: expected what to_json writes, got {type(error).__name__} {error}; "
                "use read_graph for graphs from elsewhere"
            ) from error
        return cls(name, names, links, positions, notes)


def whole_number(who: str, what: str, value: object, least: int, most: int | None = None) -> int:
    """`value` as an int, or ValueError: who expected what."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and least <= value:
        if most is None or value <= most:
            return int(value)
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"{who}: expected {what} to be a whole number {bounds}, got {value!r}; change {what}")


def _exact_diameter(adjacency: csr_array) -> int:
    """Hops of a connected graph of two agents or more: breadth-first from all of them at once, 64 to a word.

    Takes hops * links * agents / 64 steps. Source: Then et al., The more the merrier, PVLDB 8(4), 2014.
    """
    agents = adjacency.shape[0]
    start, columns = adjacency.indptr, adjacency.indices
    if 2 * np.diff(start).min() >= agents - 1:  # two agents that are not linked share a neighbour
        return 1 if len(columns) == agents * (agents - 1) else 2
    width = -(-agents // 64) * 64
    everyone = np.packbits(np.arange(width) < agents).view(np.uint64)
    reached = np.packbits(np.eye(agents, width, dtype=np.bool_), axis=1).view(np.uint64)
    # In pieces, so that the words gathered from all neighbours stay below about 64 MiB.
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


def _bounded_diameter(adjacency: csr_array) -> tuple[int, bool]:
    """(hops, exact) of a connected graph from a few breadth-first sweeps.

    A sweep from v bounds every eccentricity: max(d(v, w), ecc(v) - d(v, w)) <= ecc(w) <= ecc(v) + d(v, w). The sweeps
    start from the most promising end and middle in turn; exact when no agent is left that could lie further out.
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
