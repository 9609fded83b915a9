"""Training with targets of each agent's own: any number of workers, resuming, figures, export, predictions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

import dist_hdnn
from dist_hdnn.build import assembly
from dist_hdnn.cli import main
from dist_hdnn.config import Config
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import tasks
from dist_hdnn.inspection import inspect
from dist_hdnn.training.evaluation import evaluate
from dist_hdnn.transport import Transport, run_threads

CONFIG = """
name: own
graph: {family: barbell, agents: 8}
data: {name: barbell, task: regression, samples: 300, validation_fraction: 0.2, test_fraction: 0.25}
network: {width: 4, layers: 3}
readout: {kind: local}
train: {epochs: 2, batch_size: 40, learning_rate: 0.01}
plots: false
"""

RING = ["--data.name=ring_transfer", "--graph.family=ring"]
AGENTS = """
import json, sys
from pathlib import Path
import numpy as np
from agent_by_agent import load_agents, run_together
agents, readings = load_agents(Path(sys.argv[1])), np.array(json.load(sys.stdin))
answers = run_together({i: agent.answer(readings) for i, agent in agents.items()})
print(json.dumps(np.concatenate(list(answers.values()), axis=1).tolist()))
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    file = tmp_path / "own.yaml"
    file.write_text(CONFIG, encoding="utf-8")
    return file


def outcome(config: Config, transport: Transport | None = None) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data, transport)
    parts = [tasks.split_tensors(config, data, which) for which in ("train", "validation", "test")]
    history = tasks.train_model(config, model, data, *parts[:2], transport)
    result = evaluate(model, *parts[2], tasks.units_of(data))
    assert result.per_agent is not None
    losses = [[record.loss, record.validation_accuracy, record.worst_agent_accuracy] for record in history]
    figures = [result.loss, result.accuracy, result.mse, *result.per_agent]
    as_tensors = {"losses": losses, "figures": figures}
    return {k: torch.tensor(v, dtype=torch.float64) for k, v in as_tensors.items()} | model.state_dict()


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("task", ["barbell", "ring_transfer"])
def test_training_gives_the_numbers_of_one_process(config_file: Path, task: str, deterministic: bool) -> None:
    more = [] if task == "barbell" else ["--data.name=ring_transfer", "--graph.family=ring", "--data.payload=2"]
    options = ["--dtype=float64", f"--deterministic={str(deterministic).lower()}", *more]
    config = read_config(config_file, options)
    alone = outcome(config)
    for workers, method in ((1, "contiguous"), (2, "round_robin"), (3, "contiguous"), (4, "greedy"), (8, "contiguous")):
        config.partition.method = method
        for result in run_threads(workers, lambda transport: outcome(config, transport), timeout=100):
            for name, value in alone.items():
                if deterministic:
                    assert torch.equal(result[name], value), (workers, name)
                else:
                    torch.testing.assert_close(result[name], value, rtol=0, atol=1e-11, equal_nan=True)


def test_a_run_from_training_to_prediction(config_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", str(config_file), f"--output={run}", "--plots=true"]) == 0
    assert {path.name for path in (run / "plots").iterdir()} >= {"targets.png", "graph.png", "curves.png"}
    summary = json.loads((run / "summary.json").read_text())
    assert summary["targets"] == "own"
    assert set(summary["agent_r2"]) == {str(agent) for agent in range(8)}
    loaded = dist_hdnn.load_run(run)
    data = assembly.build_dataset(loaded.config)
    x, y = (data.preparation.answers(part) if part.ndim == 3 else part for part in (data.test_x, data.test_y))
    raw = x * np.array(data.preparation.deviation) + np.array(data.preparation.mean)
    predicted = loaded.predict(raw)
    assert predicted.shape == (len(x), 8)
    errors = (predicted - y[..., 0]) ** 2
    assert errors.mean() == pytest.approx(summary["test_mse"], rel=1e-4)
    spread = (y[..., 0] - y[..., 0].mean(axis=0)) ** 2
    worst = min(1 - errors.sum(axis=0) / spread.sum(axis=0))
    assert worst == pytest.approx(summary["worst_agent_r2"], rel=1e-4)
    assert main(["evaluate", str(run)]) == 0
    assert main(["certify", str(run), "--samples=4"]) == 0
    assert main(["export", str(run), f"--output={tmp_path / 'exported'}"]) == 0
    alone = subprocess.run(
        [sys.executable, "-c", AGENTS, str(tmp_path / "exported" / "agents")],
        input=json.dumps(raw[:5].tolist()),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2] / "examples",
    )
    np.testing.assert_allclose(json.loads(alone.stdout), predicted[:5], rtol=1e-4)


def test_a_run_resumes_to_the_same_bits(config_file: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ["--train.epochs=4", "--checkpoint.every=3 steps", "--checkpoint.keep=9"]
    assert main(["train", str(config_file), f"--output={whole}", *options]) == 0
    middle = sorted((whole / "checkpoints").iterdir())[2]
    assert main(["train", str(config_file), f"--output={parts}", *options, f"--resume={middle}"]) == 0
    summaries = [json.loads((run / "summary.json").read_text()) for run in (whole, parts)]
    assert summaries[0]["test_mse"] == summaries[1]["test_mse"]


def test_the_receiver_of_a_ring_hears_the_payload(config_file: Path) -> None:
    options = ["--data.name=ring_transfer", "--graph.family=ring", "--graph.agents=16", "--data.samples=1200"]
    config = read_config(config_file, [*options, "--network.layers=4", "--train.epochs=15"])
    torch.set_num_threads(1)
    assert float(outcome(config)["figures"][2]) < 0.01  # of a variance of 1, over 8 hops


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--readout.kind=sum"], "readout.kind: expected local for targets of each agent's own, got sum"),
        (["--readout.targets=shared"], "readout.targets: expected own for the data set barbell"),
        (["--graph.family=ring"], "data.name=barbell: expected graph.family=barbell, got ring; set it so"),
        (
            ["--graph.family=grid", "--graph.rows=2"],
            "expected a graph by graph.family and graph.agents, got graph.file or",
        ),
        (
            [*RING, "--data.distance=5"],
            "data.distance: expected 1 to 4 hops on a ring",
        ),
        ([*RING, "--graph.agents=1"], "data.name=ring_transfer: expected graph.agents of at least 2, got 1"),
        ([*RING, "--data.distance=0"], "data.distance: expected 1 to 4 hops on a ring of 8 agents, got 0"),
        (["--data.distance=0"], "data.distance: expected none, because data.name=barbell does not use it"),
        (["--graph.agents=1"], "data.name=barbell: expected graph.agents even and at least 4, got 1"),
        ([*RING, "--data.payload=0"], "data.payload: expected at least 1 number, got 0"),
        (["--data.payload=3"], "data.payload: expected none, because data.name=barbell does not use it"),
        (["--data.noise=0.1"], "data.noise: expected none, because data.name=barbell does not use it"),
        (["--data.task=classification"], "data.task: expected regression with data.name=barbell"),
        (
            ["--data.name=swiss_roll", "--data.task=classification", "--readout.targets=own"],
            "expected shared for",
        ),
        (["--network.initial=wave", "--network.architecture=MS1"], "network.initial: expected the architecture hamil"),
        (["--train.network_rate=0"], "train.network_rate: expected a number > 0, got 0"),
    ],
)
def test_what_does_not_fit_is_one_line(
    config_file: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(config_file), *options]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dist-hdnn: error")]
    assert message in line


WIDE = "a,b,c,d\n" + "".join(f"{i % 7},{i * i % 5},{i % 3},{i % 4}\n" for i in range(12))
LONG = "t,s,flow,label\n" + "".join(f"{i},north,{i % 5},{i % 3}\n{i},AGENT,1,2\n" for i in range(12))
IN_TIME = ["--data.time=t", "--data.agent=s"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (WIDE, ["--data.targets={a: zulu}"], "data.targets.a: graph g: expected an agent number 0..3 or a name, got"),
        (WIDE, ["--data.targets={a: north, b: 0}"], "got 'north' and 0, which both are agent 'north' of the graph"),
        (LONG.replace("AGENT", "0"), IN_TIME, "data.agent: column 's': expected one name for each agent, got "),
        (LONG.replace("AGENT", "zulu"), IN_TIME, "data.agent: column 's': graph g: expected an agent number 0..3 or a"),
        (WIDE, ["--data.targets={a: w}", "--data.features={b: zulu, c: x, d: y}"], "data.features.b: graph g: expec"),
    ],
)
def test_agents_of_a_table_are_named_as_written(
    config_file: Path, tmp_path: Path, text: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "g.edgelist").write_text("w x\nx y\ny north\n", encoding="utf-8")
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    named = [f"--graph.file={tmp_path / 'g.edgelist'}", "--data.name=file", f"--data.file={tmp_path / 't.csv'}"]
    lift = ["--data.split=last", "--lift.kind=linear", f"--output={tmp_path / 'run'}"]
    assert main(["train", str(config_file), *named, *lift, *options]) == 2
    said = capsys.readouterr().err.splitlines()
    assert message in said[-1]
    unlisted = [line for line in said if "every column that data.targets does not name is a feature" in line]
    assert len(unlisted) == (text == WIDE and len(options) == 1)


PLANT = """
graph: {file: plant.edgelist}
data: {name: file, file: plant.csv, time: time, task: regression, features: {north: north, south: south},
       targets: {south_leak: south, north_leak: north, south_flow: south, north_flow: north}}
network: {width: 4, layers: 2}
readout: {kind: local}
train: {epochs: 1, batch_size: 20}
plots: false
"""


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pandas.DataFrame:
    """Readings whose targets are of very different scale, beside a config of two agents that answer two each."""
    monkeypatch.chdir(tmp_path)
    columns, scales = (
        ["north", "south", "south_leak", "north_leak", "south_flow", "north_flow"],
        [1, 1, 1e-3, 1, 1e3, 9],
    )
    frame = pandas.DataFrame(np.random.default_rng(0).normal(size=(60, 6)) * scales, columns=columns)
    frame.to_csv("plant.csv", index_label="time")
    Path("plant.edgelist").write_text("north south\nsouth west\n")
    Path("plant.yaml").write_text(PLANT)
    return frame


def test_errors_are_told_by_agent_and_target(plant: pandas.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "plant.yaml", "--output=run"]) == 0
    test, loaded = plant[30:], dist_hdnn.load_run("run")
    errors = (loaded.predict(test[["north", "south"]]).reshape(30, 4) - test[list(loaded.targets)].to_numpy()) ** 2
    of_targets = dict(zip(loaded.targets, errors.mean(axis=0).tolist(), strict=True))
    summary = json.loads(Path("run", "summary.json").read_text())
    expected = {
        agent: {f"{agent}_{what}": of_targets[f"{agent}_{what}"] for what in ("leak", "flow")}
        for agent in ("north", "south")
    }
    assert {agent: pytest.approx(of_agent, rel=1e-4) for agent, of_agent in expected.items()} == summary["agent_mse"]
    assert summary["test_mse"] == pytest.approx(errors.mean(), rel=1e-4)
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 0
    assert "(over all targets, each in its own unit)" in capsys.readouterr().out


def test_errors_of_shared_targets_are_told_by_target(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 2))
    np.savez(tmp_path / "a.npz", x=x, y=x * [1.0, 1000.0])
    options = ["--graph.family=ring", "--graph.agents=4", "--data.task=regression", "--data.name=file", "--plots=false"]
    options += [
        f"--data.file={tmp_path / 'a.npz'}",
        "--data.split=last",
        "--train.epochs=1",
        f"--output={tmp_path / 'run'}",
    ]
    assert main(["train", *options]) == 0
    summary, errors = json.loads((tmp_path / "run" / "summary.json").read_text()), x[20:] * [1.0, 1000.0]
    errors -= dist_hdnn.load_run(tmp_path / "run").predict(x[20:])
    expected = dict(zip(["target_1", "target_2"], (errors**2).mean(axis=0).tolist(), strict=True))
    assert summary["target_mse"] == pytest.approx(expected, rel=1e-4)


def test_inspect_and_the_export_name_targets_with_their_agents(plant: pandas.DataFrame) -> None:
    shown = inspect(read_config("plant.yaml"))["data"]
    assert (shown["answering_agents"], len(shown["targets"])) == (2, 4)
    assert shown["targets"]["south_flow"] == ["south"]
    assert main(["train", "plant.yaml", "--output=run"]) == 0
    assert main(["export", "run", "--output=exported"]) == 0
    names = ["north_leak", "north_flow", "south_leak", "south_flow"]
    assert json.loads(Path("exported", "config.json").read_text())["targets"] == names
    assert dist_hdnn.load_run("run").targets == tuple(names)
    of_agents = [json.loads(Path("exported", "agents", f"{i}.json").read_text())["targets"] for i in range(3)]
    assert of_agents == [names[:2], names[2:], []]


def test_predictions_stand_beside_the_targets_of_the_file(plant: pandas.DataFrame) -> None:
    assert main(["train", "plant.yaml", "--output=run"]) == 0
    assert main(["predict", "run", "plant.csv", "--keep=south_flow", "--output=answers.csv"]) == 0
    answers, predicted = pandas.read_csv("answers.csv"), dist_hdnn.load_run("run").predict(plant[["north", "south"]])
    np.testing.assert_allclose(answers["south_flow"], plant["south_flow"])
    np.testing.assert_allclose(answers["predicted_south_flow"], predicted[:, 1, 1])
    forecast = ["--data.features=null", "--data.targets={north: north, south: south}", "--data.window=2"]
    forecast += ["--data.ahead=3", "--data.ignore=[south_leak, north_leak, south_flow, north_flow]"]
    assert main(["train", "plant.yaml", *forecast, "--output=ahead"]) == 0
    assert main(["predict", "ahead", "plant.csv", "--output=later.csv"]) == 0
    assert list(pandas.read_csv("later.csv").columns) == ["row", "time", "north[t+3]", "south[t+3]"]


def test_a_warm_start_names_the_agents_with_new_questions(
    plant: pandas.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = "{north_leak: north, south_leak: south}", "{north_leak: north, south_flow: south, south_leak: west}"
    unused = ["--data.ignore=[north_flow, south_flow]", "--data.ignore=[north_flow]"]
    assert main(["train", "plant.yaml", f"--data.targets={one}", unused[0], "--output=run"]) == 0
    assert main(["train", "--from=run", f"--data.targets={other}", unused[1], "--output=next", "--train.epochs=1"]) == 0
    assert "; drew readout of agent south, readout of agent west" in capsys.readouterr().err


def test_arrays_of_another_number_of_agents_are_refused(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).random((40, 6, 2)), y=np.zeros((40, 6)))
    options = ["--data.name=file", f"--data.file={tmp_path / 'a.npz'}", "--data.split=last", "--readout.targets=own"]
    assert main(["train", str(config_file), *options, "--lift.kind=linear"]) == 2
    assert "expected y of (samples, 8), a column for every agent of the graph, got 6" in capsys.readouterr().err


def test_a_run_of_arrays_with_several_targets_and_a_silent_agent_loads(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(0).random((60, 8, 2))
    y = np.stack([x[..., 0], x[..., 1] ** 2], axis=-1)
    y[:, 3], y[::5, 1] = np.nan, np.nan
    np.savez(tmp_path / "a.npz", x=x, y=y)
    options = ["--data.name=file", f"--data.file={tmp_path / 'a.npz'}", "--data.split=last", "--readout.targets=own"]
    run = tmp_path / "run"
    assert main(["train", str(config_file), *options, "--lift.kind=linear", f"--output={run}"]) == 0
    assert "3 have no known target, so they do not answer" in capsys.readouterr().err
    loaded = dist_hdnn.load_run(run)
    assert loaded.agents == ("0", "1", "2", "4", "5", "6", "7")
    assert loaded.predict(x.reshape(60, 16)).shape == (60, 7, 2)
