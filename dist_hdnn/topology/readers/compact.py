"""graph6 and sparse6: a graph in one line of printable characters. Agents are numbered from 0."""

from collections.abc import Callable

import networkx as nx

from dist_hdnn.topology.readers.content import Content, Damaged


def read_graph6(data: bytes) -> Content:
    """Read graph6 by networkx."""
    return _read(data, b">>graph6<<", nx.from_graph6_bytes)


def read_sparse6(data: bytes) -> Content:
    """Read sparse6 by networkx."""
    return _read(data, b">>sparse6<<", nx.from_sparse6_bytes)


def _read(data: bytes, header: bytes, parse: Callable[[bytes], nx.Graph]) -> Content:
    lines = data.strip().removeprefix(header).split()
    if len(lines) != 1:
        raise Damaged("one graph", f"{len(lines)} lines, a graph each", "keep the line of one graph")
    content = Content()
    graph = parse(lines[0])
    content.graph.add_nodes_from(map(str, graph))
    content.graph.add_edges_from((str(one), str(other)) for one, other in graph.edges())
    return content
