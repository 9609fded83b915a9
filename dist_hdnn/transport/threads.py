"""Workers in this process: one alone, or N as threads for tests and debugging (`run_threads`).

Messages behave as in MPI: whichever of sender and receiver starts second moves the data, straight from one buffer to
the other. Nothing is kept in between, so a wait that cannot end in MPI does not end here either.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import numpy as np

from dist_hdnn.transport.base import Transport
from dist_hdnn.transport.channel import Wire
from dist_hdnn.transport.errors import AbortError, PeerLostError, TransportTimeoutError, naming
from dist_hdnn.transport.messages import Message

Result = TypeVar("Result")
GRACE = 5.0  # seconds that the others may take to end after a failure


def run_threads(workers: int, function: Callable[[ThreadTransport], Result], timeout: float = 60.0) -> list[Result]:
    """Call `function(transport)` in one thread per worker and return the results by rank.

    timeout: seconds that a wait may last, and that a worker may run on after the first one has returned.
    Raises the first worker's error, with a note and an attribute `worker` that name it. Workers that do not end are
    left behind as daemon threads.
    """
    group = Group(workers)
    transports = [ThreadTransport(group, rank, timeout) for rank in range(workers)]
    results: dict[int, Result] = {}

    def work(transport: ThreadTransport) -> None:
        try:
            results[transport.rank] = function(transport)
        except SystemExit as error:
            group.note(transport.rank, _left(transport.rank, error), ended=True)
        except BaseException as error:
            group.note(transport.rank, error, ended=True)
        else:
            group.note(transport.rank, ended=True)

    threads = [
        threading.Thread(target=work, args=(transport,), name=f"worker {transport.rank}", daemon=True)
        for transport in transports
    ]
    for thread in threads:
        thread.start()
    try:
        group.wait_for_all(timeout)
    except BaseException as error:  # the caller was interrupted
        group.note(None, error)
        raise
    for rank, thread in enumerate(threads):  # a daemon that still unwinds when Python ends would abort the process
        if rank not in group.running:
            thread.join()
    if group.failure is not None:
        raise group.failure
    return [results[rank] for rank in range(workers)]


def _left(rank: int, error: SystemExit) -> PeerLostError:
    failure = PeerLostError(f"worker {rank} called sys.exit({error.code!r}) before all workers had ended", rank, rank)
    if isinstance(error.code, int) and error.code:
        failure.exit_code = error.code
    return failure


class Link:
    """One message per round from one worker to another: the ends that have started and are not yet served."""

    def __init__(self, key: tuple[int, int, int]) -> None:
        self.key = key  # sender, receiver, tag
        self.wires = 0  # that have it
        self.sender: ThreadWire | None = None
        self.receiver: ThreadWire | None = None
        self.outgoing: np.ndarray | None = None
        self.incoming: np.ndarray | None = None


class Group:
    """The state that the workers share. One lock guards all its fields and all wires."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.lock = threading.Lock()
        self.news = [threading.Condition(self.lock) for _ in range(workers + 1)]  # the last one is the caller's
        self.links: dict[tuple[int, int, int], Link] = {}
        self.failure: BaseException | None = None
        self.culprit: int | None = None
        self.running = set(range(workers))

    def link(self, sender: int, receiver: int, tag: int) -> Link:
        key = sender, receiver, tag
        with self.lock:
            link = self.links.setdefault(key, Link(key))
            link.wires += 1
            return link

    def note(self, rank: int | None, error: BaseException | None = None, ended: bool = False) -> None:
        """Note that a worker has ended or failed, None for the caller. The first failure is raised in the end."""
        with self.lock:
            if ended and rank is not None:
                self.running.discard(rank)
            if error is not None and self.failure is None:
                self.failure, self.culprit = error, rank
                if rank is not None:
                    error.add_note(f"worker {rank} of {self.workers} failed first")
                    error.worker = rank  # type: ignore[attr-defined]
            for condition in self.news:
                condition.notify_all()

    def wait_for_all(self, timeout: float) -> None:
        """Return when all have ended, or soon after a failure."""
        deadline: float | None = None
        failed = False
        while True:
            with self.lock:
                if not self.running:
                    return
                now = time.monotonic()
                if self.failure is not None and not failed:
                    failed, deadline = True, now + min(GRACE, timeout)
                elif deadline is None and len(self.running) < self.workers:
                    deadline = now + timeout
                if deadline is None or now < deadline:
                    self.news[-1].wait(None if deadline is None else deadline - now)
                    continue
                late = sorted(self.running)
                if self.failure is not None:
                    self.failure.add_note(f"{naming(late)} had not ended {min(GRACE, timeout):.0f} s later")
                    return
            text = f"{naming(late)} had not ended {timeout:.1f} s after the first worker returned"
            self.note(late[0], TransportTimeoutError(text, late[0], late[0]))

    def raise_failure(self, transport: ThreadTransport, label: str) -> None:
        if self.failure is None:
            return
        reason = f"{type(self.failure).__name__}: {self.failure}"
        if self.culprit is None:
            stopped = f"worker {transport.rank} was stopped in {label}: {reason}"
            raise PeerLostError(stopped, transport.rank, None, label)
        raise transport._lost([self.culprit], label, reason)


class ThreadWire:
    """One worker's fixed messages. `open`: those that have not been moved in this round."""

    def __init__(self, transport: ThreadTransport, sends: list[Message], receives: list[Message], label: str) -> None:
        self.transport = transport
        self.group = transport.group
        self.label = label
        self.open: set[tuple[int, bool]] = set()  # (peer, whether it is received)
        self.last = transport.rank  # who came last, and so was waited for
        rank = transport.rank
        self.sends = [(peer, self.group.link(rank, peer, tag), data.numpy()) for peer, tag, data, _ in sends]
        self.receives = [(peer, self.group.link(peer, rank, tag), data.numpy()) for peer, tag, data, _ in receives]

    def post(self) -> None:
        with self.group.lock:
            self.group.raise_failure(self.transport, self.label)
            for peer, link, data in self.receives:
                self.open.add((peer, True))
                link.receiver, link.incoming = self, data
                self._move(link)
            for peer, link, data in self.sends:
                self.open.add((peer, False))
                link.sender, link.outgoing = self, data
                self._move(link)

    def _move(self, link: Link) -> None:
        """Copy when both ends are there."""
        sender, receiver, outgoing, incoming = link.sender, link.receiver, link.outgoing, link.incoming
        if sender is None or receiver is None or outgoing is None or incoming is None:
            return
        a, b = sender.transport.rank, receiver.transport.rank
        if len(outgoing) != len(incoming):
            raise PeerLostError(
                f"worker {a} sends {len(outgoing)} bytes in {sender.label}, but worker {b} expects {len(incoming)} in "
                f"{receiver.label}; both must make the same channels in the same order",
                self.transport.rank,
                b if self is sender else a,
                self.label,
            )
        np.copyto(incoming, outgoing)
        link.sender = link.receiver = link.outgoing = link.incoming = None
        sender.open.discard((b, False))
        receiver.open.discard((a, True))
        other = receiver if self is sender else sender
        if not other.open:
            other.last = self.transport.rank
            self.group.news[other.transport.rank].notify_all()

    def complete(self, timeout: float) -> None:
        group, transport = self.group, self.transport
        began = time.monotonic()
        deadline = began + timeout
        with group.lock:
            if not self.open:
                return
            while self.open:
                group.raise_failure(transport, self.label)
                peers = sorted({peer for peer, _ in self.open})
                gone = [peer for peer in peers if peer not in group.running]
                if gone:
                    raise transport._lost(gone, self.label, "it returned before this exchange")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise transport._timed_out(peers, self.label, timeout)
                group.news[transport.rank].wait(left)
        transport.record.waited[self.last] += time.monotonic() - began

    def free(self) -> None:
        with self.group.lock:
            for _, link, _ in self.sends:
                if link.sender is self:
                    link.sender = link.outgoing = None
            for _, link, _ in self.receives:
                if link.receiver is self:
                    link.receiver = link.incoming = None
            for _, link, _ in (*self.sends, *self.receives):
                link.wires -= 1
                if not link.wires:
                    del self.group.links[link.key]
            self.sends, self.receives = [], []


class ThreadTransport(Transport):
    """One worker of `run_threads`."""

    name = "threads"

    def __init__(self, group: Group, rank: int, timeout: float) -> None:
        super().__init__(rank, group.workers, timeout)
        self.group = group

    def abort(self, code: int, message: str) -> NoReturn:
        raise AbortError(message, code, self.rank, self.rank)

    def _wire(self, sends: list[Message], receives: list[Message], label: str) -> ThreadWire:
        return ThreadWire(self, sends, receives, label)


class LocalTransport(Transport):
    """Worker 0 of 1. Collectives return at once, and a channel with peers is an error."""

    name = "local"

    def __init__(self, timeout: float = 120.0) -> None:
        super().__init__(0, 1, timeout)

    def abort(self, code: int, message: str) -> NoReturn:
        raise AbortError(message, code, 0)

    def _wire(self, sends: list[Message], receives: list[Message], label: str) -> Wire:
        raise AssertionError(f"{label}: no peers, so no messages")
