"""Communication graphs from files: GraphML, GML, edge list, table of links, adjacency list, node-link JSON.

Every way a file can be wrong ends in a one-line ValueError: the file - what was expected - what was found - what to do.
"""

import csv
import difflib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

import networkx as nx

from dist_hdnn.topology.graphs import CommunicationGraph
from dist_hdnn.topology.numbering import from_networkx

SUFFIXES = {
    ".graphml": "graphml",
    ".gml": "gml",
    ".edges": "edgelist",
    ".edgelist": "edgelist",
    ".txt": "edgelist",
    ".csv": "csv",
    ".adj": "adjlist",
    ".adjlist": "adjlist",
    ".json": "json",
}
MOST_BYTES = 256 * 2**20
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
CSV_ENDS = ("source", "target"), ("from", "to")  # the columns of a table of links, in small letters
GML_HEAD = re.compile(r"^\s*graph\s*\[", re.MULTILINE)

Read = tuple[nx.Graph, dict[Any, str] | None]  # a graph, and display names where they are not the nodes as text


class _Damaged(Exception):
    """What is wrong with a file; `read_graph` adds which file."""

    def __init__(self, expected: str, found: str, remedy: str = "repair it or write the graph again") -> None:
        super().__init__(f"expected {expected}, found {found}; {remedy}")


def read_graph(path: str | os.PathLike[str], format: str | None = None) -> CommunicationGraph:
    """Read a communication graph, by its suffix or by `format` ("graphml", "gml", "edgelist", "csv", "adjlist",
    "json").

    Agents are numbered by sorted node identity, never by file order: the ids of GraphML and JSON; the labels of GML
    when every node has one and all differ, else its ids. `label` attributes name the agents under the same condition.
    Edge list: "a b", "a b 1.5" or "a b {...}" a line, "#" comments, "a" alone for an isolated agent. Adjacency list: an
    agent, then its neighbours. Both are separated by blanks. CSV: a link a row, in columns "source" and "target", or
    "from" and "to", that the first line names among others; without a target an isolated agent.
    Raises ValueError (one line, naming the file) when it is missing, empty, damaged, directed or of another kind.
    """
    path = Path(path)
    try:
        kind = _kind(path, format)
        graph, names = _READERS[kind](_checked(_contents(path), kind))
        if graph.is_directed():
            raise _directed("a directed graph")
        if graph.number_of_nodes() == 0:
            raise _Damaged("at least one agent", "a graph without nodes", "add nodes to it")
    except _Damaged as damage:
        raise ValueError(f"{path}: {damage}") from None
    return from_networkx(graph, graph.name or path.stem, labels=names)


def _kind(path: Path, format: str | None) -> str:
    kinds = list(dict.fromkeys(SUFFIXES.values()))
    if format is None:
        if (kind := SUFFIXES.get(path.suffix.lower())) is not None:
            return kind
        suffix = f"the suffix {path.suffix!r}" if path.suffix else "none"
        remedy = f"rename it or give format ({', '.join(kinds)})"
        raise _Damaged(f"one of the suffixes {' '.join(SUFFIXES)}", suffix, remedy)
    if format not in kinds:
        nearest = difflib.get_close_matches(format, kinds, n=1, cutoff=0.0)[0]
        raise _Damaged(f"a format among {', '.join(kinds)}", repr(format), f"did you mean {nearest!r}?")
    return format


def _contents(path: Path) -> bytes:
    """The bytes of a regular file of bearable size."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise _Damaged("a file", "a directory" if path.is_dir() else "a device or pipe", "give a file's path")
        if size > MOST_BYTES:
            limit, found = f"at most {MOST_BYTES // 2**20} MiB", f"{size / 2**20:.0f} MiB"
            raise _Damaged(limit, found, "pass a networkx.Graph in Python instead")
        data = path.read_bytes()
    except FileNotFoundError:
        raise _Damaged("a graph file", "nothing there", "check the path") from None
    except OSError as error:
        raise _Damaged("a readable file", error.strerror or str(error), "check the path and permissions") from None
    if not data.strip():
        raise _Damaged("a graph", "an empty file", "write the graph again")
    return data


def _checked(data: bytes, kind: str) -> Any:
    """Text (bytes for GraphML, which names its own encoding) that at least starts like this kind of file."""
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding, errors="replace" if kind == "graphml" else "strict")
    except UnicodeDecodeError as error:
        found = f"bytes that are not text at offset {error.start}"
        raise _Damaged(f"{kind} text in UTF-8", found, "write it again as UTF-8") from None
    if "\0" in text or (kind == "graphml" and text.startswith("\ufffd")):
        raise _Damaged(f"{kind} text", "binary data", "give the path of a text file")
    start = text.lstrip()[:1]
    looks = "graphml" if start == "<" else "json" if start in "{[" else "gml" if GML_HEAD.search(text) else None
    if looks is not None and looks != kind:
        raise _Damaged(kind, f"what looks like {looks}", f"rename it or give format={looks!r}")
    if looks is None and kind in ("graphml", "gml", "json"):
        raise _Damaged(kind, f"text that starts with {text.strip()[:40]!r}", "rename it or write the graph again")
    return data if kind == "graphml" else text


def _parsed(kind: str, parse: Callable[[], Any]) -> Any:
    """What a library's parser makes, or its complaint in one line: damaged files make parsers raise nearly anything."""
    try:
        return parse()
    except Exception as error:
        detail = " ".join(str(error).split())[:160]
        if "directed=true" in detail:
            raise _directed("a directed link") from error
        if not isinstance(error, nx.NetworkXError | ValueError | expat.ExpatError):
            detail = f"{type(error).__name__} {detail}"
        raise _Damaged(f"complete, well-formed {kind}", f"damage ({detail})") from error


def _directed(found: str) -> _Damaged:
    expected = "undirected links, as training sends slices both ways over a link"
    return _Damaged(expected, found, "convert it with networkx: graph.to_undirected()")


def _read_graphml(data: bytes) -> Read:
    declared: list[str] = []

    def refuse(*_: object) -> None:
        raise _Damaged("GraphML alone", "a DOCTYPE or ENTITY declaration, which may expand without bound", "remove it")

    def element(tag: str, attributes: dict[str, str]) -> None:
        if tag.rpartition(":")[2] == "node":
            declared.append(attributes.get("id", ""))

    def first_look() -> None:  # by events, so that no entity is ever expanded, whatever the encoding
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = refuse
        parser.EntityDeclHandler = refuse
        parser.StartElementHandler = element
        parser.Parse(data, True)

    _parsed("graphml", first_look)
    graph = _parsed("graphml", lambda: nx.read_graphml(io.BytesIO(data)))
    _same_nodes(graph, declared)
    return graph, _labels(graph)


def _read_gml(text: str) -> Read:
    # Repeated links are common in files that do not announce them, and networkx refuses those: always announce them.
    if not re.search(r"\bmultigraph\s+1\b", text):
        text = GML_HEAD.sub("graph [ multigraph 1 ", text, count=1)
    graph = _parsed("gml", lambda: nx.parse_gml(text.splitlines(), label="id"))
    labels = _labels(graph)
    return (nx.relabel_nodes(graph, labels) if labels else graph), None


def _read_json(text: str) -> Read:
    data = _parsed("json", lambda: json.loads(text))
    links = "links" if isinstance(data, dict) and "edges" not in data else "edges"
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in ("nodes", links)):
        found = f"the keys {', '.join(map(str, data))[:80]}" if isinstance(data, dict) else f"a {type(data).__name__}"
        expected = 'node-link json, {"nodes": [...], "edges": [...]}'
        raise _Damaged(expected, found, "write it with networkx.node_link_data")

    def parse(with_links: bool) -> nx.Graph:
        edges = [{"source": edge["source"], "target": edge["target"]} for edge in data[links]] if with_links else []
        # As a multigraph, so that repeated links are counted and not lost.
        whole = {**data, "graph": dict(data.get("graph") or {}), "multigraph": True, "edges": edges}
        return nx.node_link_graph(whole, edges="edges")

    nodes = list(_parsed("node-link json", lambda: parse(with_links=False)))
    graph = _parsed("node-link json", lambda: parse(with_links=True))
    _same_nodes(graph, nodes + nodes[:1] * (len(data["nodes"]) - len(nodes)))
    return graph, _labels(graph)


def _read_edgelist(text: str) -> Read:
    graph = nx.MultiGraph()
    for number, line in _rows(text):
        labels = line.split(None, 2)
        extra = labels[2].strip() if len(labels) > 2 else ""
        if extra and not NUMBER.fullmatch(extra) and not (extra.startswith("{") and extra.endswith("}")):
            remedy = "remove the extra columns, or give format='adjlist' if each line lists an agent's neighbours"
            raise _Damaged("'a b', 'a b weight' or 'a b {...}' a line", f"{line[:60]!r} on line {number}", remedy)
        graph.add_nodes_from(labels[:2])
        if len(labels) > 1:
            graph.add_edge(labels[0], labels[1])
    return graph, None


def _read_csv(text: str) -> Read:
    first = text.lstrip().partition("\n")[0]
    lines = io.StringIO(text.lstrip(), newline="")
    rows = _parsed("csv", lambda: list(csv.reader(lines, delimiter=max(",;\t", key=first.count))))
    names = [name.strip().lower() for name in (rows or [[]])[0]]
    ends = next((ends for ends in CSV_ENDS if set(ends) <= set(names)), None)
    if ends is None:
        raise _Damaged("a first line that names the columns source and target", repr(first.strip()[:60]), "add it")
    source, target = (names.index(end) for end in ends)
    graph = nx.MultiGraph()
    for number, row in enumerate(rows[1:], start=2):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) != len(names) or not cells[source]:
            raise _Damaged(f"a source and {len(names)} columns in every row", f"{','.join(row)[:60]!r} in row {number}")
        if "type" in names and cells[names.index("type")].lower() == "directed":
            raise _directed(f"a directed link in row {number}")
        graph.add_node(cells[source])
        if cells[target]:
            graph.add_edge(cells[source], cells[target])
    return graph, None


def _read_adjlist(text: str) -> Read:
    graph = nx.Graph()  # a link may be listed from both of its ends, so a repeat here is no news
    for _, line in _rows(text):
        agent, *neighbours = line.split()
        graph.add_node(agent)
        graph.add_edges_from((agent, neighbour) for neighbour in neighbours)
    return graph, None


def _rows(text: str) -> Iterator[tuple[int, str]]:
    """(line number, line) without comments and blank lines."""
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#", 1)[0].strip()
        labels = line.partition("{")[0]
        if "," in labels or ";" in labels:
            remedy = "replace commas and semicolons by blanks, or name a table of links .csv"
            raise _Damaged("agents separated by blanks", f"{line[:60]!r} on line {number}", remedy)
        if line:
            yield number, line


def _labels(graph: nx.Graph) -> dict[Any, str] | None:
    """node -> `label` attribute, when every node has one and all differ."""
    labels = {node: str(label).strip() for node, label in graph.nodes(data="label") if label is not None}
    complete = len(labels) == len(graph) and "" not in labels.values()
    return labels if complete and len(set(labels.values())) == len(labels) else None


def _same_nodes(graph: nx.Graph, declared: list[Any]) -> None:
    """networkx adds a node for a link to nowhere, and one node for two of the same id: both are damage."""
    known = set(declared)
    unknown = next((node for node in graph if node not in known), None)
    if unknown is not None:
        raise _Damaged("links between declared nodes", f"a link to the undeclared node {unknown!r}", "declare it")
    if len(known) < len(declared):
        raise _Damaged("a different id for every node", f"{len(declared) - len(known)} repeated", "rename them")


_READERS: dict[str, Callable[[Any], Read]] = {
    "graphml": _read_graphml,
    "gml": _read_gml,
    "json": _read_json,
    "edgelist": _read_edgelist,
    "csv": _read_csv,
    "adjlist": _read_adjlist,
}
