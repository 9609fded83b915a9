"""F08-F10: a worker is killed while it saves: the newest checkpoint loads, and the run ends as if undisturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faults.killed_saves import GOOD
from faults.small import STEPS, repetitions

PROGRAM = Path(__file__).with_name("killed_saves.py")
pytestmark = pytest.mark.processes


def killed(folder: Path, how: str, times: int, limit: float) -> list[dict[str, Any]]:
    """The repetitions of one way to be killed."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    command = [sys.executable, str(PROGRAM), str(folder), how, str(times), str(seed)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=limit, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == times
    for one in found:
        assert one["newest"] is not None, one
        assert one["newest"] % 3 == 0 or how == "loop", one
        assert one.get("same", True), one
    return found


@pytest.mark.timeout(1200)
def test_F08_killed_at_a_random_byte_of_a_file(tmp_path: Path) -> None:
    found = killed(tmp_path, "bytes", repetitions(10, 100), 1100)
    assert all(one["signal"] == signal.SIGXFSZ and one["newest"] == GOOD for one in found)


@pytest.mark.timeout(1200)
def test_F09_killed_at_a_random_time_of_a_training_that_always_saves(tmp_path: Path) -> None:
    found = killed(tmp_path, "loop", repetitions(5, 50), 1100)
    assert any(one["signal"] == signal.SIGKILL for one in found)


@pytest.mark.timeout(1200)
def test_F10_killed_between_any_two_steps_of_a_save(tmp_path: Path) -> None:
    found = killed(tmp_path, "calls", repetitions(4, 40), 1100)
    assert any(one["signal"] == signal.SIGKILL and one["newest"] < STEPS for one in found)
