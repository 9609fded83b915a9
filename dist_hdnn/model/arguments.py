"""What a caller may give a network, checked and in one form: graphs, widths, the identity as a pattern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.topology import CommunicationGraph, as_graph

IntArray = NDArray[np.int64]


def agent_widths(graph: CommunicationGraph, width: int | Mapping[Any, int]) -> IntArray:
    """Neurons of every agent, (agents,), from one even number or a mapping agent -> even number that names every agent.

    Raises ValueError for an odd, zero or negative width, an unknown agent, or an agent without a width.
    """
    if isinstance(width, Mapping):
        widths = np.zeros(graph.agents, dtype=np.int64)
        for agent, value in width.items():
            widths[graph.index_of(agent)] = _checked_width(value, f"agent {agent}")
        if not widths.all():
            missing = [graph.names[i] for i in np.flatnonzero(widths == 0)[:5]]
            raise ValueError(
                f"network.width: expected a width for each of the {graph.agents} agents, got none for "
                f"{(widths == 0).sum()} of them, first {', '.join(missing)}. Add them, or give one number for all."
            )
        return widths
    return np.full(graph.agents, _checked_width(width, "every agent"), dtype=np.int64)


def _checked_width(value: int, who: str) -> int:
    if isinstance(value, bool) or int(value) != value or value < 2 or value % 2:
        raise ValueError(
            f"network.width: expected an even number of neurons, at least 2, for {who} (half are p, half are q), "
            f"got {value}. Use {max(2, int(value) + 1)} for example."
        )
    return int(value)


def list_of_graphs(graph: Any) -> list[CommunicationGraph]:
    graphs = [as_graph(g) for g in graph] if isinstance(graph, list | tuple) else [as_graph(graph)]
    if not graphs:
        raise ValueError("graph: expected at least one graph, got an empty list. Pass a graph such as ring(8).")
    for other in graphs[1:]:
        if other.names != graphs[0].names:
            raise ValueError(
                f"graph: expected graphs on the same agents, got {graphs[0].agents} agents in {graphs[0].name} and "
                f"{other.agents} in {other.name}, or other names. Give every graph of the list the same nodes."
            )
    return graphs


def is_identity(spec: Any) -> bool:
    return spec == "identity" if isinstance(spec, str) else isinstance(spec, Mapping) and spec.get("kind") == "identity"
