"""Validation data choose the epoch a run ends with and when it stops, on any workers and through a resume."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from faults.small import EPOCHS, STEPS, Setting, gap, step_folder, trained

from dist_hdnn.cli import main
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import tasks
from dist_hdnn.training import loop
from dist_hdnn.training.checkpoints.manifest import read_manifest
from dist_hdnn.training.checkpoints.weights_file import load_checkpoint
from dist_hdnn.training.evaluation import Evaluation
from dist_hdnn.training.loop import TrainingState

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "swiss_roll_ring8.yaml"
SHORT = ["--data.samples=200", "--network.layers=1", "--train.batch_size=40", "--plots=false", "--dtype=float64"]
VALIDATED = [*SHORT, "--data.validation_fraction=0.2", "--train.epochs=6"]
Scripted = Callable[[Sequence[float | None]], None]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Gives epoch after epoch the accuracies of a script to worker 0; the others see nothing that gets better."""
    now = threading.local()

    def script(accuracies: Sequence[float | None]) -> None:
        def record(state: TrainingState, epoch: int, *rest: Any) -> Any:
            own = state.model.network.ownership.rank == 0
            now.seen = Evaluation(1.0, accuracies[epoch - 1] if own else 0.0, None)  # type: ignore[arg-type]
            return real(state, epoch, *rest)

        real = loop._record
        monkeypatch.setattr(loop, "_record", record)
        monkeypatch.setattr(loop, "evaluate", lambda *_: now.seen)

    return script


def ends_with(folder: Path, epoch: int, results: Sequence[Any]) -> bool:
    """Whether all workers end with the weights that the run had after an epoch."""
    wanted = load_checkpoint(step_folder(folder, epoch * STEPS // EPOCHS))
    return all(torch.equal(result.weights[name], wanted[name]) for result in results for name in wanted)


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [([0.5, 0.9, 0.7, 0.9], 2), ([0.2, 0.3, 0.4, 0.5], 4), ([None, 0.1, None, 0.0], 2), ([-3.0, -4.0, -5.0, -6.0], 1)],
)
def test_a_run_ends_with_the_weights_of_its_best_epoch(
    accuracies: list[float | None], best: int, scripted: Scripted, tmp_path: Path
) -> None:
    scripted(accuracies)
    results = trained(tmp_path, 1, Setting(validated=True))
    assert ends_with(tmp_path, best, results)
    marks = [record["best"] for record in results[0].history]
    assert marks[best - 1] and not any(marks[best:])


def test_worker_0_says_which_epoch_is_the_best_and_all_stop_together(scripted: Scripted, tmp_path: Path) -> None:
    scripted([0.5, 0.9, 0.7, 0.6])
    results = trained(tmp_path, 2, Setting(validated=True, patience=1))
    assert [len(result.history) for result in results] == [3, 3]
    assert ends_with(tmp_path, 2, results)


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (None, 4)])
def test_training_stops_after_as_many_epochs_without_a_better_one(
    patience: int | None, epochs: int, scripted: Scripted, tmp_path: Path
) -> None:
    scripted([0.5, 0.9, 0.9, 0.6])
    results = trained(tmp_path, 1, Setting(validated=True, patience=patience))
    assert [record["epoch"] for record in results[0].history] == list(range(1, epochs + 1))
    assert ends_with(tmp_path, 2, results)


def test_levels_before_the_last_neither_stop_nor_give_their_weights(scripted: Scripted, tmp_path: Path) -> None:
    scripted([0.9, 0.8, 0.5, 0.4])
    results = trained(tmp_path, 1, Setting(validated=True, levels=(2, 4), patience=1))
    assert [record["best"] for record in results[0].history] == [None, None, True, False]
    assert ends_with(tmp_path, 3, results)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_best_epoch_so_far_survives_a_resume_bit_by_bit(workers: int, scripted: Scripted, tmp_path: Path) -> None:
    """From the middle of an epoch, from the last step, and from after the stop; also by other workers."""
    scripted([0.5, 0.9, 0.7, 0.6])
    whole = trained(tmp_path / "whole", 1, Setting(validated=True, patience=1))
    assert read_manifest(step_folder(tmp_path / "whole", 7)).best == {"epoch": 2, "accuracy": 0.9}
    for step in (5, 7, 9):
        resumed = trained(
            tmp_path / f"{step}", workers, Setting(validated=True, patience=1), step_folder(tmp_path / "whole", step)
        )
        assert [len(result.history) for result in resumed] == [3] * workers
        assert ends_with(tmp_path / "whole", 2, resumed)
        for mine, other in zip(resumed[0].history, whole[0].history, strict=True):
            assert mine == other | {"gradient_norms": mine["gradient_norms"]}  # which other workers sum otherwise
        if step < 9:
            assert gap(step_folder(tmp_path / f"{step}", 9), step_folder(tmp_path / "whole", 9)) == 0.0


def test_the_best_checkpoint_is_kept_beside_the_newest(scripted: Scripted, tmp_path: Path) -> None:
    scripted([0.5, 0.9, 0.7, 0.6])
    trained(tmp_path, 1, Setting(validated=True, every=3, keep=1))
    assert sorted(path.name for path in tmp_path.glob("step_*")) == ["step_00000006", "step_00000012"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("validated") / "run"
    options = [*VALIDATED, "--train.learning_rate=0.5", "--readout.kind=local", f"--output={directory}"]
    assert main(["train", str(CONFIG), *options]) == 0
    return directory


def test_a_run_with_validation_data_reports_its_best_epoch(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads((run / "summary.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    accuracies = [line["validation_accuracy"] for line in lines]
    first = accuracies.index(max(accuracies))
    assert summary["best_epoch"] == 1 + first and summary["validation_accuracy"] == max(accuracies)
    assert [number for number, line in enumerate(lines) if line["best"]][-1] == first
    assert main(["evaluate", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("test_accuracy", "train_accuracy", "validation_accuracy"):
        assert found[name] == summary[name], name
    assert found["validation_worst_agent_accuracy"] == lines[first]["worst_agent_accuracy"]


def test_test_data_are_read_once_when_training_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def tensors(config: Any, data: Any, which: str) -> Any:
        seen.append(which)
        return split(config, data, which)

    def train_model(*given: Any, **named: Any) -> Any:
        found = train(*given, **named)
        assert "test" not in seen
        return found

    split, train = tasks.split_tensors, tasks.train_model
    monkeypatch.setattr(tasks, "split_tensors", tensors)
    monkeypatch.setattr(tasks, "train_model", train_model)
    tasks.train(read_config(CONFIG, [*VALIDATED, f"--output={tmp_path / 'run'}"]))
    assert seen == ["train", "validation", "test"]


def test_patience_without_validation_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run"
    assert main(["train", str(CONFIG), *SHORT, "--train.patience=3", f"--output={output}"]) == 2
    said = capsys.readouterr().err
    assert "train.patience: expected validation data to stop by, got none in swiss_roll; set data.validation" in said
    assert said.count("\n") == 1 and not output.exists()
