"""Real MPI processes, where this environment has mpi4py and an mpiexec beside its interpreter (MPICH or Open MPI)."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from transport.cases import CASES
from transport.processes import SCRIPT, run

LAUNCHER = Path(sys.executable).with_name("mpiexec")
MISSING = [] if importlib.util.find_spec("mpi4py") else ["mpi4py"]
MISSING += [] if LAUNCHER.exists() else ["mpiexec"]
pytestmark = [
    pytest.mark.mpi,
    pytest.mark.skipif(bool(MISSING), reason=f"no {' and no '.join(MISSING)} in {sys.prefix}"),
]
SHARED_MEMORY = Path("/dev/shm")
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


@pytest.fixture(autouse=True)
def no_shared_memory_is_left() -> Iterator[None]:
    before = _segments()
    yield
    deadline = time.monotonic() + 5  # a job that somebody else has just started removes its own in a moment
    while not _segments() <= before:
        assert time.monotonic() < deadline, _segments() - before
        time.sleep(0.1)


def _segments() -> set[str]:
    names = os.listdir(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else []
    return {name for name in names if name.startswith(("mpich_shm", "sm_segment"))}


def mpiexec(workers: int, *cases: str, limit: float = 60) -> subprocess.CompletedProcess[str]:
    return run(str(LAUNCHER), "-n", str(workers), sys.executable, str(SCRIPT), "mpi", *cases, limit=limit, **OPEN_MPI)


def test_every_case_holds_between_mpi_processes() -> None:
    done = mpiexec(4, *CASES)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok\n") == 4 * len(CASES)


@pytest.mark.parametrize(
    "how, says",
    [
        ("raises", "RuntimeError: made to fail"),
        ("exits", "worker 1: left before its transport was closed"),
        ("is killed", ""),
        ("aborts", "worker 1: asked to stop"),
        ("hangs", "waited 1.5 s for worker 1 in layer exchange K gather (layer 2, forward)"),
    ],
)
def test_an_mpi_worker_that_fails_ends_the_others_within_the_deadline(how: str, says: str) -> None:
    began = time.monotonic()
    done = mpiexec(2, how, limit=40)
    assert done.returncode not in (0, None), done.stdout
    assert says in done.stderr
    if how in ("exits", "hangs"):
        assert done.returncode == 5
    if how == "aborts":
        assert done.returncode == 7
    assert time.monotonic() - began < 30  # imports included


def test_mpi_under_another_launcher_is_an_error_that_names_both() -> None:
    variables = {"RANK": "0", "WORLD_SIZE": "3", "TORCHELASTIC_RUN_ID": "x", "LOCAL_RANK": "0"}
    done = run(sys.executable, str(SCRIPT), "mpi", "bytes_are_gathered", **OPEN_MPI, **variables)
    assert done.returncode == 2
    assert "mpi: torchrun started 3 workers, but the library of mpi4py (" in done.stdout
    assert "sees 1; start with the mpiexec of that library" in done.stdout
