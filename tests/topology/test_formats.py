"""Every format of graph files: a small file by hand, round trips by the writers of libraries, and what is refused."""

import gzip
import json
import random
import re
import typing
import warnings
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from dist_hdnn.config.option_help import help_of
from dist_hdnn.topology import CommunicationGraph, as_graph, read_graph
from dist_hdnn.topology.readers import FORMATS

GRAPHML = '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">{}</graphml>'
PAIR = '<graph edgedefault="undirected"><node id="a"/><node id="b"/><edge source="a" target="b">{}</edge></graph>'
GEXF = (
    '<gexf xmlns="http://gexf.net/1.3" xmlns:viz="http://gexf.net/1.3/viz" version="1.3"><graph>'
    '<nodes><node id="0" label="a"><viz:position x="1" y="2"/></node><node id="1" label="b">'
    '<viz:position x="3" y="4"/></node><node id="2" label="c"><viz:position x="5" y="6"/></node></nodes>'
    '<edges><edge id="0" source="0" target="1"/><edge source="1" target="2" type="mutual"/></edges></graph></gexf>'
)
SNDLIB = (
    '<network xmlns="http://sndlib.zib.de/network"><networkStructure><nodes coordinatesType="geographical">'
    '<node id="a"><coordinates><x>1</x><y>2</y></coordinates></node><node id="b"><coordinates><x>3</x><y>4</y>'
    '</coordinates></node><node id="c"><coordinates><x>5</x><y>6</y></coordinates></node></nodes><links>'
    '<link id="l"><source>a</source><target>b</target></link><link id="m"><source>b</source><target>c</target></link>'
    "</links></networkStructure><demands/></network>"
)
SNDLIB_TEXT = """?SNDlib native format; type: network; version: 1.0
# network
META (
  granularity = 5min
)
NODES (
  a ( 1.0 2.0 )
  b ( 3.0 4.0 )
  c ( 5.0 6.0 )
)
LINKS (
  a_b ( a b ) 0.00 0.00 0.00 156.00 ( 155.00 156.00 )
  b_c ( b c ) 0.00 0.00 0.00 0.00 ( )
)
DEMANDS (
  d ( a c ) 1 195.00 UNLIMITED
)
"""
CORE = (
    '<scenario name="s"><networks><network id="3" name="c" type="SWITCH"><position x="5" y="6"/></network></networks>'
    '<devices><device id="1" name="a" type="router"><position x="1" y="2"/></device><device id="2" name="b">'
    '<position x="3" y="4"/></device></devices><links><link node1="1" node2="2"/><link node1="2" node2="3"/></links>'
    "</scenario>"
)
FNSS = "".join(
    f'<node id="{i}" id.type="int">'
    + "".join(
        f'<property name="{k}" type="string">{v}</property>' for k, v in (("label", name), ("x", x), ("y", x + 1))
    )
    + "</node>"
    for i, (name, x) in enumerate([("a", 1), ("b", 3), ("c", 5)])
)
FNSS = (
    f'<topology linkdefault="undirected"><property name="type" type="string">path</property>{FNSS}'
    '<link><from type="int">0</from><to type="int">1</to></link><link><from type="int">2</from><to type="int">1</to>'
    "</link></topology>"
)
XGMML = (
    '<graph label="s" xmlns="http://www.cs.rpi.edu/XGMML"><node id="1" label="a"><graphics x="1" y="2"/></node>'
    '<node id="2" label="b"><graphics x="3" y="4"/></node><node id="3" label="c"><graphics x="5" y="6"/></node>'
    '<edge source="1" target="2"/><edge source="2" target="3"><att name="w" value="1"/></edge></graph>'
)
YED = GRAPHML.format(
    '<key id="d" for="node" yfiles.type="nodegraphics"/><graph edgedefault="undirected">'
    + "".join(
        f'<node id="n{i}"><data key="d"><y:ShapeNode xmlns:y="http://www.yworks.com/xml/graphml"><y:Geometry x="{x}" '
        f'y="{x + 1}"/><y:NodeLabel>{name}</y:NodeLabel></y:ShapeNode></data></node>'
        for i, (x, name) in enumerate([(1, "a"), (3, "b"), (5, "c")])
    )
    + '<edge source="n0" target="n1"/><edge source="n1" target="n2"/></graph>'
)
PAJEK = '*Network s\n*Vertices 3\n1 "a" 1 2 0.5\n2 "b" 3 4\n3 "c" 5 6\n*Edges\n1 2 1.5\n*Arcs\n2 3\n3 2\n'
REPETITA = "NODES 3\nlabel x y\na 1 2\nb 3 4\nc 5 6\n\nEDGES 4\nlabel src dest weight bw delay\n" + "".join(
    f"edge_{i} {a} {b} 1 1 1\n" for i, (a, b) in enumerate([(0, 1), (1, 0), (1, 2), (2, 1)])
)
DOT = """/* a path */ strict graph "s" {
  node [shape=box]; rankdir=LR
  a [pos="1,2!", label="\\N"]; b [label=<<b>b</b>>, pos="3,4"];
  "c" [pos="5,6"]
  a:e -- b -- { c } [weight=2]  // a chain
}"""
GML = """Creator "x" Version "1.0" graph [ directed 0
  node [ id 7 label "a" graphics [ x 1.0 y 2.0 w 5 ] note "two

lines" ]
  node [ id 8 label "b" graphics [ x 3.0 y 4.0 ] Sales-1 NAN ]
  node [ id 9 label "c" graphics [ x 5.0 y 6.0 ] ]
  edge [ source 7 target 8 value 99999999999999999999999 ]
  edge [ source 8 target 9 ] ]"""
CYJS = {
    "elements": {
        "nodes": [
            {"data": {"id": str(i), "name": name}, "position": {"x": x, "y": x + 1}}
            for i, name, x in [(62, "a", 1), (63, "b", 3), (64, "c", 5)]
        ],
        "edges": [{"data": {"source": "62", "target": "63"}}, {"data": {"source": "64", "target": "63"}}],
    }
}
GRAPHOLOGY = {
    "options": {"type": "undirected"},
    "nodes": [{"key": k, "attributes": {"x": x, "y": x + 1}} for k, x in [("a", 1), ("b", 3), ("c", 5)]],
    "edges": [{"source": "a", "target": "b"}, {"source": "b", "target": "c", "undirected": True}],
}
D3 = {
    "nodes": [{"name": name, "lon": x, "lat": x + 1} for name, x in [("a", 1), ("b", 3), ("c", 5)]],
    "links": [{"source": 0, "target": 1, "value": 3}, {"source": 2, "target": 1}],
}
GDF = "nodedef>name VARCHAR,label VARCHAR,x DOUBLE,y DOUBLE\n1,a,1,2\n2,b,3,4\n3,c,5,6\nedgedef>node1,node2\n1,2\n2,3\n"
PLACED: dict[str, str] = {
    "g.gexf": GEXF,
    "g.xml": SNDLIB,
    "sndlib.txt": SNDLIB_TEXT,
    "core.xml": CORE,
    "fnss.xml": FNSS,
    "g.xgmml": XGMML,
    "yed.graphml": YED,
    "g.net": PAJEK,
    "g.graph": REPETITA,
    "g.dot": DOT,
    "indented.txt": SNDLIB_TEXT.replace("\n", "\n    ").replace("a ( 1.0", "a (1.0").replace("6.0 )", "6.0)"),
    "g.gml": GML,
    "g.cyjs": json.dumps(CYJS),
    "list.json": json.dumps({"elements": CYJS["elements"]["nodes"] + CYJS["elements"]["edges"]}),
    "graphology.json": json.dumps(GRAPHOLOGY),
    "d3.json": json.dumps(D3),
    "g.gdf": GDF,
}
"""The path a - b - c at (1, 2), (3, 4), (5, 6)."""
UNPLACED: dict[str, str] = {
    "g.edges": "# path\n% more\n// still\nb a 0.5\nb c {'color': '#ff0000'}  # end\n",
    "g.ncol": "a b\nb c 2.5\n",
    "quoted.txt": '"a" "b"\n"b" "c"\n',
    "head.txt": "source target weight\na b 1\nb c 2\n",
    "g.csv": "src,dst,cost\na,b,1\nc,b,2\n",
    "u.csv": "id;u;v;\n1;a;b;\n2;b;c;\n",
    "g.tsv": "# links\nfrom\tto\na\tb\n\nb\tc\n",
    "g.adj": "a b\nc b\n",
    "colons.adjlist": "a: b\nb: a c\nc:\n",
    "matrix.csv": ",a,b,c\na,0,1,0\nb,1,0,2.5\nc,0,2.5,0\n",
    "turned.csv": "x,c,b,a\na,0,1,0\nb,1,0,1\nc,0,1,0\n",
    "header.csv": "a;b;c\n0;1;0\n1;0;1\n0;1;0\n",
    "rows.csv": "a,0,1,0\nb,1,0,1\nc,0,1,0\n",
    "r.txt": "a b c\na 0 1 0\nb 1 0 1\nc 0 1 0\n",
    "g.sif": "a pp b\nc pd b\n",
    "tabs.sif": "a\tpp\tb\nb\tpp\tc\n",
    "g.lgl": "# a\nb 1.5\n# b\nc\n",
    "lists.net": "*vertices 3\n1 a\n2 b\n3 c\n*edgeslist\n2 1 3\n",
    "graphml.xml": GRAPHML.format(PAIR.format("")).replace(
        "</graph>", '<node id="c"/><edge source="b" target="c"/></graph>'
    ),
}
NUMBERED: dict[str, str | bytes] = {
    "g.mtx": "%%MatrixMarket matrix coordinate pattern symmetric\n% path\n3 3 2\n2 1\n3 2\n",
    "full.mtx": "%%MatrixMarket matrix coordinate real general\n3 3 5\n1 2 1\n2 1 1\n2 3 2\n3 2 2\n1 3 0\n",
    "g.graph": "3 2\n2\n1 3\n2\n",
    "weights.metis": "% weights of agents and links\n3 2 011 1\n5 2 9\n5 1 9 3 8\n5 2 8\n",
    "out.path": "% sym unweighted\n% 2 3 3\n1 2 1 1082040961\n2 3\n",
    "g.m": "function mpc = case3\nmpc.version = '2';\nmpc.bus = [\n 1 3 0; % slack\n 2 1 0;\n 3 1 0;\n];\n"
    "mpc.branch = [\n"
    " 1 2 0 0 0 0 0 0 0 0 1;\n 2 3 0 0 0 0 0 0 0 0 1;\n 1 3 0 0 0 0 0 0 0 0 0;\n];\n",
    "g.brite": "Topology: ( 3 Nodes, 2 Edges )\nModel ( 1 )\n\nNodes: ( 3 )\n"
    "1 5 6 1 1 0 RT\n2 5 7 2 2 0 RT\n3 5 8 1 1 0 RT\n\n"
    "Edges: ( 2 )\n0 1 2 1.0 1.0 10 0 0 E_RT U\n1 2 3 1.0 1.0 10 0 0 E_RT U\n",
    "matrix.net": "*Vertices 3\n*Matrix\n0 1 0\n1 0 1\n0 1 0\n",
    "count.edges": "3\n1 2\n2 3\n",
}
"""The path 1 - 2 - 3."""


def written(folder: Path, name: str, text: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def read_quietly(file: Path, format: str | None = None) -> CommunicationGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_graph(file, format)


def named_links(graph: CommunicationGraph) -> set[frozenset[str]]:
    return {frozenset(graph.names[i] for i in link) for link in graph.links.tolist()}


@pytest.mark.parametrize("name", [*PLACED, *UNPLACED])
def test_a_path_is_read_in_every_format(tmp_path: Path, name: str) -> None:
    graph = read_quietly(written(tmp_path, name, {**PLACED, **UNPLACED}[name]))
    assert sorted(graph.names) == ["a", "b", "c"]
    assert named_links(graph) == {frozenset("ab"), frozenset("bc")}
    if name in PLACED:
        assert graph.positions is not None
        order = [graph.names.index(agent) for agent in "abc"]
        assert graph.positions[order].tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("name", NUMBERED)
def test_a_path_of_numbered_agents_is_read_in_every_format(tmp_path: Path, name: str) -> None:
    graph = read_quietly(written(tmp_path, name, NUMBERED[name]))
    assert graph.names == ("1", "2", "3") and graph.links.tolist() == [[0, 1], [1, 2]]


def test_every_format_has_a_file_here_and_a_word_on_the_command_line() -> None:
    listed = " ".join(help_of("graph.format").split())
    assert all(name in re.split(r"[ ,]+", listed) for name in FORMATS)


def random_graph(seed: int) -> nx.Graph:
    numbers = random.Random(seed)
    graph = nx.gnp_random_graph(numbers.randint(1, 70), numbers.random() * 0.3, seed=seed)
    return graph


def writers(graph: nx.Graph, folder: Path) -> None:
    """The graph in every format that networkx, scipy or NumPy write."""
    nx.write_gexf(graph, folder / "g.gexf")
    nx.write_gml(graph, folder / "g.gml")
    nx.write_graphml(graph, folder / "g.graphml")
    nx.write_graph6(graph, folder / "g.g6")
    nx.write_sparse6(graph, folder / "g.s6")
    nx.write_adjlist(graph, folder / "g.adjlist")
    written(folder, "cyjs.cyjs", json.dumps(nx.cytoscape_data(graph)))
    written(folder, "adjacency.json", json.dumps(nx.adjacency_data(graph)))
    written(folder, "link.json", json.dumps(nx.node_link_data(graph, edges="links")))
    matrix = nx.to_scipy_sparse_array(graph, format="csr", dtype=np.int64)
    np.save(folder / "g.npy", matrix.toarray())
    scipy.sparse.save_npz(folder / "g.npz", matrix)
    lines = [f"{a} {b}" for a, b in graph.edges()] + [str(node) for node in graph]
    written(folder, "g.edges.gz", gzip.compress("\r\n".join(lines).encode("utf-8-sig")))


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_come_back_from_what_libraries_write(tmp_path: Path, seed: int) -> None:
    graph = random_graph(seed)
    writers(graph, tmp_path)
    expected = {frozenset(map(str, edge)) for edge in graph.edges()}
    files = sorted(tmp_path.iterdir())
    assert len(files) == 12
    for file in files:
        back = read_quietly(file)
        assert back.names == tuple(map(str, range(len(graph)))), file.name
        assert named_links(back) == expected, file.name


@pytest.mark.parametrize("seed", range(4))
def test_formats_that_count_from_one_come_back_with_their_own_numbers(tmp_path: Path, seed: int) -> None:
    graph = nx.relabel_nodes(random_graph(seed), lambda node: node + 1)
    nx.write_pajek(nx.relabel_nodes(graph, str), tmp_path / "g.net")
    matrix = nx.to_scipy_sparse_array(graph, format="coo", dtype=np.float64)
    scipy.io.mmwrite(tmp_path / "g.mtx", matrix)
    rows = [" ".join(str(other) for other in sorted(graph[node])) for node in sorted(graph)]
    written(tmp_path, "g.metis", "\n".join([f"{len(graph)} {graph.number_of_edges()}", *rows, ""]))
    written(tmp_path, "out.g", "% sym\n" + "".join(f"{a} {b}\n" for a, b in graph.edges()) + "\n".join(map(str, graph)))
    expected = {frozenset(map(str, edge)) for edge in graph.edges()}
    for file in sorted(tmp_path.iterdir()):
        back = read_quietly(file)
        assert (back.agents, named_links(back)) == (len(graph), expected), file.name


def test_numbered_square_matrices_are_matrices_and_lists_are_lists(tmp_path: Path) -> None:
    assert read_graph(written(tmp_path, "m.adj", "0 1 1 0\n1 0 0 1\n1 0 0 0\n0 1 0 0\n")).links.tolist() == [
        [0, 1],
        [0, 2],
        [1, 3],
    ]
    assert read_graph(written(tmp_path, "m.txt", "0 1 0\n1 0 1\n0 1 0\n")).agents == 3
    assert len(read_graph(written(tmp_path, "m.csv", "0,2.5,0\n2.5,0,1\n0,1,0\n")).links) == 2
    assert read_graph(written(tmp_path, "l.txt", "1 2 0.5\n2 3 0.7\n3 1 0.2\n")).names == ("1", "2", "3")
    assert read_quietly(written(tmp_path, "l.txt", "1 2 3\n2 3 1\n3 1 2\n")).names == ("1", "2", "3")
    assert read_graph(written(tmp_path, "l.adj", "0 1 2\n1 0 2\n2 0 1\n")).names == ("0", "1", "2")
    assert read_graph(written(tmp_path, "m.dat", "0 1\n1 0\n"), "matrix").links.tolist() == [[0, 1]]


def test_a_count_of_agents_is_no_agent(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="ring: line 1, '4', is read as the number of agents"):
        ring = read_graph(written(tmp_path, "ring.edges", "4\n0 1\n1 2\n2 3\n3 0\n"))
    assert (ring.agents, len(ring.links)) == (4, 4)
    with pytest.warns(UserWarning, match="line 1, '4 5', is read as the numbers of agents and links"):
        assert len(read_graph(written(tmp_path, "nm.edges", "4 5\n0 1\n1 2\n2 3\n3 0\n0 2\n")).links) == 5
    with pytest.warns(UserWarning, match="'FromNodeId ToNodeId', is read as the names of the columns"):
        assert read_graph(written(tmp_path, "head.edges", "FromNodeId ToNodeId\n1 2\n2 3\n")).agents == 3
    assert read_graph(written(tmp_path, "plain.edges", "1 2\n2 3\n3 1\n")).agents == 3
    with pytest.warns(UserWarning, match="2 components"):
        assert read_graph(written(tmp_path, "alone.edges", "alone\na b\n")).agents == 3


def test_names_with_blanks_are_read_where_tabs_separate_them(tmp_path: Path) -> None:
    graph = read_graph(written(tmp_path, "city.txt", "New York\tChicago\nNew York\tBoston\t1.5\n"))
    assert graph.names == ("Boston", "Chicago", "New York")
    assert read_graph(written(tmp_path, "grid.edges", "(0, 0) (0, 1)\n(0, 1) (1, 1) {}\n")).names[0] == "(0, 0)"


@pytest.mark.parametrize("change", [lambda text: text.replace("\n", "\r\n"), lambda text: "\ufeff" + text, lambda t: t])
def test_line_ends_byte_order_marks_and_gzip_change_nothing(
    tmp_path: Path, change: typing.Callable[[str], str]
) -> None:
    files = {name: text for name, text in {**PLACED, **UNPLACED, **NUMBERED}.items() if isinstance(text, str)}
    for number, (name, text) in enumerate(files.items()):
        (folder := tmp_path / str(number)).mkdir()
        plain = read_quietly(written(folder, name, text))
        packed = written(folder, f"{name}.gz", gzip.compress(change(text).encode()))
        assert read_quietly(packed).digest() == plain.digest(), name


def test_attributes_that_nobody_needs_hold_anything(tmp_path: Path) -> None:
    for kind, value in (("int", "3.0"), ("boolean", " true "), ("vector_float", "1, 2"), ("String", "x")):
        key = f'<key id="k" for="edge" attr.name="v" attr.type="{kind}"/>'
        data = f'<data key="k">{value}</data><data key="none">x</data>'
        graph = read_graph(written(tmp_path, "g.graphml", GRAPHML.format(key + PAIR.format(data))))
        assert graph.names == ("a", "b") and len(graph.links) == 1
    for namespace in ("http://graphml.graphdrawing.org/xmlns/graphml", "http://graphml.graphdrawing.org/xmlns/1.0rc"):
        text = GRAPHML.replace("http://graphml.graphdrawing.org/xmlns", namespace).format(PAIR.format(""))
        assert read_graph(written(tmp_path, "n.graphml", text)).agents == 2


def test_names_are_taken_from_label_or_name_where_they_differ(tmp_path: Path) -> None:
    def named(attribute: str, *names: str) -> tuple[str, ...]:
        nodes = [{"id": i, attribute: name} for i, name in enumerate(names)]
        return read_quietly(written(tmp_path, "g.json", json.dumps({"nodes": nodes, "edges": []}))).names

    assert named("name", "x", "a") == named("label", "x", "a") == ("x", "a")
    assert named("name", "x", "x") == ("0", "1")
    graph = nx.path_graph(2)
    nx.set_node_attributes(graph, {0: "Bern", 1: "Zürich"}, "name")
    nx.write_graphml(graph, tmp_path / "g.graphml")
    assert read_graph(tmp_path / "g.graphml").names == ("Bern", "Zürich")


def test_ids_that_are_numbers_or_text_are_one(tmp_path: Path) -> None:
    text = '{"nodes": [{"id": 1}, {"id": 2}], "links": [{"source": "1", "target": 2}]}'
    assert read_graph(written(tmp_path, "g.json", text)).links.tolist() == [[0, 1]]


def test_a_power_grid_of_pandapower_is_read_with_its_places(tmp_path: Path) -> None:
    def frame(columns: list[str], *rows: list[object]) -> dict[str, str]:
        return {"_object": json.dumps({"columns": columns, "index": list(range(len(rows))), "data": rows})}

    geo = [json.dumps({"coordinates": [i, i + 1], "type": "Point"}) for i in range(4)]
    net = {
        "bus": frame(["name", "geo"], *[[name, geo[i]] for i, name in enumerate("abcd")]),
        "line": frame(["from_bus", "to_bus", "in_service"], [0, 1, True], [1, 2, True], [0, 3, False]),
        "trafo": frame(["hv_bus", "lv_bus", "in_service"], [2, 3, True]),
        "switch": frame(["bus", "element", "et", "closed"], [0, 2, "b", True], [1, 1, "l", False]),
        "name": "small",
    }
    text = json.dumps({"_module": "pandapower.auxiliary", "_class": "pandapowerNet", "_object": net})
    with pytest.warns(UserWarning, match="small: left out 2 elements that are out of service or behind an open switch"):
        graph = read_graph(written(tmp_path, "g.json", text))
    assert named_links(graph) == {frozenset("ab"), frozenset("cd"), frozenset("ac")}
    assert graph.positions is not None and graph.positions[3].tolist() == [3, 4]


ONE_WAY = "without the way back; (list every link from both ends|convert it with networkx)"
REFUSED: list[tuple[str, str | bytes, str]] = [
    (
        "g.csv",
        "station,source,target,ms\nx,station1,,100\n",
        "expected a target, found 'x,station1,,100' in row 2; fill it in",
    ),
    ("g.csv", "source,target,weight\na,b,1\nstation1,,100\n", "expected a target, found 'station1,,100' in row 3"),
    ("g.csv", "source,target\na,b,c\n", "a source and 2 columns in every row, found 'a,b,c' in row 2"),
    ("g.csv", "source,source,target\na,b,c\n", "expected one column source, found 2"),
    ("g.csv", 'source,target\n"a,b\nb,c\n', "well-formed csv, found damage"),
    ("g.csv", "source,target,directed\na,b,true\n", "a directed link in row 2"),
    ("m.csv", "0,1,0\n0,0,1\n1,0,0\n", r"undirected links.*an entry at \(0, 1\) and none at \(1, 0\)"),
    ("m.txt", "x a b\na 0 1\nc 1 0\n", "'a b', 'a b weight' or"),
    ("m.npy", b"", "an empty file"),
    ("g.edges", "5 4\n0 1\n1 2\n2 3\n3 0\n", "'5 4' on line 1, which may be a link or the numbers of agents and links"),
    ("g.edges", "3 2\n2 1\n1 0\n", "which may be a link or the numbers of agents and links; put # before"),
    ("g.edges", "7\n0 1\n1 2\n", "'7' on line 1, which may be an isolated agent or the number of agents"),
    ("g.edges", "head tail\n1 2\n2 3\n", "numbers of agents, as on all other lines, found 'head tail' on line 1"),
    ("g.edges", "1 -> 2\n", "agents separated by blanks, found '1 ->' on line 1"),
    ("g.edges", "1: 2\n", "agents separated by blanks, found '1: 2' on line 1"),
    ("g.edges", "0 1 0\n1 0 1\n0 1 0\n", "expected edgelist, found what looks like matrix; .*format='matrix'"),
    ("g.txt", "A 1\t2\nB 1\t2\n", "one separator, blanks or TABs"),
    ("g.adj", "4\n1 3\n0 2\n1 3\n0 2\n", "'4' on line 1, which looks like a number of agents"),
    ("g.adj", "4 3\n2\n1 3\n2 4\n3\n", "looks like a number of agents; .*format='metis'"),
    ("out.x", "% bip\n1 1\n", "a bipartite network"),
    ("out.x", "% asym\n1 2\n", ONE_WAY),
    ("out.x", "% sym\n% 3 4 4\n1 2\n", "3 links, as the second line says, found 1"),
    ("g.gexf", GEXF.replace("<graph>", '<graph defaultedgetype="directed">'), "undirected links"),
    ("g.gexf", GEXF.replace('target="2"', 'target="5"'), "a link to the undeclared node 5"),
    ("g.xml", SNDLIB.replace("<target>c", "<target>d"), "undeclared node 'd'"),
    ("g.xml", "<network>", "well-formed sndlib, found damage"),
    ("g.xml", "<rss/>", r"well-formed sndlib, found damage \(<rss> at the root\)"),
    ("g.xgmml", XGMML.replace("<graph ", '<graph directed="1" '), "undirected links"),
    (
        "g.graphml",
        '<!DOCTYPE graphml SYSTEM "x.dtd">' + GRAPHML.format(PAIR),
        "found a DOCTYPE or ENTITY .*; remove it$",
    ),
    ("g.gexf", '<!DOCTYPE gexf [<!ENTITY a "b">]>' + GEXF, "found a DOCTYPE or ENTITY .*; remove it$"),
    ("g.graphml", GRAPHML.format(PAIR + PAIR), "expected one graph, found 2"),
    ("g.graphml", GRAPHML.format(PAIR.replace("<edge", "<hyperedge/><edge")), "a hyperedge"),
    ("g.net", PAJEK.replace("3 2\n", ""), ONE_WAY),
    ("g.net", PAJEK + "*Vertices 2\n", "another \\*Vertices on line 11"),
    ("g.net", PAJEK.replace("*Edges\n1 2", "*Edges\n1 4"), "undeclared node 4"),
    ("g.net", PAJEK + "*Partition p\n", "sections of one network, found '\\*Partition'"),
    ("g.xml", FNSS.replace("undirected", "directed"), ONE_WAY),
    ("g.graph", REPETITA.replace("edge_3 2 1", "edge_3 0 1"), ONE_WAY),
    ("g.graph", REPETITA.replace("EDGES 4", "EDGES 5"), "5 edges with three words or more, found 4 lines"),
    ("g.graph", "3 2\n2\n1 3\n", "3 lines of neighbors, as the first line says, found 2"),
    ("g.graph", "3 3\n2\n1 3\n2\n", "3 links, as the first line says, found 2"),
    ("g.graph", "3 2\n2\n3\n2\n", ONE_WAY),
    (
        "g.mtx",
        "%%MatrixMarket matrix coordinate real general\n2 3 1\n1 2 1\n",
        "a square adjacency matrix, found the shape",
    ),
    (
        "g.mtx",
        "%%MatrixMarket matrix coordinate real general\n3 3 1\n1 2 1\n",
        r"an entry at \(1, 2\) and none at \(2, 1\)",
    ),
    ("g.mtx", "%%MatrixMarket matrix coordinate real general\n3 3 9\n1 2 1\n", "well-formed mtx, found damage"),
    ("g.dot", "digraph { a -> b }", "undirected links"),
    ("g.dot", "graph { a -> b }", "an arrow after .*; write graph for digraph and -- for ->"),
    ("g.gml", "directed 1\n" + GML, r"write_graphml\(read_gml\(FILE\).to_undirected\(\), 'graph.graphml'\)"),
    ("g.gexf", "<gexf/>", "expected one graph, found none"),
    ("g.dot", "graph { a -- b", "ends inside"),
    ("g.g6", b"Bw\nBw\n", "2 lines, a graph each"),
    ("g.g6", b"B\n", "well-formed graph6, found damage"),
    ("g.net", PAJEK.replace('"a"', '"a'), "quotes in pairs, found '1 \"a 1 2 0.5'"),
    ("g.edges", 'a "b\n', "quotes in pairs"),
    ("g.sif", "a pp\n", "'a kind b' per line, found 'a pp' on line 1"),
    ("g.json", '{"nodes": [], "nodes": [{"id": 1}], "edges": []}', "every key once in an object, found 'nodes' twice"),
    ("g.json", json.dumps({**GRAPHOLOGY, "options": {"type": "directed"}}), "a directed link from 'a' to 'b'"),
    ("g.json", json.dumps(nx.adjacency_data(nx.path_graph(2, create_using=nx.DiGraph))), "undirected links"),
    ("g.gml", GML[:-2], "the file ends inside a list"),
    ("g.gml", GML.replace("directed 0", "directed 1"), "undirected links"),
    ("g.m", "function mpc = c\nmpc.bus = [ 1 3; 2 1 ];\nmpc.branch = [ 1 5 ];\n", "undeclared node 5"),
    ("g.m", "function mpc = c\n", r"a table mpc.bus = \[ ... \];, found none"),
    ("g.gdf", GDF.replace("1,2\n2,3", "1,2,3"), "2 columns, found '1,2,3' on line 6"),
    ("g.edges.gz", gzip.compress(b"a b\n" * 2000, mtime=0)[:40], "a complete gzip file, found damage"),
    ("g.edges", "a b\nä ö\n".encode("latin-1"), "not text at offset 4, line 2; .*iconv -f latin1 -t utf-8"),
    ("g.xlsx", b"PK\x03\x04", r"found the suffix '.xlsx'; .*in Python: pandas.read_excel\(FILE\).to_csv"),
    ("g.osm", b"<osm/>", r"in Python: osmnx.save_graphml"),
]


@pytest.mark.parametrize(("name", "content", "message"), REFUSED)
def test_what_a_file_says_and_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    file = written(tmp_path, name, content)
    with pytest.raises(ValueError, match=message) as refusal:
        read_quietly(file)
    assert str(refusal.value).startswith(f"{file}: expected ") and "\n" not in str(refusal.value)


@pytest.mark.parametrize("end", ["", "#", " x", "\n"])
def test_the_last_line_of_a_matrix_market_file_may_lack_its_end(tmp_path: Path, end: str) -> None:
    """scipy alone reads past the end of the file and may crash the process."""
    text = "%%MatrixMarket matrix coordinate pattern symmetric\n3 3 2\n2 1\n3 2"
    assert read_graph(written(tmp_path, "g.mtx", text + end)).links.tolist() == [[0, 1], [1, 2]]


def test_self_loops_and_repeated_links_are_said_in_every_format(tmp_path: Path) -> None:
    files = {
        "g.edges": "a b\nb a\na a\n",
        "g.csv": "u,v\na,b\nb,a\na,a\n",
        "g.dot": "graph { a -- b; b -- a; a -- a }",
        "g.net": "*Vertices 2\n*Edges\n1 2\n2 1\n1 1\n",
        "g.json": json.dumps(
            {"nodes": [{"id": 1}, {"id": 2}], "edges": [{"u": 1, "v": 2}, {"u": 2, "v": 1}, {"u": 1, "v": 1}]}
        ),
        "g.xgmml": XGMML.replace("</graph>", '<edge source="2" target="1"/><edge source="1" target="1"/></graph>'),
        "g.gexf": GEXF.replace("</edges>", '<edge source="1" target="0"/><edge source="1" target="1"/></edges>'),
    }
    for name, text in files.items():
        notes = read_quietly(written(tmp_path, name, text)).notes
        assert [note.split(": ", 1)[1].split(" (")[0] for note in notes] == [
            "dropped 1 self-loop",
            "merged 1 repeated link",
        ], name


@pytest.mark.parametrize("name", [*PLACED, *UNPLACED, *NUMBERED])
def test_no_damaged_file_of_any_format_makes_anything_but_a_graph_or_one_line(tmp_path: Path, name: str) -> None:
    raw = {**PLACED, **UNPLACED, **NUMBERED}[name]
    raw = raw.encode() if isinstance(raw, str) else raw
    numbers = random.Random(name)
    for _ in range(40):
        damaged = bytearray(raw[: numbers.randint(0, len(raw))])
        for _ in range(numbers.randint(0, 3) if damaged else 0):
            damaged[numbers.randrange(len(damaged))] = numbers.choice(b'\x00\xff"<>[]{}(),;:*%#-0 9a\n\t')
        file = written(tmp_path, name, bytes(damaged))
        try:
            read_quietly(file)
        except ValueError as refusal:
            assert str(refusal).startswith(f"{file}: expected ") and "\n" not in str(refusal)


LOOK_ALIKES = {
    "a hash before a name": ("g.edges", "alice #ml\nbob alice\n", "may be a link to #ml or a comment; write a table"),
    "floats of pandas": ("g.csv", "source,target\n1,2.0\n2,3.0\n4,\n", "found '2' and '2.0'; write both as whole"),
    "floats in a list": ("g.edges", "1 2.0\n2 3\n", "one spelling of an agent, found '2' and '2.0'"),
    "a gap in words": ("g.csv", "source,target\na,b\nb,nan\n", "found 'nan', which is written for a gap; remove"),
    "a gap of Python": ("g.edges", "a b\nb None\n", "found 'None', which is written for a gap"),
    "lines below": (
        "g.adjlist",
        "0 2\n1\n2\n1 1\n2\n2 0\n",
        "networkx.write_multiline_adjlist writes; convert it with",
    ),
    "gaps of a matrix": ("g.csv", "a,b,c\n0,1,\n1,0,1\n,1,0\n", "every cell of a matrix, found 2 gaps; write 0"),
    "nan in a matrix": ("g.csv", ",a,b\na,0,nan\nb,1,0\n", "every cell of a matrix, found 1 gaps; write 0"),
}


@pytest.mark.parametrize("case", LOOK_ALIKES)
def test_what_others_write_for_a_gap_or_a_comment_is_no_agent(case: str, tmp_path: Path) -> None:
    name, text, message = LOOK_ALIKES[case]
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_graph(tmp_path / name)


def test_names_that_only_look_like_gaps_are_agents(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("source,target\nNA,ZA\nZA,Nan\nNan,1.0\n1.0,2.5\n")
    assert read_graph(tmp_path / "g.csv").names == ("1.0", "2.5", "NA", "Nan", "ZA")
    (tmp_path / "g.adjlist").write_text("0 1\n1\n2 0\n")
    assert read_graph(tmp_path / "g.adjlist").links.tolist() == [[0, 1], [0, 2]]
    (tmp_path / "g.edges").write_text("a b # a link\nb c {'color': '#ff0000'}\n#c d\n")
    assert read_graph(tmp_path / "g.edges").links.tolist() == [[0, 1], [1, 2]]


def test_networkx_nodes_that_are_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="expected nodes with a name, got NaN, as pandas writes a gap"):
        as_graph(nx.Graph([("a", "b"), ("b", float("nan"))]))
