"""Agents as processes: what they answer over sockets is what the network computes, with and without losses."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dist_hdnn
from dist_hdnn.cli import main
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import tasks
from dist_hdnn.experiment.emulation import emulate_run
from dist_hdnn.exporting.agent import HEADER
from dist_hdnn.exporting.emulation import Plan
from dist_hdnn.exporting.fates import delays_of
from dist_hdnn.exporting.processes import Processes, obstacle
from dist_hdnn.exporting.runtime import Manner, export_runtime, program
from dist_hdnn.launching.launcher import environment_of_runs
from dist_hdnn.links.fates import Round
from dist_hdnn.links.model import Links
from dist_hdnn.links.table import LinkTable

CONFIG = """
graph: {family: ring, agents: 4}
network: {width: 2, layers: 2, step: 0.5}
data: {name: swiss_roll, samples: 200}
sensors:
  - {feature: 0, agent: 0, half: q}
  - {feature: 1, agent: 2, half: p}
train: {epochs: 2}
plots: false
"""
ROUNDS, MESSAGES = 8, 64  # 2 layers of 2 updates, each a gather and a reply, over 4 links both ways
pytestmark = pytest.mark.processes


def trained(folder: Path, name: str, *options: str) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(CONFIG, encoding="utf-8")
    config = read_config(str(file), [f"--output={folder / name}", *options])
    directory = tasks.train(config)
    assert directory is not None
    return directory


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs"), "ring")


def emulated(run: Path, plan: Plan, *links: str, deadline: float = 0.5, protocol: Any = "udp") -> dict[str, Any]:
    """Emulate a run, once more with longer deadlines where the machine is too busy for all the processes."""
    overrides = [f"--links.{each}" for each in links]
    figures = emulate_run(run, plan, overrides, protocol, deadline)
    return emulate_run(run, plan, overrides, protocol, 5 * deadline) if figures["late"] else figures


def gaps(figures: dict[str, Any]) -> tuple[float, float]:
    """The largest difference of the processes to the lab and to the virtual clock."""
    each = figures["largest_difference_of_emulated"]
    return each["lab"], each["clock"]


def test_processes_answer_as_the_network_does_and_send_what_the_ledger_counts(ring: Path) -> None:
    figures = emulated(ring, Plan(samples=6))
    assert figures["rounds"] == ROUNDS and figures["late"] == 0
    assert max(figures["largest_difference_of_emulated"].values()) <= 1e-6
    accuracy, sent = figures["accuracy"], figures["bytes"]
    assert accuracy["network"] == accuracy["lab"] == accuracy["emulated"]
    assert figures["messages"]["emulated"] == figures["messages"]["ledger"] == MESSAGES
    assert sent["emulated"] == sent["ledger"] + HEADER.size * MESSAGES and sent["ledger"] == 4 * MESSAGES
    assert json.loads((ring / "emulation.json").read_text()) == figures


def test_losses_are_the_same_every_time_and_those_of_the_lab(ring: Path) -> None:
    plan, links = Plan(samples=8), ("loss=0.2", "latency=2ms", "jitter=1ms", "seed=3")
    first, second = (emulated(ring, plan, *links, deadline=0.06) for _ in range(2))
    for figures in (first, second):
        assert figures["late"] == 0
        assert figures["filled"]["emulated"] == figures["filled"]["clock"] > 0.2 * MESSAGES
        assert figures["messages"]["emulated"] == figures["messages"]["clock"] < MESSAGES
        assert figures["messages"]["emulated"] + figures["messages"]["withheld"] == MESSAGES
        assert max(gaps(figures)) <= 1e-6 < figures["largest_difference_of_emulated"]["network"]
        assert figures["seconds"]["emulated"]["most"] <= 1.5 * ROUNDS * figures["deadline"]
    assert first["accuracy"] == second["accuracy"]


def test_the_others_answer_on_when_an_agent_dies(ring: Path) -> None:
    figures = emulated(ring, Plan(samples=12, kill=1), deadline=0.05)
    killed = figures["killed"]
    assert killed["agent"] == "1" and killed["answers_missing"] == 0
    assert killed["slowest_answer"] <= killed["deadline_of_a_sample"] + 1.0
    assert figures["largest_difference_of_emulated"]["clock"] <= 1e-6


def test_a_network_that_the_lab_cannot_impair_is_emulated_all_the_same(tmp_path: Path) -> None:
    run = trained(tmp_path, "other", "--readout.kind=gossip", "--readout.rounds=2", "--network.architecture=MS1")
    figures = emulated(run, Plan(samples=6), "loss=0.1", deadline=0.1, protocol="tcp")
    assert "expected an architecture" in figures["no_lab"] and "lab" not in figures["accuracy"]
    assert figures["filled"]["emulated"] == figures["filled"]["clock"] > 0
    assert figures["largest_difference_of_emulated"]["clock"] <= 1e-6


@pytest.mark.parametrize(
    "links",
    [
        ("fill=hold", "pair=none", "burst=3"),
        ("fill=own", "pair=exchange", "outage=0.1"),
        ("fill=predict", "bandwidth=1 Mbit/s"),
    ],
    ids=lambda links: " ".join(links),
)
def test_all_fills_and_pairings_are_those_of_the_lab(links: tuple[str, ...], tmp_path: Path) -> None:
    run = trained(tmp_path, "other", "--readout.kind=local", "--dtype=float64", "--network.layers=3")
    figures = emulated(run, Plan(samples=4), "loss=0.2", *links, deadline=0.04)
    assert figures["filled"]["emulated"] == figures["filled"]["clock"] > 0
    assert max(gaps(figures)) <= 1e-12


def test_layers_that_take_turns_on_graphs_reach_the_neighbors_of_each(tmp_path: Path) -> None:
    graphs = ("--more_graphs=[{family: star, agents: 4}]", "--network.X.kind=neighbours", "--network.shared_x=false")
    assert emulated(trained(tmp_path, "two", *graphs), Plan(samples=2))["largest_difference_of_emulated"]["lab"] <= 1e-6


def test_a_host_for_every_agent_reaches_its_neighbours_alone(ring: Path) -> None:
    if reason := obstacle():
        pytest.skip(reason)
    assert max(gaps(emulated(ring, Plan(samples=2, namespaces=True)))) <= 1e-6


def test_one_question_wakes_agents_whose_readings_stand(ring: Path, tmp_path: Path) -> None:
    run = dist_hdnn.load_run(ring)
    folder = export_runtime(run, tmp_path / "field", Manner(deadline=0.5), first_port=None)
    readings = {name: value for name, value in zip(run.features, (0.4, -0.3), strict=True)}
    with Processes(folder, range(4), environment_of_runs(1)) as agents:
        for agent in (1, 2, 3):
            agents.tell(agent, {"readings": readings})
        agents.tell(0, {"sample": 0, "readings": readings})
        lines = dict(agents.next(10.0) for _ in range(4))
    assert {line["sample"] for line in lines.values()} == {0} and sum(line["filled"] for line in lines.values()) == 0
    total = np.sum([line["scores"] for line in lines.values()], axis=0)
    expected = run(torch.tensor([[0.4, -0.3]], dtype=torch.float64))[0].double().numpy()
    assert np.abs(total - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_program_of_an_agent_is_one_file_that_needs_numpy_alone(ring: Path, tmp_path: Path) -> None:
    assert main(["export", str(ring), "--runtime", f"--output={tmp_path / 'field'}", "--deadline=20 ms"]) == 0
    own = tmp_path / "field" / "3"
    assert {file.name for file in own.iterdir()} == {"3.json", "3.npz", "agent.py", "neighbors.json"}
    place = json.loads((own / "neighbors.json").read_text())
    assert place["neighbors"].keys() == {"0", "2"} and place["deadline"] == 0.02
    text = (own / "agent.py").read_text()
    assert text == program()
    nodes = list(ast.walk(ast.parse(text)))
    used = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    used |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert {name.split(".")[0] for name in used} - sys.stdlib_module_names == {"numpy"}


def test_agents_that_would_need_relays_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="needs a relay"):
        run = trained(tmp_path, "far", "--network.K.kind=hops", "--network.K.hops=2", "--graph.agents=6")
        with pytest.raises(ValueError, match=r"couples 0 with agent 2, which no link joins"):
            export_runtime(dist_hdnn.load_run(run), tmp_path / "field", Manner())
    assert not list(tmp_path.glob("field*"))


def test_losses_of_a_link_depend_on_its_key_alone() -> None:
    graph, rounds = dist_hdnn.ring(4), [Round(layer, update) for layer in range(25) for update in range(2)]

    def delays(loss: float, samples: int, rounds: list[Round]) -> np.ndarray:
        table = LinkTable.perfect(graph)
        table.loss[:], table.latency[:] = loss, 0.01
        return delays_of(Links(table, 4, seed=7), None, rounds, samples)[1, 2]

    whole = delays(0.3, 400, rounds)
    assert np.array_equal(delays(0.3, 10, rounds[:7]), whole[:10, :7])
    assert abs(np.isinf(whole).mean() - 0.3) < 0.01 and set(whole[np.isfinite(whole)]) == {0.01}
    assert np.isinf(delays(0.5, 400, rounds)[np.isinf(whole)]).all(), "what is lost at 30 % is lost at 50 %"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["emulate", "RUN", "--loss=1.5"], "links.loss: expected a probability from 0 to 1"),
        (["emulate", "RUN", "--latency=-5ms"], "links.latency: expected a time"),
        (["emulate", "RUN", "--kill=Athens"], "emulate: --kill"),
        (["emulate", "RUN", "--fill=mean"], "links.fill: expected one of"),
        (["emulate", "RUN", "--deadline=0"], "--deadline: expected a time above 0 seconds"),
        (["emulate", "RUN", "--links.bits=8"], "expected links without bits, which agents cannot emulate"),
        (["emulate", "RUN", "--train.epochs=8"], "expected options of links, such as --links.loss=0.1"),
        (["export", "RUN", "--deadline=1"], "expected --deadline with --runtime only"),
        (["export", "RUN", "--runtime", "--agents=none"], "got --agents=none"),
    ],
)
def test_bad_words_are_refused_in_one_line(
    words: list[str], message: str, ring: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(ring) if word == "RUN" else word for word in words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
