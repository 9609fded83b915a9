"""GML: keys and values in nested lists. Unused attributes may hold anything."""

import html
import re
from typing import Any

from dist_hdnn.topology.readers.content import Content, Damaged, Directed, distinct, place_of, shown, tokens

TOKEN = re.compile(r'\s+|#[^\n]*|(?P<text>"[^"]*")|(?P<mark>[\[\]])|(?P<word>[^\s\[\]"]+)')


def read_gml(text: str) -> Content:
    """Read GML. Labels are the agents' names and identities when every node has one and all differ, else the ids."""
    pairs = _pairs(text)
    graphs = [value for key, value in pairs if key == "graph" and isinstance(value, list)]
    if len(graphs) != 1:
        raise Damaged("one graph", f"{len(graphs)}", "keep one")
    graph = graphs[0]
    if "1" in (_last(graph, "directed"), _last(pairs, "directed")):
        raise Directed("a directed graph")
    nodes = [value for key, value in graph if key == "node"]
    labels = distinct(*([str(_last(node, key) or "").strip() for node in nodes] for key in ("label", "name")))
    content = Content(str(_last(graph, "name") or ""))
    content.facts |= _flat(graph)
    names: dict[str, str] = {}
    for i, node in enumerate(nodes):
        if (node_id := _last(node, "id")) is None:
            raise Damaged("an id for every node", "a node without", "add it")
        if node_id in names:
            raise Damaged("a different id for every node", f"1 repeated, {shown(node_id)}", "rename one of the two")
        names[node_id] = node_id if labels is None else labels[i]
        graphics = _last(node, "graphics")
        attributes = _flat(node)
        if place_of(attributes) is None and isinstance(graphics, list):
            attributes = _flat(graphics)
        content.agent(names[node_id], None, attributes)
    for edge in (value for key, value in graph if key == "edge"):
        ends = {end: str(_last(edge, end)) for end in ("source", "target")}
        for end, node_id in ends.items():
            if node_id not in names:
                raise ValueError(f"an edge with the undefined {end} {node_id}")
        content.link(names[ends["source"]], names[ends["target"]], _flat(edge))
    return content


def _flat(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in pairs if isinstance(value, str)}


def _last(pairs: Any, key: str) -> Any:
    """Return the last value of a key in a list of (key, value)."""
    if not isinstance(pairs, list):
        raise Damaged("a list [ ... ] for every graph, node and edge", f"{pairs!r}"[:40])
    return next((value for name, value in reversed(pairs) if name == key), None)


def _pairs(text: str) -> list[tuple[str, Any]]:
    """Return nested lists of (key, value), where a value is text or a list."""
    stack: list[list[tuple[str, Any]]] = [[]]
    key = ""
    for kind, token, line in tokens(TOKEN, text):
        if kind == "mark" and token == "]":
            if key or len(stack) == 1:
                raise ValueError(f"an unexpected ] on line {line}")
            stack.pop()
        elif not key:
            if kind != "word":
                raise ValueError(f"{token[:40]!r} in place of a key on line {line}")
            key = token
        else:
            value: Any = [] if kind == "mark" else html.unescape(token[1:-1]) if kind == "text" else token
            stack[-1].append((key, value))
            if kind == "mark":
                stack.append(value)
            key = ""
    if key or len(stack) > 1:
        raise ValueError("the file ends inside a list")
    return stack[0]
