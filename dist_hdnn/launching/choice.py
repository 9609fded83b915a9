"""Choose the transport of workers that were told none, and let all of them choose the same.

    on GPUs                                 gloo, which stages through host memory; nccl only where asked for
    mpiexec, srun                           mpi
    --workers, torchrun, RANK, WORLD_SIZE   shm where every worker can; else gloo

A transport that is asked for is obeyed.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

MACHINES = ("x86_64", "aarch64")  # with compiled rounds
MPI_LAUNCHERS = ("mpiexec", "srun")


class Choice(NamedTuple):
    """A transport and the reason for it, without a full stop."""

    transport: str
    reason: str


def usual(launcher: str, device: str = "cpu") -> Choice:
    """Return what workers of this machine take by default under a launcher, by its name in `Launch`."""
    if launcher.startswith(MPI_LAUNCHERS):
        return Choice("mpi", f"{launcher} starts MPI's processes")
    if not device.startswith("cpu"):
        return Choice("gloo", f"device={device}: slices are staged through host memory")
    missing = shared_memory_missing()
    return Choice("gloo", missing) if missing else Choice("shm", "nothing is faster between CPUs of one machine")


def shared_memory_missing() -> str:
    """Return what this machine lacks for the shm transport, or "" if nothing."""
    if sys.platform != "linux":
        return f"shared memory needs Linux, got {sys.platform}"
    if platform.machine() not in MACHINES:
        return f"shared memory needs one of {', '.join(MACHINES)}, got {platform.machine()}"
    if importlib.util.find_spec("llvmlite") is None:
        return "shared memory needs llvmlite, which is not installed"
    try:  # a sandbox may refuse either
        memory = os.memfd_create("dist_hdnn")
        try:
            os.close(os.open(f"/proc/self/fd/{memory}", os.O_RDWR))
        finally:
            os.close(memory)
    except OSError as error:
        return f"shared memory needs memfd_create and /proc, got {error.strerror}"
    return ""


def agreed(store: Store, rank: int, size: int, asked: str | None, mine: Choice, timeout: float) -> str:
    """Return the transport of all workers. Collective: every worker says in the store what it was told and would take.

    asked: the transport of the options; mine: the choice of a worker without one. If one worker cannot take shared
    memory, all take gloo, and worker 0 says why on stderr. Raises DisagreementError when workers were told different
    ones, PeerLostError when one says nothing within `timeout` seconds.
    """
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]

    from dist_hdnn.transport.errors import DisagreementError

    said = PrefixStore("dist_hdnn transport", store)
    said.set_timeout(timedelta(seconds=timeout))
    said.set(str(rank), f"{asked or ''}\n{mine.transport}\n{mine.reason}")
    votes = [_said_by(said, worker, rank, size) for worker in range(size)]
    told = [vote[0] for vote in votes]
    if len(set(told)) > 1:
        other = next(worker for worker in range(size) if told[worker] != told[0])
        raise DisagreementError(
            f"workers disagree: transport is {told[0] or 'not given'} on worker 0, but {told[other] or 'not given'} on "
            f"worker {other}; start all of them with the same options",
            rank,
            other,
        )
    if asked is not None:
        return asked
    chosen = {vote[1] for vote in votes}
    if len(chosen) == 1:
        return mine.transport
    other = next(worker for worker in range(size) if votes[worker][1] != "shm")
    if rank == 0:
        print(f"dist-hdnn: workers talk over gloo, as worker {other} says: {votes[other][2]}", file=sys.stderr)
    return "gloo"


def _said_by(said: Store, worker: int, rank: int, size: int) -> list[str]:
    """Return the three lines that a worker has left in the store."""
    from dist_hdnn.transport.errors import PeerLostError
    from dist_hdnn.transport.rendezvous import first_line

    try:
        return said.get(str(worker)).decode().split("\n")
    except RuntimeError as error:
        raise PeerLostError(
            f"worker {rank} of {size} did not meet worker {worker}: {first_line(error)}; check its log",
            rank,
            worker,
            "start-up",
        ) from None
