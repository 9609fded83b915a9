"""The study file: what it means, and one-line errors for what cannot be meant."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_hdnn.cli import main
from dist_hdnn.config.checks import validate
from dist_hdnn.config.files import read_config
from dist_hdnn.study.plan import Plan, read_plan

SMALL: dict[str, Any] = {"axes": {"seed": [0, 1]}, "config": {"train.epochs": 1}}
STUDIES = sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.yaml"))


def plan_of(folder: Path, *overrides: str, **document: Any) -> Plan:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **document}, sort_keys=False))
    return read_plan(str(path), overrides)


def test_a_plan_has_the_name_of_its_file_and_the_options_of_base_config_and_command_line(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("network: {layers: 3, step: 0.25}\ntrain: {epochs: 7, batch_size: 10}\n")
    plan = plan_of(tmp_path, "--train.batch_size=20", "--dtype", "float64", base="base.yaml")
    assert plan.name == "tiny" and plan.base["network"]["layers"] == 3 and plan.base["dtype"] == "float64"
    assert plan.base["train"]["epochs"] == 1 and plan.base["train"]["batch_size"] == 20
    assert [plan.config(trial).seed for trial in plan.listed()] == [0, 1]


def test_options_of_a_named_axis_change_together(tmp_path: Path) -> None:
    sizes = {
        "ring 6": {"graph.family": "ring", "graph.agents": 6},
        "grid 9": {"graph.family": "grid", "graph.agents": 9},
    }
    plan = plan_of(tmp_path, axes={"size": sizes, "seed": [0, 1]})
    graphs = [(plan.config(trial).graph.family, plan.config(trial).graph.agents) for trial in plan.listed()]
    assert graphs == [("ring", 6), ("ring", 6), ("grid", 9), ("grid", 9)]
    assert [trial.values["size"] for trial in plan.listed()] == ["ring 6", "ring 6", "grid 9", "grid 9"]


def test_baselines_run_with_every_seed_and_in_all_their_combinations(tmp_path: Path) -> None:
    baselines = {"dense": {"network.K.kind": "dense", "network.width": [2, 4]}}
    plan = plan_of(tmp_path, axes={"network.layers": [1, 2, 3], "seed": [0, 1]}, baselines=baselines)
    found = [(trial.settings["network.width"], trial.settings["seed"]) for trial in plan.baselines]
    assert found == [(2, 0), (2, 1), (4, 0), (4, 1)]
    assert len(plan.listed()) == 10


def test_a_value_may_be_a_mapping_that_replaces_the_one_of_the_base(tmp_path: Path) -> None:
    patterns = [{"kind": "thinned", "keep": 0.25}, {"kind": "dense"}]
    plan = plan_of(tmp_path, axes={"network.K": patterns}, config={"network.K": {"kind": "hops", "hops": 3}})
    assert plan.base["network"]["K"]["hops"] == 3
    assert [plan.config(trial).network.K.kind for trial in plan.listed()] == ["thinned", "dense"]
    assert plan.config(plan.listed()[0]).network.K.hops == 2


def test_a_key_given_twice_in_a_study_file_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("axes: {seed: [0, 1]}\ntrials: 3\naxes: {network.layers: [2]}\n")
    with pytest.raises(ValueError, match="twice.yaml: line 3, column 1: the key axes is given on line 1 and on line 3"):
        read_plan(str(path), ())


def test_options_of_the_command_line_are_read_as_train_reads_them(tmp_path: Path) -> None:
    words = ["--data.target=on", "--name", "no", "--readout.agents=[1, 3]", "--readout.kind=agents", "--data.seed=7"]
    words += ["--network.width={'1': 2}"]
    plan, config = plan_of(tmp_path, *words), read_config(overrides=words)
    assert plan.base["data"]["target"] == "on" == config.data.target and plan.base["name"] == "no"
    expected = dataclasses.asdict(config)
    assert all(plan.base[key] == expected[key] for key in ("data", "readout", "network", "name"))
    assert plan_of(tmp_path, "--data.target", "seed").base["data"]["target"] == "seed", "a value is no axis"


@pytest.mark.parametrize(
    ("config", "objective"),
    [
        ({}, "test_accuracy"),
        ({"data.validation_fraction": 0.2}, "validation_accuracy"),
        ({"data.name": "diabetes", "data.task": "regression"}, "test_r2"),
        ({"data.name": "diabetes", "data.task": "regression", "data.validation_fraction": 0.2}, "validation_r2"),
    ],
)
def test_trials_are_compared_by_validation_data_where_there_are_any(
    tmp_path: Path, config: dict[str, Any], objective: str
) -> None:
    plan = plan_of(tmp_path, config=config)
    assert dict(plan.objectives) == {objective: "maximize", "bytes_per_step": "minimize"}
    assert plan.by_test == objective.startswith("test")


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"axes": {"netwrk.layers": [1, 2]}}, "unknown key netwrk.layers; did you mean network.layers?"),
    ({"axes": {"layers": [1, 2]}}, "unknown key layers; did you mean network.layers?"),
    ({"axes": {"size": {"small": {"graph.agnts": 4}}}}, "unknown key graph.agnts; did you mean graph.agents?"),
    ({"axes": {}}, "zero trials"),
    ({"axes": {"seed": []}}, "zero trials"),
    ({"axes": {"size": {}}}, "zero trials"),
    ({"search": "random", "trials": 0}, "trials: expected an integer >= 1, got 0"),
    ({"search": "random"}, "add trials"),
    ({"trials": 4}, "expected none with search grid"),
    ({"name": "../up"}, "expected the name of a folder"),
    ({"search": "gird"}, "did you mean grid?"),
    ({"axis": {"seed": [0]}}, "unknown key 'axis'; did you mean axes?"),
    ({"axes": {"network.layers": ["many"]}}, "network.layers: expected an integer, got 'many'"),
    ({"axes": {"network.layers": 4}}, "expected a list of values"),
    ({"axes": {"network.layers": [4, 0]}}, "network.layers: expected a number >= 1, got 0"),
    ({"axes": {"network.layers": [4, 4]}}, "expected different values, got 4 2 times"),
    ({"axes": {"network.step": {"low": 0.1, "high": 1.0}}}, "a range needs search random or optuna"),
    ({"axes": {"network.step": {"low": 1.0, "high": 0.1}}, "search": "random", "trials": 2}, "expected low < high"),
    ({"axes": {"network.step": {"low": 0.0, "high": 1.0, "log": True}}, "search": "random", "trials": 2}, "low > 0"),
    ({"axes": {"network.step": {"low": 0.1, "hihg": 1.0}}, "search": "random", "trials": 2}, "did you mean high?"),
    ({"axes": {"seed": [0], "both": {"a": {"seed": 1}}}}, "seed is set by axis seed too"),
    ({"axes": [1, 2]}, "axes: expected a mapping"),
    ({"objectives": {"test_accuracy": "up"}}, "expected maximize or minimize, got 'up'"),
    ({"name": False}, "name: expected a name, got False; YAML reads yes, no, on, off and null as values"),
    ({"axes": {"pattern": {True: {"seed": 1}, "off": {"seed": 2}}}}, "axis pattern: expected a name, got True"),
    ({"baselines": {False: {"seed": 1}}}, "baselines: expected a name, got False"),
    ({"objectives": {}}, "objectives: expected at least one, such as test_accuracy: maximize, got none"),
    ({"search": "random", "trials": 2, "storage": {"password": "swordfish"}}, "path of a journal file, got a dict"),
    ({"config": {"train.epohs": 3}}, "unknown key train.epohs; did you mean train.epochs?"),
    ({"base": "missing.yaml"}, "no such config file"),
    ({"config": {"output": "somewhere"}}, "expected a base config without output"),
    ({"baselines": {"dense": {"network.K.kind": "dens"}}}, "did you mean dense?"),
    ({"parallel": -1}, "parallel: expected an integer >= 1"),
    ({"colour": "pattern"}, "unknown axis in colour 'pattern'"),
    ({"axes": {"seed": list(range(400)), "network.layers": list(range(1, 400))}}, "at most 100000 trials"),
]


@pytest.mark.parametrize(("document", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_in_a_study_file_is_one_line_that_starts_with_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: dict[str, Any], message: str
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **document}, sort_keys=False))
    assert main(["study", str(path), f"--output={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("dist-hdnn: error: ") and message in error, error
    assert "missing.yaml" in message or str(path) in error
    assert not (tmp_path / "out").exists(), "a study that cannot run leaves no folder"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such study file"),
        (b"\xff\xfe\x00", "binary file"),
        (b"axes: [1, 2", "not valid YAML"),
        (b"", "expected a study file with the key axes"),
        (b"- a\n- b\n", "expected a study file with the key axes"),
        (b"seed: 0\n", "expected a study file with the key axes"),
    ],
)
def test_an_unreadable_study_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    path = tmp_path / "study.yaml"
    if content is not None:
        path.write_bytes(content)
    assert main(["study", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(path) in error and message in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "study: expected STUDY, got nothing"),
        (["a.yaml", "b.yaml"], "study: expected STUDY, got a.yaml and b.yaml"),
        (["a.yaml", "--parallel=0"], "--parallel: expected a whole number >= 1, got '0'"),
        (["a.yaml", "--trials"], "--trials needs a value"),
        (["a.yaml", "--outptu=x"], "unknown option --outptu; did you mean --output?"),
        (["a.yaml", "--seed=3"], "axis seed sets it"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(yaml.safe_dump(SMALL))
    assert main(["study", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error, error


def test_there_are_studies() -> None:
    assert {path.stem for path in STUDIES} >= {"digits_density", "mnist_density", "families"}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: str(path.stem))
def test_a_study_of_the_repository_loads_and_opens_with_its_command_and_what_to_expect(path: Path) -> None:
    plan = read_plan(str(path))
    assert plan.name == path.stem and len(plan.listed()) > 1
    for trial in plan.listed():
        validate(plan.config(trial))
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(f"dist-hdnn study configs/studies/{path.name}" in line for line in comments)
    assert any("Expect" in line for line in comments)
