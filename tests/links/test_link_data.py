"""Link data of graph files and networkx graphs: every dialect, its units, and one line for what cannot be read."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

from dist_hdnn.links.read import link_data
from dist_hdnn.links.speed_texts import speed_of_text
from dist_hdnn.links.table import LinkTable
from dist_hdnn.topology import CommunicationGraph, as_graph, read_graph, ring

MBIT = 1e6 / 8
US_PER_KM = 5e-6
OF_ZOO = {
    "Abilene": ("bandwidth of 14 of 14 links from LinkLabel", "latency of 14 of 14"),
    "Arpanet196912": ("bandwidth of 0 of 4 links", "latency of 4 of 4"),
    "AttMpls": ("bandwidth of 0 of 56 links", "latency of 56 of 56"),
    "BtNorthAmerica": ("bandwidth of 0 of 76 links", "latency of 70 of 76"),
    "Cogentco": ("bandwidth of 0 of 243 links", "latency of 212 of 243"),
    "Colt": ("bandwidth of 0 of 177 links", "latency of 164 of 177"),
    "DialtelecomCz": ("bandwidth of 0 of 151 links", "latency of 114 of 151"),
    "Garr201201": ("bandwidth of 65 of 75 links from LinkSpeedRaw, 10 without", "latency of 62 of 75"),
    "Geant2012": ("bandwidth of 39 of 61 links from LinkSpeedRaw, 22 without", "latency of 58 of 61"),
    "Kdl": ("bandwidth of 0 of 895 links", "latency of 819 of 895"),
    "Nsfnet": ("bandwidth of 1 of 15 links from LinkLabel, 14 without", "latency of 15 of 15"),
    "Uunet": ("bandwidth of 77 of 84 links from LinkLabel, 7 without", "latency of 77 of 84"),
}


def quietly(source: Path | nx.Graph, format: str | None = None) -> CommunicationGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return as_graph(source) if isinstance(source, nx.Graph) else read_graph(source, format)


def two(facts: dict[str, Any] | None = None, **attributes: Any) -> tuple[nx.Graph, CommunicationGraph]:
    """Two agents and a link with these attributes."""
    graph = nx.Graph(name="two", **(facts or {}))
    graph.add_edge("a", "b", **attributes)
    return graph, as_graph(graph)


def read_two(facts: dict[str, Any] | None = None, **attributes: Any) -> tuple[LinkTable, list[str]]:
    return link_data(*two(facts, **attributes))


def of_file(folder: Path, name: str, text: str, **options: Any) -> tuple[LinkTable, list[str], CommunicationGraph]:
    file = folder / name
    file.write_text(text)
    graph = quietly(file)
    return *link_data(file, graph, **options), graph


def row(table: LinkTable, graph: CommunicationGraph, one: str, other: str) -> int:
    """The row of the link from one to other."""
    return int(table.find(np.array([graph.index_of(one)]), np.array([graph.index_of(other)]))[0])


# the real networks


@pytest.mark.parametrize("name", OF_ZOO)
def test_every_real_network_has_its_link_data_and_a_coverage_line(shared: Path, name: str) -> None:
    file = shared / "data" / "graphs" / f"{name}.graphml"
    table, lines = link_data(file, quietly(file))
    bandwidth, latency = OF_ZOO[name]
    assert lines[0].startswith(f"{bandwidth}") and f"; {latency} from coordinates (5 µs/km)" in lines[0]
    assert (table.latency > 0).sum() <= 2 * int(latency.split()[2])
    assert np.isfinite(table.bandwidth).sum() == 2 * int(bandwidth.split()[2])
    assert table.latency.max() < 0.1 and not table.loss.any()


def test_bandwidths_of_real_networks_are_those_of_the_file(shared: Path) -> None:
    for name in ("Garr201201", "Geant2012"):
        file = shared / "data" / "graphs" / f"{name}.graphml"
        graph = quietly(file)
        table, _ = link_data(file, graph)
        source = nx.MultiGraph(nx.read_graphml(file, node_type=int))
        for one, other in graph.links.tolist():
            raw = [data.get("LinkSpeedRaw") for data in source.get_edge_data(one, other).values()]
            known = [speed for speed in raw if speed]
            value = table.bandwidth[table.find(np.array([one]), np.array([other]))[0]]
            assert value == (pytest.approx(sum(known) * len(raw) / len(known) / 8) if known else np.inf)


def test_abilene_is_as_far_as_the_earth_is_round(shared: Path) -> None:
    file = shared / "data" / "graphs" / "Abilene.graphml"
    graph = read_graph(file)
    table, _ = link_data(file, graph)
    there, back = (row(table, graph, *pair) for pair in (("New York", "Chicago"), ("Chicago", "New York")))
    assert table.latency[there] == table.latency[back] == pytest.approx(1144 * US_PER_KM, rel=0.005)
    assert table.bandwidth[there] == 192 * 51.84 * MBIT


def test_labels_of_real_networks_that_name_no_speed_are_said(shared: Path) -> None:
    file = shared / "data" / "graphs" / "AttMpls.graphml"
    _, lines = link_data(file, quietly(file))
    assert lines[1:] == ["56 texts of links without bandwidth name no speed, such as 'Completion 2007-2008'"]


# texts


@pytest.mark.parametrize(
    ("text", "mbit"),
    [
        ("45 Mbps DS-3", 45),
        ("OC-192c", 9953.28),
        ("OC12/STM4", 622.08),
        ("STM-64x2", 2 * 9953.28),
        ("T1", 1.544),
        ("internetMCI T3", 44.736),
        ("10-20Gbps", 10_000),
        ("300M-1Gb/s", 300),
        ("Peering, 13 Gbps", 13_000),
        ("Dark Fiber (1-10Gbps)", 1_000),
        ("2x10Gb/s", 20_000),
        ("8*GbE", 8_000),
        ("10 GE", 10_000),
        ("10GEx4", 40_000),
        ("SMfiber/1Gbps (dashed)", 1_000),
        ("10 GB/s", 10_000),
        ("155M", 155),
        ("2.5 G", 2_500),
        ("9600 bit/s", 0.0096),
    ],
)
def test_a_speed_is_found_in_a_text(text: str, mbit: float) -> None:
    assert speed_of_text(text) == pytest.approx(mbit * 1e6)


@pytest.mark.parametrize(
    "text",
    [
        "Completion 2007-2008",
        "Completed",
        "Operational network managed end-to-end",
        "1Q 2003",
        "2012",
        "TAT-14",
        "SeaMeWe-3",
        "72 Lambda ROADM Network",
        "International connectivity to GEANT2",
        "Back-up link via KCN2",
        "4G",
        "< 10 Gbps",
        "less than 100 Mbps",
        "OC3 and below/STM1",
        "N*10Gbit/s",
        "155Mbs/1Gbps",
        "34/45 Mbit/s",
        "4x1 Gbps + 2x STM-1",
        "0 Mbps",
    ],
)
def test_no_speed_is_found_where_there_is_none(text: str) -> None:
    assert speed_of_text(text) is None


# dialects


@pytest.mark.parametrize(
    ("facts", "attributes", "mbit"),
    [
        ({}, {"bandwidth": 1e6}, 1),
        ({}, {"bandwidth": "1Mbps"}, 1),
        ({}, {"bandwidth": "1MBps"}, 8),
        ({}, {"bandwidth": "100 Mb/s"}, 100),
        ({}, {"capacity": "2 Gbit/s"}, 2000),
        ({}, {"capacity": 2, "capacity_unit": "MB/s"}, 16),
        ({"capacity_unit": "Mbps"}, {"capacity": 10}, 10),
        ({"capacity_unit": "Gbps"}, {"capacity": 2.5, "weight": 7}, 2500),
        ({}, {"LinkSpeedRaw": 155e6, "LinkLabel": "155 Mbps"}, 155),
        ({}, {"LinkSpeed": "2.5", "LinkSpeedUnits": "G"}, 2500),
        ({}, {"LinkLabel": "Completion 2007", "LinkType": "OC-48"}, 2488.32),
        ({}, {"bw": 10}, 10),
        ({}, {"rate": "5mbit"}, 5),
        ({"pre_installed_capacity_unit": "155 Mbit/s"}, {"pre_installed_capacity": 2}, 310),
        ({}, {"bandwidth": np.float32(8e6)}, 8),
        ({}, {"bandwidth": float("inf")}, np.inf),
        ({}, {"capacity": None, "bw": 3}, 3),
        ({}, {"bandwidth": "1 Mbit/s", "LinkSpeedRaw": 1e6, "LinkLabel": "9 Gbps"}, 1),
    ],
)
def test_bandwidth_of_every_dialect(facts: dict[str, str], attributes: dict[str, Any], mbit: float) -> None:
    table, lines = read_two(facts, **attributes)
    assert table.bandwidth == pytest.approx([mbit * MBIT] * 2)
    assert lines[0].startswith("bandwidth of 1 of 1 links from ") and len(lines) == 1


@pytest.mark.parametrize(
    ("facts", "attributes", "ms"),
    [
        ({}, {"latency": 0.005}, 5),
        ({}, {"latency": "5ms"}, 5),
        ({}, {"delay": "5ms"}, 5),
        ({"delay_unit": "ms"}, {"delay": 2.5}, 2.5),
        ({"delay_unit": "us"}, {"delay": 2500, "weight": 3}, 2.5),
        ({}, {"delay": "10ms 2ms 25% distribution normal"}, 10),
        ({}, {"dist": 100}, 0.5),
        ({"distance_unit": "Km"}, {"length": 100}, 0.5),
        ({}, {"length": "2500 m"}, 0.0125),
        ({}, {"latency": 0.004, "dist": 100}, 4),
    ],
)
def test_latency_of_every_dialect(facts: dict[str, str], attributes: dict[str, Any], ms: float) -> None:
    table, lines = read_two(facts, **attributes)
    assert table.latency == pytest.approx([ms * 1e-3] * 2)
    assert "latency of 1 of 1 from " in lines[0]


@pytest.mark.parametrize(
    ("attributes", "loss", "burst"),
    [
        ({"loss": 0.1}, 0.1, 1),
        ({"loss": "30 %"}, 0.3, 1),
        ({"loss": "random 3% 25%"}, 0.03, 1),
        ({"loss": "gemodel 1% 19%"}, 0.05, 1 / 0.19),
        ({"loss": 1, "bw": 10}, 0.01, 1),
    ],
)
def test_loss_of_every_dialect(attributes: dict[str, Any], loss: float, burst: float) -> None:
    table, lines = read_two(**attributes)
    assert table.loss == pytest.approx([loss] * 2) and table.burst == pytest.approx([burst] * 2)
    assert "loss of 1 of 1 from loss" in lines[0]


def test_jitter_is_read_alone_and_behind_the_delay() -> None:
    for attributes in ({"jitter": "2ms"}, {"delay": "10ms 2ms"}):
        table, lines = read_two(**attributes)
        assert table.jitter.tolist() == [0.002, 0.002] and "jitter of 1 of 1" in lines[0]


# formats


def test_topohub_node_link_json_gives_distances(tmp_path: Path) -> None:
    nodes = [{"id": i, "name": f"R{i}", "pos": [20 * i, 52]} for i in range(3)]
    links = [{"source": i, "target": i + 1, "dist": 300 * (i + 1), "ecmp_fwd": {"deg": 1}} for i in range(2)]
    data = {"directed": False, "multigraph": False, "graph": {"name": "hub"}, "nodes": nodes, "links": links}
    table, lines, graph = of_file(tmp_path, "hub.json", json.dumps(data))
    assert table.latency[row(table, graph, "R1", "R2")] == pytest.approx(600 * US_PER_KM)
    assert lines == ["bandwidth of 0 of 2 links; latency of 2 of 2 from dist (5 µs/km)"]


FNSS = """<topology linkdefault="{default}"><property name="delay_unit" type="string">milliseconds</property>
<property name="capacity_unit" type="string">Mb</property><node id="0" id.type="int"/><node id="1" id.type="int"/>
<link><from type="int">0</from><to type="int">1</to><property name="delay" type="int">2</property>
<property name="capacity" type="float">10.5</property><property name="weight" type="float">4.0</property></link>
{back}</topology>"""


def test_a_topology_of_fnss_has_its_units_and_directions(tmp_path: Path) -> None:
    table, lines, graph = of_file(tmp_path, "t.xml", FNSS.format(default="undirected", back=""))
    assert table.bandwidth.tolist() == [10.5 * MBIT] * 2 and table.latency == pytest.approx([0.002] * 2)
    assert lines == ["bandwidth of 1 of 1 links from capacity (Mb); latency of 1 of 1 from delay (milliseconds)"]
    back = '<link><from type="int">1</from><to type="int">0</to></link>'
    table, _, graph = of_file(tmp_path, "t.xml", FNSS.format(default="directed", back=back))
    rows = [row(table, graph, "0", "1"), row(table, graph, "1", "0")]
    assert table.bandwidth[rows].tolist() == [10.5 * MBIT, np.inf]


SNDLIB = """<?xml version="1.0"?><network xmlns="http://sndlib.zib.de/network"><meta>{unit}</meta><networkStructure>
<nodes coordinatesType="{kind}"><node id="A"><coordinates><x>0</x><y>0</y></coordinates></node>
<node id="B"><coordinates><x>0</x><y>9</y></coordinates></node></nodes><links><link id="L"><source>A</source>
<target>B</target><preInstalledModule><capacity>40</capacity><cost>0</cost></preInstalledModule></link></links>
</networkStructure></network>"""
NATIVE = """?SNDlib native format; type: network; version: 1.0
META (
  {unit}
)
# <node_id> [(<longitude>, <latitude>)]
NODES (
  A ( 0 0 )
  B ( 0 9 )
)
LINKS (
  L ( A B ) 40.00 0.00 0.00 0.00 ( 155.00 1.00 )
)
"""


@pytest.mark.parametrize(
    ("name", "text", "unit"),
    [("s.xml", SNDLIB, "<unit>MBITPERSEC</unit>"), ("s.txt", NATIVE, "unit = MBITPERSEC")],
)
def test_sndlib_capacities_are_taken_with_a_unit_only(tmp_path: Path, name: str, text: str, unit: str) -> None:
    def of(unit: str, kind: str = "geographical", **options: Any) -> tuple[LinkTable, list[str]]:
        return of_file(tmp_path, name, text.replace("{unit}", unit).replace("{kind}", kind), **options)[:2]

    table, lines = of("")
    assert np.isinf(table.bandwidth).all() and table.latency == pytest.approx([np.pi / 20 * 6371 * US_PER_KM] * 2)
    assert lines[1] == (
        "pre_installed_capacity of 1 of 1 links is not read, as it has no unit; give pre_installed_capacity_unit"
    )
    assert of(unit)[0].bandwidth.tolist() == [40 * MBIT] * 2
    assert of("", units={"pre_installed_capacity": "155 Mbit/s"})[0].bandwidth.tolist() == [40 * 155 * MBIT] * 2
    if text is SNDLIB:
        assert not of("", "pixel")[0].latency.any()


def test_core_options_have_their_units_and_directions(tmp_path: Path) -> None:
    def link(one: int, other: int, options: str) -> str:
        return f'<link node1="{one}" node2="{other}"><options {options}/></link>'

    devices = "".join(
        f'<device id="{i}" name="n{i}"><position x="0" y="0" lat="47.{i}" lon="-122"/></device>' for i in (1, 2, 3)
    )
    links = link(1, 2, 'delay="5000" bandwidth="1000000" loss="1.5" jitter="200" unidirectional="1"') + link(
        2, 1, 'delay="7000" bandwidth="0" loss="0.0" jitter="0" unidirectional="1"'
    )
    links += link(2, 3, 'delay="0" bandwidth="54000000" loss="0.0" jitter="0" unidirectional="0"')
    text = f'<scenario name="c"><devices>{devices}</devices><links>{links}</links></scenario>'
    table, lines, graph = of_file(tmp_path, "c.xml", text)
    there, back = row(table, graph, "n1", "n2"), row(table, graph, "n2", "n1")
    assert [table.latency[there], table.latency[back]] == pytest.approx([0.005, 0.007])
    assert [table.loss[there], table.loss[back], table.jitter[there]] == pytest.approx([0.015, 0, 0.0002])
    assert [table.bandwidth[there], table.bandwidth[back]] == [1 * MBIT, np.inf]
    assert table.latency[row(table, graph, "n2", "n3")] == 0  # of the canvas, which is nowhere
    assert lines[0].startswith("bandwidth of 3 of 4 directed links from bandwidth, 1 without; latency of 2 of 4 ")


def test_repetita_has_kilobits_and_microseconds_per_direction(tmp_path: Path) -> None:
    text = "NODES 2\nlabel x y\na 0 0\nb 1 1\n\nEDGES 2\nlabel src dest weight bw delay\n"
    table, _, graph = of_file(tmp_path, "r.graph", text + "e 0 1 1 1000 1913\ne 1 0 1 2000 1914\n")
    there, back = row(table, graph, "a", "b"), row(table, graph, "b", "a")
    assert table.bandwidth[[there, back]].tolist() == [1 * MBIT, 2 * MBIT]
    assert table.latency[[there, back]] == pytest.approx([1913e-6, 1914e-6])


BODY = "bandwidth of 2 of 2 links (1 from bw (Mbit/s), 1 from capacity)"
FILES = {
    "g.gml": 'graph [ node [ id 0 label "a" ] node [ id 1 label "b" ] node [ id 2 label "c" ] '
    'edge [ source 0 target 1 bw 10 delay "5ms" ] edge [ source 1 target 2 capacity "1 Gbit/s" ] ]',
    "g.dot": 'graph { edge [bw=10]; a -- b [delay="5ms"]; edge [bw=""]; b -- c [capacity="1 Gbit/s"] }',
    "g.csv": "source,target,bw,delay,capacity\na,b,10,5ms,\nb,c,,,1 Gbit/s\n",
    "g.edges": "a b {'bw': 10, 'delay': '5ms'}\nb c {'capacity': '1 Gbit/s'}\n",
    "g.gdf": "nodedef>name\na\nb\nc\nedgedef>node1,node2,bw,delay,capacity\na,b,10,5ms,\nb,c,,,1 Gbit/s\n",
    "g.xgmml": '<graph xmlns="http://www.cs.rpi.edu/XGMML"><node id="a"/><node id="b"/><node id="c"/>'
    '<edge source="a" target="b"><att name="bw" value="10"/><att name="delay" value="5ms"/></edge>'
    '<edge source="b" target="c"><att name="capacity" value="1 Gbit/s"/></edge></graph>',
}


@pytest.mark.parametrize("name", FILES)
def test_attributes_of_links_are_read_from_every_format_that_has_them(tmp_path: Path, name: str) -> None:
    table, lines, graph = of_file(tmp_path, name, FILES[name])
    one, two = row(table, graph, "a", "b"), row(table, graph, "c", "b")
    assert table.bandwidth[[one, two]].tolist() == [10 * MBIT, 1000 * MBIT]
    assert table.latency[[one, two]].tolist() == [0.005, 0]
    assert lines[0].startswith(BODY)


@pytest.mark.parametrize("suffix", ["graphml", "gexf", "gml", "json", "adjacency.json"])
def test_a_file_that_networkx_wrote_says_what_the_graph_says(tmp_path: Path, suffix: str) -> None:
    graph = nx.Graph(name="fnss", capacity_unit="Mbps", delay_unit="ms")
    graph.add_edge("a", "b", capacity=10.0, delay=2.5, weight=3.0)
    graph.add_edge("b", "c", capacity=40.0)
    file = tmp_path / f"g.{suffix.split('.')[-1]}"
    if suffix.endswith("json"):
        convert = nx.adjacency_data if suffix.startswith("adj") else nx.node_link_data
        file.write_text(json.dumps(convert(graph)))
    else:
        getattr(nx, f"write_{suffix}")(graph, file)
    options = {"units": {"capacity": "Mbps", "delay": "ms"}} if suffix in ("gexf", "gml") else {}
    here = quietly(graph)
    one, _ = link_data(graph, here)
    other, lines = link_data(file, quietly(file), **options)
    assert one.bandwidth.tolist() == other.bandwidth.tolist() and np.isfinite(one.bandwidth).all()
    assert one.latency.tolist() == other.latency.tolist()
    assert "from capacity (Mbps)" in lines[0]


# merging


def test_parallel_links_add_up_and_the_nearest_counts() -> None:
    graph = nx.MultiGraph(name="bundle")
    for attributes in (
        {"bw": 10, "latency": "3 ms"},
        {"bw": 30, "latency": "2 ms"},
        {"latency": "4 ms", "loss": "2 %"},
    ):
        graph.add_edge("a", "b", **attributes)
    graph.add_edge("a", "a", bw="not read, as it is a self-loop")
    table, lines = link_data(graph, quietly(graph))
    assert table.bandwidth.tolist() == [60 * MBIT] * 2 and table.latency.tolist() == [0.002] * 2
    assert "1 scaled up from a part of their parallel links" in lines[0]


def test_directions_of_a_directed_graph_have_their_own_values() -> None:
    graph = nx.DiGraph(name="asymmetric")
    graph.add_edge("a", "b", bw=10)
    graph.add_edge("b", "a", bw=1)
    graph.add_edge("b", "c", bw=5)
    here = as_graph(graph.to_undirected())
    table, lines = link_data(graph, here)
    rows = [row(table, here, *pair) for pair in ("ab", "ba", "bc", "cb")]
    assert table.bandwidth[rows].tolist() == [10 * MBIT, MBIT, 5 * MBIT, np.inf]
    assert lines[0].startswith("bandwidth of 3 of 4 directed links from bw (Mbit/s), 1 without")


def test_what_a_source_does_not_say_stays_as_it_was() -> None:
    graph, here = two(bw=10)
    base = LinkTable.perfect(here)
    base.latency[:], base.bandwidth[:] = 0.25, 7.0
    table, _ = link_data(graph, here, onto=base)
    assert table.latency.tolist() == [0.25] * 2 and table.bandwidth.tolist() == [10 * MBIT] * 2
    assert base.bandwidth.tolist() == [7.0] * 2


def test_weights_and_bare_foreign_numbers_are_never_read() -> None:
    table, lines = read_two(weight=5.0, capacity=3, delay=2, length=12, rate=4)
    assert np.isinf(table.bandwidth).all() and not table.latency.any()
    assert [line.split()[0] for line in lines[1:]] == ["capacity", "delay", "length", "rate"]
    assert lines[1] == "capacity of 1 of 1 links is not read, as it has no unit; give capacity_unit"


def test_places_of_a_picture_are_not_places_on_earth() -> None:
    graph, here = two()
    nx.set_node_attributes(graph, {"a": {"x": 1, "y": 2, "pos": (3, 4)}, "b": {"x": 5, "y": 6, "pos": (7, 8)}})
    assert not link_data(graph, here)[0].latency.any()
    nx.set_node_attributes(graph, {"a": {"lon": 0, "lat": 0}, "b": {"lon": 0, "lat": 9}})
    assert link_data(graph, here)[0].latency == pytest.approx([np.pi / 20 * 6371 * US_PER_KM] * 2)


def test_agents_are_found_by_number_in_the_graph_that_to_networkx_returns(tmp_path: Path) -> None:
    here = as_graph(nx.relabel_nodes(nx.path_graph(3), {0: "x", 1: "y", 2: "z"}))
    graph = here.to_networkx()
    graph.edges[0, 1]["bw"] = 4
    table, _ = link_data(graph, here)
    assert table.bandwidth[row(table, here, "y", "x")] == 4 * MBIT


# what is refused


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"latency": "5 ms", "delay": "6 ms"}, "got 0.005 s from latency and 0.006 s from delay. Remove one"),
        ({"bandwidth": "1Mbps", "LinkSpeedRaw": 2e6}, "got 1e+06 bit/s from bandwidth and 2e+06 bit/s from LinkSpeedR"),
        ({"dist": 3, "length": "4 km"}, "got 3 km from dist and 4 km from length"),
        ({"delay": "-5 ms"}, "delay: expected a time"),
        ({"latency": -3}, "latency: expected a time"),
        ({"delay": -3}, "delay: expected a time"),
        ({"delay": "5 parsecs"}, "expected a unit such as s, ms"),
        ({"bandwidth": 0}, "bandwidth: expected a rate above 0"),
        ({"bandwidth": "fast"}, "bandwidth: expected a"),
        ({"capacity": 3, "capacity_unit": "pints"}, "capacity: its unit: expected a unit such as"),
        ({"LinkSpeed": 3, "LinkSpeedUnits": "X"}, "LinkSpeed: its unit: expected a unit such as"),
        ({"rate": "5mbps"}, "bytes to tc and bits to others. Write Mbit/s or MB/s"),
        ({"loss": 1}, "which may be both. Write '1 %'"),
        ({"loss": 1.5}, "loss: expected a probability from 0 to 1, got 1.5. Write '1.5 %'"),
        ({"loss": "120 %"}, "loss: expected a probability from 0 to 1"),
        ({"loss": -0.1}, "loss: expected a probability from 0 to 1"),
        ({"loss": 101, "bw": 1}, "loss: expected a probability from 0 to 1"),
        ({"dist": -3}, "dist: expected a distance in km, m or mi, got '-3'"),
    ],
)
def test_a_value_that_is_none_is_one_line_that_names_the_link(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^two: link 'a' - 'b': .*{re.escape(message)}") as error:
        read_two(**attributes)
    assert "\n" not in str(error.value)


def test_a_unit_on_some_links_only_is_refused() -> None:
    graph = nx.path_graph(["a", "b", "c"])
    graph.edges["a", "b"]["bandwidth"], graph.edges["b", "c"]["bandwidth"] = "10 Mbit/s", 10
    with pytest.raises(ValueError, match=r"link 'b' - 'c': bandwidth: expected a unit, as .* at link 'a' - 'b'"):
        link_data(graph, as_graph(graph))


def test_figures_that_differ_by_less_than_a_percent_agree() -> None:
    assert read_two(latency="5 ms", delay="5.04 ms")[0].latency.tolist() == [0.005] * 2


def test_data_of_other_links_and_other_agents_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "g.csv"
    file.write_text("source,target,bw\n0,2,10\n")
    with pytest.raises(ValueError, match=r"g.csv: expected links of ring\(4\), got link data of '0' - '2', which it"):
        link_data(file, ring(4))
    file.write_text("source,target,bw\n0,Rome,10\n")
    with pytest.raises(ValueError, match=r"g.csv: expected the agents of ring\(4\), got 'Rome', which is none of them"):
        link_data(file, ring(4))
    with pytest.raises(ValueError, match=r"none.csv: expected a graph file, found nothing there"):
        link_data(tmp_path / "none.csv", ring(4))
    with pytest.raises(ValueError, match="units: expected some of bandwidth, .* got 'speed'"):
        link_data(*two(), units={"speed": "Mbit/s"})
