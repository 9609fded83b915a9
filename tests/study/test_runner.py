"""Studies with trials that take no time: which run, when, how often; what a stop, a crash and a failure leave."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dist_hdnn.cli import main
from dist_hdnn.study import plots, runner

TRIAL = Path(__file__).with_name("trial.py")
ROOT = TRIAL.parents[2]
GRID: dict[str, Any] = {"axes": {"network.layers": [2, 4, 8], "seed": [0, 1]}}
STARTER = f"import sys; from dist_hdnn.study import runner; runner.TRAIN = ({str(TRIAL)!r},); runner.IMPORTED = (); "


@pytest.fixture(autouse=True)
def trials_that_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "TRAIN", (str(TRIAL),))
    monkeypatch.setattr(runner, "IMPORTED", ())
    monkeypatch.setattr(plots, "plot_study", lambda *_: [])  # which takes longer than these trials


def write(folder: Path, document: dict[str, Any]) -> str:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return str(path)


def study(folder: Path, document: dict[str, Any], *arguments: str) -> int:
    return main(["study", write(folder, document), f"--output={folder / 'out'}", *arguments])


def start(folder: Path, document: dict[str, Any], *arguments: str) -> subprocess.Popen[str]:
    """The same in a process of its own, which can be stopped."""
    command = ["study", write(folder, document), f"--output={folder / 'out'}", *arguments]
    program = f"{STARTER}from dist_hdnn.cli import main; sys.exit(main({command!r}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in a minute"
        time.sleep(0.02)


def noted(folder: Path, name: str = "started") -> Counter[str]:
    path = folder / f"{name}.txt"
    return Counter(path.read_text().split()) if path.exists() else Counter()


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def summaries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (folder / "out").glob("trials/*/run/summary.json")]


def test_a_study_runs_every_trial_once_and_again_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert study(tmp_path, GRID) == 0
    assert list(noted(tmp_path).values()) == [1] * 6
    assert [(row["network.layers"], row["seed"]) for row in table(tmp_path)] == [
        (layers, seed) for layers in "248" for seed in "01"
    ]
    first = capsys.readouterr()
    assert first.err.count("tiny: trial ") == 6 and "6 done, 0 failed" in first.out
    assert study(tmp_path, GRID) == 0
    assert list(noted(tmp_path).values()) == [1] * 6
    again = capsys.readouterr()
    assert again.out == first.out and again.err == ""


def test_max_trials_runs_this_many_and_the_same_command_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tmp_path, GRID, "--max-trials=2") == 0
    assert len(table(tmp_path)) == 2 and "2 done, 0 failed, 4 left" in capsys.readouterr().out
    assert study(tmp_path, GRID, "--max-trials=3", "--parallel=2") == 0
    assert len(table(tmp_path)) == 5
    assert study(tmp_path, GRID) == 0
    assert len(table(tmp_path)) == 6 and list(noted(tmp_path).values()) == [1] * 6
    assert "left" not in capsys.readouterr().out.splitlines()[-4]


def test_a_longer_axis_adds_trials_to_a_study_and_the_count_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tmp_path, GRID) == 0
    capsys.readouterr()
    assert study(tmp_path, {"axes": {"network.layers": [2, 4, 8], "seed": [0, 1, 2]}}) == 0
    assert [line.split()[2] for line in capsys.readouterr().err.splitlines()] == ["7/9", "8/9", "9/9"]
    assert list(noted(tmp_path).values()) == [1] * 9 and len(table(tmp_path)) == 9


@pytest.mark.parametrize("how", ["fails", "dies"])
def test_a_failed_trial_is_recorded_and_does_not_end_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    document = {"axes": {"name": ["fine", how], "seed": [0, 1]}}
    assert study(tmp_path, document) == 0
    said = {"fails": "network.step: it does not fit", "dies": "killed by SIGKILL"}[how]
    rows = table(tmp_path)
    assert [row["status"] for row in rows] == ["done", "done", "failed", "failed"]
    assert [row["error"] for row in rows] == ["", "", said, said]
    assert said in (tmp_path / "out" / "report.md").read_text() and f"failed: {said}" in capsys.readouterr().err
    assert study(tmp_path, document) == 0 and list(noted(tmp_path).values()) == [1] * 4
    assert study(tmp_path, document, "--retry-failed") == 0 and sorted(noted(tmp_path).values()) == [1, 1, 2, 2]


def test_a_study_of_which_every_trial_fails_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert study(tmp_path, {"config": {"name": "fails"}, **GRID}) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "all 6 trials failed; the first: network.step: it does not fit" in last


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config": {"train": {"epochs": 3}}}, "train.epochs = 50, but now it is 3"),
        ({"axes": {"network.layers": [2, 4, 8]}}, "axes = ['network.layers', 'seed']"),
        ({"objectives": {"loss": "minimize"}}, "objectives"),
    ],
)
def test_a_study_is_not_resumed_with_another_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], message: str
) -> None:
    assert study(tmp_path, GRID) == 0
    before = (tmp_path / "out" / "results.csv").read_bytes()
    capsys.readouterr()
    assert study(tmp_path, {**GRID, **changed}) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error and "--output" in error
    assert (tmp_path / "out" / "results.csv").read_bytes() == before and len(noted(tmp_path)) == 6


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    assert study(tmp_path, GRID) == 2
    assert "expected a new folder" in capsys.readouterr().err


def test_an_objective_that_no_run_has_is_a_line_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tmp_path, {**GRID, "objectives": {"test_acuracy": "maximize"}}) == 2
    assert "did you mean test_accuracy?" in capsys.readouterr().err


@pytest.mark.timeout(120)
def test_trials_run_at_once_but_never_more_than_allowed(tmp_path: Path) -> None:
    assert study(tmp_path, {"config": {"name": "slow"}, **GRID}, "--parallel=3") == 0
    spans = [(found["time"], found["until"]) for found in summaries(tmp_path)]
    at_once = [sum(begin <= moment < end for begin, end in spans) for moment, _ in spans]
    assert 2 <= max(at_once) <= 3


def test_trials_know_nothing_of_a_launcher_around_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "SLURM_PROCID", "PMI_RANK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert study(tmp_path, {"axes": {"seed": [0]}}, "--parallel=1") == 0
    (found,) = summaries(tmp_path)
    assert found["ranks"] == [] and int(found["threads"]) >= 1


@pytest.mark.processes
@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_study_ends_its_trials_and_resumes_where_it_stopped(tmp_path: Path, number: signal.Signals) -> None:
    document = {"axes": {"name": ["fine", "waits"], "seed": [0, 1]}}
    process = start(tmp_path, document, "--parallel=2")
    until(lambda: len(noted(tmp_path)) == 4 and sum(noted(tmp_path, "ended").values()) == 2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert errors.splitlines()[-1].endswith("stopped; the same command resumes it")
    assert [row["status"] for row in table(tmp_path)] == ["done", "done"]
    waiting = [name for name, count in noted(tmp_path).items() if name not in noted(tmp_path, "ended")]
    assert len(waiting) == 2 and not (tmp_path / "out" / "trials" / waiting[0] / "result.json").exists()
    assert study(tmp_path, {"axes": {"name": ["fine", "slow"], "seed": [0, 1]}}) == 0
    assert all(noted(tmp_path)[name] == 1 for name in noted(tmp_path, "ended"))
    until(lambda: not running(tmp_path))


@pytest.mark.processes
@pytest.mark.timeout(180)
def test_a_stopped_trial_without_a_checkpoint_starts_anew_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {"config": {"name": "waits"}, "axes": {"seed": [0]}}
    process = start(tmp_path, document)
    until(lambda: (tmp_path / "out").is_dir() and len(list(tmp_path.glob("out/trials/*/run/metrics.jsonl"))) == 1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    (trial,) = (tmp_path / "out" / "trials").iterdir()
    assert json.loads((trial / "start.json").read_text())["wall_seconds"] > 0
    process = start(tmp_path, document)
    until(lambda: noted(tmp_path)[trial.name] == 2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert f"tiny: trial {trial.name} was stopped; it starts again, as it left no checkpoint\n" in errors


def running(folder: Path) -> list[str]:
    """Trials that still run, by their command lines."""
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in found.splitlines() if "trial.py" in line and str(folder) in line]


@pytest.mark.processes
@pytest.mark.timeout(180)
def test_a_killed_study_loses_and_repeats_no_trial(tmp_path: Path) -> None:
    document = {"config": {"name": "slow"}, "axes": {"seed": list(range(6))}}
    process = start(tmp_path, document, "--parallel=2")
    until(lambda: len(noted(tmp_path)) >= 4)
    process.kill()
    process.communicate()
    assert study(tmp_path, document, "--parallel=2") == 0
    assert list(noted(tmp_path).values()) == [1] * 6 and [row["status"] for row in table(tmp_path)] == ["done"] * 6


@pytest.mark.processes
@pytest.mark.timeout(180)
def test_two_studies_in_one_folder_share_the_trials(tmp_path: Path) -> None:
    document = {"config": {"name": "slow"}, "axes": {"seed": list(range(6))}}
    (tmp_path / "out").mkdir()
    both = [start(tmp_path, document, "--parallel=2"), start(tmp_path, document, "--parallel=2")]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert list(noted(tmp_path).values()) == [1] * 6 and len(table(tmp_path)) == 6
