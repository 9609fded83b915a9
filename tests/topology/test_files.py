"""Graph files: all five formats, canonical numbering, the twelve real networks, and one line for every damaged file."""

import json
import random
import warnings
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_hdnn.topology import CommunicationGraph, as_graph, grid, read_graph, ring

NETWORKS = {
    "Abilene": (11, 14),
    "Arpanet196912": (4, 4),
    "AttMpls": (25, 56),
    "BtNorthAmerica": (36, 76),
    "Cogentco": (197, 243),
    "Colt": (153, 177),
    "DialtelecomCz": (193, 151),
    "Garr201201": (61, 75),
    "Geant2012": (40, 61),
    "Kdl": (754, 895),
    "Nsfnet": (13, 15),
    "Uunet": (49, 84),
}
GRAPHML = """<?xml version="1.0" encoding="utf-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph edgedefault="undirected">
<node id="a"/><node id="b"/><edge source="a" target="b"/></graph></graphml>"""
GML = "graph [ node [ id 0 ] node [ id 1 ] edge [ source 0 target 1 ] ]"
JSON = '{"nodes": [{"id": 0}, {"id": 1}], "edges": [{"source": 0, "target": 1}]}'


def written(folder: Path, name: str, text: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def read_quietly(file: Path, format: str | None = None) -> CommunicationGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_graph(file, format)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_real_network_is_read(shared: Path, name: str) -> None:
    graph = read_quietly(shared / "data" / "graphs" / f"{name}.graphml")
    assert (graph.name, graph.agents, len(graph.links)) == (name, *NETWORKS[name])
    reference = nx.Graph(nx.read_graphml(shared / "data" / "graphs" / f"{name}.graphml", node_type=int))
    assert sorted(tuple(sorted(edge)) for edge in reference.edges) == [tuple(link) for link in graph.links.tolist()]
    labels = [reference.nodes[i]["label"] for i in range(graph.agents)]
    assert list(graph.names) == (labels if len(set(labels)) == len(labels) else list(map(str, range(graph.agents))))
    located = [i for i in range(graph.agents) if "Longitude" in reference.nodes[i]]
    places = [[reference.nodes[i]["Longitude"], reference.nodes[i]["Latitude"]] for i in located]
    assert graph.positions is not None and graph.positions[located].tolist() == places


def test_what_was_merged_in_a_real_network_is_said(shared: Path) -> None:
    with pytest.warns(UserWarning, match="Colt: merged 14 repeated links"):
        read_graph(shared / "data" / "graphs" / "Colt.graphml")
    with pytest.warns(UserWarning, match=r"DialtelecomCz: .* 56 components of 138, 1 \(55 times\) agents"):
        read_graph(shared / "data" / "graphs" / "DialtelecomCz.graphml")


@pytest.mark.parametrize("name", ["Abilene", "Colt", "DialtelecomCz"])
def test_every_format_gives_the_same_agents_and_links(shared: Path, tmp_path: Path, name: str) -> None:
    source = nx.read_graphml(shared / "data" / "graphs" / f"{name}.graphml")
    bare = nx.MultiGraph()
    bare.add_nodes_from(source)
    bare.add_edges_from(source.edges())
    nx.write_graphml(bare, tmp_path / "g.graphml")
    nx.write_gml(bare, tmp_path / "g.gml")
    nx.write_adjlist(bare, tmp_path / "g.adj")
    lines = [*(f"{a} {b}" for a, b in bare.edges()), *nx.isolates(bare)]
    written(tmp_path, "g.edges", "\n".join(["# header", *lines, ""]))
    for key in ("edges", "links"):
        written(tmp_path, f"{key}.json", json.dumps(nx.node_link_data(bare, edges=key)))
    digests = {read_quietly(file).digest() for file in sorted(tmp_path.iterdir())}
    assert digests == {_quiet(bare).digest()} and len(list(tmp_path.iterdir())) == 6


def _quiet(graph: nx.Graph) -> CommunicationGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return as_graph(graph)


@given(st.randoms())
@settings(max_examples=20, deadline=None)
def test_the_order_of_lines_in_a_file_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, shuffler: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("shuffled")
    nodes, links = [f"n{i}" for i in range(12)], [(f"n{i}", f"n{i * 5 % 7}") for i in range(12)]
    digests: dict[str, set[str]] = {}
    for attempt in range(2):
        graph = nx.Graph()
        graph.add_nodes_from(nodes)
        graph.add_edges_from(links)
        nx.write_graphml(graph, folder / f"{attempt}.graphml")
        nx.write_gml(graph, folder / f"{attempt}.gml")
        written(folder, f"{attempt}.json", json.dumps(nx.node_link_data(graph, edges="edges")))
        written(folder, f"{attempt}.txt", "\n".join([*(" ".join(link) for link in links), *nodes]))
        for file in folder.glob(f"{attempt}.*"):
            digests.setdefault(file.suffix, set()).add(read_quietly(file).digest())
        shuffler.shuffle(nodes)
        shuffler.shuffle(links)
    assert len(digests) == 4 and all(len(found) == 1 for found in digests.values())


def test_a_graph_json_of_a_run_is_read_back(tmp_path: Path) -> None:
    for graph in (ring(12), grid(11, 3)):
        file = written(tmp_path, "graph.json", json.dumps(graph.to_json()))
        back = read_graph(file)
        assert (back.digest(), back.name) == (graph.digest(), graph.name)
        assert back.to_json() == graph.to_json()


def test_edge_lists_take_comments_weights_attributes_and_isolated_agents(tmp_path: Path) -> None:
    text = "# a comment\n3 1 0.5\n1 2 {'weight': 2, 'kind': 'x'}\n\n10  # alone\n2 3 -1e-3\n"
    with pytest.warns(UserWarning, match="2 components of 3, 1 agents"):
        graph = read_graph(written(tmp_path, "mine.txt", text))
    assert graph.names == ("1", "2", "3", "10")
    assert graph.links.tolist() == [[0, 1], [0, 2], [1, 2]]


def test_a_table_of_links_has_named_columns_among_others(tmp_path: Path) -> None:
    tables = (
        "source,target,weight\nb,a,1.5\na,c d,2\n",
        "Id;Source;Target;Type\r\n1;b;a;Undirected\r\n\r\n2;a;c d;Undirected\r\n",
        '\ufefffrom\tto\n"b"\ta\na\t"c d"\n',
    )
    for number, table in enumerate(tables):
        graph = read_graph(written(tmp_path, f"links{number}.csv", table))
        assert (graph.names, graph.links.tolist()) == (("a", "b", "c d"), [[0, 1], [0, 2]])
    with pytest.warns(UserWarning, match="2 components"):
        assert read_graph(written(tmp_path, "alone.csv", "source,target\na,b\nc,\n")).agents == 3


def test_labels_name_the_agents_only_when_they_are_unique(tmp_path: Path) -> None:
    def gml(*labels: str) -> str:
        nodes = "".join(f'node [ id {10 - i} label "{label}" ]\n' for i, label in enumerate(labels))
        links = "edge [ source 10 target 9 ]\n edge [ source 9 target 10 ]"
        return f'Creator "test"\ngraph\n[\n directed 0\n{nodes} {links} ]'

    with pytest.warns(UserWarning, match="merged 1 repeated link"):
        assert read_graph(written(tmp_path, "unique.gml", gml("x", "a"))).names == ("a", "x")
    with pytest.warns(UserWarning, match="merged 1 repeated link"):
        assert read_graph(written(tmp_path, "twice.gml", gml("x", "x"))).names == ("9", "10")


def test_format_overrides_the_suffix_and_upper_case_suffixes_work(tmp_path: Path) -> None:
    assert read_graph(written(tmp_path, "list", "a b\nb c\n"), format="edgelist").agents == 3
    assert read_graph(written(tmp_path, "list.txt", "a b c\nb a\n"), format="adjlist").links.tolist() == [
        [0, 1],
        [0, 2],
    ]
    assert read_graph(written(tmp_path, "G.GraphML", GRAPHML)).names == ("a", "b")
    assert (
        read_graph(written(tmp_path, "utf16.graphml", GRAPHML.replace("utf-8", "utf-16").encode("utf-16"))).agents == 2
    )


ENTITY = '<!DOCTYPE graphml [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
DIRECTED = GRAPHML.replace("undirected", "directed")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.graphml", "", "expected a graph, found an empty file"),
        ("g.csv", "0,1,1\n1,0,1\n", "a first line that names the columns source and target, found '0,1,1'; add it"),
        ("g.csv", "source,target\na\n", "a source and 2 columns in every row, found 'a' in row 2"),
        ("g.csv", "source,target\n,b\n", "a source and 2 columns in every row, found ',b' in row 2"),
        ("g.csv", "source,target,type\na,b,Directed\n", "undirected links, .* found a directed link in row 2"),
        ("g.csv", "source,target\n" + "a" * 200_000 + ",b\n", "well-formed csv, found damage"),
        ("g.edges", " \n", "found an empty file"),
        ("g.graphml", GRAPHML[:-20], "expected complete, well-formed graphml, found damage"),
        ("g.gml", GML[:-4], "expected complete, well-formed gml, found damage"),
        ("g.json", JSON[:-4], "expected complete, well-formed json, found damage"),
        ("g.graphml", b"\x89PNG\r\n\x1a\n\x00\x00", "expected graphml text, found binary data"),
        ("g.gml", b"\x89PNG\r\n\x1a\n\x00\x00", "found bytes that are not text at offset 0"),
        ("g.edges", b"\x00\x01\x02", "expected edgelist text, found binary data"),
        ("g.gml", GRAPHML, "expected gml, found what looks like graphml; rename it or give format='graphml'"),
        ("g.json", GML, "expected json, found what looks like gml"),
        ("g.edges", JSON, "expected edgelist, found what looks like json"),
        ("g.graphml", "0 1\n", "expected graphml, found text that starts with '0 1'"),
        ("g.graphml", "<html><body/></html>", "expected complete, well-formed graphml, found damage"),
        ("g.gexf", GRAPHML, "expected gexf, found what looks like graphml; rename it or give format='graphml'"),
        (
            "g.gpickle",
            "x",
            r"one of the suffixes \.graphml .*, found the suffix '.gpickle'; .*give format.*write_graphml",
        ),
        ("graph", GRAPHML, "expected one of the suffixes .* found none"),
        ("g.graphml", DIRECTED, r"expected undirected links.* found a directed graph; .*to_undirected\(\)"),
        ("g.graphml", GRAPHML.replace("<edge ", '<edge directed="true" '), "expected undirected links"),
        ("g.gml", GML.replace("[", "[ directed 1 ", 1), "expected undirected links"),
        ("g.json", JSON.replace("{", '{"directed": true, ', 1), "expected undirected links"),
        ("g.graphml", GRAPHML.replace("<graphml", ENTITY + "<graphml"), "found a DOCTYPE or ENTITY declaration"),
        ("g.graphml", GRAPHML.replace('target="b"', 'target="c"'), "found a link to the undeclared node 'c'"),
        ("g.graphml", GRAPHML.replace('id="b"', 'id="a"').replace('target="b"', 'target="a"'), "1 repeated"),
        (
            "g.graphml",
            '<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph/></graphml>',
            "at least one agent",
        ),
        ("g.gml", "graph [ ]", "expected at least one agent, found a graph without nodes"),
        ("g.gml", GML.replace("target 1", "target 7"), "damage .*undefined target 7"),
        ("g.json", '{"nodes": [], "edges": []}', "expected at least one agent"),
        ("g.json", "[1, 2]", "expected node-link json, .* found a list"),
        ("g.json", '{"elements": 1}', "expected node-link json, .* found the keys elements"),
        ("g.json", '{"nodes": [1], "links": []}', "expected complete, well-formed json, found damage"),
        ("g.json", JSON.replace('"target": 1', '"target": 5'), "found a link to the undeclared node 5"),
        ("g.json", JSON.replace('"target": 1', '"to": 1'), "found damage .*target"),
        ("g.json", JSON.replace('{"id": 1}', '{"id": 0}').replace('"target": 1', '"target": 0'), "1 repeated"),
        ("g.edges", "# only a comment\n", "expected at least one agent"),
        ("g.edges", "a b\nb c d e\n", "found 'b c d e' on line 2; .*format='adjlist'"),
        ("g.edges", "a b heavy\n", "expected 'a b', 'a b weight' or 'a b {...}' per line, found 'a b heavy' on line 1"),
        ("g.txt", "a,b\n", "expected agents separated by blanks, found 'a,b' on line 1"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line_naming_it(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    file = written(tmp_path, name, content)
    with pytest.raises(ValueError, match=message) as refusal:
        read_quietly(file)
    assert str(refusal.value).startswith(f"{file}: expected ") and "\n" not in str(refusal.value)


def test_missing_files_directories_unknown_formats_and_huge_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere.gml: expected a graph file, found nothing there; check the path"):
        read_graph(tmp_path / "nowhere.gml")
    (tmp_path / "folder.gml").mkdir()
    with pytest.raises(ValueError, match="folder.gml: expected a file, found a directory"):
        read_graph(tmp_path / "folder.gml")
    with pytest.raises(ValueError, match="found 'graphm'; did you mean 'graphml'"):
        read_graph(tmp_path / "g.gml", format="graphm")
    with (tmp_path / "huge.edges").open("wb") as huge:
        huge.truncate(300 * 2**20)
    with pytest.raises(ValueError, match="expected at most 256 MiB, found 300 MiB"):
        read_graph(tmp_path / "huge.edges")


@pytest.mark.parametrize(("name", "text"), [("g.graphml", GRAPHML), ("g.gml", GML), ("g.json", JSON)])
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_no_cut_or_overwritten_file_makes_anything_but_a_graph_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, name: str, text: str, data: st.DataObject
) -> None:
    raw = bytearray(text.encode())
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=3)):
        raw[place] = value
    cut = data.draw(st.integers(0, len(raw)))
    file = written(tmp_path_factory.mktemp("damaged"), name, bytes(raw[:cut]))
    try:
        read_quietly(file)
    except ValueError as refusal:
        assert str(file) in str(refusal) and "\n" not in str(refusal)


def test_numbers_inside_names_are_numbers_in_the_order_of_agents(tmp_path: Path) -> None:
    names = ["station10", "station2", "station1", "b", "r10c1", "r1c10", "r1c2"]
    read = read_quietly(written(tmp_path, "g.edges", "\n".join(names)))
    assert read.names == ("b", "r1c2", "r1c10", "r10c1", "station1", "station2", "station10")
    assert _quiet(nx.empty_graph(["a1", "a01", "a"], nx.Graph)).names == ("a", "a01", "a1")
