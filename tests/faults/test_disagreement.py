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
        problems = job.problems(30) + ([] if job.code == (2 if kind == "workers" else 3) else [f"exit code {job.code}"])
        said = [line for line in job.said.splitlines() if f"worker {worker} has another " in line]
        if kind == "workers":
            problems += [] if "started 4, but the config asks for 3" in job.said else ["the numbers are not named"]
        else:
            problems += [] if said and kind in said[0] else ["worker and key are not named"]
            problems += ["a run directory was made"] if job.run.exists() else []
        outcome.add(problems, f"{job.fault} {job.said}", job.seconds)
    outcome.check()


def test_F19_a_wrong_message_plan_is_found_before_the_first_message(tmp_path: Path, outcome: Outcome) -> None:
    times = repetitions(4, 20)
    faults = [{"kind": PLANS[i % len(PLANS)], "worker": random.randrange(WORKERS)} for i in range(times)]
    for job in forked(tmp_path, faults, arguments=(*SMALL, "--graph.family=complete")):
        problems = job.problems(30) + ([] if job.code == 3 else [f"exit code {job.code}"])
        if f"worker {job.fault['worker']} sends worker " not in job.said:
            problems.append("the sender is not named")
        outcome.add(problems, f"{job.fault} {job.said}", job.seconds)
    outcome.check()
