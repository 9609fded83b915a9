"""JSON: node-link and adjacency data of networkx, D3, Cytoscape, graphology and pandapower."""

import json
from collections.abc import Mapping
from typing import Any

from dist_hdnn.topology.readers.content import Content, Damaged, Directed
from dist_hdnn.topology.readers.lists import ENDS

DIALECTS = (
    'node-link json, {"nodes": [...], "edges": [...]}, or adjacency data, Cytoscape, graphology or pandapower json'
)


def read_json(text: str) -> Content:
    """Read any of the dialects, told apart by their keys. A key repeated in one object is refused."""
    data = json.loads(text, object_pairs_hook=_object)
    if isinstance(data, dict):
        if data.get("_class") == "pandapowerNet":
            return _read_pandapower(data["_object"])
        if data.get("directed") is True:
            raise Directed("a directed graph")
        if isinstance(data.get("adjacency"), list):
            return _read_adjacency(data)
        if isinstance(data.get("elements"), dict | list):
            return _read_cytoscape(data)
        links = "links" if "edges" not in data else "edges"
        if isinstance(data.get("nodes"), list) and isinstance(data.get(links), list):
            if any(isinstance(node, Mapping) and "key" in node and "id" not in node for node in data["nodes"]):
                return _read_graphology(data)
            return _read_node_link(data, data[links])
    kind = f"the keys {', '.join(map(str, data))[:80]}" if isinstance(data, dict) else f"a {type(data).__name__}"
    raise Damaged(DIALECTS, kind, "write it with networkx.node_link_data")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object without repeated keys, of which json would keep the last."""
    members = dict(pairs)
    if len(members) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Damaged("every key once in an object", f"{twice!r} twice", "keep one of them")
    return members


def _name(node: Any) -> str:
    """Return an id as text, as networkx would show the node: [0, 1] is the tuple (0, 1)."""
    if isinstance(node, Mapping) or node is None:
        raise Damaged("a number or text as id of every node", repr(node)[:40])
    return str(_tuple(node))


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def _declare(content: Content, node: Any, attributes: Mapping[str, Any]) -> None:
    label = next((attributes[key] for key in ("label", "name") if attributes.get(key) is not None), None)
    content.agent(_name(node), label, dict(attributes))


def _link(content: Content, ends: tuple[Any, Any], is_directed: bool, attributes: Mapping[str, Any]) -> None:
    if is_directed:
        raise Directed(f"a directed link from {ends[0]!r} to {ends[1]!r}")
    content.link(_name(ends[0]), _name(ends[1]), attributes)


def _content(data: Mapping[str, Any]) -> Content:
    """Return a content without agents, with the name and the attributes of the graph."""
    head = data.get("graph")
    head = dict(head) if isinstance(head, Mapping | list) else {}
    content = Content(str(head.get("name") or ""))
    content.facts |= head
    return content


def _read_node_link(data: Mapping[str, Any], links: list[Any]) -> Content:
    """Read networkx's node_link_data, or D3, where nodes without ids are numbered by their place in the list."""
    content = _content(data)
    numbered = not any(isinstance(node, Mapping) and "id" in node for node in data["nodes"])
    for i, node in enumerate(data["nodes"]):
        if not isinstance(node, Mapping) or (not numbered and "id" not in node):
            raise ValueError(f"a node without an id: {repr(node)[:60]}")
        _declare(content, i if numbered else node["id"], node)
    for link in links:
        ends = next((ends for ends in ENDS if isinstance(link, Mapping) and set(ends) <= set(link)), None)
        if ends is None:
            raise ValueError(f"a link without source or target: {repr(link)[:60]}")
        _link(content, (link[ends[0]], link[ends[1]]), link.get("directed") is True, link)
    return content


def _read_adjacency(data: Mapping[str, Any]) -> Content:
    """Read networkx's adjacency_data: the neighbors of the nodes, in the order of the nodes."""
    content = _content(data)
    nodes = data["nodes"]
    for node in nodes:
        _declare(content, node["id"], node)
    if len(nodes) != len(data["adjacency"]):
        raise Damaged(f"a list of neighbors for each of {len(nodes)} nodes", f"{len(data['adjacency'])} lists")
    pairs = zip(nodes, data["adjacency"], strict=True)
    content.records = [
        (_name(node["id"]), _name(other["id"]), False, other) for node, others in pairs for other in others
    ]
    content.arcs((one, other) for one, other, _, _ in content.records)
    return content


def _read_cytoscape(data: Mapping[str, Any]) -> Content:
    """Read Cytoscape.js and Cytoscape: elements, grouped or in one list, each with its data."""
    elements = data["elements"]
    if isinstance(elements, list):
        groups: dict[str, list[Any]] = {"nodes": [], "edges": []}
        for element in elements:
            groups["edges" if "source" in element["data"] else "nodes"].append(element)
        elements = groups
    head = data.get("data")
    content = Content(str(head.get("name", "")) if isinstance(head, Mapping) else "")
    for node in elements.get("nodes", []):
        _declare(content, node["data"]["id"], {**node["data"], **(node.get("position") or {})})
    for edge in (edge["data"] for edge in elements.get("edges", [])):
        _link(content, (edge["source"], edge["target"]), edge.get("directed") is True, edge)
    return content


def _read_graphology(data: Mapping[str, Any]) -> Content:
    """Read graphology: nodes with keys. Links are undirected when they or the graph say so."""
    content = Content(str((data.get("attributes") or {}).get("name", "")))
    kind = (data.get("options") or {}).get("type", "mixed")
    for node in data["nodes"]:
        _declare(content, node["key"], node.get("attributes") or {})
    for edge in data["edges"]:
        directed = kind == "directed" or (kind != "undirected" and edge.get("undirected") is not True)
        _link(content, (edge["source"], edge["target"]), directed, edge.get("attributes") or {})
    return content


BRANCHES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("line", "impedance", "dcline"), ("from_bus", "to_bus")),
    "trafo": ("hv_bus", "lv_bus"),
    "trafo3w": ("hv_bus", "mv_bus", "lv_bus"),
}
"""Table of pandapower -> its columns of buses, the first of which is linked to the others."""


def _read_pandapower(net: Mapping[str, Any]) -> Content:
    """Read pandapower: buses are agents, and lines, transformers, impedances and closed bus switches are links."""
    content = Content(str(net.get("name") or ""))
    places = dict(_frame(net, "bus_geodata"))
    for bus, row in _frame(net, "bus"):
        geo = row.get("geo")
        point = json.loads(geo)["coordinates"] if isinstance(geo, str) else None
        place = {"pos": point} if point else {axis: places.get(bus, {}).get(axis) for axis in "xy"}
        content.agent(str(bus), row.get("name"), place)
    opened = {(row["et"], row["element"]) for _, row in _frame(net, "switch") if not row["closed"]}
    out = 0
    for table, buses in BRANCHES.items():
        for index, row in _frame(net, table):
            if not row.get("in_service", True) or ({"line": "l", "trafo": "t"}.get(table), index) in opened:
                out += 1
                continue
            for other in buses[1:]:
                content.link(str(row[buses[0]]), str(row[other]))
    for _, row in _frame(net, "switch"):
        if row["et"] == "b" and row["closed"]:
            content.link(str(row["bus"]), str(row["element"]))
    if out:
        content.notes.append(f"left out {out} elements that are out of service or behind an open switch")
    return content


def _frame(net: Mapping[str, Any], name: str) -> list[tuple[Any, dict[str, Any]]]:
    """Return (index, row) of a table of pandapower, or none where there is no such table."""
    if (table := net.get(name)) is None:
        return []
    frame = json.loads(table["_object"]) if isinstance(table["_object"], str) else table["_object"]
    rows = zip(frame["index"], frame["data"], strict=True)
    return [(index, dict(zip(frame["columns"], row, strict=True))) for index, row in rows]
