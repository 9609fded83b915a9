"""The table of directed links: its rows, how they are found, and what options and rules make of it."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from networks import GRAPHS, quiet_graph

from dist_hdnn.build.links import build_links
from dist_hdnn.config import Config
from dist_hdnn.config.links import LinkRule, LinksConfig
from dist_hdnn.links.table import LinkTable
from dist_hdnn.topology import CommunicationGraph, as_graph


@pytest.mark.parametrize("name", GRAPHS)
def test_every_link_has_a_row_for_each_direction_sorted_by_receiver_and_sender(name: str) -> None:
    graph = quiet_graph(name)
    table = LinkTable.perfect(graph)
    there = {(int(i), int(j)) for i, j in graph.links}
    rows = list(zip(table.receiver.tolist(), table.sender.tolist(), strict=True))
    assert rows == sorted(there | {(j, i) for i, j in there}) and len(table) == 2 * len(graph.links)
    assert (table.find(table.sender, table.receiver) == np.arange(len(table))).all()


def test_a_link_that_the_graph_does_not_have_is_not_found() -> None:
    table = LinkTable.perfect(as_graph(nx.path_graph(4)))
    for sender, receiver in ((0, 2), (3, 0), (1, 1), (0, 9), (9, 0)):
        with pytest.raises(KeyError) as error:
            table.find(np.array([0, sender]), np.array([1, receiver]))
        assert error.value.args == ((sender, receiver),)
    empty = LinkTable.perfect(quiet_graph("two strangers"))
    assert len(empty) == 0 and len(empty.find(np.zeros(0, int), np.zeros(0, int))) == 0
    with pytest.raises(KeyError):
        empty.find(np.array([0]), np.array([1]))


def test_rows_that_are_taken_keep_their_columns() -> None:
    table = LinkTable.perfect(as_graph(nx.cycle_graph(5)))
    table.loss[:] = np.arange(len(table)) / 100
    part = table.taken(np.array([7, 2]))
    assert part.loss.tolist() == [0.07, 0.02] and part.sender.tolist() == table.sender[[7, 2]].tolist()


def table_of(options: LinksConfig, graph: CommunicationGraph) -> LinkTable:
    links = build_links(Config(links=options), graph)
    assert links is not None
    return links.table


def columns(table: LinkTable, name: str) -> dict[tuple[int, int], float]:
    values = getattr(table, name).tolist()
    return dict(zip(zip(table.sender.tolist(), table.receiver.tolist(), strict=True), values, strict=True))


def test_of_several_rules_the_last_one_that_names_a_property_wins() -> None:
    options = LinksConfig(
        loss="10 %",
        latency="5 ms",
        rules=[
            LinkRule(agents=[0], loss=0.2, delay=1),
            LinkRule(between=[0, 1], loss=0.3),
            LinkRule(between=[1, 0], one_way=True, bits=4),
            LinkRule(agents=[0, 2], bandwidth="8 Mbit/s"),
        ],
    )
    table = table_of(options, as_graph(nx.path_graph(4)))
    loss = columns(table, "loss")
    assert loss == {(0, 1): 0.3, (1, 0): 0.3, (1, 2): 0.1, (2, 1): 0.1, (2, 3): 0.1, (3, 2): 0.1}
    assert set(columns(table, "latency").values()) == {5e-3}
    assert columns(table, "bits") == {link: 4 if link == (1, 0) else 0 for link in loss}
    assert columns(table, "delay_most")[0, 1] == 1 and columns(table, "delay_most")[1, 2] == 0
    assert set(columns(table, "bandwidth").values()) == {1e6}  # every link ends at 0 or 2


def test_agents_may_be_given_by_name() -> None:
    graph = as_graph(nx.Graph([("hub", "north"), ("hub", "south")]))
    loss = columns(table_of(LinksConfig(rules=[LinkRule(agents=["north"], loss=0.5)]), graph), "loss")
    north = list(graph.names).index("north")
    assert {link for link, value in loss.items() if value} == {link for link in loss if north in link}
