"""Communication graphs, numbered canonically.

Agents are 0..agents-1, links are unordered pairs (i, j) with i < j. Numbers follow the sorted node names (`numbering`),
never the order of insertion or of the lines of a file, so the same graph has the same digest wherever it comes from.
"""

import difflib
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csgraph, csr_array

from dist_hdnn.topology.distances import bounded_diameter, exact_diameter
from dist_hdnn.topology.ragged import IntArray
from dist_hdnn.topology.readers.content import INTEGER


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
    links: IntArray = field(repr=False)
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
        """The number of agents."""
        return len(self.names)

    @cached_property
    def _adjacency(self) -> csr_array:
        i, j = self.links.T
        pairs = (np.concatenate([i, j]), np.concatenate([j, i]))
        matrix = coo_array((np.ones(2 * len(i), dtype=np.bool_), pairs), shape=(self.agents, self.agents)).tocsr()
        matrix.sort_indices()
        return matrix

    def adjacency(self) -> csr_array:
        """Return (agents, agents) bool, symmetric, empty diagonal, columns ascending. Cached: do not write to it."""
        return self._adjacency

    def neighbours(self, agent: int) -> list[int]:
        """Return the agents linked to `agent`, ascending."""
        if not 0 <= agent < self.agents:
            raise ValueError(
                f"{self.name}: expected an agent 0..{self.agents - 1}, got {agent}; see index_of for names"
            )
        start, stop = self._adjacency.indptr[agent : agent + 2]
        return self._adjacency.indices[start:stop].tolist()  # type: ignore[no-any-return]

    def degrees(self) -> IntArray:
        """Return (agents,): the number of neighbors of every agent."""
        return np.bincount(self.links.ravel(), minlength=self.agents).astype(np.int64)

    def components(self) -> IntArray:
        """Return (agents,): the number of the connected component of every agent."""
        return np.asarray(csgraph.connected_components(self._adjacency, directed=False)[1], dtype=np.int64)

    def component_sizes(self) -> list[int]:
        """Return the number of agents in every connected component, largest first."""
        return sorted(np.bincount(self.components()).tolist(), reverse=True)

    def diameter(self, exact_up_to: int = 2000) -> tuple[int, bool]:
        """Return (hops, exact): the longest shortest path inside the largest component.

        Above `exact_up_to` agents it is a lower bound from a few breadth-first sweeps, exact only if they prove it.
        """
        component = self.components()
        members = np.flatnonzero(component == np.bincount(component).argmax())
        part = self._adjacency[members][:, members]
        hops, exact = bounded_diameter(part)
        return (hops, exact) if exact or len(members) > exact_up_to else (exact_diameter(part), True)

    def index_of(self, agent: object) -> int:
        """Return the number of an agent: 3, the name "Denver", or the number as text "3", which a name may override.

        The name of another node of a networkx graph, such as (0, 1) of a grid, is its text.
        Raises ValueError naming the nearest names when there is no such agent.
        """
        if not isinstance(agent, int | np.integer) and str(agent) in self._numbers:
            return self._numbers[str(agent)]
        written = isinstance(agent, int | np.integer) or (isinstance(agent, str) and INTEGER.fullmatch(agent))
        if written and not isinstance(agent, bool) and 0 <= int(agent) < self.agents:  # type: ignore[call-overload]
            return int(agent)  # type: ignore[call-overload, no-any-return]
        nearest = difflib.get_close_matches(str(agent), self.names, n=3, cutoff=0.5) or self.names[:3]
        raise ValueError(
            f"graph {self.name}: expected an agent number 0..{self.agents - 1} or a name, got {agent!r}; "
            f"nearest names: {', '.join(nearest)}"
        )

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def digest(self) -> str:
        """Return SHA-256 (hex) over names and links, equal exactly when two graphs have the same agents and links."""
        return hashlib.sha256(json.dumps(self.names).encode() + self.links.astype("<i8").tobytes()).hexdigest()

    def to_networkx(self) -> nx.Graph:
        """Return a graph of nodes 0..agents-1 with attributes `name` and, where known, `pos`."""
        graph = nx.Graph(name=self.name)
        graph.add_nodes_from((i, {"name": name}) for i, name in enumerate(self.names))
        if self.positions is not None:
            nx.set_node_attributes(graph, dict(enumerate(map(tuple, self.positions.tolist()))), "pos")
        graph.add_edges_from(self.links.tolist())
        return graph

    def to_json(self) -> dict[str, Any]:
        """Return node-link data for graph.json, which `read_graph` and networkx read."""
        nodes: list[dict[str, Any]] = [{"id": i, "label": name} for i, name in enumerate(self.names)]
        if self.positions is not None:
            for node, (x, y) in zip(nodes, self.positions.tolist(), strict=True):
                node.update(x=x, y=y)
        edges = [{"source": i, "target": j} for i, j in self.links.tolist()]
        head = {"name": self.name, "notes": list(self.notes)}
        return {"directed": False, "multigraph": False, "graph": head, "nodes": nodes, "edges": edges}


def whole_number(who: str, what: str, value: object, least: int, most: int | None = None) -> int:
    """Return `value` as an int, or raise ValueError: who expected what."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and least <= value:
        if most is None or value <= most:
            return int(value)
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"{who}: expected {what} to be a whole number {bounds}, got {value!r}; change {what}")
