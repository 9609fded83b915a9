"""Trials forked from a warm process end as processes of their own do, and outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_hdnn.launching import warm
from dist_hdnn.launching.warm import Forked, WarmProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere trials are processes of their own")


@pytest.fixture
def process() -> Iterator[WarmProcess]:
    made = WarmProcess(dict(os.environ) | {"COLOR": "green"}, ("json",))
    yield made
    made.close()


def start(process: WarmProcess, folder: Path, text: str) -> tuple[Forked, Path]:
    """Start a script that prints to a file and holds another one open."""
    script, output = folder / "trial.py", folder / "output.txt"
    script.write_text(text)
    with output.open("wb") as file, (folder / "lock").open("wb") as lock:
        child = process.start([str(script), "one", "two"], file.fileno(), lock.fileno())
    assert child is not None
    return child, output


def test_a_trial_has_arguments_environment_output_and_a_group_of_its_own(process: WarmProcess, tmp_path: Path) -> None:
    text = "import os, sys; print(sys.argv[1:], __name__, os.environ['COLOR'], os.getpgid(0) == os.getpid()); 1 / 0"
    child, output = start(process, tmp_path, text)
    assert child.wait(30) == 1 == child.poll()
    said = output.read_text()
    assert said.startswith("['one', 'two'] __main__ green True") and "ZeroDivisionError" in said


@pytest.mark.parametrize("code", [0, 3, 75])
def test_exit_codes(process: WarmProcess, tmp_path: Path, code: int) -> None:
    assert start(process, tmp_path, f"raise SystemExit({code})")[0].wait(30) == code


def test_a_trial_that_is_killed_and_one_that_takes_long(process: WarmProcess, tmp_path: Path) -> None:
    child, _ = start(process, tmp_path, "import time; time.sleep(60)")
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.2)
    assert child.poll() is None
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL


def test_trials_run_on_when_the_warm_process_ends(tmp_path: Path) -> None:
    process = WarmProcess(os.environ, ())
    child, output = start(process, tmp_path, "import time; time.sleep(1); print('done')")
    os.kill(process._process.pid, signal.SIGKILL)
    assert child.poll() is None
    assert child.wait(30) == warm.UNKNOWN
    assert output.read_text() == "done\n"
    with (tmp_path / "other").open("wb") as file:
        assert process.start(["-m", "this"], file.fileno(), file.fileno()) is None, "it starts no more"
    process.close()


def test_a_module_that_cannot_be_imported_leaves_trials_to_start_by_themselves(tmp_path: Path) -> None:
    process = WarmProcess(os.environ, ("no_such_module",))
    with (tmp_path / "output").open("wb") as file:
        assert process.start(["-m", "this"], file.fileno(), file.fileno()) is None
    process.close()


def test_the_warm_process_ends_with_its_user(tmp_path: Path) -> None:
    text = """
import os
from dist_hdnn.launching.warm import WarmProcess
process = WarmProcess(os.environ, ())
print(process._process.pid, flush=True)
os._exit(0)
"""
    pid = int(subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60).stdout)
    deadline = time.monotonic() + 20
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    """Tell whether a process runs, one that nobody waits for left out."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
