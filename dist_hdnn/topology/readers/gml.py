"""GML: keys and values in nested lists. Attributes that nobody needs may hold anything."""

import html
import re
from collections.abc import Iterator
from typing import Any

from dist_hdnn.topology.readers.found import Damaged, Directed, Found, place_of, shown

TOKEN = re.compile(r'\s+|#[^\n]*|(?P<text>"[^"]*")|(?P<mark>[\[\]])|(?P<word>[^\s\[\]"]+)')


def read_gml(text: str) -> Found:
    """Labels are the agents' names and identities when every node has one and all differ, else their ids are."""
    pairs = _pairs(text)
    graphs = [value for key, value in pairs if key == "graph" and isinstance(value, list)]
    if len(graphs) != 1:
        raise Damaged("one graph", f"{len(graphs)}", "keep one")
    graph = graphs[0]
    if "1" in (_last(graph, "directed"), _last(pairs, "directed")):
        raise Directed("a directed graph")
    nodes = [value for key, value in graph if key == "node"]
    labels = [str(_last(node, "label") or "").strip() for node in nodes]
    named = all(labels) and len(set(labels)) == len(labels)
    if not named:
        labels = [str(_last(node, "name") or "").strip() for node in nodes]
        named = all(labels) and len(set(labels)) == len(labels)
    found = Found(str(_last(graph, "name") or ""))
    names: dict[str, str] = {}
    for node, label in zip(nodes, labels, strict=True):
        if (node_id := _last(node, "id")) is None:
            raise Damaged("an id for every node", "a node without", "add it")
        if node_id in names:
            raise Damaged("a different id for every node", f"1 repeated, {shown(node_id)}", "rename one of the two")
        names[node_id] = label if named else node_id
        flat = {key: value for key, value in node if isinstance(value, str)}
        graphics = _last(node, "graphics")
        inside = {key: value for key, value in graphics if isinstance(value, str)} if isinstance(graphics, list) else {}
        found.agent(names[node_id], None, flat if place_of(flat) else inside)
    for edge in (value for key, value in graph if key == "edge"):
        ends = {end: str(_last(edge, end)) for end in ("source", "target")}
        for end, node_id in ends.items():
            if node_id not in names:
                raise Damaged("complete, well-formed gml", f"damage (an edge with the undefined {end} {node_id})")
        found.link(*(names[node_id] for node_id in ends.values()))
    return found


def _last(pairs: Any, key: str) -> Any:
    """The value of a key in a list of (key, value)."""
    if not isinstance(pairs, list):
        raise Damaged("a list [ ... ] for every graph, node and edge", f"{pairs!r}"[:40])
    return next((value for name, value in reversed(pairs) if name == key), None)


def _pairs(text: str) -> list[tuple[str, Any]]:
    """Nested lists of (key, value); values are text or lists."""
    stack: list[list[tuple[str, Any]]] = [[]]
    key = ""
    for kind, token, line in _tokens(text):
        if kind == "mark" and token == "]":
            if key or len(stack) == 1:
                raise Damaged("complete, well-formed gml", f"damage (an unexpected ] on line {line})")
            stack.pop()
        elif not key:
            if kind != "word":
                raise Damaged("complete, well-formed gml", f"damage ({token[:40]!r} in place of a key on line {line})")
            key = token
        elif kind == "mark":
            inner: list[tuple[str, Any]] = []
            stack[-1].append((key, inner))
            stack.append(inner)
            key = ""
        else:
            stack[-1].append((key, html.unescape(token[1:-1]) if kind == "text" else token))
            key = ""
    if key or len(stack) > 1:
        raise Damaged("complete, well-formed gml", "damage (the file ends inside a list)")
    return stack[0]


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """(kind, token, line) of all but blanks and comments."""
    place, line = 0, 1
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            raise Damaged("complete, well-formed gml", f"damage (a text without its end on line {line})")
        if match.lastgroup is not None:
            yield match.lastgroup, match.group(), line
        line += match.group().count("\n")
        place = match.end()
