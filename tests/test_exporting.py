"""What is exported computes what was trained: in a program without dist_hdnn, and agent by agent."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from networks import FAMILY, GRAPHS, network, quiet_graph, uneven_widths
from safetensors.torch import load_file

import dist_hdnn
from dist_hdnn.build import assembly
from dist_hdnn.cli import main
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import tasks
from dist_hdnn.exporting import files
from dist_hdnn.exporting.files import export_agents
from dist_hdnn.training.checkpoints.weights_file import load_weights
from dist_hdnn.training.classifier import AgentClassifier

ROOT = Path(__file__).parents[1]
LOAD = """
import sys, torch
for folder in sys.argv[1:]:
    found = torch.export.load(f"{folder}/exported/network.pt2").module()(torch.load(f"{folder}/points.pt"))
    expected = torch.load(f"{folder}/answers.pt")
    assert "dist_hdnn" not in sys.modules
    print(found.shape == expected.shape, float((found - expected).abs().max()))
"""
CASES = {
    "sensors, sum": ("swiss_roll_ring8", ["--initial_state=learned"]),
    "linear, local": ("digits_grid16", ["--readout.kind=local"]),
    "linear, gossip": ("digits_grid16", ["--readout.kind=gossip", "--readout.rounds=3"]),
    "convolution, two agents answer": (
        "digits_grid16",
        ["--lift.kind=conv", "--readout.kind=agents", "--readout.agents=[3,5]"],
    ),
    "padded patches, X": ("digits_grid16", ["--lift.rows=3", "--lift.columns=3", "--graph.agents=9"]),
    "regression": ("diabetes_sensors", []),
}


def interpreter() -> ModuleType:
    """examples/agent_by_agent.py, which imports neither torch nor dist_hdnn."""
    path = ROOT / "examples" / "agent_by_agent.py"
    spec = importlib.util.spec_from_file_location("agent_by_agent", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["agent_by_agent"] = module
    spec.loader.exec_module(module)
    return module


def model_of(config: str, options: list[str]) -> tuple[AgentClassifier, torch.Tensor]:
    """A float64 model of a config with two layers, its weights away from zero, and test points."""
    read = read_config(ROOT / "configs" / f"{config}.yaml", ["--dtype=float64", "--network.layers=2", *options])
    data = assembly.build_dataset(read)
    model = assembly.build_classifier(read, data)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model, torch.from_numpy(data.test_x[:7])


def together(folder: Path, y: np.ndarray) -> tuple[np.ndarray, dict[int, Any]]:
    """States of all agents after the last layer, each computed from its own files and its neighbours' messages."""
    program = interpreter()
    agents = program.load_agents(folder)
    states = {i: agent.run(y[:, slice(*agent.about["state_columns"])]) for i, agent in agents.items()}
    last = np.concatenate(list(program.run_together(states).values()), axis=1)
    return last, agents


def check_agents(net: dist_hdnn.HDNN, folder: Path) -> None:
    export_agents(net, folder, range(net.graph.agents))
    y = torch.randn(5, net.neurons, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = net(y).detach().numpy()
    last, agents = together(folder, y.numpy())
    assert np.abs(last - expected).max() <= 1e-12 * max(1, np.abs(expected).max())
    for i, agent in agents.items():
        for update in (update for layer in agent.about["schedule"] for update in layer):
            for each in update["rounds"]:
                assert {*map(int, each["to"]), *map(int, each["from"])} <= set(agent.about["neighbours"]) - {i}


@pytest.mark.parametrize("options", FAMILY, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("graph", ["grid", "isolated agents"])
def test_agents_with_nothing_but_their_own_files_compute_the_network(
    graph: str, options: dict[str, Any], tmp_path: Path
) -> None:
    net = network(GRAPHS[graph], width=4, layers=3, step=0.3, **options)
    check_agents(net, tmp_path)
    about = json.loads((tmp_path / "0.json").read_text())
    rounds = [each["round"] for update in about["schedule"][0] for each in update["rounds"]]
    assert rounds == list(range(1, net.hops_per_layer() + 1))


@pytest.mark.parametrize("shared_x", [True, False])
def test_agents_compute_networks_whose_graphs_and_widths_differ(shared_x: bool, tmp_path: Path) -> None:
    X = "block_diagonal" if shared_x else "neighbours"
    graphs = [GRAPHS["ring"], nx.star_graph(7)]
    check_agents(network(graphs, width=uneven_widths(8), layers=5, X=X, shared_x=shared_x), tmp_path)


def test_agents_compute_odd_widths_and_weights_between_knots(tmp_path: Path) -> None:
    widths = {i: 1 + i % 3 for i in range(8)}
    net = network(quiet_graph("ring"), width=widths, layers=5, time=2, architecture="antisymmetric", gamma=0.1)
    check_agents(net, tmp_path)


def test_an_agent_that_lacks_one_message_does_not_get_the_right_state(tmp_path: Path) -> None:
    net = network(quiet_graph("ring"), width=2, layers=2)
    export_agents(net, tmp_path, range(8))
    file = tmp_path / "3.json"
    about = json.loads(file.read_text())
    about["matrices"]["Kq"][0]["column_agents"].reverse()
    file.write_text(json.dumps(about))
    y = torch.randn(5, net.neurons, dtype=torch.float64)
    last, _ = together(tmp_path, y.numpy())
    assert np.abs(last - net(y).detach().numpy()).max() > 1e-6


@pytest.mark.parametrize("case", CASES)
def test_agents_see_features_and_answer_as_the_trained_model_does(case: str, tmp_path: Path) -> None:
    model, points = model_of(*CASES[case])
    export_agents(model, tmp_path, range(model.network.graph.agents))
    program = interpreter()
    agents = program.load_agents(tmp_path)
    found = program.run_together({i: agent.answer(points.numpy()) for i, agent in agents.items()})
    answers = [scores for scores in found.values() if scores.shape[1]]
    expected = model(points).detach().numpy()
    total = np.stack(answers, axis=1) if expected.ndim == 3 else np.sum(answers, axis=0)
    assert total.shape == expected.shape and np.abs(total - expected).max() <= 1e-12


def test_exported_programs_answer_without_dist_hdnn(tmp_path: Path) -> None:
    """In one process that loads them one after the other: its start takes as long as they do together."""
    cases = CASES | {"channels": ("mnist_channels", ["--data.name=digits", "--data.folder=null"])}
    for number, case in enumerate(cases):
        model, points = model_of(*cases[case])
        own = tmp_path / str(number)
        folder = dist_hdnn.export(model, own / "exported", points[:3], agents=[])
        torch.save(points, own / "points.pt")
        torch.save(model(points).detach(), own / "answers.pt")
        assert json.loads((folder / "config.json").read_text())["input"]["shape"] == ["batch", points.shape[1]], case
    command = [sys.executable, "-c", LOAD, *(str(tmp_path / str(number)) for number in range(len(cases)))]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    assert answer.returncode == 0, answer.stderr
    for case, line in zip(cases, answer.stdout.splitlines(), strict=True):
        same_shape, difference = line.split()
        assert same_shape == "True" and float(difference) <= 1e-12, case


def test_a_network_alone_is_exported_and_its_weights_load_again(tmp_path: Path) -> None:
    net = network(quiet_graph("ring"), width=2, layers=3)
    folder = dist_hdnn.export(net, tmp_path / "net")
    y = torch.randn(1, net.neurons, dtype=torch.float64)
    program = torch.export.load(folder / "network.pt2").module()
    assert torch.allclose(program(y), net(y), rtol=0, atol=1e-12)
    other = network(quiet_graph("ring"), width=2, layers=3, seed=5)
    other.load_state_dict(load_file(folder / "model.safetensors"))
    assert torch.equal(other(y), net(y))
    assert len(list((folder / "agents").glob("*.npz"))) == 8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "swiss"
    options = ["--train.epochs=1", "--network.layers=2", f"--output={folder}", "--deterministic=true"]
    config = read_config(ROOT / "configs" / "swiss_roll_ring8.yaml", options)
    assert tasks.train(config) == folder
    return folder


def test_the_command_exports_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "exported"
    assert main(["export", str(run), f"--output={output}", "--agents=2,5"]) == 0
    assert str(output) in capsys.readouterr().out
    assert {file.name for file in (output / "agents").iterdir()} == {
        "2.json",
        "2.npz",
        "5.json",
        "5.npz",
    }
    config = read_config(run / "config.yaml")
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data)
    load_weights(model, run / "checkpoints" / "final.safetensors")
    points = torch.from_numpy(data.test_x[:9])
    program = torch.export.load(output / "network.pt2").module()
    assert torch.allclose(program(points), model(points.float()), atol=1e-5)
    about = json.loads((output / "config.json").read_text())
    assert about["features"] == list(data.feature_names) and about["agent_files"] == 2


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no run": (["nowhere"], "expected a run directory, got none: nowhere"),
    "unknown option": (["RUN", "--agnets=3"], "unknown option --agnets; did you mean --agents?"),
    "unknown agent": (["RUN", "--agents=3,99"], "99"),
    "nothing": ([], "export: expected RUN, got nothing"),
    "a full directory": (["RUN", "--output=RUN"], "expected a new or empty directory"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line(case: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = MISTAKES[case]
    given = [word.replace("RUN", str(run)) for word in words]
    output = [] if any("output" in word for word in given) else [f"--output={tmp_path / 'new'}"]
    assert main(["export", *given, *output]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_module_that_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    net = network(quiet_graph("ring"), layers=1)
    with pytest.raises(ValueError, match="expected an example input"):
        dist_hdnn.export(torch.nn.Sequential(net), tmp_path / "a")
    with pytest.raises(ValueError, match="expected a module with one HDNN inside, got 0"):
        dist_hdnn.export(torch.nn.Linear(2, 2), tmp_path / "a", torch.zeros(2, 2))
    with pytest.raises(ValueError, match="expected an example of 2 or more samples, got 1"):
        dist_hdnn.export(net, tmp_path / "a", torch.zeros(1, net.neurons))
    model, points = model_of("mnist_channels", ["--data.name=digits", "--data.folder=null"])
    with pytest.raises(ValueError, match="got the lift channels.*--agents=none"):
        dist_hdnn.export(model, tmp_path / "a", points)
    assert not (tmp_path / "a").exists()


class Heads(torch.nn.Module):
    """A head of its own for each of two agents, as in an own training loop."""

    def __init__(self, net: dist_hdnn.HDNN, use: str) -> None:
        super().__init__()
        self.net, self.use = net, use
        self.heads = torch.nn.ModuleList(torch.nn.Linear(4, 2, dtype=torch.float64) for _ in range(2))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        states = self.net.by_agent(self.net(self.net.local(y)))
        if self.use:
            getattr(self.net, self.use)(y)
        return torch.stack([head(states[agent]) for head, agent in zip(self.heads, (0, 5), strict=True)], dim=1)


def test_a_module_that_takes_states_apart_by_agent_is_exported(tmp_path: Path) -> None:
    model = Heads(network(quiet_graph("ring"), width=4, layers=2), "")
    y = torch.randn(7, model.net.neurons, dtype=torch.float64)
    folder = dist_hdnn.export(model, tmp_path / "net", y[:2], agents=[])
    found = torch.export.load(folder / "network.pt2").module()(y)
    assert torch.allclose(found, model(y), rtol=0, atol=1e-12)


def test_a_module_that_uses_what_an_exported_network_lacks_is_one_line(tmp_path: Path) -> None:
    model = Heads(network(quiet_graph("ring"), width=4, layers=2), "energy")
    with pytest.raises(ValueError, match=r"uses net\(y\), net.by_agent or net.local, got .* net\.energy") as error:
        dist_hdnn.export(model, tmp_path / "net", torch.zeros(2, model.net.neurons, dtype=torch.float64))
    assert "\n" not in str(error.value) and not any(tmp_path.iterdir())


def test_an_export_that_fails_half_way_leaves_no_folder_and_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network(quiet_graph("ring"), layers=1)
    monkeypatch.setattr(files, "save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dist_hdnn.export(net, tmp_path / "net")
    assert not (tmp_path / "net").exists()
    monkeypatch.undo()
    (tmp_path / "net").mkdir()
    assert (dist_hdnn.export(net, tmp_path / "net") / "config.json").is_file()
    assert [entry.name for entry in tmp_path.iterdir()] == ["net"]
