"""Optuna asks for the trials, the study runs them; the budget is kept over stops and shared by several studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from study.test_runner import TRIAL, noted, table

from dist_hdnn.cli import main
from dist_hdnn.study import optuna_search, plots, runner
from dist_hdnn.study.optuna_search import OptunaSearch
from dist_hdnn.study.plan import read_plan

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
    monkeypatch.setattr(plots, "plot_study", lambda *_: [])  # which takes longer than these trials


def write(folder: Path, **changes: Any) -> str:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**SPACE, **changes}, sort_keys=False))
    return str(path)


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
        assert trial.values == [float(row["test_accuracy"]), float(row["bytes_per_step"])]
    assert list(noted(tmp_path).values()) == [1] * 7


def test_a_trial_that_was_asked_for_and_not_finished_is_run_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    search = OptunaSearch(read_plan(write(tmp_path, trials=3)), out)
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
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "storage: cannot use nosuchdatabase://here" in error
    monkeypatch.setattr(optuna_search, "optuna", None)
    assert main(["study", path, f"--output={tmp_path / 'out'}"]) == 2
    assert "pip install -e '.[study]' in the checkout" in capsys.readouterr().err
