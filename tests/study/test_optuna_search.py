"""Optuna asks for the trials, the study runs them; the budget is kept over stops and shared by several studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from study.test_runner import TRIAL, noted, table

from dist_hdnn.cli import main
from dist_hdnn.study import plots, runner
from dist_hdnn.study.inputs import contents
from dist_hdnn.study.plan import Plan, read_plan
from dist_hdnn.study.search import OptunaSearch

optuna = pytest.importorskip("optuna")
SPACE: dict[str, Any] = {
    "search": "optuna",
    "axes": {
        "network.layers": {"low": 1, "high": 32, "log": True},
        "network.width": [2, 4, 8],
        "network.step": {"low": 0.1, "high": 1.0},
    },
}


@pytest.fixture(autouse=True)
def trials_that_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "TRAIN", (str(TRIAL),))
    monkeypatch.setattr(runner, "IMPORTED", ())
    monkeypatch.setattr(plots, "plot_study", lambda *_: [])  # which takes longer than these trials


def write(folder: Path, **changes: Any) -> str:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**SPACE, **changes}, sort_keys=False))
    return str(path)


def search_of(plan: Plan, output: Path) -> OptunaSearch:
    return OptunaSearch(plan, output, contents(plan))


def stored(folder: Path) -> Any:
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(folder / "out" / "optuna.journal"))
    )
    return optuna.load_study(study_name="tiny", storage=storage)


def test_optuna_hears_the_objectives_of_every_trial_and_the_budget_is_kept(tmp_path: Path) -> None:
    words = ["study", write(tmp_path), f"--output={tmp_path / 'out'}", "--trials"]
    assert main([*words, "4"]) == 0
    assert main([*words, "7"]) == 0
    trials = stored(tmp_path).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 7
    rows = {(int(row["network.layers"]), int(row["network.width"])): row for row in table(tmp_path)}
    for trial in trials:
        row = rows[trial.params["network.layers"], int(trial.params["network.width"])]
        assert trial.values == [float(row["validation_accuracy"]), float(row["bytes_per_step"])]
    assert list(noted(tmp_path).values()) == [1] * 7


def test_a_trial_that_was_asked_for_and_not_finished_is_run_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    search = search_of(read_plan(write(tmp_path, trials=3)), out)
    asked = search.next()
    assert asked is not None
    (out / "optuna.journal").rename(tmp_path / "optuna.journal")
    out.rmdir()
    path = write(tmp_path, trials=3, storage=str(tmp_path / "optuna.journal"))
    assert main(["study", path, f"--output={out}"]) == 0
    assert list(noted(tmp_path))[0] == asked.id and len(noted(tmp_path)) == 3


def test_a_trial_that_fails_is_told_as_failed(tmp_path: Path) -> None:
    path = write(tmp_path, axes={"train.epochs": [13, 2], "network.layers": [2, 4, 8]}, trials=6)
    assert main(["study", path, f"--output={tmp_path / 'out'}"]) == 0
    states = {trial.params["train.epochs"]: trial.state.name for trial in stored(tmp_path).trials}
    assert states == {"13": "FAIL", "2": "COMPLETE"}


def test_the_same_options_are_not_run_twice_when_optuna_asks_for_them_again(tmp_path: Path) -> None:
    path = write(tmp_path, axes={"network.layers": [2, 4]}, trials=8)
    assert main(["study", path, f"--output={tmp_path / 'out'}"]) == 0
    assert len(noted(tmp_path)) == 2 and set(noted(tmp_path).values()) == {1}
    assert [trial.state.name for trial in stored(tmp_path).trials] == ["COMPLETE"] * 8


def test_studies_share_a_database(tmp_path: Path) -> None:
    path = write(tmp_path, storage=f"sqlite:///{tmp_path / 'optuna.db'}", trials=6)
    assert main(["study", path, f"--output={tmp_path / 'one' / 'out'}", "--trials=4"]) == 0
    assert main(["study", path, f"--output={tmp_path / 'two' / 'out'}"]) == 0
    assert [len(noted(tmp_path / name)) for name in ("one", "two")] == [4, 2]


def test_an_unusable_storage_and_a_missing_optuna_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, trials=2, storage="nosuchdatabase://here")
    assert main(["study", path, f"--output={tmp_path / 'out'}"]) == 2
    warned, error = capsys.readouterr().err.splitlines()
    assert "takes 20% of the training points" in warned and "storage: cannot use nosuchdatabase://here" in error
    monkeypatch.setattr("dist_hdnn.study.search.optuna", None)
    assert main(["study", path, f"--output={tmp_path / 'out'}"]) == 2
    assert "pip install optuna" in capsys.readouterr().err


def test_a_study_whose_journal_was_cut_by_a_crash_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["study", write(tmp_path), f"--output={tmp_path / 'out'}", "--trials"]
    assert main([*words, "2"]) == 0
    journal = tmp_path / "out" / "optuna.journal"
    journal.write_bytes(journal.read_bytes()[:-15])
    capsys.readouterr()
    assert main([*words, "4"]) == 0
    said = capsys.readouterr().err
    assert "warning: storage: dropped line" in said and "which a crash had cut" in said
    assert [trial.state.name for trial in stored(tmp_path).trials] == ["COMPLETE"] * 4
    assert list(noted(tmp_path).values()) == [1] * 4 and len(table(tmp_path)) == 4


def test_a_trial_that_a_crash_left_half_asked_for_takes_none_of_the_budget(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    search_of(read_plan(write(tmp_path, trials=3)), out).study.ask()  # no option is chosen yet
    search = search_of(read_plan(write(tmp_path, trials=3)), out)
    given = [search.next() for _ in range(4)]
    assert given[3] is None and None not in given[:3]


def test_a_resumed_search_counts_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["study", write(tmp_path), f"--output={tmp_path / 'out'}", "--trials"]
    assert main([*words, "2"]) == 0
    assert main([*words, "4"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "tiny: trial " in line]
    assert [line.split()[2] for line in lines] == ["1/2", "2/2", "3/4", "4/4"]
    assert all("validation accuracy " in line and "test" not in line for line in lines)


def test_options_that_optuna_asks_for_twice_count_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, axes={"network.layers": [2, 4]}, trials=5)
    assert main(["study", path, f"--output={tmp_path / 'out'}"]) == 0
    search = search_of(read_plan(path), tmp_path / "out")
    assert (search.done, search.failed, search.next()) == (5, 0, None)


@pytest.mark.parametrize("name", ["test_accuracy", "mean_agent_accuracy", "worst_agent_r2"])
def test_optuna_never_chooses_by_test_data(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = write(tmp_path, trials=2, objectives={name: "maximize"})
    assert main(["study", path, f"--output={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"objectives.{name}: expected a result of validation data" in error and "use validation_accuracy" in error


def test_optuna_takes_validation_data_from_the_training_points_or_as_many_as_the_config_says(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="takes 20% of the training points"):
        plan = read_plan(write(tmp_path, trials=2))
    assert plan.base["data"]["validation_fraction"] == 0.2
    assert dict(plan.objectives) == {"validation_accuracy": "maximize", "bytes_per_step": "minimize"}
    plan = read_plan(write(tmp_path, trials=2, config={"data.validation_fraction": 0.3}))
    assert plan.base["data"]["validation_fraction"] == 0.3 and not plan.by_test


def test_a_password_in_the_storage_is_printed_nowhere_and_written_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, trials=2, storage="postgresql://u:swordfish@localhost/x")
    assert main(["study", path, f"--output={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr()
    assert "storage: cannot use postgresql://u:***@localhost/x" in said.err and "swordfish" not in said.err + said.out
    assert "Traceback" not in said.err
    assert "swordfish" not in repr(read_plan(path))
    for file in (tmp_path / "out").rglob("*"):
        assert not file.is_file() or b"swordfish" not in file.read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"config": {"network.activation": "sin"}},
            "holds study tiny with network.activation = 'tanh', but now it is 'sin'",
        ),
        ({"config": {"data.noise": 0.1}}, "holds study tiny with data.noise = 0.0, but now it is 0.1"),
        (
            {"objectives": {"validation_accuracy": "maximize", "parameters": "minimize"}},
            "with objectives = {.*'bytes_per_step': 'minimize'}, but now it is {.*'parameters': 'minimize'}",
        ),
        (
            {"axes": {**SPACE["axes"], "network.width": [2, 4]}},
            "expected the values 2, 4, 8 of axis network.width as in study tiny, got 2, 4; Optuna cannot change them",
        ),
    ],
)
def test_a_storage_keeps_trials_apart_that_cannot_be_compared(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = str(tmp_path / "shared.journal")
    search = search_of(read_plan(write(tmp_path, trials=2, storage=storage)), tmp_path / "out")
    trial = search.next()
    assert trial is not None
    search.ended({"id": trial.id, "status": "failed"})
    plan = read_plan(write(tmp_path, trials=3, storage=storage, **changes))
    with pytest.raises(ValueError, match=message):
        search_of(plan, tmp_path / "other")
    same = read_plan(write(tmp_path, trials=3, storage=storage))
    assert search_of(same, tmp_path / "other").next() is not None
    renamed = read_plan(write(tmp_path, trials=3, storage=storage, name="renamed", **changes))
    assert search_of(renamed, tmp_path / "other").next() is not None


def test_a_storage_is_of_one_content_of_a_file_wherever_that_lies(tmp_path: Path) -> None:
    storage = str(tmp_path / "shared.journal")
    for name, rows in (("a", "1 2"), ("b", "1 2"), ("c", "1 2\n2 3")):
        (tmp_path / f"{name}.edges").write_text(rows + "\n")
        config = {"graph.file": str(tmp_path / f"{name}.edges")}
        plan = read_plan(write(tmp_path, trials=2, storage=storage, config=config))
        if name == "c":
            with pytest.raises(
                ValueError, match="holds study tiny with another graph.file: that file has changed since"
            ):
                search_of(plan, tmp_path / "out")
        else:
            search_of(plan, tmp_path / "out")
    with pytest.raises(ValueError, match="holds study tiny with graph.file = True, but now it is False"):
        search_of(read_plan(write(tmp_path, trials=2, storage=storage)), tmp_path / "out")


def test_a_storage_notes_the_files_of_baselines_that_are_added_later(tmp_path: Path) -> None:
    storage, graph = str(tmp_path / "shared.journal"), tmp_path / "ring.edges"
    graph.write_text("0 1\n1 2\n2 0\n")
    search_of(read_plan(write(tmp_path, trials=2, storage=storage)), tmp_path / "out")
    path = write(tmp_path, trials=2, storage=storage, baselines={"ring": {"graph.file": str(graph)}})
    search_of(read_plan(path), tmp_path / "out")
    graph.write_text("0 1\n1 2\n")
    with pytest.raises(
        ValueError, match="holds study tiny with another graph.file .*ring.edges: that file has changed"
    ):
        search_of(read_plan(path), tmp_path / "out")
