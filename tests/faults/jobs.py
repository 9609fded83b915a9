"""A training as a job of real processes that fault tests disturb; `Job` starts it, looks at it and leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from dist_hdnn.training.checkpoints.weights_file import FINAL

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "swiss_roll_ring8.yaml"
EPOCHS = 32  # of 2 steps: workers ask each other at steps 1, 3, 7, 15, 31, 63 at the latest
SHORT = ["--data.samples=200", f"--train.epochs={EPOCHS}", "--network.layers=2", "--train.batch_size=50"]
OPTIONS = [str(CONFIG), *SHORT, "--deterministic=true", "--timeout=60", "--plots=false"]
LAUNCHERS = ("TORCHELASTIC", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_", "PMI", "OMPI_COMM", "SLURM_")
TRAIN = [sys.executable, "-m", "dist_hdnn", "train"]


class Job:
    """A command in a session of its own. run: its run directory."""

    def __init__(self, run: Path, *command: object) -> None:
        self.run = run
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
        self.process = subprocess.Popen(
            [str(word) for word in command],
            env=inherited | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.seen: set[int] = set()

    def workers(self) -> list[int]:
        """Processes below this one that belong to no others: the workers, or the job itself."""
        parents = {int(path.name): parent_of(path) for path in Path("/proc").glob("[0-9]*")}
        below, layer = [], [self.process.pid]
        while layer:
            layer = [pid for pid, parent in parents.items() if parent in layer]
            below += layer
        leaves = sorted(pid for pid in below if pid not in parents.values()) or [self.process.pid]
        self.seen |= set(leaves)
        return leaves

    def wait_for_epoch(self, epoch: int, limit: float = 90) -> None:
        """Until the metrics have this many epochs."""
        deadline = time.monotonic() + limit
        while epochs(self.run) < epoch:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, f"no epoch {epoch} after {limit} s"
            time.sleep(0.02)

    def end(self, limit: float) -> tuple[int, str]:
        """Exit code and what it said on stderr; no worker that was ever seen may be left."""
        try:
            _, errors = self.process.communicate(timeout=limit)
        finally:
            self.kill()
        deadline = time.monotonic() + 5
        while any(Path(f"/proc/{pid}").exists() and parent_of(Path(f"/proc/{pid}")) for pid in self.seen):
            assert time.monotonic() < deadline, "a worker is left"
            time.sleep(0.05)
        return self.process.returncode, errors

    def kill(self) -> None:
        for pid in (self.process.pid, *self.seen):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        self.process.wait()


def parent_of(process: Path) -> int:
    """0 for one that has ended."""
    try:
        state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return 0
    return 0 if state == "Z" else int(parent)


def epochs(run: Path) -> int:
    """How many the metrics have."""
    with contextlib.suppress(OSError):
        return (run / "metrics.jsonl").read_bytes().count(b"\n")
    return 0


def outcome(run: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Final weights and the metrics of all epochs but their times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return load_file(run / FINAL), [line | {"seconds": 0} for line in lines]


def assert_same(run: Path, other: Path) -> None:
    """Weights and metrics of two runs are the same bits."""
    (weights, metrics), (others, other_metrics) = outcome(run), outcome(other)
    assert metrics == other_metrics
    assert weights.keys() == others.keys() and all((weights[name] == others[name]).all() for name in weights)
