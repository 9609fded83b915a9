"""XML: GraphML, GEXF, XGMML, SNDlib, CORE and FNSS. A DOCTYPE or an entity is refused before anything is expanded.

"{*}node" is an element of this name in any namespace.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from dist_hdnn.topology.readers.content import Content, Damaged, Directed, distinct

Element = ElementTree.Element
ROOTS = {"graphml": "graphml", "gexf": "gexf", "graph": "xgmml", "network": "sndlib"} | {
    "scenario": "core",
    "topology": "fnss",
}
"""Element at the root of a file -> format."""


def read_graphml(data: bytes) -> Content:
    """Read GraphML: ids, and names and places from the data of nodes, typed or not, or from yEd's shapes."""
    root = _root(data, "graphml")
    graph = _only_graph(root)
    keys: dict[str, dict[str | None, Element]] = {kind: {} for kind in ("graph", "node", "edge")}
    for key in root.findall("{*}key"):
        for kind in keys if key.get("for", "all") == "all" else {str(key.get("for"))} & set(keys):
            keys[kind][key.get("id")] = key
    names = {kind: {key_id: str(key.get("attr.name")) for key_id, key in each.items()} for kind, each in keys.items()}
    defaults = {
        kind: {str(key.get("attr.name")): key.findtext("{*}default") for key in each.values()}
        for kind, each in keys.items()
    }

    def attributes(element: Element, kind: str) -> dict[str, str]:
        """Return attribute name -> text: the defaults of the keys of this kind, then the data of the element."""
        texts = dict(defaults[kind])
        for data_ in element.findall("{*}data"):
            if (name := names[kind].get(data_.get("key"))) is not None:
                texts[name] = data_.text
            for label in data_.findall(".//{*}NodeLabel") if len(data_) else ():
                texts.setdefault("label", label.text)
            for shape in data_.findall(".//{*}Geometry") if len(data_) else ():
                texts |= {axis: shape.get(axis) for axis in "xy"}
        return {name: text.strip() for name, text in texts.items() if text is not None}

    facts = attributes(graph, "graph")
    content = Content(facts.get("name", ""))
    content.facts |= facts
    nodes = [(_id(node), attributes(node, "node")) for node in graph.findall("{*}node")]
    labels = distinct(*([texts.get(key) for _, texts in nodes] for key in ("label", "name")))
    for i, (node_id, texts) in enumerate(nodes):
        content.agent(node_id, labels and labels[i], texts)
    edges = graph.findall("{*}edge")
    by_default = graph.get("edgedefault") == "directed"
    if by_default and not (edges and all(edge.get("directed") == "false" for edge in edges)):
        raise Directed("a directed graph")
    is_directed = lambda edge: edge.get("directed") == "true"  # noqa: E731
    _link(content, edges, is_directed=is_directed, attributes=lambda edge: attributes(edge, "edge"))
    return content


def read_gexf(data: bytes) -> Content:
    """Read GEXF of any version: ids, labels and positions of nodes."""
    graph = _only_graph(_root(data, "gexf"))
    content = Content()
    _declare(content, graph.findall("{*}nodes//{*}node"), "label", "position")
    edges = graph.findall("{*}edges/{*}edge")
    kind = graph.get("defaultedgetype", "undirected")
    if graph.get("mode") == "dynamic":
        content.notes.append("a dynamic graph; links of all times are taken")
    if kind == "directed" and not edges:
        raise Directed("a directed graph")
    titles = {
        title.get("id"): title.get("title")
        for group in graph.findall("{*}attributes")
        if group.get("class") == "edge"
        for title in group.findall("{*}attribute")
    }

    def attributes(edge: Element) -> dict[str, Any]:
        values = [(value.get("for", value.get("id")), value.get("value")) for value in edge.findall(".//{*}attvalue")]
        return {str(titles.get(key)): value for key, value in values}

    _link(content, edges, is_directed=lambda edge: edge.get("type", kind) == "directed", attributes=attributes)
    return content


def read_xgmml(data: bytes) -> Content:
    """Read XGMML of Cytoscape: ids, labels and places of nodes."""
    root = _root(data, "graph")
    if root.find(".//{*}graph") is not None:
        raise Damaged("one graph", "a graph inside the graph", "export it without groups")
    content = Content(root.get("label", ""))
    _declare(content, root.findall("{*}node"), "label", "graphics")
    if root.get("directed") == "1":
        raise Directed("a directed graph")
    _link(
        content,
        root.findall("{*}edge"),
        is_directed=lambda edge: edge.get("directed") == "1",
        attributes=lambda edge: {str(att.get("name")): att.get("value") for att in edge.findall("{*}att")},
    )
    return content


def read_sndlib(data: bytes) -> Content:
    """Read SNDlib: nodes with their coordinates, and links with their capacity. Demands and costs are not used."""
    root = _root(data, "network")
    content = Content()
    sites = root.find(".//{*}nodes")
    on_earth = sites is not None and sites.get("coordinatesType") == "geographical"
    if unit := re.fullmatch(r"\s*([KMGT]?)BITPERSEC\s*", root.findtext("{*}meta/{*}unit") or ""):
        content.facts["pre_installed_capacity_unit"] = f"{unit[1]}bit/s"
    for node in root.findall(".//{*}node"):
        place = node.find("{*}coordinates")
        place = node if place is None else place
        axes = {"x": "Longitude", "y": "Latitude"} if on_earth else {"x": "x", "y": "y"}
        content.agent(_id(node), None, {name: place.findtext("{*}" + axis) for axis, name in axes.items()})
    for link in root.findall(".//{*}link"):
        one, other = ((link.findtext("{*}" + end) or "").strip() for end in ("source", "target"))
        content.link(one, other, {"pre_installed_capacity": link.findtext("{*}preInstalledModule/{*}capacity")})
    return content


def read_core(data: bytes) -> Content:
    """Read a scenario of the CORE emulator: devices and networks (switches, hubs, wireless) are agents."""
    root = _root(data, "scenario")
    content = Content(root.get("name", ""))
    _declare(content, root.findall("{*}devices/{*}device") + root.findall("{*}networks/{*}network"), "name", "position")
    links = root.findall("{*}links/{*}link")
    ends = ("node1", "node2") if all(link.get("node1") for link in links) else ("node_one", "node_two")
    units = {"bandwidth": "bit/s", "delay": "us", "jitter": "us", "loss": "%"}

    def attributes(link: Element) -> dict[str, Any]:
        """Return the options with their units, of which 0 stands for none."""
        options = link.find("{*}options")
        values = {} if options is None else {name: options.get(name, "0") for name in units}
        return {name: f"{value} {units[name]}" for name, value in values.items() if value.strip("0. ")}

    def is_one_way(link: Element) -> bool:
        options = link.find("{*}options")
        return options is not None and options.get("unidirectional") == "1"

    _link(content, links, *ends, attributes=attributes, is_one_way=is_one_way)
    for node in content.graph:  # where the canvas lies on Earth, whatever the network is
        content.graph.nodes[node].pop("degrees", None)
    return content


def read_fnss(data: bytes) -> Content:
    """Read a topology of FNSS. If it is directed, it lists every link from both ends."""
    root = _root(data, "topology")
    facts = _properties(root)
    content = Content(facts.get("name", ""))
    content.facts |= facts
    for node in root.findall("{*}node"):
        attributes = _properties(node)
        content.agent(_id(node), attributes.get("label"), attributes)
    for link in root.findall("{*}link"):
        one, other = ((link.findtext("{*}" + end) or "").strip() for end in ("from", "to"))
        if root.get("linkdefault") == "directed":
            content.records.append((one, other, False, partial(_properties, link)))
        else:
            content.link(one, other, partial(_properties, link))
    if root.get("linkdefault") == "directed":
        content.arcs((one, other) for one, other, _, _ in content.records)
    return content


def _properties(element: Element) -> dict[str, str]:
    """Return the properties of FNSS, name -> text."""
    return {str(each.get("name")): (each.text or "").strip() for each in element.findall("{*}property")}


def _root(data: bytes, name: str) -> Element:
    """Return the root element, which has this name."""

    def refuse(*_: object) -> None:
        raise Damaged(
            "XML without a DOCTYPE", "a DOCTYPE or ENTITY declaration, which may expand without bound", "remove it"
        )

    parser = expat.ParserCreate()  # a first look by events: no entity is ever expanded, whatever the encoding
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.Parse(data, True)
    root = ElementTree.fromstring(data)
    if (local := root.tag.rpartition("}")[2]) != name:
        raise ValueError(f"<{local}> at the root")
    return root


def _only_graph(root: Element) -> Element:
    """Return the one graph of a file. Refuse nested graphs and hyperedges, which would be lost."""
    graphs = root.findall(".//{*}graph")
    if len(graphs) != 1:
        count = f"{len(graphs)}, one inside or after another" if graphs else "none"
        raise Damaged("one graph", count, "keep one <graph> and flatten groups")
    if graphs[0].find("{*}hyperedge") is not None:
        raise Damaged("links between two agents", "a hyperedge", "replace it by links")
    return graphs[0]


def _declare(content: Content, nodes: list[Element], name: str, place: str) -> None:
    """Declare agents named by an attribute, whose position is in a child `place`, or else in the node itself."""
    for node in nodes:
        site = node.find("{*}" + place)
        content.agent(_id(node), node.get(name), dict((node if site is None else site).attrib))


def _link(
    content: Content,
    edges: list[Element],
    one: str = "source",
    other: str = "target",
    is_directed: Callable[[Element], bool] = lambda edge: False,
    attributes: Callable[[Element], dict[str, Any]] = lambda edge: {},
    is_one_way: Callable[[Element], bool] = lambda edge: False,
) -> None:
    """Link agents. is_one_way: the attributes hold from one to other only."""
    for edge in edges:
        if is_directed(edge):
            raise Directed(f"a directed link from {edge.get(one)!r} to {edge.get(other)!r}")
        content.link(edge.get(one, ""), edge.get(other, ""), partial(attributes, edge), not is_one_way(edge))


def _id(element: Element) -> str:
    if (node_id := element.get("id")) is None:
        raise Damaged("an id for every node", f"<{element.tag.rpartition('}')[2]}> without one", "add it")
    return node_id
