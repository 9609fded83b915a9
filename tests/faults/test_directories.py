"""F23, F24: a run directory that cannot be written, that vanishes, a disk that is full."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.small import Setting, step_folder, trained

from dist_hdnn.cli import main
from dist_hdnn.experiment import tasks
from dist_hdnn.training.checkpoints import saver
from dist_hdnn.training.checkpoints.weights_file import newest_checkpoint
from dist_hdnn.training.loop import TrainingState

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "swiss_roll_ring8.yaml"
SHORT = ["--data.samples=200", "--train.epochs=4", "--network.layers=2", "--train.batch_size=50", "--plots=false"]


def a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file"


def below_a_file(folder: Path) -> Path:
    return a_file(folder) / "run"


def in_use(folder: Path) -> Path:
    (folder / "notes.txt").write_text("")
    return folder


def read_only(folder: Path) -> Path:
    """Not even root may write there."""
    return Path("/proc/run")


@pytest.mark.parametrize("make", [a_file, below_a_file, in_use, read_only])
def test_F23_a_bad_output_ends_before_training(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tasks, "train_model", lambda *_, **__: pytest.fail("training was reached"))
    started = time.process_time()  # of this process, whatever else the machine does
    assert main(["train", str(CONFIG), *SHORT, f"--output={make(tmp_path)}"]) == 2
    assert time.process_time() - started < 2
    assert capsys.readouterr().err.startswith("dist-hdnn: error: output: expected")


def test_F23_a_run_directory_that_vanishes_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, step = tmp_path / "run", tasks.RunLog.step

    def vanishing(log: Any, number: int, loss: float) -> None:
        step(log, number, loss)
        if number == 3:
            run.rename(tmp_path / "gone")

    monkeypatch.setattr(tasks.RunLog, "step", vanishing)
    assert main(["train", str(CONFIG), *SHORT, f"--output={run}", "--checkpoint.every=1 steps"]) == 7
    assert "dist-hdnn: error: " in capsys.readouterr().err and not run.exists()


def test_F24_too_little_space_is_seen_before_a_byte_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = shutil.disk_usage(tmp_path)

    def disturb(rank: int, state: TrainingState) -> None:
        if state.step == 6:
            monkeypatch.setattr(saver.shutil, "disk_usage", lambda _: space._replace(free=1 << 20))

    with pytest.raises(OSError, match=r"no space left \(0.0 MB needed, 1.0 MB free\)") as found:
        trained(tmp_path, 2, Setting(every=3), disturb=disturb)
    assert found.value.exit_code == 7 and newest_checkpoint(tmp_path) == step_folder(tmp_path, 3)
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.processes
def test_F24_a_disk_that_fills_up_while_writing_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the system call fails half way, as on a full one."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "dist_hdnn", "train", str(CONFIG), *SHORT, f"--output={run}"]
    every = "--checkpoint.every=2 steps"
    assert main([*command[3:], every, "--train.epochs=3"]) == 0
    kept = newest_checkpoint(run / "checkpoints")
    shutil.rmtree(step := kept.with_name("step_00000006"), ignore_errors=True)
    for left in ("summary.json", "checkpoints/final.safetensors"):
        (run / left).unlink()
    kept = newest_checkpoint(run / "checkpoints")
    size = (kept / "worker_0.safetensors").stat().st_size

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    resume = [*command[:4], f"--resume={run}", every]
    done = subprocess.run(resume, capture_output=True, text=True, timeout=100, preexec_fn=limit, env={**os.environ})
    assert done.returncode == 7, done.stderr
    assert "file too large for a checkpoint" in done.stderr and "those before it are intact" in done.stderr
    assert newest_checkpoint(run / "checkpoints") == kept and not step.exists()
