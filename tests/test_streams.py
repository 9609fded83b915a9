"""A training outlasts those who read what it says: pipes that close, and streams that were never open."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dist_hdnn.launching.worker import READER_GONE, verdict
from dist_hdnn.streams import outlasting_readers

ROOT = Path(__file__).parents[1]
SMALL = "--network.layers=1 --data.samples=40 --train.epochs=1 --plots=false"
TRAIN = f"{shlex.quote(sys.executable)} -m dist_hdnn train {SMALL}"


def test_what_nobody_reads_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        with outlasting_readers():
            print("lost", flush=True)
            sys.stdout.write("lost, too")
        assert sys.stdout is gone


def test_what_somebody_reads_arrives(capsys: pytest.CaptureFixture[str]) -> None:
    with outlasting_readers():
        print("out")
        print("err", file=sys.stderr)
    assert capsys.readouterr() == ("out\n", "err\n")


def test_a_broken_pipe_is_no_full_disk() -> None:
    assert verdict(BrokenPipeError()) == (READER_GONE, "the reader of its output has gone")


@pytest.mark.processes
@pytest.mark.parametrize("shell", ["{} > >(exec true) 2> >(exec true)", "{} <&- 2>&-", "{} --workers=2 2>&1 | true"])
def test_a_training_that_nobody_watches_is_finished(shell: str, tmp_path: Path) -> None:
    command = shell.format(f"{TRAIN} --output={tmp_path / 'run'}")
    words = ["bash", "-c", f"set -o pipefail; {command}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["status"] == "done"
