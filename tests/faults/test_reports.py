"""What a failed job leaves: who failed first, the last messages of every worker, and how to go on."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from faults.jobs import OPTIONS, TRAIN, Job

from dist_hdnn.transport import run_threads
from dist_hdnn.transport.base import Transport
from dist_hdnn.transport.record import LAST


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
    lines = errors.strip().splitlines()
    assert code == 5 and any("worker 1 of 2 failed first, killed by SIGKILL" in line for line in lines), errors
    go_on = f"dist-hdnn: go on with: dist-hdnn train --resume=auto --output={run} --workers=2"
    assert lines.count(go_on) == 1, errors
    report = json.loads((run / "report.json").read_text())
    assert (report["worker"], report["told_by"], report["exit_code"]) == (1, 0, 5)
    assert "lost worker 1" in report["error"]
    exchanges = json.loads((run / "logs" / "worker_0.json").read_text())["last_exchanges"]
    assert len(exchanges) == LAST and exchanges[-1]["state"] != "done"
    assert all(exchange["state"] == "done" for exchange in exchanges[:-1])


def test_the_record_of_a_worker_holds_its_last_exchanges() -> None:
    def work(transport: Transport) -> dict[str, Any]:
        for _ in range(LAST):
            transport.barrier()
        assert transport.record.now() is None
        return transport.record.as_json()

    for found in run_threads(2, work):
        assert len(found["last_exchanges"]) == LAST and "barrier" in found["last_exchanges"][-1]["exchange"]
