"""What a failed job leaves: who failed first, the last messages of every worker, and how to go on."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults.jobs import OPTIONS, TRAIN, Job

from dist_hdnn.launching.failure import reported
from dist_hdnn.transport import run_threads
from dist_hdnn.transport.base import Transport
from dist_hdnn.transport.errors import TransportError
from dist_hdnn.transport.traffic import LAST, Record


@pytest.mark.processes
def test_a_job_that_is_killed_says_who_was_first_and_how_to_go_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = Job(run, *TRAIN, *OPTIONS, f"--output={run}", "--workers=2", "--checkpoint.every=2 steps")
    try:
        job.wait_for_epoch(random.randrange(8, 12))  # by then it has had more exchanges than are remembered
        victim = job.workers()[1]
        os.kill(victim, signal.SIGKILL)
        code, errors = job.end(30)
    finally:
        job.kill()
    lines = errors.strip().splitlines()
    assert code == 5 and any("worker 1 of 2 failed first, killed by SIGKILL" in line for line in lines), errors
    go_on = f"dist-hdnn: resume with: dist-hdnn train --resume=auto --output={run} --workers=2"
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


class Lost(TransportError):
    """What a worker says that lost `peer`, or, without one, that failed by itself."""

    def __init__(self, peer: int | None) -> None:
        super().__init__(f"lost worker {peer}" if peer is not None else "it is me")
        self.peer = peer


def report_of(folder: Path, blamed: dict[int, int | None], turns: Sequence[int]) -> dict[str, Any]:
    """The report that workers leave who fail in these turns, each of which blames another one, or itself (None)."""
    (folder / "logs").mkdir(parents=True)
    for rank in turns:
        transport = SimpleNamespace(rank=rank, record=Record(4))
        with pytest.raises(Lost), reported(folder, transport, "go on", lambda: 7):  # type: ignore[arg-type]
            raise Lost(blamed[rank])
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


@pytest.mark.parametrize("blamed", [{0: 1, 1: 2, 3: 2}, {0: 1, 1: 2, 3: 0}, {0: 1, 1: 2, 2: None, 3: 0}], ids=str)
def test_the_report_is_of_the_worker_where_the_blame_ends(tmp_path: Path, blamed: dict[int, int | None]) -> None:
    for number, turns in enumerate(itertools.permutations(blamed)):
        report = report_of(tmp_path / str(number), blamed, turns)
        witnesses = [2] if 2 in blamed else [rank for rank, peer in blamed.items() if peer == 2]
        assert (report["worker"], report["step"]) == (2, 7) and report["told_by"] in witnesses


def test_workers_that_blame_each_other_leave_a_report_of_one_of_them(tmp_path: Path) -> None:
    assert report_of(tmp_path, {0: 1, 1: 0}, (0, 1))["worker"] == 1
