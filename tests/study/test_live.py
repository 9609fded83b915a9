"""What the terminal shows while a study runs."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dist_hdnn.study.axes import Trial
from dist_hdnn.study.report import LiveTable
from dist_hdnn.study.runner import Progress, Running
from dist_hdnn.study.search import Search
from dist_hdnn.study.trials import TrialFolder

AIMS = {"mean_agent_accuracy": "maximize", "bytes_per_step": "minimize"}


def ended(seed: int, status: str = "done") -> dict[str, Any]:
    summary = {"test_accuracy": 0.9871, "mean_agent_accuracy": 0.91, "bytes_per_step": 1228800, "parameters": 10634}
    return {
        "id": f"t{seed}",
        "status": status,
        "baseline": "",
        "values": {"graph.family": "ring", "seed": seed},
        "error": "network.step: no" if status == "failed" else "",
        "summary": summary if status == "done" else {},
    }


def progress(folder: Path) -> Progress:
    place = TrialFolder(folder / "t2")
    place.run.mkdir(parents=True)
    (place.run / "metrics.jsonl").write_text("{}\n{}\n{}\n")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    search = Search([Trial({"seed": seed}, {"seed": seed}) for seed in range(5)])
    search.done, search.failed = 2, 1
    found = Progress(search, running=[Running(Trial({"seed": 2}, {"seed": 2}), place, process, epochs=20)])
    found.elsewhere["t3"] = (Trial({"seed": 3}, {"seed": 3}), 0.0)
    found.last = [ended(0), ended(1, "failed")]
    found.results = {result["id"]: result for result in found.last}
    return found


def test_the_table_shows_what_ended_what_runs_and_what_others_run(tmp_path: Path) -> None:
    screen = io.StringIO()
    Console(file=screen, width=110).print(LiveTable("tiny", AIMS).table(progress(tmp_path)))
    text = screen.getvalue()
    assert "2 of 5 trials, 1 failed" in text
    row = next(line for line in text.splitlines() if "seed 0" in line)
    assert row.split() == ["family", "ring,", "seed", "0", "done", "91.00", "1,228,800", "10,634"]
    assert "mean agent (%)" in text and "98.71" not in text
    assert any("seed 1" in line and "failed" in line for line in text.splitlines())
    assert any("seed 2" in line and "epoch 3/20" in line for line in text.splitlines())
    assert any("seed 3" in line and "another process" in line for line in text.splitlines())


def test_without_a_terminal_every_new_result_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = progress(tmp_path)
    table = LiveTable("tiny", AIMS)
    with table:
        table.changed(found, None)
        table.changed(found, found.last[0])  # of an earlier session
        table.changed(found, found.last[1])
        found.last.append(ended(4))
        found.search.done = 3
        table.changed(found, found.last[2])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tiny: trial 2/5  family ring, seed 1  failed: network.step: no"
    assert lines[1] == (
        "tiny: trial 3/5  family ring, seed 4  mean agent 91.00 %  bytes/step 1,228,800  parameters 10,634"
    )
    assert len(lines) == 2
