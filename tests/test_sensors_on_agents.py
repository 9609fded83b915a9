"""Tables on networked sensors, whole runs: classes and real targets, on one and on several workers."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_diabetes

from dist_hdnn.build import assembly
from dist_hdnn.cli import main
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import tasks
from dist_hdnn.inspection import inspect
from dist_hdnn.training.evaluation import evaluate
from dist_hdnn.transport import run_threads

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DIABETES = str(CONFIGS / "diabetes_sensors.yaml")
SHORT = ["--train.epochs=2"]


def test_a_table_on_disk_gives_the_run_of_the_table_in_the_package(tmp_path: Path) -> None:
    x, y = load_diabetes(return_X_y=True)
    with (tmp_path / "diabetes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*load_diabetes().feature_names, "progression"])
        rows.writerows(np.column_stack([x, y]).tolist())
    own = ["--data.name=file", f"--data.file={tmp_path / 'diabetes.csv'}", "--data.target=progression"]
    first = tasks.train(read_config(DIABETES, [*SHORT, f"--output={tmp_path / 'first'}"]))
    second = tasks.train(read_config(DIABETES, [*SHORT, *own, f"--output={tmp_path / 'second'}"]))
    weights, others = (load_file(run / tasks.FINAL) for run in (first, second))
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("readout", ["sum", "local"])
def test_a_regression_tells_r2_under_its_own_name(readout: str, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    assert main(["train", DIABETES, *SHORT, f"--readout.kind={readout}", f"--output={run}"]) == 0
    assert "test R²" in capsys.readouterr().out
    summary = json.loads((run / "summary.json").read_text())
    assert summary["task"] == "regression" and "test_accuracy" not in summary and 0 < summary["test_r2"] < 1
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["train_r2"] == summary["train_r2"] and ("agent_r2" in summary) == (readout == "local")
    assert tasks.evaluate(run)["test_r2"] == summary["test_r2"]
    assert (run / "plots" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_r2_is_that_of_the_predictions_in_the_units_of_the_targets() -> None:
    config = read_config(DIABETES, ["--dtype=float64"])
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data)
    x, y = tasks.split_tensors(config, data, "test")
    with torch.no_grad():
        errors = (model.readout.predict(model(x)) - y).square()
    scale = data.normalisation["target_deviation"][0]
    raw = scale**2 * ((y - y.mean(dim=0)).square().sum())
    assert evaluate(model, x, y).accuracy == pytest.approx(1 - float(scale**2 * errors.sum() / raw), abs=1e-12)
    assert evaluate(model, x, y).loss == pytest.approx(float(errors.mean()), abs=1e-12)


@pytest.mark.parametrize("readout", [["sum"], ["local"], ["gossip"], ["agents", "--readout.agents=[2, 7]"]])
def test_a_regression_gives_the_numbers_of_one_process_on_four_workers(readout: list[str]) -> None:
    options = [*SHORT, "--dtype=float64", f"--readout.kind={readout[0]}", *readout[1:], "--train.batch_size=100"]
    config = read_config(DIABETES, options)
    data = assembly.build_dataset(config)

    def run(transport=None):
        torch.set_num_threads(1)
        model = assembly.build_classifier(config, data, transport)
        training, test = (tasks.split_tensors(config, data, which) for which in ("train", "test"))
        history = tasks.train_model(config, model, data, training, test, transport)
        told = [[record.loss, record.validation_accuracy, record.worst_agent_accuracy or 0.0] for record in history]
        return {"told": torch.tensor(told, dtype=torch.float64), **model.state_dict()}

    alone = run()
    for result in run_threads(4, run, timeout=100):
        assert max(float((result[name] - alone[name]).abs().max()) for name in alone) <= 1e-11


def test_columns_may_enter_as_sensors_and_agents_may_have_names(tmp_path: Path) -> None:
    options = ["--lift.kind=sensors", "--graph.family=path", "--graph.agents=5"]
    places = ["age: 0", "sex: 0", "bmi: '1'", "bp: 1", "s1: 2", "s2: 2", "s3: 3", "s4: 3", "s5: 4", "s6: 4"]
    config = read_config(DIABETES, [*options, "--data.sensors={" + ", ".join(places) + "}", "--network.width=2"])
    model = assembly.build_classifier(config, assembly.build_dataset(config))
    assert [sensor.agent for sensor in model.sensors.sensors] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [sensor.half for sensor in model.sensors.sensors] == ["q", "p"] * 5


BAD = {
    "unknown agent": (["--data.sensors.age=77"], "unknown"),
    "task": (["--data.task=classification"], "data.task: expected regression with data.name=diabetes"),
    "column": (['--data.sensors={"shoe": 1}'], "data.features: expected columns of the data (age, sex"),
    "toy": (["--data.name=swiss_roll", "--data.task=classification"], "data.sensors: expected none, because data.name"),
    "both": (['--sensors=[{"feature": 0, "agent": 1}]', "--lift.kind=sensors"], "expected none beside data.sensors"),
    "full": (["--lift.kind=sensors", '--data.sensors={"age": 1}'], "expected an agent for every column"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_input_is_one_line_and_exit_code_2(fault: str, tmp_path: Path, capsys) -> None:
    options, message = BAD[fault]
    assert main(["train", DIABETES, *options, f"--output={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "run").exists()


def test_an_agent_sees_the_past_of_its_own_columns(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(120, 2)).cumsum(axis=0)
    header = "flow,heat,later"
    table = np.column_stack([noise, noise.sum(axis=1)])
    np.savetxt(tmp_path / "plant.csv", table, delimiter=",", header=header, comments="")
    own = ["--data.name=file", f"--data.file={tmp_path / 'plant.csv'}", "--data.target=later", "--data.window=4"]
    options = [*own, "--data.ahead=1", "--graph.agents=3", "--data.sensors={flow: 2, heat: 0}", "--data.split=last"]
    config = read_config(DIABETES, options)
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data)
    assert assembly.build_views(config, model.network.graph, data).sizes.tolist() == [4, 0, 4]
    with pytest.raises(ValueError, match="expected data.split=last for rows in order of time, got random"):
        assembly.build_dataset(read_config(DIABETES, [*options, "--data.split=random"]))


STATIONS = ["station1", "station2", "station10", "station11"]


def station_table(folder: Path, columns: list[str]) -> list[str]:
    """A path of four stations, and a table of columns of which the one of station10 alone knows the label."""
    links = "".join(f"{a},{b}\n" for a, b in zip(STATIONS, STATIONS[1:], strict=False))
    (folder / "net.csv").write_text(f"source,target\n{links}")
    x = np.random.default_rng(0).normal(size=(40, len(columns)))
    label = (x[:, columns.index("station10")] > 0).astype(int) if "station10" in columns else np.arange(40) % 2
    table = np.column_stack([x, label])
    np.savetxt(folder / "t.csv", table, "%.6f", ",", header=",".join([*columns, "label"]), comments="")
    return [f"--graph.file={folder / 'net.csv'}", "--data.name=file", f"--data.file={folder / 't.csv'}"]


@pytest.mark.parametrize("lift", ["sensors", "linear"])
def test_columns_named_like_agents_go_to_the_agents_of_their_names(lift: str, tmp_path: Path) -> None:
    own = station_table(tmp_path, ["station11", "station10", "station2", "station1"])
    config = read_config(None, [*own, "--data.split=random", f"--lift.kind={lift}"])
    found = inspect(config)
    assert found["data"]["columns"] == {name: [name] for name in ["station11", "station10", "station2", "station1"]}
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data)
    assert model.network.graph.names == tuple(STATIONS)  # 2 before 10
    x = torch.zeros(2, 4)
    x[1, data.feature_names.index("station10")] = 1.0
    state = model.lift(x)
    changed = (state[0] != state[1]).view(4, -1).any(dim=1)
    assert changed.tolist() == [False, False, True, False]


def test_columns_of_which_some_are_named_like_agents_are_not_guessed(tmp_path: Path, capsys) -> None:
    own = station_table(tmp_path, ["station1", "station2", "wind", "rain"])
    assert main(["inspect", *own, "--data.split=random"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "got station1, station2 named like agents and wind, rain not; say in data.features" in line
    assert main(["inspect", "--json", *own, "--data.split=random", "--data.ignore=[wind, rain]"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["columns"] == {
        "station1": ["station1"],
        "station2": ["station2"],
    }
    assert main(["inspect", *own, "--data.split=random", "--data.ignore=[wind, rain]"]) == 0
    assert "station1 -> station1, station2 -> station2" in " ".join(capsys.readouterr().out.split())


def test_all_features_of_a_column_go_to_one_agent(tmp_path: Path) -> None:
    own = station_table(tmp_path, ["wind", "rain", "heat"])
    whole = (tmp_path / "t.csv").read_text()
    first = whole.splitlines()[3]
    for more in (["--data.window=3"], ["--data.window=3", "--data.missing.fill=last"], ["--data.missing.fill=mean"]):
        gap = "," + first.split(",", 1)[1] if "missing" in more[-1] else first
        (tmp_path / "t.csv").write_text(whole.replace(first, gap))
        config = read_config(None, [*own, "--data.split=last", "--lift.kind=linear", *more])
        seen = inspect(config)["data"]["columns"]
        assert list(seen) == ["wind", "rain", "heat"] and all(len(agents) == 1 for agents in seen.values()), more


def test_columns_by_name_with_gaps_give_the_same_numbers_on_any_number_of_workers(tmp_path: Path) -> None:
    own = station_table(tmp_path, [*STATIONS])
    lines = (tmp_path / "t.csv").read_text().splitlines()
    lines[2::5] = ["," + line.split(",", 1)[1] for line in lines[2::5]]  # gaps of station1
    (tmp_path / "t.csv").write_text("\n".join(lines))
    more = ["--data.split=random", "--data.missing.fill=mean", "--data.validation_fraction=0.2", "--lift.kind=linear"]
    config = read_config(None, [*own, *more, "--network.layers=2", "--train.epochs=2", "--dtype=float64"])
    data = assembly.build_dataset(config)
    assert data.feature_names == (*STATIONS, "station1 missing") and len(data.validation_x) == 4

    def run(transport=None):
        torch.set_num_threads(1)
        model = assembly.build_classifier(config, data, transport)
        training, test = (tasks.split_tensors(config, data, which) for which in ("train", "validation"))
        tasks.train_model(config, model, data, training, test, transport)
        return model.state_dict()

    alone = run()
    for workers in (2, 3):
        for result in run_threads(workers, run, timeout=100):
            assert max(float((result[name] - alone[name]).abs().max()) for name in alone) <= 1e-11
