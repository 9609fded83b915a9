"""MPI: persistent point-to-point messages through mpi4py, over whatever MPI library it finds.

Imported only where MPI is wanted, since importing mpi4py starts MPI. A wait spins for a moment, then tests and sleeps:
the worker leaves its core to others, and MPI, which never reports a lost peer, gets a deadline.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from types import TracebackType
from typing import NoReturn

try:
    from mpi4py import MPI
except ImportError as error:
    raise ImportError(
        f"the mpi transport needs mpi4py and an MPI library ({error}); pip install mpi4py mpich"
    ) from error

from dist_hdnn.transport.base import Transport
from dist_hdnn.transport.messages import Message
from dist_hdnn.transport.rendezvous import LAST_WORDS, launched, shared_memory

# Spinning hands the core to whoever else wants it. Shorter spins were measured to cost 2-3 times the exchange of 1 MB,
# because MPI moves nothing while its caller sleeps.
SPIN = 200e-6  # seconds
SPIN_PER_BYTE = 0.25e-9
TRIES = 10  # tests of a message before the clock is read, which takes as long as a test
SHORTEST_SLEEP, LONGEST_SLEEP = 20e-6, 1e-3


class MpiTransport(Transport):
    """This process's end, on a communicator of its own, made by all processes of MPI.COMM_WORLD at the same time.

    From then on an uncaught exception, and an exit before `close`, end all workers, as `abort` does.
    Raises ValueError when the launcher started another number of workers than this MPI library sees.
    """

    name = "mpi"

    def __init__(self, timeout: float = 120.0) -> None:
        check_launcher()
        super().__init__(MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size(), timeout)
        self._communicator = MPI.COMM_WORLD.Dup()
        self._communicator.Barrier()
        _unlink_shared_memory("mpich_shm_")
        self._most_tag = int(self._communicator.Get_attr(MPI.TAG_UB) or 32767)  # the least that the standard promises
        self._excepthook = sys.excepthook
        sys.excepthook = self._uncaught
        atexit.register(self._left_early)  # runs before MPI_Finalize, in which the others would wait for ever

    def abort(self, code: int, message: str) -> NoReturn:
        self._last_words(message)
        time.sleep(LAST_WORDS)
        MPI.COMM_WORLD.Abort(code)
        os._exit(code)

    def _uncaught(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        self._excepthook(kind, error, trace)
        self.abort(getattr(error, "exit_code", 1), f"{kind.__name__} that nobody caught, so all workers end")

    def _left_early(self) -> None:
        if not MPI.Is_finalized():
            self.abort(5, "left before its transport was closed, so all workers end")

    def _wire(self, sends: list[Message], receives: list[Message], label: str) -> MpiWire:
        highest = max(message.tag for message in (*sends, *receives))
        if highest > self._most_tag:
            raise ValueError(f"{label}: this MPI library has tags up to {self._most_tag} only; make fewer channels")
        return MpiWire(self, self._communicator, sends, receives, label)

    def _release(self) -> None:
        atexit.unregister(self._left_early)
        if sys.excepthook == self._uncaught:
            sys.excepthook = self._excepthook
        self._communicator.Free()


class MpiWire:
    """Persistent requests on byte views that are exported once."""

    def __init__(
        self, transport: Transport, communicator: MPI.Comm, sends: list[Message], receives: list[Message], label: str
    ) -> None:
        self.label = label
        self._transport = transport
        self._spin = SPIN + SPIN_PER_BYTE * sum(len(message.data) for message in (*sends, *receives))
        self._peers = [message.peer for message in (*receives, *sends)]
        self._requests = [
            communicator.Recv_init([data.numpy(), MPI.BYTE], peer, tag) for peer, tag, data, _ in receives
        ] + [communicator.Send_init([data.numpy(), MPI.BYTE], peer, tag) for peer, tag, data, _ in sends]
        # One call a request: Startall and Testall of a list were measured to take 1.4 times as long for two of them.
        self._starts = [request.Start for request in self._requests]
        self._tests = [request.Test for request in self._requests]

    def post(self) -> None:
        try:
            for start in self._starts:
                start()
        except MPI.Exception as error:
            raise self._failed(error) from None

    def complete(self, timeout: float) -> None:
        try:
            for test in self._tests:
                for _ in range(TRIES):
                    if test():
                        break
                else:
                    self._await_all(timeout)
                    return
        except MPI.Exception as error:
            raise self._failed(error) from None

    def _await_all(self, timeout: float) -> None:
        """Spin for a while, then test and sleep in turn."""
        clock = time.perf_counter
        began, sleep = clock(), SHORTEST_SLEEP
        open_ = list(zip(self._peers, self._tests, strict=True))
        last = self._peers[0]  # the one that comes last is the one that was waited for
        while open_ := [(peer, test) for peer, test in open_ if not test()]:
            last, waited = open_[0][0], clock() - began
            if waited < self._spin:
                os.sched_yield()
            elif waited > timeout:
                raise self._transport._timed_out(sorted({peer for peer, _ in open_}), self.label, timeout)
            else:
                time.sleep(sleep)
                sleep = min(2 * sleep, LONGEST_SLEEP)
        self._transport.record.waited[last] += clock() - began

    def free(self) -> None:
        for request in self._requests:
            if request.Test():  # one that never completed must not be freed; the workers are about to end anyway
                request.Free()
        self._requests.clear()
        self._starts.clear()
        self._tests.clear()

    def _failed(self, error: Exception) -> Exception:
        return self._transport._lost(sorted(set(self._peers)), self.label, str(error))


def _unlink_shared_memory(library: str) -> None:
    """Remove the names of MPI's shared memory, which all workers have mapped by now.

    The memory itself lives as long as they do. Without this every job that is aborted or killed leaves megabytes.
    """
    for path in shared_memory(os.getpid()):
        if path.startswith(f"/dev/shm/{library}"):
            with contextlib.suppress(OSError):  # another worker was faster
                os.unlink(path)


def check_launcher() -> None:
    """Raise ValueError when the launcher of another MPI library started N processes, each of which would be alone."""
    launch = launched()
    size = MPI.COMM_WORLD.Get_size()
    if launch is not None and launch.size != size:
        if size == 1:
            _unlink_shared_memory("sm_segment")  # Open MPI leaves that of a worker which it did not start itself
        library = " ".join(MPI.Get_library_version().split("\n")[0].rstrip("\0").split()[:6]).rstrip(",")
        raise ValueError(
            f"mpi: {launch.launcher} started {launch.size} workers, but the library of mpi4py ({library}) sees {size}; "
            "start with the mpiexec of that library, or use another transport"
        )
