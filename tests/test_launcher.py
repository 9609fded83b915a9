"""Launching: all workers meet, whoever started them; the first failure is named and nothing is left; no odd launchers.

Workers run `launched.py`. On a machine with MPI the same is done there (marked mpi).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dist_hdnn.config import Config, TrainConfig
from dist_hdnn.launching import launcher
from dist_hdnn.launching.choice import usual
from dist_hdnn.launching.mpiexec import OPEN_MPI as OPEN_MPI_NEEDS
from dist_hdnn.launching.mpiexec import OVERSUBSCRIBED
from dist_hdnn.launching.supervisor import run_workers
from dist_hdnn.transport import PeerLostError, TransportTimeoutError

PROGRAM = Path(__file__).with_name("launched.py")
ROOT = PROGRAM.parents[1]
LAUNCHERS = ("TORCHELASTIC", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_", "PMI", "MPI_LOCAL", "OMPI_COMM", "SLURM_")
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}
MPICH = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
SRUN = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "1"}
# Of an interactive shell of Slurm with pmi2 in which somebody has prepared a run by hand.
SHELL = {"PMI_RANK": "0", "PMI_SIZE": "1", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_JOB_ID": "5"}
SHELL |= {"RANK": "0", "WORLD_SIZE": "1", "PMIX_RANK": "0", "PMI_FD": "9"}
# Of a batch script: mpiexec would ask srun, which is not there, to reach machines that are not there.
SLURM_JOB = {"SLURM_JOB_ID": "5", "SLURM_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "4(x2)", "SLURM_NNODES": "2"}
MPIEXEC = Path(sys.executable).with_name("mpiexec")
MPI_MISSING = [] if importlib.util.find_spec("mpi4py") else ["mpi4py"]
MPI_MISSING += [] if MPIEXEC.exists() else ["mpiexec"]
needs_mpi = pytest.mark.skipif(bool(MPI_MISSING), reason=f"no {' and no '.join(MPI_MISSING)} in {sys.prefix}")
USUAL = usual("torchrun").transport  # shm, except where a machine cannot
FAILURES = {
    "raises": (1, "worker 1 of 2 failed first, with exit code 1; last line of worker 1: RuntimeError: made to fail"),
    "exits": (3, "worker 1 of 2 failed first, with exit code 3; last line of worker 1: called sys.exit(3) before"),
    "is killed": (5, "worker 1 of 2 failed first, killed by SIGKILL; last line of worker 1: worker 1 was here"),
    "hangs": (5, "worker 1 of 2 failed first, it did not answer and was stopped; see above"),
}


@pytest.fixture(autouse=True)
def started_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(LAUNCHERS)]:
        monkeypatch.delenv(name)


class Job:
    """A command with its output and the pids of its workers; its temporary files must be gone when it has ended."""

    def __init__(self, folder: Path, *command: object, **variables: str) -> None:
        self.folder = folder
        folder.mkdir()
        own = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "TMPDIR": str(folder)}
        self.process = subprocess.Popen(
            [str(word) for word in command],
            env=os.environ | own | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.met: dict[str, Any] = {}
        self.output = self.errors = ""

    def wait_until_met(self) -> dict[str, Any]:
        """The JSON that worker 0 prints when all have met."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.met = json.loads(line)
                break
        self.met_at = time.monotonic()
        return self.met

    def end(self, limit: float = 40) -> int:
        """Exit code; no worker and no file may be left."""
        try:
            self.output, self.errors = self.process.communicate(timeout=limit)
        finally:
            self.kill()
        if not self.met:
            self.met = next((json.loads(line) for line in self.output.splitlines() if line.startswith("{")), {})
        deadline = time.monotonic() + 3
        while left := [pid for pid in self.met.get("pids", []) if alive(pid)]:
            assert time.monotonic() < deadline, f"still running: {left}"
            time.sleep(0.05)
        if self.process.returncode != -signal.SIGKILL:
            assert not list(self.folder.glob("dist_hdnn-*"))
        return self.process.returncode

    def kill(self) -> None:
        for pid in (self.process.pid, *self.met.get("pids", [])):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self.process.wait()


Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `launched.py`, or another command, as a Job."""
    jobs: list[Job] = []

    def begin(*arguments: object, before: tuple[object, ...] = (sys.executable, PROGRAM), **variables: str) -> Job:
        jobs.append(Job(tmp_path / f"job{len(jobs)}", *before, *arguments, **variables))
        return jobs[-1]

    yield begin
    for job in jobs:
        job.kill()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.processes
def test_workers_have_ranks_from_0_and_only_worker_0_is_heard(start: Start) -> None:
    job = start("works", "default", 3, 60)
    assert job.end() == 0, job.errors
    assert job.met["ranks"] == [0, 1, 2] and job.met["sum"] == 6 and job.met["transport"] == USUAL
    assert len(set(job.met["pids"])) == 3 and job.errors == ""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("how", "transport"), [*((how, USUAL) for how in FAILURES), ("is killed", "gloo"), ("hangs", "gloo")]
)
def test_a_worker_that_fails_ends_the_job_soon_and_is_named(how: str, transport: str, start: Start) -> None:
    job = start(how, transport, 2, 1.5)
    job.wait_until_met()
    code, message = FAILURES[how]
    assert job.end() == code, job.errors
    assert time.monotonic() - job.met_at < (1.5 if how == "hangs" else 0) + 10
    lines = job.errors.splitlines()
    assert lines[-1].startswith(f"dist-hdnn: error: {message}")
    assert any(
        line.startswith("worker 0: ") and "worker 1 in layer exchange K gather (layer 2, for" in line for line in lines
    )
    assert ("Traceback" in job.errors) == (how == "raises")


PLAIN = "import os, signal, subprocess, sys, time; rank = int(os.environ['DIST_HDNN_WORKER'].split()[0])"


def supervise(
    program: str, capfd: pytest.CaptureFixture[str], workers: int = 3, timeout: float = 1.0
) -> tuple[int, str]:
    """Exit code and stderr of workers without torch."""
    code = run_workers([sys.executable, "-c", f"{PLAIN}\n{program}"], workers, timeout, os.environ)
    return code, capfd.readouterr().err


def test_an_error_that_all_workers_have_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    code, errors = supervise("time.sleep(0.1 * (3 - rank)); sys.exit('worker 0: no such file')", capfd)
    seen = "dist-hdnn: error: worker 0 of 3 failed first, with exit code 1; see above"
    assert code == 1 and errors.splitlines() == ["worker 0: no such file", seen]


WAIT = """
def wait_for(file):
    while not os.path.exists(file):
        time.sleep(0.02)
"""


def test_workers_that_failed_because_of_another_are_not_blamed(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Although it ends after them."""
    program = f"""{WAIT}
ready = {str(tmp_path / "ready")!r}
if rank == 1:
    open(ready, "w").close()
    time.sleep(0.3)
    sys.exit(4)
wait_for(ready)
sys.exit(5)
"""
    code, errors = supervise(program, capfd)
    assert code == 4 and errors == "dist-hdnn: error: worker 1 of 3 failed first, with exit code 4\n"


def test_a_worker_that_stays_after_the_others_is_stopped(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Even if it takes no notice of SIGTERM; and with it what it has started."""
    program = f"""{WAIT}
ready = {str(tmp_path / "ready")!r}
if rank == 2:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("here", subprocess.Popen(["sleep", "60"]).pid, flush=True)
    open(ready, "w").close()
    time.sleep(60)
wait_for(ready)
"""
    code, errors = supervise(program, capfd, timeout=0.5)
    assert code == 5 and time.time() - (tmp_path / "ready").stat().st_mtime < 0.5 + 10
    message = (
        "dist-hdnn: error: worker 2 of 3 failed first, it did not answer and was stopped; last line of worker 2: h"
    )
    assert errors.startswith(message)
    left, deadline = int(errors.split()[-1]), time.monotonic() + 2  # the kernel takes a moment to end what was killed
    while alive(left):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_under_nohup_survives_the_end_of_its_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert supervise("os.kill(os.getppid(), signal.SIGHUP)", capfd) == (0, "")
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("character", ["\xff\n", ""])
def test_output_that_is_no_text_does_not_hide_the_failure(character: str, capfd: pytest.CaptureFixture[str]) -> None:
    program = f"sys.stdout.buffer.write({character.encode('latin1')!r}); sys.exit(7 * rank)"
    assert supervise(program, capfd, workers=2)[0] == 7


def listeners(pids: list[int]) -> set[str]:
    """Local addresses, in hexadecimal, on which these processes wait for connections."""
    sockets = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                sockets.add(os.readlink(entry).removeprefix("socket:[").rstrip("]"))
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pids[0]}/net/{table}").read_text().splitlines()[1:]:
            words = row.split()
            if words[3] == "0A" and words[9] in sockets:
                found.add(words[1].partition(":")[0])
    return found


@pytest.mark.processes
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
def test_jobs_at_once_listen_on_loopback_only_and_end_with_their_launcher(start: Start) -> None:
    ends = {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
    transports = {"gloo": {"0100007F"}, USUAL: set[str](), "default": set[str]()}  # who shares memory has no socket
    jobs = [start("waits", transport, 2, 60) for transport in transports]
    for job, allowed, (number, code) in zip(jobs, transports.values(), ends.items(), strict=True):
        pids = job.wait_until_met()["pids"]
        assert job.met["ranks"] == [0, 1] and job.met["sum"] == 3
        assert listeners([*pids, job.process.pid]) == (allowed if USUAL == "shm" else {"0100007F"})
        os.kill(job.process.pid, number)
        assert job.end(10) == code, job.errors


def test_threads_are_workers_too() -> None:
    ranks = []
    config = Config(workers=3, transport="threads")
    assert launcher.launch([], config, lambda _, transport: ranks.append(transport.rank)) == 0
    assert sorted(ranks) == [0, 1, 2]


def test_a_thread_that_fails_ends_the_others_and_is_named() -> None:
    config = Config(workers=3, transport="threads", timeout=0.5)
    release = threading.Event()

    def work(how: Callable[[], object]) -> Callable[[Config, Any], object]:
        return lambda _, transport: how() if transport.rank == 1 else transport.barrier()

    with pytest.raises(ZeroDivisionError) as raised:
        launcher.launch([], config, work(lambda: 1 / 0))
    assert raised.value.__notes__ == ["worker 1 of 3 failed first"]
    with pytest.raises(PeerLostError, match="worker 1 called sys.exit") as left:
        launcher.launch([], config, work(lambda: sys.exit(3)))
    assert left.value.exit_code == 3
    try:
        with pytest.raises(TransportTimeoutError, match="waited 0.5 s for worker 1"):
            launcher.launch([], config, work(lambda: release.wait(20)))
    finally:
        release.set()


@pytest.mark.processes
def test_a_thread_that_hangs_does_not_keep_the_process(start: Start) -> None:
    job = start("hangs", "threads", 2, 1.5)
    job.wait_until_met()
    assert job.end() != 0
    assert "waited 1.5 s for worker 1 in layer exchange K gather" in job.errors
    assert time.monotonic() - job.met_at < 1.5 + 10


def refused(config: Config) -> str:
    with pytest.raises(ValueError) as raised:
        launcher.launch([], config, lambda *_: pytest.fail("a worker ran"))
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("environment", "options", "both"),
    [
        (TORCHRUN, {"transport": "mpi"}, ("mpi needs mpiexec or srun", "torchrun started this worker (1 of 2)")),
        (TORCHRUN, {"workers": 4}, ("torchrun started 2", "the config asks for 4")),
        (TORCHRUN, {"transport": "threads"}, ("threads are workers of one process", "torchrun started 2 processes")),
        (MPICH, {"workers": 4}, ("mpiexec of MPICH or Intel MPI started 2", "the config asks for 4")),
        (MPICH, {"transport": "gloo"}, ("gloo under mpiexec of MPICH or Intel MPI", "MASTER_ADDR and MASTER_PORT")),
        (OPEN_MPI, {"transport": "threads"}, ("threads are workers", "mpiexec of Open MPI started 2 processes")),
        (SRUN, {"transport": "nccl"}, ("nccl under srun", "MASTER_ADDR and MASTER_PORT")),
        (TORCHRUN | {"RANK": "one"}, {}, ("expected a whole number in RANK", "got 'one'")),
    ],
)
def test_a_launcher_that_does_not_fit_the_config_is_an_error_that_names_both(
    environment: dict[str, str], options: dict[str, Any], both: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    message = refused(Config(**options))
    assert all(part in message for part in both), message


def test_a_shell_inside_a_job_starts_workers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SHELL.items():
        monkeypatch.setenv(name, value)
    given: list[dict[str, str]] = []
    monkeypatch.setattr(launcher, "run_workers", lambda *arguments: given.append(arguments[3]) or 0)
    assert launcher.launch([], Config(workers=2), lambda *_: pytest.fail("ran here")) == 0
    told = {"RANK", "WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMI_FD", "PMIX_RANK", "SLURM_PROCID"}
    assert not told & given[0].keys() and given[0]["SLURM_JOB_ID"] == "5"


def test_mpi_without_mpi_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "mpi4py, which is not installed; pip install mpi4py mpich" in refused(Config(transport="mpi", workers=2))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert f"there is none in {tmp_path} or on the path" in refused(Config(transport="mpi", workers=2))


@pytest.mark.parametrize(
    "environment",
    [{}, {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"}, SHELL],
)
def test_a_worker_that_is_alone_has_no_transport(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    seen = []
    assert launcher.launch([], Config(), lambda *given: seen.append(given)) == 0
    assert seen == [(Config(), None)]
    joined = launcher.connect(7.0)
    assert (joined.name, joined.rank, joined.size, joined.timeout) == ("local", 0, 1, 7.0)


def test_processes_that_no_launcher_told_of_each_other_are_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in launcher.RANKS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="torch.distributed has 2 processes, but RANK and WORLD_SIZE .*set them"):
        launcher.connect()


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


@pytest.mark.processes
def test_workers_of_srun_may_connect_over_gloo(start: Start) -> None:
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "SLURM_STEP_NUM_TASKS": "2"}
    jobs = [start("connects", "gloo", 0, 30, **meeting, SLURM_PROCID=str(rank)) for rank in range(2)]
    assert [job.end() for job in jobs] == [0, 0], [job.errors for job in jobs]
    assert jobs[0].met["ranks"] == [0, 1]


@pytest.mark.processes
def test_torchrun_starts_the_same_program(start: Start) -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", PROGRAM)
    job = start("works", "default", 0, 60, before=torchrun)
    assert job.end(60) == 0, job.errors
    assert job.met["ranks"] == [0, 1] and job.met["transport"] == USUAL


@pytest.fixture
def no_shared_memory_left() -> Iterator[None]:
    """Files in /dev/shm that are new and that no process uses are a failure."""
    folder = Path("/dev/shm")
    before = set(folder.iterdir()) if folder.is_dir() else set()
    yield
    for file in set(folder.iterdir()) - before if folder.is_dir() else ():
        deadline = time.monotonic() + 10.0  # another test's job may just have made it
        while file.exists() and not any(str(file) in text for text in memory_maps()):
            assert time.monotonic() < deadline, f"left behind: {file}"
            time.sleep(0.1)


def memory_maps() -> Iterator[str]:
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            yield maps.read_text(errors="replace")


@pytest.mark.mpi
@needs_mpi
@pytest.mark.usefixtures("no_shared_memory_left")
@pytest.mark.parametrize("started_by", ["mpiexec", "itself"])
def test_mpi_workers_meet_whoever_calls_mpiexec(started_by: str, start: Start) -> None:
    mpiexec = (MPIEXEC, "-n", 3, sys.executable, "-m", "mpi4py", PROGRAM)
    if started_by == "mpiexec":
        job = start("works", "default", 0, 60, before=mpiexec, **OPEN_MPI_NEEDS | OVERSUBSCRIBED)
    else:
        job = start("works", "mpi", 3, 60)
    assert job.end() == 0, job.errors
    assert job.met["ranks"] == [0, 1, 2] and job.met["sum"] == 6 and job.met["transport"] == "mpi"


@pytest.mark.mpi
@needs_mpi
@pytest.mark.usefixtures("no_shared_memory_left")
def test_an_mpi_worker_that_never_comes_is_waited_for_as_long_as_it_may(start: Start) -> None:
    """MPI's own start-up has no limit, and nothing of this process runs meanwhile."""
    program = """
import time
from dist_hdnn.launching import launcher
from dist_hdnn.transport.rendezvous import launched
launcher.START_UP = 0.0
if launched().rank == 1:
    time.sleep(60)
launcher.connect(2.0, "mpi")
"""
    needed = OPEN_MPI_NEEDS | OVERSUBSCRIBED | {"PYTHONPATH": str(ROOT)}
    job = start(before=(MPIEXEC, "-n", 2, sys.executable, "-c", program), **needed)
    assert job.end(30) != 0
    assert "worker 0 of 2 waited 2 s for the others in the start-up of MPI; check their logs" in job.errors + job.output


@pytest.mark.mpi
@needs_mpi
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
def test_mpi_workers_start_on_this_machine_inside_a_job_of_slurm(start: Start) -> None:
    job = start("waits", "mpi", 2, 60, **(SLURM_JOB | SHELL))
    pids = job.wait_until_met()["pids"]
    assert job.met["ranks"] == [0, 1], job.errors
    inherited = listeners([job.process.pid])  # mpiexec's own, which has no option to listen on loopback alone
    assert listeners(pids) - inherited <= {"0100007F"}
    os.kill(job.process.pid, signal.SIGTERM)
    assert job.end(10) != 0


@pytest.mark.mpi
@needs_mpi
@pytest.mark.usefixtures("no_shared_memory_left")
@pytest.mark.parametrize("how", FAILURES)
def test_an_mpi_worker_that_fails_ends_the_job_soon_and_is_named(how: str, start: Start) -> None:
    job = start(how, "mpi", 2, 1.5)
    job.wait_until_met()
    code = job.end()
    killed = {signal.SIGKILL, 128 + signal.SIGKILL}  # as MPICH and Open MPI say it
    ends = killed if how == "is killed" else {FAILURES[how][0]}
    assert code in ends, job.errors
    assert time.monotonic() - job.met_at < 1.5 + 10
    said = job.output + job.errors
    if how == "is killed":  # Open MPI names the rank; MPICH a process, now and then one that it killed itself
        first, second = job.met["pids"]
        if f"workers 0 to 1 are processes {first} {second}\n" in said:
            assert f"PID {first} " in said or f"PID {second} " in said, said
        else:
            assert f"process rank 1 with PID {second}" in said, said
    else:
        named = "waited 1.5 s for worker 1 in layer exchange" if how == "hangs" else "worker 1: "
        assert named in said, said


@pytest.mark.mpi
@needs_mpi
@pytest.mark.usefixtures("no_shared_memory_left")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_mpi_job(number: signal.Signals, start: Start) -> None:
    job = start("waits", "mpi", 2, 60)
    job.wait_until_met()
    os.kill(job.process.pid, number)
    assert job.end(10) != 0


@pytest.mark.mpi
@needs_mpi
def test_torchrun_with_mpi_is_refused_by_every_worker(start: Start) -> None:
    job = start("works", "mpi", 0, 10, **TORCHRUN)
    assert job.end() == 2
    assert "torchrun started this worker (1 of 2); start with mpiexec" in job.errors


SCRIPTS = sorted((ROOT / "launch").glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_launch_script_is_short_and_starts_with_its_command(script: Path) -> None:
    lines = script.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 30 and os.access(script, os.X_OK)
    assert lines[1].startswith("# ") and f"launch/{script.name}" in lines[1] and ".yaml" in lines[1]
    assert subprocess.run(["bash", "-n", str(script)], timeout=20).returncode == 0


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    given: list[str | None] = []

    def run_workers(command: list[str], workers: int, timeout: float, environment: dict[str, str], *_: Any) -> int:
        given.append(environment.get("OMP_NUM_THREADS"))
        return 0

    monkeypatch.setattr(launcher, "cores", lambda: 8)
    monkeypatch.setattr(launcher, "run_workers", run_workers)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for config in (Config(workers=2), Config(workers=16), Config(workers=2, train=TrainConfig(threads=3))):
        launcher.launch([], config, lambda *_: None)
    threads, before = [], torch.get_num_threads()
    try:
        config = Config(workers=2, transport="threads")
        launcher.launch([], config, lambda *_: threads.append(torch.get_num_threads()))
        monkeypatch.setenv("OMP_NUM_THREADS", "5")
        launcher.launch([], Config(workers=2), lambda *_: None)
    finally:
        torch.set_num_threads(before)
    assert given == ["4", "1", "3", "5"] and threads == [4, 4]


def python(program: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"} | variables
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_deterministic_runs_fix_the_kernels_of_mkl_before_torch_is_imported() -> None:
    program = """
import os, sys
from dist_hdnn import cli
from dist_hdnn.launching import launcher
launcher.launch = lambda *_, **__: print(os.environ.get("MKL_CBWR"), "torch" in sys.modules) or 0
cli.main(["train", "--deterministic={}", "--workers={}"])
"""
    for workers in (1, 2):
        assert python(program.format("true", workers)) == "AVX2,STRICT False"
    assert python(program.format("true", 1), MKL_CBWR="COMPATIBLE") == "COMPATIBLE False"
    assert python(program.format("false", 1)) == "None False"


def test_fixing_the_kernels_too_late_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "to be restored")
    monkeypatch.delenv("MKL_CBWR")
    with pytest.warns(UserWarning, match="MKL_CBWR is set after torch was imported"):
        launcher.prepare_environment(Config(deterministic=True))


def test_starting_workers_needs_no_torch() -> None:
    program = """
import sys
from dist_hdnn.launching import launcher
from dist_hdnn.config import Config
launcher.run_workers = lambda *_: 0
launcher.launch([], Config(workers=2), None)
print(sorted({"torch", "numpy", "networkx", "rich"} & set(sys.modules)))
"""
    assert python(program) == "[]"


SMALL = ("train", "--network.layers=2", "--data.samples=200", "--train.epochs=1", "--workers=2")


@pytest.mark.processes
def test_the_command_trains_on_several_processes(start: Start, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "dist_hdnn", *SMALL)
    job = start(f"--output={tmp_path / 'out'}", before=command, PYTHONPATH=str(ROOT))
    assert job.end() == 0, job.errors
    assert job.output.count("test accuracy") == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["workers"], summary["transport"], summary["status"]) == (2, USUAL, "done")


def test_the_command_trains_on_several_threads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from dist_hdnn import cli

    assert cli.main([*SMALL, "--transport=threads", f"--output={tmp_path / 'out'}"]) == 0
    assert capsys.readouterr().out.count("test accuracy") == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["workers"], summary["transport"], summary["status"]) == (2, "threads", "done")
    assert cli.main([*SMALL, "--transport=threads", "--workers=9", f"--output={tmp_path / 'more'}"]) == 2
    assert "worker" in capsys.readouterr().err
