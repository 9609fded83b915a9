"""What users get wrong with links ends a run with code 2 and one line, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from links.oracle import over, table_of
from networks import GRAPHS

import dist_hdnn
from dist_hdnn.build.links import build_links
from dist_hdnn.cli import main
from dist_hdnn.config import Config
from dist_hdnn.config.links import LinkRule, LinksConfig
from dist_hdnn.links.model import Links
from dist_hdnn.topology import as_graph

CONFIG = Path(__file__).parents[2] / "configs" / "swiss_roll_ring8.yaml"
LINES: dict[str, tuple[str, str]] = {
    "loss above 1": ("--links.loss=1.5", "links.loss: expected a probability from 0 to 1, got 1.5. Write '1.5 %'"),
    "loss below 0": ("--links.loss=-0.1", "links.loss: expected a probability from 0 to 1, or as '30 %', got -0.1"),
    "loss in percent": ("--links.loss=130 %", "links.loss: expected a probability from 0 to 1, got 130 %"),
    "loss of a rule": ("--links.rules=[{loss: 2}]", "links.rules[0].loss: expected a probability from 0 to 1, got 2"),
    "delay": ("--links.delay=-1", "links.delay: expected layers >= 0, or [least, most] of them, got -1"),
    "delays": ("--links.delay=[2,1]", "links.delay: expected layers >= 0, or [least, most] of them, got [2, 1]"),
    "delays of three": ("--links.delay=[0,1,2]", "links.delay: expected layers >= 0, or [least, most] of them"),
    "no unit": ("--links.latency=5 parsecs", "links.latency: expected a unit such as s, ms, "),
    "unit of another": ("--links.bandwidth=5 ms", "got 'ms' in '5 ms'"),
    "latency": ("--links.latency=-1", "links.latency: expected a time, in seconds or as '5 ms', got -1"),
    "bandwidth": ("--links.bandwidth=0", "links.bandwidth: expected a rate above 0"),
    "no bits": ("--links.bits=0", "links.bits: expected 1 to 32 bits per value, got 0"),
    "too many bits": ("--links.bits=33", "links.bits: expected 1 to 32 bits per value, got 33"),
    "bits back": ("--links.bits_back=64", "links.bits_back: expected 1 to 32 bits per value, got 64"),
    "burst": ("--links.burst=0.5", "links.burst: expected a mean number of layers >= 1, got 0.5"),
    "outage": ("--links.outage=x", "links.outage: expected a probability from 0 to 1"),
    "agent outage": ("--links.agent_outage=7", "links.agent_outage: expected a probability from 0 to 1, got 7"),
    "failout": ("--links.failout=-1", "links.failout: expected a probability from 0 to 1"),
    "fill": ("--links.fill=last", "links.fill: expected"),
    "pair": ("--links.pair=all", "links.pair: expected"),
    "dead": ("--links.dead=[9]", "links.dead: "),
    "unknown agent": ("--links.rules=[{agents: [12], loss: 1}]", "links.rules[0].agents: "),
    "unknown name": ("--links.rules=[{between: [0, nobody], loss: 1}]", "links.rules[0].between: "),
    "no link": (
        "--links.rules=[{between: [0, 3], loss: 1}]",
        "expected two linked agents, got 0 and 3, which no link of",
    ),
    "three ends": (
        "--links.rules=[{between: [0, 1, 2], loss: 1}]",
        "links.rules[0].between: expected two agents, got 3",
    ),
    "key": ("--links.rules=[{losses: 1}]", "losses"),
    "strengths": ('--links.loss=0.1 --links.strengths={"start":1}', "links.strengths: expected gradient steps"),
    "strength": (
        '--links.loss=0.1 --links.strengths={"0":-1}',
        "links.strengths: expected gradient steps and factors from 0 to 1",
    ),
    "strength above 1": ("--links.strengths={0: 4.0}", "expected gradient steps and factors from 0 to 1, got 0: 4"),
    "one way": ("--links.rules=[{agents: [1], one_way: true, loss: 0.1}]", "links.rules[0].one_way: expected between"),
    "a rule of nothing": ("--links.rules=[{agents: [1]}]", "links.rules[0]: expected a property such as loss"),
    "seed": ("--links.loss=0.1 --links.seed=-1", "links.seed: expected an integer from 0"),
    "delay reversible": ("--links.delay=1 --network.memory=reversible", "network.memory: expected store with delays"),
    "hold recompute": (
        "--links.loss=0.1 --links.fill=hold --network.memory=recompute",
        "network.memory: expected store",
    ),
    "bits reversible": (
        "--links.bits=4 --network.memory=reversible",
        "network.memory: expected store or recompute with few bits",
    ),
    "independent": ("--links.delay=1 --links.backward=independent", "links.backward: expected matched with the fills"),
    "architecture": ("--links.loss=0.1 --network.architecture=MS1", "expected an architecture whose force is K"),
    "X": ("--links.loss=0.1 --network.X.kind=neighbours", "links: expected an interconnection within agents"),
    "graphs": ("--links.loss=0.1 --more_graphs=[{family: ring, agents: 8}]", "links: expected one graph, got 2"),
    "dense": ("--links.loss=0.1 --network.K.kind=dense", "links: expected a pattern that couples linked agents only"),
    "own": ("--links.loss=0.1 --links.fill=own --network.width={'0':4,'1':2,'2':2,'3':2,'4':2,'5':2,'6':2,'7':2}", ""),
    "recording": ("--links.loss=0.1 --cuda_graphs=true", "cuda_graphs: expected false with impaired links"),
}


@pytest.mark.filterwarnings("ignore:pattern")
@pytest.mark.parametrize("name", LINES)
def test_bad_options_end_with_code_2_and_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, message = LINES[name]
    words = [f"--{word.strip()}" for word in options.split("--") if word]
    assert main(["train", str(CONFIG), f"--output={tmp_path / 'run'}", *words]) == 2
    captured = capsys.readouterr()
    complaints = [line for line in captured.err.splitlines() if not line.startswith("warning:")]
    assert len(complaints) == 1 and message in complaints[0] and complaints[0].startswith("dist-hdnn: error: "), (
        captured.err
    )
    assert not (tmp_path / "run").exists()


def test_a_rule_that_meets_no_link_is_named_in_a_warning() -> None:
    lonely = nx.Graph([(0, 1)])
    lonely.add_node(2)
    with pytest.warns(UserWarning, match="disconnected"):
        graph = as_graph(lonely)
    options = LinksConfig(rules=[LinkRule(loss=0.1), LinkRule(agents=[2], loss=0.5)])
    with pytest.warns(UserWarning, match=r"links\.rules\[1\]: expected to meet some link, got none") as caught:
        build_links(Config(links=options), graph)
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"burst": 3.0}, "links.burst has no effect without losses; set links.loss"),
        ({"rounding": "stochastic", "loss": 0.1}, "links.rounding has no effect without few bits"),
        ({"units": {"capacity": "Mbit/s"}, "loss": 0.1}, "links.units has no effect without a file that is read"),
    ],
)
def test_options_that_change_nothing_are_named_in_a_warning(options: Any, message: str) -> None:
    with pytest.warns(UserWarning, match=message) as caught:
        build_links(Config(links=LinksConfig(**options)), as_graph(GRAPHS["ring"]))
    assert len(caught) == 1


def test_what_is_no_table_is_refused_in_one_line() -> None:
    table: Any = table_of(as_graph(GRAPHS["ring"]))
    for value in (0.3, [0.3] * 16, torch.zeros(16), np.zeros(3)):
        table.loss = value
        with pytest.raises(ValueError, match=r"links: loss: expected an array of 16 links, got .*table\.loss\[:\]"):
            Links(table, 8)
    with pytest.raises(ValueError, match="links: expected a LinkTable, got dict"):
        Links({"loss": 0.3}, 8)  # type: ignore[arg-type]


def test_a_rule_for_no_agents_meets_no_link() -> None:
    options = LinksConfig(rules=[LinkRule(agents=[], loss=0.5)])
    with pytest.warns(UserWarning, match=r"links\.rules\[0\]: expected to meet some link, got none"):
        links = build_links(Config(links=options), as_graph(GRAPHS["ring"]))
    assert links is not None and not links.impairs


@pytest.mark.parametrize(
    ("columns", "links", "message"),
    [
        ({"latency": -1.0}, {}, "latency: expected seconds >= 0"),
        ({"jitter": float("nan")}, {}, "jitter: expected seconds >= 0"),
        ({"bandwidth": 0.0}, {}, "bandwidth: expected bytes per second > 0"),
        ({}, {"strengths": {0: float("nan")}}, "strengths: expected factors from 0 to 1"),
        ({"loss": 1.5}, {}, "loss: expected probabilities from 0 to 1"),
        ({"loss": float("nan")}, {}, "loss: expected probabilities from 0 to 1"),
        ({"outage": -0.1}, {}, "outage: expected probabilities from 0 to 1"),
        ({"burst": 0.5}, {}, "burst: expected mean numbers of layers >= 1"),
        ({"bits": 33}, {}, "bits: expected 0 to 32"),
        ({"bits_back": -1}, {}, "bits_back: expected 0 to 32"),
        ({"delay_least": -1}, {}, "delay: expected"),
        ({}, {"failout": 2.0}, "failout: expected a probability from 0 to 1"),
        ({}, {"agent_outage": np.ones(3)}, "agent_outage: expected 8 probabilities from 0 to 1"),
        ({}, {"dead": (8,)}, "dead: expected agents from 0 to 7"),
        ({}, {"fill": "last"}, "links.fill: expected one of zero, own, hold, predict"),
        ({}, {"seed": -1}, "links.seed: expected an integer from 0"),
    ],
)
def test_bad_values_in_python_are_refused_in_one_line(columns: Any, links: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Links(table_of(as_graph(GRAPHS["ring"]), **columns), 8, **links)
    assert "\n" not in str(error.value)


def test_links_of_another_graph_are_refused() -> None:
    links = Links(table_of(as_graph(GRAPHS["ring"]), loss=0.1), 8)
    with pytest.raises(ValueError, match="links: expected those of 12 agents, got those of 8"):
        dist_hdnn.HDNN(GRAPHS["grid"], links=links)
    more = Links(table_of(as_graph(nx.complete_graph(8)), loss=0.1), 8)
    with pytest.raises(ValueError, match="links: expected the links of the graph, got a table of others"):
        dist_hdnn.HDNN(GRAPHS["ring"], links=more)


@pytest.mark.parametrize("query", ["inverse", "linearize", "fields"])
def test_what_needs_one_state_alone_is_refused_over_links_that_remember(query: str) -> None:
    net = over(GRAPHS["ring"], {"loss": 0.1}, {"fill": "hold"}, layers=2)
    state: Any = torch.zeros(1, net.neurons, dtype=torch.float64)
    with pytest.raises(ValueError, match=f"{query}: expected links without delays and fills that remember"):
        getattr(net, query)([state] * 3 if query == "fields" else state)


def test_impaired_links_need_the_cpu() -> None:
    net = over(GRAPHS["ring"], {"loss": 0.1}, {}, layers=1)
    with pytest.raises(ValueError, match="device: expected cpu with impaired links, got meta"):
        net.to("meta")(torch.zeros(1, net.neurons, dtype=torch.float64, device="meta"))
