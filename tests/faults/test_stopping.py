"""F25, F26: a signal stops all workers with a checkpoint, after a kill all start again; no step is lost or other."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.jobs import EPOCHS, OPTIONS, TRAIN, Job, assert_same, epochs
from faults.small import NIGHTLY, repetitions, tally

from dist_hdnn.cli import main
from dist_hdnn.experiment import pictures
from dist_hdnn.training.checkpoints.manifest import read_manifest
from dist_hdnn.training.checkpoints.weights_file import newest_checkpoint

pytestmark = [pytest.mark.processes, pytest.mark.timeout(3600 if NIGHTLY else 300)]
OFTEN = "--checkpoint.every=4 steps"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert main(["train", *OPTIONS, f"--output={run}"]) == 0
    return run


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the runs in this process."""
    monkeypatch.setattr(pictures, "plot_run", lambda *_: None)


@pytest.fixture
def jobs() -> Iterator[list[Job]]:
    started: list[Job] = []
    yield started
    for job in started:
        job.kill()


@pytest.mark.parametrize(
    ("name", "to", "workers"),
    [("SIGTERM", "launcher", 2), ("SIGINT", "worker", 2), ("SIGUSR1", "launcher", 2), ("SIGINT", "launcher", 1)],
)
def test_F25_a_signal_stops_all_workers_with_a_checkpoint(
    name: str, to: str, workers: int, undisturbed: Path, jobs: list[Job], tmp_path: Path
) -> None:
    for turn in range(repetitions(1, 8)):
        run = tmp_path / f"run {turn}"
        jobs.append(job := Job(run, *TRAIN, *OPTIONS, f"--output={run}", f"--workers={workers}"))
        job.wait_for_epoch(random.randrange(1, EPOCHS // 3))
        processes = job.workers()
        started = time.monotonic()
        os.kill(random.choice(processes) if to == "worker" else job.process.pid, getattr(signal, name))
        code, errors = job.end(60)
        assert code == 75, errors
        tally.seconds.append(time.monotonic() - started)
        assert tally.seconds[-1] < 30
        last = errors.strip().splitlines()[-1]
        assert f"stopped by {name if to == 'launcher' else ''}" in errors and last.startswith("dist-hdnn train ")
        summary = json.loads((run / "summary.json").read_text())
        manifest = read_manifest(newest_checkpoint(run / "checkpoints"))
        assert summary["status"] == "stopped" and summary["steps"] == manifest.step
        arguments = [word for word in shlex.split(last)[1:] if not word.startswith("--workers")]
        assert main(arguments) == 0
        assert_same(run, undisturbed)


def test_F25_a_second_signal_ends_at_once(jobs: list[Job], tmp_path: Path) -> None:
    run = tmp_path / "run"
    jobs.append(job := Job(run, *TRAIN, *OPTIONS, f"--output={run}"))
    time.sleep(0.5)
    code = 75
    while job.process.poll() is None:
        job.process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    code, _ = job.end(30)
    assert code in (130, -signal.SIGINT)


def kill_one(job: Job, epoch: int) -> None:
    """SIGKILL a random worker after an epoch."""
    job.wait_for_epoch(epoch)
    os.kill(random.choice(job.workers()), signal.SIGKILL)


@pytest.mark.parametrize("launcher", ["torchrun", "ours"])
def test_F26_a_killed_worker_starts_all_again(
    launcher: str, undisturbed: Path, jobs: list[Job], tmp_path: Path
) -> None:
    elastic = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3"]
    for turn in range(repetitions(1, 20)):
        run = tmp_path / f"run {turn}"
        command = [*elastic, "-m", "dist_hdnn", "train", "--resume=auto"]
        command = command if launcher == "torchrun" else [*TRAIN, "--workers=2", "--restarts=3"]
        jobs.append(job := Job(run, *command, *OPTIONS, f"--output={run}", OFTEN))
        kill_one(job, random.randrange(5, EPOCHS // 3))
        before = epochs(run)
        code, errors = job.end(150)
        assert code == 0, errors
        assert_same(run, undisturbed)
        resumed = json.loads((run / "summary.json").read_text())["resumed_after_step"]
        assert resumed >= 2 * before - 8, "at most one interval is lost"
