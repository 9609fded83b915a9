"""Workers that share memory: killed, stopped, paused, slow, forked, killed between a write and its flag; full disks.

Rounds alone, without a training; `killed_rounds.py` has the 100 kills.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.conftest import Outcome
from faults.killed_rounds import Job, a_job, kill, on_ring, rounds, run_job
from faults.small import repetitions

from dist_hdnn.transport import Transport
from dist_hdnn.transport.shm.rounds import MESSAGE

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory needs Linux"),
]
PROGRAM = Path(__file__).with_name("killed_rounds.py")
VICTIM, TURNS = 1, 60


def test_F01_a_kill_is_noticed_within_half_a_second_and_nothing_is_left(outcome: Outcome) -> None:
    for _ in range(repetitions(6, 100)):
        job = a_job(random)
        run_job(job, kill(job, random.uniform(0.0, 0.05)))
        with outcome.trial(job, job.over):
            assert job.problems() == []


def counted(transport: Transport, length: int, met: Callable[[], None], pause: float = 0.0) -> None:
    """A number of rounds whose values are all checked, with a worker that may be slow; then all agree to end."""
    exchange = on_ring(transport, length)
    for turn in range(TURNS):
        if turn == 3:
            met()
        exchange.start()
        if transport.rank == VICTIM:
            time.sleep(pause)
        exchange.wait()
        time.sleep(0.002)
    transport.barrier()
    transport.close()


def test_F06_a_worker_that_pauses_changes_nothing() -> None:
    def stop_and_continue(pids: dict[int, int]) -> float:
        for _ in range(3):
            os.kill(pids[VICTIM], signal.SIGSTOP)
            time.sleep(0.2)
            os.kill(pids[VICTIM], signal.SIGCONT)
            time.sleep(random.uniform(0.0, 0.02))
        return time.monotonic()

    job = run_job(Job(3, 16_384, VICTIM), stop_and_continue, body=counted)
    assert (job.codes, job.left, job.said) == (dict.fromkeys(range(3), 0), [], [])


def test_F07_a_slow_worker_changes_nothing() -> None:
    def slow(transport: Transport, length: int, met: Callable[[], None]) -> None:
        counted(transport, length, met, pause=0.005)
        if transport.rank == 0:  # whoever waits for it knows
            assert transport.record.waited[VICTIM] > 0.5 * TURNS * 0.005, transport.record.waited

    job = run_job(Job(3, 64, VICTIM), lambda pids: time.monotonic(), body=slow)
    assert (job.codes, job.left, job.said) == (dict.fromkeys(range(3), 0), [], [])


def test_F05_a_worker_that_stops_for_good_is_named_after_the_timeout() -> None:
    def stop(pids: dict[int, int]) -> float:
        os.kill(pids[VICTIM], signal.SIGSTOP)
        struck = time.monotonic()
        time.sleep(2.5)
        os.kill(pids[VICTIM], signal.SIGKILL)  # as the launcher does once the others have ended
        return struck

    job = run_job(Job(3, 16_384, VICTIM), stop, timeout=1.0)
    assert 1.0 <= job.noticed <= 2.0 and job.left == []
    assert job.codes == {0: 5, 1: -9, 2: 5}
    first = min(job.said, key=lambda one: float(one["at"]))
    assert f"worker {first['rank']} waited 1.0 s for worker {VICTIM} in ring; check the log of" in first["error"]


def test_a_worker_killed_between_its_write_and_its_flag_is_noticed() -> None:
    """Half of its slice is in the ghost rows of the others, which have not been told."""

    def dies(transport: Transport, length: int, met: Callable[[], None]) -> None:
        exchange = on_ring(transport, length)
        for turn in range(10):
            exchange.start()
            exchange.wait()
            if turn == 5:
                met()
        if transport.rank == VICTIM:
            time.sleep(0.1)  # by now the others wait for the next round, and so allow it
            wire: Any = exchange.channel._wire
            for row in wire._table[: wire._sends]:
                ctypes.memset(int(row[MESSAGE["memory"]]), 0x55, int(row[MESSAGE["bytes"]]) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        rounds(transport, length, lambda: None)

    job = run_job(Job(3, 16_384, VICTIM), lambda pids: time.monotonic(), body=dies)
    assert job.problems() == []


@pytest.mark.parametrize("child", ["lives on", "ends first"])
def test_a_forked_child_of_a_worker_is_no_worker(child: str) -> None:
    """It has the memory and all descriptors, and neither its end nor its life says anything of its parent."""

    def forks(transport: Transport, length: int, met: Callable[[], None]) -> None:
        exchange = on_ring(transport, length)
        exchange.start()
        exchange.wait()
        if transport.rank == VICTIM:
            pid = os.fork()
            if pid == 0:
                os.setsid()
                time.sleep(3.0 if child == "lives on" else 0.0)
                sys.exit(0) if child == "lives on" else os._exit(0)
            if child == "ends first":
                os.waitpid(pid, 0)
        for _ in range(200):
            exchange.start()
            exchange.wait()
        rounds(transport, length, met)

    job = Job(3, 64, VICTIM)
    run_job(job, kill(job, 0.05), body=forks)
    assert job.problems() == []


def in_small_memory(size: str, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command where /dev/shm has so many bytes, all taken but a page."""
    script = (
        f"mount -t tmpfs -o size={size} tmpfs /dev/shm && "
        '(head -c $(($(df --output=avail -B1 /dev/shm | tail -1) - 4096)) /dev/zero > /dev/shm/full); exec "$@"'
    )
    words = ["unshare", "--mount", "sh", "-c", script, "sh", *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=100)


needs_mounts = pytest.mark.skipif(
    subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0
    if sys.platform == "linux"
    else True,
    reason="needs the right to mount",
)


@needs_mounts
def test_a_full_or_small_dev_shm_does_not_matter() -> None:
    done = in_small_memory("64m", sys.executable, PROGRAM, "--kills", 2, "--seed", 5)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 passed" in done.stdout
