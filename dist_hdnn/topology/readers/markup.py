"""XML: GraphML, GEXF, XGMML, SNDlib and CORE. A DOCTYPE or an entity is refused before anything is expanded."""

from collections.abc import Callable
from xml.etree import ElementTree
from xml.parsers import expat

from dist_hdnn.topology.readers.found import Damaged, Directed, Found

Element = ElementTree.Element
ROOTS = {"graphml": "graphml", "gexf": "gexf", "graph": "xgmml", "network": "sndlib", "scenario": "core"}
"""Element at the root of a file -> format."""
LABELS = ("label", "name")


def read_graphml(data: bytes) -> Found:
    """GraphML: ids; names and places from the data of nodes, typed or not, or from yEd's shapes."""
    root = _root(data, "graphml")
    graph = _only_graph(root)
    keys = {(key.get("for", "all"), key.get("id")): key for key in _all(root, "key")}

    def attributes(element: Element, kind: str) -> dict[str, str]:
        """Attribute name -> text: what the keys of this kind have as defaults, then what the element says."""
        scoped = {key_id: key for (target, key_id), key in keys.items() if target in (kind, "all")}
        texts = {str(key.get("attr.name")): _text(key, "default") for key in scoped.values()}
        for data_ in _all(element, "data"):
            if (key := scoped.get(data_.get("key"))) is not None:
                texts[str(key.get("attr.name"))] = data_.text
            for shape in data_.iter():
                if _local(shape) == "NodeLabel":
                    texts.setdefault("label", shape.text)
                elif _local(shape) == "Geometry":
                    texts |= {axis: shape.get(axis) for axis in "xy"}
        return {name: text.strip() for name, text in texts.items() if text is not None}

    found = Found(attributes(graph, "graph").get("name", ""))
    for node in _all(graph, "node"):
        texts = attributes(node, "node")
        found.agent(_id(node), None, texts)
        found.graph.nodes[_id(node)].update((f"_{key}", texts[key]) for key in LABELS if texts.get(key))
    _choose_labels(found)
    edges = _all(graph, "edge")
    by_default = graph.get("edgedefault") == "directed"
    if by_default and not (edges and all(edge.get("directed") == "false" for edge in edges)):
        raise Directed("a directed graph")
    _link(found, edges, "source", "target", lambda edge: edge.get("directed") == "true")
    return found


def _choose_labels(found: Found) -> None:
    """Name the agents by `label`, or by `name`: the first that every node has and that differs between all."""
    for key in LABELS:
        texts = [data.get(f"_{key}") for _, data in found.graph.nodes(data=True)]
        if None not in texts and len(set(texts)) == len(texts):
            for (_, data), text in zip(found.graph.nodes(data=True), texts, strict=True):
                data["label"] = text
            return


def read_gexf(data: bytes) -> Found:
    """GEXF of any version: ids, labels and positions of nodes."""
    graph = _only_graph(_root(data, "gexf"))
    found = Found()
    nodes = [node for group in _all(graph, "nodes") for node in group.iter() if _local(node) == "node"]
    for node in nodes:
        place = next((child.attrib for child in node if _local(child) == "position"), {})
        found.agent(_id(node), node.get("label"), {"x": place.get("x"), "y": place.get("y")})
    edges = [edge for group in _all(graph, "edges") for edge in _all(group, "edge")]
    kind = graph.get("defaultedgetype", "undirected")
    if graph.get("mode") == "dynamic":
        found.notes.append("a dynamic graph; links of all times are taken")
    if kind == "directed" and not edges:
        raise Directed("a directed graph")
    _link(found, edges, "source", "target", lambda edge: edge.get("type", kind) == "directed")
    return found


def read_xgmml(data: bytes) -> Found:
    """XGMML of Cytoscape: ids, labels and places of nodes."""
    root = _root(data, "graph")
    if any(_local(child) == "graph" for child in root.iter() if child is not root):
        raise Damaged("one graph", "a graph inside the graph", "export it without groups")
    found = Found(root.get("label", ""))
    for node in _all(root, "node"):
        graphics = next(iter(_all(node, "graphics")), None)
        found.agent(_id(node), node.get("label"), {} if graphics is None else dict(graphics.attrib))
    if root.get("directed") == "1":
        raise Directed("a directed graph")
    _link(found, _all(root, "edge"), "source", "target", lambda edge: edge.get("directed") == "1")
    return found


def read_sndlib(data: bytes) -> Found:
    """SNDlib: nodes with their coordinates, links; demands and costs are not used."""
    root = _root(data, "network")
    found = Found()
    for node in (node for node in root.iter() if _local(node) == "node"):
        place = next(iter(_all(node, "coordinates")), node)
        found.agent(_id(node), None, {axis: _text(place, axis) for axis in "xy"})
    for link in (link for link in root.iter() if _local(link) == "link"):
        ends = [(_text(link, end) or "").strip() for end in ("source", "target")]
        found.link(*ends)
    return found


def read_core(data: bytes) -> Found:
    """CORE emulator: devices and networks (switches, hubs, wireless) are agents, with names and places."""
    root = _root(data, "scenario")
    found = Found(root.get("name", ""))
    kinds = {"devices": "device", "networks": "network"}
    for group, kind in kinds.items():
        for node in (node for part in _all(root, group) for node in _all(part, kind)):
            place = next(iter(_all(node, "position")), node)
            found.agent(_id(node), node.get("name"), dict(place.attrib))
    links = [link for group in _all(root, "links") for link in _all(group, "link")]
    ends = ("node1", "node2") if all(link.get("node1") for link in links) else ("node_one", "node_two")
    _link(found, links, *ends, lambda link: False)
    return found


def _root(data: bytes, name: str) -> Element:
    """The root element, which has this name."""

    def refuse(*_: object) -> None:
        raise Damaged(
            "XML without a DOCTYPE", "a DOCTYPE or ENTITY declaration, which may expand without bound", "remove it"
        )

    parser = expat.ParserCreate()  # a first look by events: no entity is ever expanded, whatever the encoding
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.Parse(data, True)
    root = ElementTree.fromstring(data)
    if _local(root) != name:
        raise Damaged(f"complete, well-formed {ROOTS[name]}", f"damage (<{_local(root)}> at the root)")
    return root


def _only_graph(root: Element) -> Element:
    """The one graph of a file; nested ones and hyperedges, which would be lost, are refused."""
    graphs = [child for child in root.iter() if _local(child) == "graph"]
    if len(graphs) != 1:
        found = f"{len(graphs)}, one inside or after another" if graphs else "none"
        raise Damaged("one graph", found, "keep one <graph> and flatten groups")
    if any(_local(child) == "hyperedge" for child in graphs[0]):
        raise Damaged("links between two agents", "a hyperedge", "replace it by links")
    return graphs[0]


def _link(found: Found, edges: list[Element], one: str, other: str, is_directed: Callable[[Element], bool]) -> None:
    for edge in edges:
        if is_directed(edge):
            raise Directed(f"a directed link from {edge.get(one)!r} to {edge.get(other)!r}")
        found.link(edge.get(one, ""), edge.get(other, ""))


def _local(element: Element) -> str:
    """The name of an element without its namespace, which writers spell differently."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _all(element: Element, name: str) -> list[Element]:
    return [child for child in element if _local(child) == name]


def _text(element: Element, name: str) -> str | None:
    """The text of the first child of this name."""
    return next((child.text for child in _all(element, name)), None)


def _id(element: Element) -> str:
    if (node_id := element.get("id")) is None:
        raise Damaged("an id for every node", f"<{_local(element)}> without one", "add it")
    return node_id
