"""Starts trainings that are disturbed, with real processes, and says how they ended; see `disturbed.py`."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.disturbed import TRIES, alive, watch

PROGRAM = Path(__file__).with_name("disturbed.py")
WORKERS, STEPS, BATCHES = 4, 12, 4
SMALL = (
    f"--workers={WORKERS}",
    "--graph.family=ring",
    "--graph.agents=8",
    "--network.layers=4",
    "--data.samples=200",
    "--train.batch_size=25",
    "--train.epochs=3",
    "--timeout=10",
    "--plots=false",
)
PHASES = ("forward", "backward", "reduce", "eval")
LAUNCHERS = ("TORCHELASTIC", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_", "PMI", "MPI_LOCAL", "OMPI_COMM", "SLURM_")


@dataclass
class Ended:
    """A job: exit code, seconds from the fault to the end of the last process, what was printed, what is left."""

    fault: dict[str, Any]
    run: Path
    code: int | None
    seconds: float | None
    left: list[int]
    said: str
    report: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.fault}: {self.said[-1500:]}"

    def assert_failed_within(self, limit: float) -> None:
        """Assert that the fault struck, that all processes ended within `limit` seconds, and that nothing is left."""
        assert self.seconds is not None, "the fault did not happen"
        assert self.seconds <= limit, f"ended {self.seconds:.1f} s after the fault, expected {limit:g} s"
        assert self.left == [], "processes are left"
        assert list(self.run.parent.glob("dist_hdnn-*")) == [], "temporary files are left"
        assert self.code != 0, "the job ended well"


def environment() -> dict[str, str]:
    """Of a process that no launcher has started."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
    return inherited | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parents[2]), "PYTHONUNBUFFERED": "1"}


def a_fault(kind: str, phases: Sequence[str] = PHASES) -> dict[str, Any]:
    """At a random worker, step and exchange; the evaluation comes after the last step of an epoch."""
    phase = random.choice(phases)
    step = random.randrange(2, STEPS) if phase != "eval" else BATCHES * random.randrange(1, STEPS // BATCHES)
    exchange = 1 if phase == "reduce" else random.randrange(1, 16)
    return {"kind": kind, "worker": random.randrange(WORKERS), "step": step, "phase": phase, "exchange": exchange}


def forked(folder: Path, faults: Sequence[dict[str, Any]], limit: float = 600.0, **options: Any) -> list[Ended]:
    """Jobs of our launcher, one after the other (together=True: at once), by forks; options: of every job.

    limit: seconds of all of them; the option `limit_of_each` is that of one, which is then not tried again after a
    pause of the machine.
    """
    together = ["together"] if options.pop("together", False) else []
    given = tuple(options.pop("arguments", SMALL))
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        {"folder": str(folder / str(i)), "arguments": [*given, f"--output={folder / str(i) / 'run'}"], "fault": fault}
        | options
        for i, fault in enumerate(faults)
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, str(PROGRAM), "--jobs", str(folder / "jobs.json"), *together]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=limit)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(jobs)
    return [
        _ended(job["fault"], Path(job["folder"]), one, (Path(job["folder"]) / "said").read_text())
        for job, one in zip(jobs, found, strict=True)
    ]


def started(
    folder: Path, fault: dict[str, Any], before: Sequence[object] = (), limit: float = 100.0, **variables: str
) -> Ended:
    """A job as a user starts it: our launcher, or another one by its command `before` the program."""
    command = [*map(str, before or (sys.executable,)), str(PROGRAM), *SMALL, f"--output={folder / 'run'}"]
    if before:
        command.remove(f"--workers={WORKERS}")
    variables |= {"FAULT": json.dumps({**fault, "folder": str(folder)}), "TMPDIR": str(folder)}
    for _ in range(TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with (folder / "said").open("wb") as said:
            process = subprocess.Popen(
                command, env=environment() | variables, stdout=said, stderr=said, start_new_session=True
            )
            found = watch(process, folder, limit)
        if not found["paused"]:
            break
    return _ended(fault, folder, found, (folder / "said").read_text(errors="replace"))


def _ended(fault: dict[str, Any], folder: Path, found: dict[str, Any], said: str) -> Ended:
    path = folder / "run" / "report.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    return Ended(fault, folder / "run", found["code"], found["seconds"], found["left"], said, report)


__all__ = ["Ended", "PHASES", "PROGRAM", "SMALL", "STEPS", "WORKERS", "a_fault", "alive", "forked", "started"]
