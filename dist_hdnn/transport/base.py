"""What a transport promises: fixed exchanges between workers, a few small collectives, and errors that name who failed.

A worker is a process or a thread; its number, from 0, is its rank. Every worker makes the same channels in the same
order as the workers it talks to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dist_hdnn.transport.traffic import Record


class TransportError(RuntimeError):
    """Something between workers failed. worker: who reports it. peer: whom it concerns. label: in which exchange.

    exit_code: what the process should exit with.
    """

    exit_code = 5

    def __init__(self, message: str, worker: int | None = None, peer: int | None = None, label: str = "") -> None:
        super().__init__(message)
        self.worker = worker
        self.peer = peer
        self.label = label


class PeerLostError(TransportError):
    """A worker that others wait for is gone."""


class TransportTimeoutError(TransportError):
    """A worker that others wait for did not come in time."""


class DisagreementError(TransportError):
    """Workers called different collectives at the same time."""

    exit_code = 3


class AbortError(TransportError):
    """A worker asked to end all of them, where that does not end the process. exit_code: the code it gave."""

    def __init__(self, message: str, code: int, worker: int, peer: int | None = None) -> None:
        super().__init__(message, worker, peer)
        self.exit_code = code


class Channel(Protocol):
    """One exchange over fixed buffers, to be repeated: start, wait, start, wait, ...

    From `start` until `wait` returns, buffers that are sent must not be written and buffers that are received must not
    be touched.
    """

    def start(self) -> None:
        """Send and receive once, without waiting."""

    def wait(self, timeout: float | None = None) -> None:
        """Return when all has been sent and received; `timeout` in seconds, the transport's own when None.

        Raises PeerLostError or TransportTimeoutError. The channel is of no use after that.
        """

    def close(self) -> None:
        """Give its resources back; the buffers stay the caller's."""

    def retire(self) -> None:
        """Let the transport close it at its next use; for finalizers, which run at any moment and in any thread."""


class Transport(Protocol):
    """One worker's end. timeout: seconds that a wait may last. context: what error messages add, e.g. layer and sweep.
    record: the last exchanges, and how long this worker waited for whom.

    `channel` and the collectives are called by one thread at a time.
    """

    name: str
    rank: int
    size: int
    timeout: float
    context: object
    record: Record

    def channel(
        self, sends: Sequence[tuple[int, Tensor]], receives: Sequence[tuple[int, Tensor]], label: str
    ) -> Channel:
        """A channel that sends each (peer, buffer) of `sends` and fills each (peer, buffer) of `receives`.

        At most one buffer per peer and direction; an empty buffer sends nothing, at both ends. Nothing is posted before
        all buffers are found right. Raises ValueError.
        """

    def barrier(self) -> None:
        """Return when all workers have called it."""

    def all_reduce(self, tensor: Tensor, op: str = "sum") -> None:
        """Replace `tensor` by its "sum", "max" or "min" over all workers, in rank order: the same bits everywhere."""

    def all_gather_bytes(self, data: bytes) -> list[bytes]:
        """The data of all workers, by rank; all of one length."""

    def sent(self) -> NDArray[np.int64]:
        """(size, 2): messages and bytes that this worker has handed over for each worker, collectives included."""

    def abort(self, code: int, message: str) -> NoReturn:
        """End all workers, with this exit code where the launcher passes it on."""

    def close(self) -> None:
        """Give all back, once all workers have agreed to end (a barrier); after a failure use `abort`."""

    def __enter__(self) -> Self:
        """`with connect() as workers:` ends with a barrier and `close`; after an error with neither."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The end of the `with`."""


def naming(peers: Sequence[int]) -> str:
    """ "worker 3", "workers 1 and 3", "workers 0, 1 and 3"."""
    if len(peers) == 1:
        return f"worker {peers[0]}"
    return f"workers {', '.join(map(str, peers[:-1]))} and {peers[-1]}"


def timed_out(
    rank: int, peers: Sequence[int], label: str, seconds: float, context: object = None
) -> TransportTimeoutError:
    """The error of a worker that has waited for `seconds`."""
    who = naming(peers)
    text = (
        f"worker {rank} waited {seconds:.1f} s for {who} in {label}{_where(context)}; "
        f"look first at what {who} did last, or allow a longer timeout"
    )
    return TransportTimeoutError(text, rank, peers[0], label)


def lost(rank: int, peers: Sequence[int], label: str, reason: str, context: object = None) -> PeerLostError:
    """The error of a worker whose peer is gone."""
    who = naming(peers)
    text = f"worker {rank} lost {who} in {label}{_where(context)}: {reason}; look first at what {who} reported"
    return PeerLostError(text, rank, peers[0], label)


def _where(context: object) -> str:
    text = "" if context is None else str(context)
    return f" ({text})" if text else ""
