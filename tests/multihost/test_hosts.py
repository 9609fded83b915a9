"""Workers on several hosts: the numbers of one process, no more bytes on a cable than counted, an end when one is cut.

MPI is tested where mpi4py and an mpiexec lie beside this interpreter, and beside the interpreters that are listed, with
colons between, in MULTIHOST_PYTHONS: MPICH and Open MPI cannot share one environment.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from multihost import worker
from multihost.hosts import Job, Lab, obstacle
from multihost.worker import AGENTS, TIMEOUT

pytestmark = [pytest.mark.multihost, pytest.mark.timeout(170)]

SCRIPT = str(worker.__file__)
HOSTS = 4
LIMIT = 120.0  # seconds for a job on a machine that is busy with other things; a few of them are work
STEPS = 10
OVERHEAD = 0.05  # headers and acknowledgements as a part of the bytes sent; 0.003 to 0.010 were measured
COLLECTIVES = 65536  # bytes that a job may put on a cable for meeting and for collectives; up to 32 000 were measured

Results = list[dict[str, Any]]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    if obstacle():
        pytest.skip(obstacle())
    with Lab(HOSTS, tmp_path) as lab:
        yield lab


def mpi_interpreters() -> list[Any]:
    """Interpreters with MPI, for `parametrize`."""
    listed = [Path(name) for name in os.environ.get("MULTIHOST_PYTHONS", "").split(os.pathsep) if name]
    own = [Path(sys.executable)] if importlib.util.find_spec("mpi4py") else []
    found = [python for python in own + listed if python.with_name("mpiexec").exists()]
    skipped = pytest.mark.skip(reason=f"no mpi4py with an mpiexec in {sys.prefix} or MULTIHOST_PYTHONS")
    return [pytest.param(python, id=python.parents[1].name) for python in found] or [
        pytest.param(Path(sys.executable), id="no MPI", marks=skipped)
    ]


def torchrun(lab: Lab, hosts: int, each: int, steps: int) -> Job:
    command = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={hosts}", f"--nproc-per-node={each}"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=host0:29500", "--rdzv-id=multihost"]
    return lab.start({f"host{k}": [*command, SCRIPT, "gloo", str(lab.folder), str(steps)] for k in range(hosts)})


@functools.cache
def is_mpich(mpiexec: str) -> bool:
    return "HYDRA" in subprocess.run([mpiexec, "--version"], capture_output=True, text=True).stdout


def mpiexec(lab: Lab, python: Path, hosts: int, each: int, steps: int) -> Job:
    """On host0, whose mpiexec starts its helpers on the others.

    Both libraries notice that all hosts have one kernel, so both are told to use TCP.
    """
    names, launcher = [f"host{k}" for k in range(hosts)], str(python.with_name("mpiexec"))
    if is_mpich(launcher):
        variables = {"UCX_TLS": "tcp,self"}
        options = ["-launcher", "rsh", "-launcher-exec", str(lab.rsh), "-hosts", ",".join(names), "-ppn", str(each)]
    else:
        variables = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        options = ["--bind-to", "none", "--mca", "plm_ssh_agent", str(lab.rsh), "--mca", "pml", "ob1"]
        options += ["--mca", "btl", "tcp,self", "--host", ",".join(f"{name}:{each}" for name in names)]
    program = [str(python), SCRIPT, "mpi", str(lab.folder), str(steps)]
    return lab.start({"host0": [launcher, *options, "-n", str(hosts * each), *program]}, **variables)


def results_of(lab: Lab, job: Job, hosts: int, each: int) -> Results:
    """What the workers wrote, by rank, of a job that ends well on the hosts that it was to run on."""
    codes = job.wait(LIMIT)
    assert codes and not any(codes.values()) and len(codes) == len(job.hosts), f"{codes}\n{job.output}"
    results = [dict(np.load(lab.folder / f"{rank}.npz")) for rank in range(hosts * each)]
    assert lab.running(SCRIPT) == []
    names = [str(result["host"]) for result in results]
    assert sorted(names) == sorted(f"host{k}" for k in range(hosts) for _ in range(each))
    return results


def assert_numbers_of_one_process(results: Results) -> None:
    whole, y, cotangent = worker.problem()
    expected = worker.numbers(whole, y, cotangent)
    assert np.array_equal(np.sort(np.concatenate([result["owned"] for result in results])), np.arange(AGENTS))
    for rank, result in enumerate(results):
        columns = worker.columns_of(result["owned"], whole)
        for name, value in expected.items():
            if name in ("output", "gradient y"):
                value = value[:, columns]
            else:
                parameter = name.removeprefix("gradient ")
                value = np.take(value, result[f"index {parameter}"], int(result[f"dimension {parameter}"]))
            assert result[name].shape == value.shape and value.size, f"worker {rank}: {name}"
            difference = np.abs(result[name] - value).max() / max(np.abs(value).max(), 1.0)
            assert difference <= 1e-12, f"worker {rank}: {name} differs by {difference:.1e}"


def linked(one: Results, other: Results) -> bool:
    """Whether an agent of one is a neighbor of an agent of the other in the ring."""
    agents, others = (np.concatenate([result["owned"] for result in side]) for side in (one, other))
    return bool(np.isin((agents[:, None] - others) % AGENTS, (1, AGENTS - 1)).any())


def assert_bytes_on_cables(results: Results, whole_job: np.ndarray) -> None:
    """Ledger = transport <= cable < transport + OVERHEAD; between strangers nothing but meeting and collectives.

    whole_job: bytes on every cable from the first process to the end of the last.
    """
    for result in results:
        assert np.array_equal(result["ledger"], result["sent"])
        assert result["non-neighbour messages"] == 0
    names = [f"host{k}" for k in range(HOSTS)]
    on = {name: [k for k, result in enumerate(results) if str(result["host"]) == name] for name in names}
    for (a, senders), (b, receivers) in ((p, q) for p in on.items() for q in on.items() if p[0] != q[0]):
        in_all = int(whole_job[names.index(a), names.index(b)])
        if not (senders and receivers):
            assert in_all < COLLECTIVES, f"{a} to {b}: {in_all} bytes, but there are no workers at one end"
            continue
        exact, handed_over = (
            sum(int(results[k][name][receivers, 1].sum()) for k in senders) for name in ("sent", "sent with barriers")
        )
        first = results[senders[0]]
        wire = int(first["wire"][first["cables"].tolist().index(f"to{b.removeprefix('host')}")])
        print(f"{a} to {b}: {exact} bytes of slices, {handed_over} with barriers, {wire} on the cable, job {in_all}")
        if linked([results[k] for k in senders], [results[k] for k in receivers]):
            assert exact > 5_000_000
            assert handed_over <= wire <= handed_over * (1 + OVERHEAD), f"{a} to {b}"
        else:
            assert exact == 0
            idle = 4 * handed_over + 4096  # headers, acknowledgements and repeats of a few small messages
            assert wire <= idle, f"{a} to {b}: {wire} bytes on the cable in {STEPS} steps"
            assert in_all < COLLECTIVES, f"{a} to {b}: {in_all} bytes on the cable in the whole job"


def test_a_frame_leaves_no_process_behind(tmp_path: Path) -> None:
    if obstacle():
        pytest.skip(obstacle())
    mark = f"3600.{os.getpid()}"
    with Lab(2, tmp_path) as lab:
        job = lab.start({"host1": ["sh", "-c", f"setsid sleep {mark} & setsid sleep {mark} & hostname"]})
        assert job.wait(20) == {"host1": 0}
        assert job.output == "host1\n"
        assert len(lab.running(f"sleep {mark}")) == 2
        assert len(outside(mark)) == 2
    assert outside(mark) == []


def outside(text: str) -> list[str]:
    """Processes of this machine, as seen from out of the frame, with `text` in their command line."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if text in line]


@pytest.mark.parametrize("hosts, each", [(4, 1), (2, 2)])
def test_torchrun_on_several_nodes_gives_the_numbers_and_bytes_of_one_process(lab: Lab, hosts: int, each: int) -> None:
    results = results_of(lab, torchrun(lab, hosts, each, STEPS), hosts, each)
    assert_numbers_of_one_process(results)
    assert_bytes_on_cables(results, lab.sent())


@pytest.mark.mpi
@pytest.mark.parametrize("hosts, each", [(4, 1), (2, 2)])
@pytest.mark.parametrize("python", mpi_interpreters())
def test_mpiexec_across_hosts_gives_the_numbers_and_bytes_of_one_process(
    lab: Lab, python: Path, hosts: int, each: int
) -> None:
    results = results_of(lab, mpiexec(lab, python, hosts, each, STEPS), hosts, each)
    assert_numbers_of_one_process(results)
    assert_bytes_on_cables(results, lab.sent())


def assert_a_cut_ends(lab: Lab, job: Job) -> None:
    """Cut the cable between host1 and host2 in mid-run: all ends within the deadline, and somebody says who waited."""
    steps = [lab.folder / f"{rank}.steps" for rank in range(HOSTS)]
    deadline = time.monotonic() + LIMIT
    while not all(file.exists() and file.read_text() for file in steps):
        assert job.runs() and time.monotonic() < deadline, job.output
        time.sleep(0.05)
    ranks = {file.read_text(): rank for rank, file in enumerate(steps)}
    lab.cut(1, 2)
    began = time.monotonic()
    codes = job.wait(TIMEOUT + 10)
    print(f"ended after {time.monotonic() - began:.1f} s: {codes}")
    assert len(codes) == len(job.hosts), f"only {sorted(codes)} ended within {TIMEOUT + 10} s\n{job.output}"
    assert all(codes.values()), f"{codes}\n{job.output}"
    assert lab.running(SCRIPT) == []
    a, b = ranks["host1"], ranks["host2"]
    exchange = "in (K (gather|scatter)|check of batches)"  # whichever of a step was under way
    said = [rf"worker {one}: (waited|lost) .*\bworkers? .*\b{other}\b.* {exchange}" for one, other in ((a, b), (b, a))]
    assert any(re.search(text, job.output) for text in said), job.output


def test_a_cut_cable_ends_a_job_of_torchrun(lab: Lab) -> None:
    assert_a_cut_ends(lab, torchrun(lab, HOSTS, 1, 0))


@pytest.mark.mpi
@pytest.mark.parametrize("python", mpi_interpreters())
def test_a_cut_cable_ends_a_job_of_mpiexec(lab: Lab, python: Path) -> None:
    assert_a_cut_ends(lab, mpiexec(lab, python, HOSTS, 1, 0))
