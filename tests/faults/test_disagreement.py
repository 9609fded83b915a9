"""F18, F19: one worker that differs from the others stops all of them before the first step, and is named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from faults.conftest import Outcome
from faults.faulty import SMALL, WORKERS, forked
from faults.small import repetitions

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]
DIFFERENT = ("config", "dtype", "seed", "partition and message plan", "graph", "code", "data")
PLANS = ("size of a message", "order of a message", "one-sided message")


def test_F18_a_worker_that_differs_is_named_with_what_differs(tmp_path: Path, outcome: Outcome) -> None:
    """The number of workers, which its launcher knows better, is a usage error; all else is a disagreement."""
    faults = [{"kind": kind, "worker": random.randrange(WORKERS)} for kind in (*DIFFERENT, "workers")]
    for job in forked(tmp_path, faults):
        kind, worker = job.fault["kind"], job.fault["worker"]
        with outcome.trial(job, job.seconds):
            job.assert_failed_within(30)
            if kind == "workers":
                assert job.code == 2
                assert "started 4, but the config asks for 3" in job.said
            else:
                assert job.code == 3
                said = [line for line in job.said.splitlines() if f"worker {worker} has another " in line]
                assert kind in said[0], "worker and key are named"
                assert not job.run.exists(), "no run directory is made"


def test_F19_a_wrong_message_plan_is_found_before_the_first_message(tmp_path: Path, outcome: Outcome) -> None:
    times = repetitions(4, 20)
    faults = [{"kind": PLANS[i % len(PLANS)], "worker": random.randrange(WORKERS)} for i in range(times)]
    for job in forked(tmp_path, faults, arguments=(*SMALL, "--graph.family=complete")):
        with outcome.trial(job, job.seconds):
            job.assert_failed_within(30)
            assert job.code == 3
            assert f"worker {job.fault['worker']} sends worker " in job.said, "the sender is named"
