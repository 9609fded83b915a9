"""What a failed job leaves: who failed first, the last messages of every worker, and how to go on."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
from faults.jobs import OPTIONS, TRAIN, Job

from dist_hdnn import waiting
from dist_hdnn.transport import Transport, run_threads
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
    last = errors.strip().splitlines()[-1]
    assert code == 5 and last.startswith("dist-hdnn: error: worker 1 of 2 failed first, killed by SIGKILL"), errors
    assert f"go on with: dist-hdnn train --resume=auto --output={run} --workers=2" in errors
    report = json.loads((run / "report.json").read_text())
    assert (report["worker"], report["told_by"], report["exit_code"]) == (1, 0, 5)
    assert report["step"] > 0 and "lost worker 1" in report["error"]
    exchanges = json.loads((run / "logs" / "worker_0.json").read_text())["last_exchanges"]
    assert len(exchanges) == LAST and exchanges[-1]["receives"][0]["from"] == 1
    assert exchanges[-1]["state"] != "done" and all(one["state"] == "done" for one in exchanges[:-1])


def test_a_long_wait_is_told_with_worker_and_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "LONG", 0.1)

    def work(transport: Transport) -> None:
        with waiting.told(transport):
            if transport.rank == 0:
                time.sleep(0.5)
            transport.barrier()

    run_threads(2, work)
    assert re.search(
        r"worker 1 has waited \d+ s in barrier .* with worker 0; gives up after 60 s", capsys.readouterr().err
    )


def test_the_straggler_is_the_one_that_waits_least() -> None:
    assert waiting.straggler([3.0, 0.1, 2.9, 2.0], 4.0) == 1
    assert waiting.straggler([0.3, 0.2, 0.3, 0.4], 4.0) is None
    assert waiting.straggler([0.0], 4.0) is None


def test_the_record_of_a_worker_holds_its_last_exchanges() -> None:
    def work(transport: Transport) -> list[str]:
        for _ in range(LAST):
            transport.barrier()
        return [one["exchange"] for one in transport.record.as_json()["last_exchanges"]]

    assert all(len(rows) == LAST and "barrier" in rows[-1] for rows in run_threads(2, work))
