"""What a failed job leaves: who failed first, the last messages of every worker, and how to go on."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from faults.jobs import OPTIONS, TRAIN, Job

from dist_hdnn.transport import run_threads
from dist_hdnn.transport.base import Transport
from dist_hdnn.transport.history import KEPT, PATIENCE, History


@pytest.mark.processes
def test_a_job_that_is_killed_says_who_was_first_and_how_to_go_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = Job(run, *TRAIN, *OPTIONS, f"--output={run}", "--workers=2", "--checkpoint.every=2 steps")
    try:
        job.wait_for_epoch(random.randrange(3, 12))
        victim = job.workers()[1]
        os.kill(victim, signal.SIGKILL)
        code, errors = job.end(30)
    finally:
        job.kill()
    last = errors.strip().splitlines()[-1]
    assert code == 137 and last.startswith("dist-hdnn: error: worker 1 of 2 failed first, killed by SIGKILL"), errors
    assert f"go on with: dist-hdnn train --resume=auto --output={run} --workers=2" in errors
    report = json.loads((run / "report.json").read_text())
    assert (report["worker"], report["reporter"], report["code"]) == (1, 0, 5)
    assert report["layer"] in (None, 1, 2) and report["exchange"] and "lost worker 1" in report["error"]
    messages = json.loads((run / "logs" / "worker_0.json").read_text())
    assert len(messages) == KEPT and messages[-1]["peers"] == [1] and messages[-1]["ended"] is None
    assert all(row["ended"] is not None for row in messages[:-1])


def test_a_long_wait_is_told_with_worker_and_place() -> None:
    history = History(2)
    row = history.start("layer exchange K gather", [1, 3], 0, None)
    now = time.monotonic()
    assert history.long_wait(now) is None
    told = history.long_wait(now + PATIENCE + 1)
    assert told is not None and told.endswith("s for worker 1 and 3 in layer exchange K gather")
    row[-1] = now
    assert history.long_wait(now + PATIENCE + 1) is None


def test_the_history_of_a_worker_holds_its_last_exchanges() -> None:
    def work(transport: Transport) -> list[str]:
        for _ in range(KEPT):
            transport.barrier()
        return [row["exchange"] for row in transport.history.to_json()]

    assert all(len(rows) == KEPT and "barrier" in rows[-1] for rows in run_threads(2, work))
