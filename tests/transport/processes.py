"""Cases in real processes: a script that is one worker or forks several, and `run`, with which tests start it.

    python processes.py gloo|shm|hosts|batched ADDRESS WORKERS CASE...     forks the workers, prints one line of JSON;
                                                    with cases of FAILURES: one after the other, a line each;
                                                    hosts: shm between workers that seem to be on two machines
    mpiexec -n WORKERS python processes.py mpi CASE...           is one of them
    torchrun ... processes.py torchrun [shm] CASE...             is one of them; worker 1 is killed in two attempts

The JSON: for each worker its exit code (negative: signal) and when it ended, in seconds from the fork. A worker whose
case fails prints one line and exits as a command of the library would.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from transport.cases import CASES, Exchange, shapes  # noqa: E402
from transport.shared import SHARED  # noqa: E402

from dist_hdnn.transport import Transport, TransportError  # noqa: E402

SCRIPT = Path(__file__)
ROOT = SCRIPT.parents[2]
LAUNCHERS = ("TORCHELASTIC", "MASTER_", "RANK", "WORLD_SIZE", "PMI", "OMPI_", "SLURM_")


def run(*command: str, limit: float = 60, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a session of its own; what is left of that session in the end is killed."""
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
    process = subprocess.Popen(
        command,
        env=inherited | own | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=limit)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def broken(how: str) -> Callable[[Transport], None]:
    """Rounds on a ring in which worker 1 fails at the third."""

    def case(transport: Transport) -> None:
        transport.timeout = 1.5
        exchange = Exchange(transport, shapes(transport.size)["ring"], torch.float32, "layer exchange K gather")
        for turn in range(200):
            transport.context = f"layer {turn}, forward"
            if transport.rank == 1 and turn == 2:
                fail(how, transport)
            exchange.start()
            exchange.wait()

    return case


def fail(how: str, transport: Transport) -> None:
    if how == "raises":
        raise RuntimeError("made to fail")
    if how == "exits":
        sys.exit(3)
    if how == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "aborts":
        transport.abort(7, "asked to stop")
    if how == "hangs":
        time.sleep(20)


FAILURES = ("raises", "exits", "is killed", "aborts", "hangs")


def run_cases(names: list[str], make: Callable[[], Transport]) -> None:
    """Run cases as a command of the library would: all agree to end, or the process ends with a code."""
    torch.set_num_threads(1)
    try:
        transport = make()
    except (ValueError, TransportError) as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(getattr(error, "exit_code", 2))
    for name in names:
        try:
            ({**CASES, **SHARED}.get(name) or broken(name))(transport)
        except TransportError as error:
            transport.abort(error.exit_code, str(error))
        print(f"worker {transport.rank}: {name} ok\n", end="", flush=True)
    transport.barrier()
    transport.close()


def fork(workers: int, work: Callable[[int], None], deadline: float = 40.0) -> dict[int, tuple[int, float]]:
    """Exit code and end of each worker; those that are left at the deadline, or 4 s after a failure, are killed."""
    began, pids = time.monotonic(), {}
    sys.stdout.flush()
    for rank in range(workers):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work(rank)
                code = 0
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            except BaseException as error:
                print(f"worker {rank}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(code)
        pids[pid] = rank
    ended: dict[int, tuple[int, float]] = {}
    while len(ended) < workers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            code, seconds = os.waitstatus_to_exitcode(status), time.monotonic() - began
            ended[pids.pop(pid)] = (code, seconds)
            deadline = min(deadline, seconds + 4) if code else deadline
        elif time.monotonic() - began > deadline:
            for left in pids:
                os.kill(left, signal.SIGKILL)
            deadline += 5
        else:
            time.sleep(0.01)
    return ended


def main() -> None:
    kind, *rest = sys.argv[1:]
    if kind == "mpi":
        from dist_hdnn.transport.mpi import MpiTransport

        run_cases(rest, lambda: MpiTransport(timeout=20))
        return
    from dist_hdnn.transport import gloo, shm
    from dist_hdnn.transport.nccl import NcclTransport
    from dist_hdnn.transport.rendezvous import open_store

    join = shm.join if kind in ("shm", "hosts") or "shm" in rest else gloo.join
    rest = [word for word in rest if word != "shm"]

    if kind == "torchrun":
        attempt, rank = (os.environ[name] for name in ("TORCHELASTIC_RESTART_COUNT", "RANK"))
        if int(attempt) < 2 and rank == "1":
            rest = ["is killed"]
        run_cases(rest, lambda: join(timeout=20))
        return
    address, workers, names = rest[0], int(rest[1]), rest[2:]

    def work(rank: int) -> None:
        if kind == "hosts":
            os.environ["DIST_HDNN_HOST"] = f"host{rank % 2}"

        def make() -> Transport:
            if address == "environment":
                os.environ.update(RANK=str(rank), WORLD_SIZE=str(workers))
                return join(timeout=20)
            if names[0] in FAILURES:  # each in a meeting place of its own
                return join(rank, workers, f"{address}-{names[0]}", timeout=20)
            if kind == "batched":
                store, cpu = open_store(address, workers), torch.device("cpu")
                return NcclTransport(store, rank, workers, cpu, timeout=20, backend="gloo", most_operations=2)
            return join(rank, workers, address, timeout=20)

        run_cases(names, make)

    if set(names) <= set(FAILURES):
        for name in list(names):
            names[:] = [name]
            print(f"== {name}", file=sys.stderr, flush=True)
            print(json.dumps(fork(workers, work)))
    else:
        print(json.dumps(fork(workers, work)))


if __name__ == "__main__":
    main()
