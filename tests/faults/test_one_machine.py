"""F21, F22, F28: jobs beside others on a machine: ports that are taken, who listens where, and a long run."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from faults.conftest import Outcome
from faults.faulty import SMALL, forked
from faults.small import NIGHTLY, repetitions

pytestmark = [pytest.mark.processes, pytest.mark.timeout(3600)]
NONE: dict[str, Any] = {"kind": "none", "worker": 0}
TWO = ("--workers=2", *SMALL[1:])


def test_F21_four_jobs_at_once_need_no_fixed_port(tmp_path: Path, outcome: Outcome) -> None:
    with contextlib.ExitStack() as stack:
        for port in (29500, 29400):
            with contextlib.suppress(OSError):  # taken already: as good
                stack.enter_context(socket.create_server(("", port)))
        for turn in range(repetitions(2, 10)):
            jobs = forked(tmp_path / str(turn), [NONE] * 4, together=True, arguments=TWO, limit=300)
            with outcome.trial([job.said for job in jobs]):
                assert [(job.code, job.left) for job in jobs] == [(0, [])] * 4


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
def test_F22_a_job_of_one_machine_listens_on_loopback_alone(tmp_path: Path, outcome: Outcome) -> None:
    with outcome.trial():
        assert addresses(tmp_path, "gloo") == {"0100007F"}, "127.0.0.1 in hexadecimal"


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
def test_over_shared_memory_nobody_listens(tmp_path: Path) -> None:
    assert addresses(tmp_path, "shm") == set()


def addresses(folder: Path, transport: str) -> set[str]:
    """Where the workers of a job listen in the middle of a sweep."""
    stop = {"kind": "stop", "worker": 1, "step": 5, "phase": "forward", "exchange": 1}
    options = {"resume_after": 4.0, "limit": 300, "arguments": [*SMALL, f"--transport={transport}"]}
    job = threading.Thread(target=forked, args=(folder, [stop]), kwargs=options)
    job.start()
    try:
        deadline = time.monotonic() + 120
        while not (folder / "0" / "fault").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        pids = [int(path.read_text()) for path in (folder / "0").glob("pid-*")]
        assert len(pids) == 4
        return listeners(pids)
    finally:
        job.join()


def listeners(pids: list[int]) -> set[str]:
    """Local addresses, in hexadecimal, on which these processes wait for connections."""
    sockets = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                sockets.add(os.readlink(entry).removeprefix("socket:[").rstrip("]"))
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pids[0]}/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in sockets}


@pytest.mark.skipif(not NIGHTLY, reason="takes many minutes: make faults")
def test_F28_memory_and_open_files_do_not_grow(tmp_path: Path, outcome: Outcome) -> None:
    steps = int(os.environ.get("SOAK_STEPS", "20000"))
    small = (
        "--workers=4",
        "--plots=false",
        "--graph.agents=4",
        "--network.layers=1",
        "--data.samples=2000",
        "--train.batch_size=10",
    )
    more = (f"--train.epochs={steps // 100}", "--timeout=60", "--checkpoint.every=2000 steps")
    fault = {"kind": "measure", "worker": 0}
    (job,) = forked(tmp_path, [fault], limit=3550, limit_of_each=3500, arguments=(*small, *more))
    with outcome.trial(job):
        assert job.code == 0
        for rank in range(4):
            rows = [json.loads(line) for line in (tmp_path / "0" / f"measured-{rank}").read_text().splitlines()]
            after = [row for row in rows if row[0] >= 1000]
            growth = after[-1][1] / after[0][1] - 1
            print(f"worker {rank}: {after[0]} to {after[-1]}: {100 * growth:.2f} %")
            assert growth < 0.02, f"memory of worker {rank}"
            assert after[-1][2] <= after[0][2], f"open files of worker {rank}"
