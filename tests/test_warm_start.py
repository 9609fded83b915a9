"""A run that starts from another one's weights keeps what both networks have, by the names of the agents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor

from dist_hdnn.build import assembly, warm_start
from dist_hdnn.cli import main
from dist_hdnn.config import Config
from dist_hdnn.config.files import read_config, self_contained, to_yaml
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.topology.ragged import offsets
from dist_hdnn.training.checkpoints.weights_file import CheckpointError, save_weights
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.transport import Transport, run_threads

SMALL = ["--data.samples=40", "--network.layers=2", "--train.batch_size=10", "--train.epochs=1", "--plots=false"]
WIDE = ["--dtype=float64", "--readout.kind=local", *SMALL]
OLD = nx.relabel_nodes(nx.cycle_graph(5), dict(enumerate("bdfhj")))
NEW = nx.Graph([("j", "h"), ("h", "f"), ("f", "a"), ("a", "d"), ("d", "j"), ("f", "j")])  # b went, a came, links moved
ARCHITECTURES = {
    "hamiltonian": [],
    "X": ["--network.X.kind=neighbours"],
    "skew K": ["--network.architecture=antisymmetric"],
    "skew J": ["--network.architecture=H1", "--network.J=trained", "--network.X.kind=neighbours"],
    "two graphs": [],
}


def config_on(graph: nx.Graph, folder: Path, *options: str) -> Config:
    folder.mkdir(exist_ok=True)
    nx.write_graphml(graph, folder / "graph.graphml")
    return read_config(None, [*WIDE, f"--graph.file={folder / 'graph.graphml'}", *options])


def finished_run(config: Config, run: Path) -> AgentClassifier:
    """What a run of this config leaves, with weights that nobody draws; its model."""
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text(to_yaml(self_contained(config)))
    (run / "summary.json").write_text('{"status": "done"}')
    model = assembly.build_classifier(config, assembly.build_dataset(config))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter += 10.0 + number
    save_weights(model.state_dict(), run / "checkpoints" / "final.safetensors")
    return model


def started(config: Config, run: Path, transport: Transport | None = None) -> AgentClassifier:
    config.warm_start = str(run)
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data, transport)
    warm_start.start_from(config, model, data)
    return model


def by_names(network: HDNN, name: str, values: Tensor) -> dict[tuple[object, ...], float]:
    """(layer, row agent and its neuron, column agent and its neuron) -> weight, both halves of a skew matrix."""
    letters, _, stage = name.partition(".")
    sizes, names = network.layout.sizes, network.graph.names
    starts, found = offsets(sizes), {}
    agent_of = [(names[agent], k) for agent in range(len(sizes)) for k in range(int(sizes[agent]))]
    assert len(agent_of) == starts[-1]
    if not stage:
        return {(j, agent_of[k]): float(v) for j, row in enumerate(values) for k, v in enumerate(row)}
    rows, columns = network.scalar_positions(letters, int(stage))
    skew = network.architecture.skew if letters in network.architecture.matrices else letters == "J"
    for layer, weights in enumerate(values):
        for row, column, weight in zip(rows.tolist(), columns.tolist(), weights.tolist(), strict=True):
            found[layer, agent_of[row], agent_of[column]] = weight
            if skew:
                found[layer, agent_of[column], agent_of[row]] = -weight
    return found


@pytest.mark.parametrize(
    ("name", "order"),
    [*((name, "by letters") for name in ARCHITECTURES), ("skew K", "as numbers"), ("skew J", "as numbers")],
)
def test_every_block_of_two_agents_that_both_networks_have_is_kept_and_all_others_are_drawn(
    name: str, order: str, tmp_path: Path
) -> None:
    """Numbers come in another order where an agent with letters joins them, so blocks of skew matrices turn over."""
    names = dict(zip("bdfhj", ["2", "10", "30", "4", "5"], strict=True)) if order == "as numbers" else {}
    old_graph, new_graph = (nx.relabel_nodes(graph, names) for graph in (OLD, NEW))
    more: dict[str, list[str]] = {"old": [], "new": []}
    if name == "two graphs":
        for which, graph in (("old", old_graph), ("new", new_graph)):
            nx.write_graphml(nx.complete_graph(sorted(graph)), tmp_path / f"{which}.graphml")
            more[which] = [f"--more_graphs=[{{file: {tmp_path / which}.graphml}}]"]
    old = finished_run(config_on(old_graph, tmp_path / "old", *ARCHITECTURES[name], *more["old"]), tmp_path / "run")
    config = config_on(new_graph, tmp_path / "new", *ARCHITECTURES[name], *more["new"])
    drawn = assembly.build_classifier(config, assembly.build_dataset(config)).network
    new, kept = started(config, tmp_path / "run").network, 0
    before, first, now = (one.state_dict() for one in (old.network, drawn, new))
    for key in now:
        there, fresh = by_names(old.network, key, before[key]), by_names(drawn, key, first[key])
        for place, weight in by_names(new, key, now[key]).items():
            assert weight == there.get(place, fresh[place]), (key, place)
            kept += place in there
    assert kept > 0


@pytest.mark.parametrize(
    "options",
    [
        ["--readout.kind=sum", "--initial_state=learned"],
        ["--readout.kind=gossip"],
        ["--readout.kind=agents", "--readout.agents=[1, 3]"],
        ["--network.width={b: 4, d: 2, f: 6, h: 2, j: 2}"],
        ["--data.name=digits", "--lift.kind=conv", "--train.batch_size=100"],
        ["--data.name=wine", "--lift.kind=linear"],
        ["--data.name=digits", "--lift.kind=channels", "--train.batch_size=100"],
    ],
    ids=str,
)
def test_the_same_network_starts_with_all_the_weights_of_the_other_run(options: list[str], tmp_path: Path) -> None:
    config = config_on(OLD, tmp_path / "old", *options)
    old = finished_run(config, tmp_path / "run").state_dict()
    config.seed += 1
    new = started(config, tmp_path / "run").state_dict()
    assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("name", ["hamiltonian", "skew K"])
def test_a_warm_start_gives_the_same_bits_on_any_number_of_workers(name: str, workers: int, tmp_path: Path) -> None:
    options = ["--initial_state=learned", *ARCHITECTURES[name]]
    finished_run(config_on(OLD, tmp_path / "old", *options), tmp_path / "run")
    config = config_on(NEW, tmp_path / "new", *options)
    alone = started(config, tmp_path / "run").state_dict()
    config.partition.method = "round_robin"
    for state in run_threads(workers, lambda one: started(config, tmp_path / "run", one).state_dict(), timeout=60):
        assert all(torch.equal(state[key], alone[key]) for key in alone)


def test_agents_of_another_width_and_answers_of_another_kind_are_drawn_and_named(tmp_path: Path) -> None:
    old = finished_run(config_on(OLD, tmp_path / "old"), tmp_path / "run")
    config = config_on(
        OLD,
        tmp_path / "new",
        "--network.width={b: 4, d: 2, f: 2, h: 2, j: 2}",
        "--data.name=wine",
        "--lift.kind=linear",
    )
    config.warm_start, drawn = str(tmp_path / "run"), assembly.build_dataset(config)
    model, fresh = (assembly.build_classifier(config, drawn) for _ in range(2))
    kept = warm_start.start_from(config, model, drawn)
    assert kept["drawn"] == {"agents": ["b"], "parts": ["readout", "lift"]}
    assert (kept["agents"], kept["agents_kept"], kept["links"], kept["links_kept"]) == (5, 4, 5, 3)
    assert torch.equal(model.readout.weight, fresh.readout.weight)
    assert torch.equal(model.network.bp[:, 2:], old.network.bp[:, 1:])
    assert torch.equal(model.network.bp[:, :2], fresh.network.bp[:, :2])
    assert warm_start.in_words(kept) == (
        f"warm start from {tmp_path / 'run'}: kept the weights of 4 of 5 agents and 3 of 5 links; drew agent b, "
        "readout, lift"
    )


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--network.layers=4", r"expected network.layers=2 as in .*run, got 4; set it alike"),
        ("--network.architecture=resnet", r"expected network.architecture=hamiltonian as in .*, got resnet"),
        ("--network.X.kind=neighbours", r"got another X\.0; set network.X.kind"),
        ("--graph.file=OTHER", r"expected agents with names of .*, such as b, got none, such as 0"),
    ],
)
def test_a_network_of_another_kind_is_refused(option: str, problem: str, tmp_path: Path) -> None:
    finished_run(config_on(OLD, tmp_path / "old"), tmp_path / "run")
    nx.write_graphml(nx.path_graph(3), tmp_path / "other.graphml")
    config = config_on(OLD, tmp_path / "old", option.replace("OTHER", str(tmp_path / "other.graphml")))
    with pytest.raises(ValueError, match=problem):
        started(config, tmp_path / "run")


def test_a_graph_file_that_has_changed_since_is_noticed(tmp_path: Path) -> None:
    config = config_on(OLD, tmp_path / "old")
    finished_run(config, tmp_path / "run")
    config_on(NEW, tmp_path / "old")
    with pytest.raises(
        CheckpointError,
        match=r"network\..*: expected weights of the network that config.yaml beside it describes, got others",
    ):
        started(config, tmp_path / "run")


def test_levels_have_no_weights_to_start_from(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    finished_run(config_on(OLD, tmp_path / "old"), tmp_path / "run")
    assert main(["train", f"--from={tmp_path / 'run'}", "--train.levels=[1, 2]"]) == 2
    assert main(["train", f"--from={tmp_path / 'old'}"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "train.levels: expected none with warm_start" in said[0] and "warm_start: expected a run" in said[1]


def test_a_run_from_another_one_says_what_it_kept_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SMALL, "--name=first"]) == 0
    (first,) = (tmp_path / "runs" / "first").iterdir()
    assert main(["train", "--from", "first", "--train.epochs=2", "--checkpoint.every=2 steps", "--output=new"]) == 0
    line = f"dist-hdnn: warm start from {first}: kept the weights of 8 of 8 agents and 8 of 8 links; drew nothing else"
    assert line in capsys.readouterr().err.splitlines()
    summary = json.loads((tmp_path / "new" / "summary.json").read_text())
    assert summary["epochs"] == 2 and summary["warm_start"]["agents_kept"] == 8
    assert read_config(tmp_path / "new" / "config.yaml").warm_start == str(first)
    for left in ("summary.json", "checkpoints/final.safetensors"):
        (tmp_path / "new" / left).unlink()
    first.rename(tmp_path / "gone")
    assert main(["train", "--resume=new"]) == 0, "a checkpoint needs no run to start from"
    resumed = json.loads((tmp_path / "new" / "summary.json").read_text())
    assert resumed["warm_start"] == summary["warm_start"] and resumed["test_accuracy"] == summary["test_accuracy"]


def table(folder: Path, name: str, columns: str, classes: tuple[str, str]) -> list[str]:
    rows = [",".join([*(f"{(i + 3 * k) % 7}" for k, _ in enumerate(columns)), classes[i % 2]]) for i in range(20)]
    (folder / name).write_text("\n".join([",".join([*columns, "label"]), *rows]) + "\n")
    return ["--data.name=file", f"--data.file={folder / name}", "--data.split=random"]


def trained_on_a_table(folder: Path, *options: str) -> Path:
    run = folder / "run"
    path = folder / "graph.edges"
    path.write_text("b d\nd f\nf h\nh b\n")
    words = [*SMALL, f"--graph.file={path}", *options]
    assert main(["train", *words, *table(folder, "old.csv", "uvwx", ("no", "yes")), f"--output={run}"]) == 0
    return run


def started_on_a_table(
    folder: Path, run: Path, columns: str, classes: tuple[str, str], *options: str
) -> dict[str, Any]:
    words = [*SMALL, f"--graph.file={folder / 'graph.edges'}", *table(folder, "new.csv", columns, classes), *options]
    config = read_config(None, [*words, f"--warm_start={run}"])
    data = assembly.build_dataset(config)
    return warm_start.start_from(config, assembly.build_classifier(config, data), data)["drawn"]


def test_a_readout_is_kept_for_classes_of_the_same_names_alone(tmp_path: Path) -> None:
    run = trained_on_a_table(tmp_path)
    assert started_on_a_table(tmp_path, run, "uvwx", ("no", "yes")) == {"agents": [], "parts": []}
    assert started_on_a_table(tmp_path, run, "uvwx", ("good", "bad")) == {"agents": [], "parts": ["readout"]}


def test_a_lift_is_kept_by_agents_that_see_the_same_columns(tmp_path: Path) -> None:
    lift = ["--lift.kind=linear", "--data.sensors={u: b, v: b, w: d, x: f}"]
    run = trained_on_a_table(tmp_path, *lift)
    assert started_on_a_table(tmp_path, run, "xuvw", ("no", "yes"), *lift) == {"agents": [], "parts": []}
    drawn = started_on_a_table(tmp_path, run, "vuwx", ("no", "yes"), *lift)
    assert drawn == {"agents": [], "parts": ["lift of agent b"]}
    lift[1] = "--data.sensors={u: b, v: b, w: f, x: d}"
    drawn = started_on_a_table(tmp_path, run, "uvwx", ("no", "yes"), *lift)
    assert drawn == {"agents": [], "parts": ["lift of agent d", "lift of agent f"]}


def test_features_that_enter_elsewhere_are_said(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    run = trained_on_a_table(tmp_path)
    started_on_a_table(tmp_path, run, "uvwx", ("no", "yes"))
    assert not [warning for warning in recwarn if "warm_start" in str(warning.message)]
    with pytest.warns(UserWarning, match="warm_start: v enters at agent b, q0, in .* at agent d, q0 .1 more moved"):
        started_on_a_table(tmp_path, run, "vuwx", ("no", "yes"))
