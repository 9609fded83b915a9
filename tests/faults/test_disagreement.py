"""F18, F19: one worker that differs from the others stops all of them before the first step, and is named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from faults.conftest import Outcome
from faults.faulty import SMALL, WORKERS, Ended, forked
from faults.small import repetitions

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]
DIFFERENT = ("config", "dtype", "seed", "partition and message plan", "graph", "code", "data")
PLANS = ("size of a message", "order of a message", "one-sided message")


@pytest.fixture(scope="module")
def differing(tmp_path_factory: pytest.TempPathFactory) -> list[Ended]:
    """A job for everything in which a worker can differ, the number of workers last."""
    faults = [{"kind": kind, "worker": random.randrange(WORKERS)} for kind in (*DIFFERENT, "workers")]
    return forked(tmp_path_factory.mktemp("differing"), faults)


def test_F18_a_worker_that_differs_is_named_with_what_differs(differing: list[Ended], outcome: Outcome) -> None:
    for job in differing[:-1]:
        problems = job.problems(30) + ([] if job.code == 3 else [f"exit code {job.code}"])
        said = [line for line in job.said.splitlines() if f"worker {job.fault['worker']} has another " in line]
        if not said or job.fault["kind"] not in said[0]:
            problems.append("worker and key are not named")
        if job.run.exists():
            problems.append("a run directory was made")
        outcome.add(problems, f"{job.fault} {job.said}", job.seconds)
    outcome.check()


def test_F18_a_worker_that_expects_another_number_of_workers_is_named(differing: list[Ended], outcome: Outcome) -> None:
    job = differing[-1]
    problems = job.problems(30) + ([] if job.code == 2 else [f"exit code {job.code}"])
    if "started 4, but the config asks for 3" not in job.said:
        problems.append("the numbers are not named")
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
