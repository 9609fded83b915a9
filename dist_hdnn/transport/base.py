"""The protocol of a transport: fixed exchanges between workers, a few collectives, and errors that name the worker.

A worker is a process or a thread, numbered from 0 by its rank. Two workers that exchange make their channels in the
same order.
"""

from __future__ import annotations

import math
import os
import sys
from collections import Counter, deque
from collections.abc import Sequence
from typing import NoReturn, Self

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.topology.ragged import IntArray
from dist_hdnn.transport import collectives
from dist_hdnn.transport.channel import Channel, Staging, Wire, needs_staging
from dist_hdnn.transport.errors import PeerLostError, TransportTimeoutError, naming
from dist_hdnn.transport.messages import Buffers, Message, Runs, bytes_of, check_buffers, check_runs
from dist_hdnn.transport.traffic import Record

FIRST_TAG = 512  # smaller tags are for collectives


class Transport:
    """One worker's end. timeout: seconds that a wait may last. context: for errors, such as layer and sweep.

    record: the last exchanges, and how long this worker waited for each other one.
    A transport adds `_wire`, its way to move fixed messages once per round, and what `_release` gives back. One thread
    at a time calls `channel` and the collectives.
    """

    name = "transport"
    stages = True  # False when the transport moves device memory itself

    def __init__(self, rank: int, size: int, timeout: float) -> None:
        if not 0 <= rank < size:
            raise ValueError(f"expected a rank from 0 to {size - 1}, got {rank}; check how the workers were started")
        if not (timeout > 0 and math.isfinite(timeout)):
            raise ValueError(f"expected a timeout in seconds, larger than 0, got {timeout}; change timeout")
        self.rank = rank
        self.size = size
        self.timeout = timeout
        self.context: object = None
        self.record = Record(size)
        self._tags: Counter[tuple[str, int]] = Counter()
        self._channels: dict[Channel, None] = {}
        self._retired: deque[Channel] = deque()
        self._sent = np.zeros((size, 2), dtype=np.int64)
        self._star = collectives.Star(self)
        self._closed = False

    def takes_runs(self, peer: int) -> bool:
        """Tell whether this transport copies what it sends to a peer from several runs by itself."""
        return False

    def channel(self, sends: Buffers, receives: Buffers, label: str, runs: Runs | None = None) -> Channel:
        """Return a channel that sends each (peer, buffer) of `sends` and fills each (peer, buffer) of `receives`.

        At most one buffer per peer and direction. An empty buffer sends nothing, at both ends. Raises ValueError for a
        wrong buffer, before anything is posted.
        runs: of peers for whom `takes_runs` holds, what is sent instead of their buffers, which only give the size.
        """
        return self._open(sends, receives, label, None, runs)

    def _open(
        self, sends: Buffers, receives: Buffers, label: str, tag: int | None, runs: Runs | None = None
    ) -> Channel:
        """Make a channel. Without a tag it takes the next one per peer and direction, so both ends count alike."""
        if self._closed:
            raise RuntimeError(f"{label}: the transport of worker {self.rank} is closed; make channels before that")
        self._close_retired()
        sends, receives = list(sends), list(receives)
        check_buffers(self.rank, self.size, sends, receives, label)
        runs = runs or {}
        check_runs(sends, runs, label)
        sends, receives = ([pair for pair in pairs if pair[1].numel()] for pairs in (sends, receives))
        staging = Staging(sends, receives) if self.stages and needs_staging(sends, receives) else None
        if staging is not None:
            sends, receives = staging.sends, staging.receives
        outgoing, incoming = self._messages("send", sends, tag, runs), self._messages("receive", receives, tag, {})
        wire = self._wire(outgoing, incoming, label) if outgoing or incoming else None
        channel = Channel(self, wire, staging, (outgoing, incoming), label)
        self._channels[channel] = None
        return channel

    def _messages(self, direction: str, buffers: Buffers, tag: int | None, runs: Runs) -> list[Message]:
        messages = []
        for peer, tensor in sorted(buffers, key=lambda pair: pair[0]):
            number = tag
            if number is None:
                number = FIRST_TAG + self._tags[direction, peer]
                self._tags[direction, peer] += 1
            parts = tuple(bytes_of(run) for run in runs.get(peer, ()) if run.numel())
            messages.append(Message(peer, number, bytes_of(tensor), parts))
        return messages

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return a tensor like `like`, not filled, where messages arrive without a further copy."""
        return like.new_empty(shape)

    def barrier(self) -> None:
        """Return when all workers have called it."""
        self._star.barrier()

    def all_reduce(self, tensor: Tensor, op: str = "sum") -> None:
        """Replace `tensor` by its "sum", "max" or "min" over all workers, in rank order: the same bits everywhere."""
        self._star.all_reduce(tensor, op)

    def all_gather_bytes(self, data: bytes) -> list[bytes]:
        """Return the data of all workers by rank. All have one length."""
        return self._star.all_gather_bytes(data)

    def sent(self) -> IntArray:
        """Return (size, 2): messages and bytes that this worker has sent to each worker, collectives included."""
        total = self._sent.copy()
        for channel in self._channels:
            _count(channel, total)
        return total

    def close(self) -> None:
        """Release everything, once all workers have agreed to end (a barrier). After a failure use `abort`."""
        if not self._closed:
            self._close_retired()
            for channel in list(self._channels):
                channel.close()
            self._closed = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # else let the error through: it ends this worker, and so the others
            self.barrier()
            self.close()

    def abort(self, code: int, message: str) -> NoReturn:
        """End all workers, with this exit code where the launcher passes it on."""
        self._last_words(message)
        os._exit(code)  # closes the connections at once, so the others notice

    def _last_words(self, message: str) -> None:
        print(f"worker {self.rank}: {message}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()

    def __deepcopy__(self, memo: dict[int, object]) -> Transport:
        return self  # a copied network has the same workers

    def _timed_out(self, peers: Sequence[int], label: str, seconds: float) -> TransportTimeoutError:
        """Return the error of a worker that has waited for `seconds`."""
        who = naming(peers)
        text = f"worker {self.rank} waited {seconds:.1f} s for {who} in {label}{self._where()}; "
        return TransportTimeoutError(f"{text}check the log of {who}, or raise `timeout`", self.rank, peers[0], label)

    def _lost(self, peers: Sequence[int], label: str, reason: str) -> PeerLostError:
        """Return the error of a worker whose peers are gone."""
        who = naming(peers)
        text = f"worker {self.rank} lost {who} in {label}{self._where()}: {reason}; check the log of {who}"
        return PeerLostError(text, self.rank, peers[0], label)

    def _where(self) -> str:
        text = "" if self.context is None else str(self.context)
        return f" ({text})" if text else ""

    def _close_retired(self) -> None:
        """Close the channels that finalizers have left here, except one whose exchange was cut short."""
        while self._retired:
            channel = self._retired.popleft()
            if channel._state != "moving":
                channel.close()

    def _forget(self, channel: Channel) -> None:
        if channel in self._channels:
            del self._channels[channel]
            _count(channel, self._sent)

    def _buffer(self, *shape: int) -> Tensor:
        """Return (shape) uint8, zero, where collectives may send and receive."""
        return torch.zeros(shape, dtype=torch.uint8)

    def _wire(self, sends: list[Message], receives: list[Message], label: str) -> Wire:
        raise NotImplementedError

    def _release(self) -> None:
        """Release what the transport itself holds."""


def _count(channel: Channel, total: IntArray) -> None:
    for peer, number in channel.sent_bytes:
        total[peer] += (channel.rounds, channel.rounds * number)
