"""Attributes of the links of a file or of a networkx graph, as they stand there, by the numbers of the agents."""

import difflib
import json
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from dist_hdnn.topology.graphs import CommunicationGraph
from dist_hdnn.topology.readers.content import Record, degrees_of, distinct
from dist_hdnn.topology.readers.files import read_content


class LinkRecord(NamedTuple):
    """A link as it is listed. both: the attributes hold for both directions, not only from one to other."""

    one: int
    other: int
    both: bool
    attributes: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class LinkRecords:
    """The links of a source, self-loops left out.

    source: the path of a file, or the name of a networkx graph. facts: attributes of the whole graph.
    degrees: (agents, 2), longitude and latitude, NaN for an agent without.
    """

    source: str
    links: list[LinkRecord]
    facts: Mapping[str, Any]
    degrees: NDArray[np.float64]


def link_records(
    source: str | os.PathLike[str] | nx.Graph, graph: CommunicationGraph, format: str | None = None
) -> LinkRecords:
    """Return what a file (as `read_graph` reads it) or a networkx graph, directed or not, says of the links of `graph`.

    A file of node-link JSON may be directed, for links that differ by direction.
    Raises ValueError when it cannot be read, or has an agent that `graph` does not have.
    """
    source = _directed(source) or source
    if isinstance(source, nx.Graph):
        name, own, facts = source.name or "graph", source, source.graph
        both = not source.is_directed()
        listed: list[Record] = [(one, other, both, data) for one, other, data in source.edges(data=True)]
        degrees = {node: degrees_of(data) for node, data in source.nodes(data=True)}
    else:
        content, _ = read_content(Path(source), format)
        name, own, facts = str(source), content.graph, content.facts
        listed = content.records or [(one, other, True, {}) for one, other in own.edges()]
        degrees = {node: data.get("degrees") for node, data in own.nodes(data=True)}
    number = _numbers(own, name, graph, own is not source)
    places = np.full((graph.agents, 2), np.nan)
    for node, place in degrees.items():
        if place is not None:
            places[number[node]] = place
    links = [
        LinkRecord(number[one], number[other], both, data() if callable(data) else data)
        for one, other, both, data in listed
        if one != other
    ]
    return LinkRecords(name, links, facts, places)


def _directed(source: Any) -> nx.DiGraph | None:
    """Return the graph of a file of directed node-link JSON; None for anything else."""
    if isinstance(source, nx.Graph) or Path(source).suffix != ".json":
        return None
    try:
        content = json.loads(Path(source).read_text("utf-8"))
        graph = nx.node_link_graph(content, edges="edges") if content["directed"] else None
    except (OSError, ValueError, TypeError, KeyError, nx.NetworkXError):
        return None  # which `read_content` refuses
    if graph is not None:
        graph.name = str(source)
    return graph


def _numbers(own: nx.Graph, source: str, graph: CommunicationGraph, from_file: bool) -> dict[Hashable, int]:
    """Return node -> number of the agent that has its label, its name or its own text for a name."""
    numbers = {name: i for i, name in enumerate(graph.names)}
    labels, names = (distinct([data.get(key) for _, data in own.nodes(data=True)]) for key in ("label", "name"))
    texts = [str(node) for node in own]
    order = (labels, texts) if from_file else (texts, names, labels)  # as agents are named by read_graph and as_graph
    candidates: list[Sequence[str]] = [each for each in order if each is not None]
    for each in candidates:
        if set(each) <= set(numbers):
            return dict(zip(own, map(numbers.__getitem__, each), strict=True))
    other = next(name for name in candidates[0] if name not in numbers)
    nearest = difflib.get_close_matches(other, graph.names, n=3, cutoff=0.5) or graph.names[:3]
    raise ValueError(
        f"{source}: expected the agents of {graph.name}, got {other!r}, which is none of them; nearest names: "
        f"{', '.join(nearest)}. Give the source of this graph."
    )
