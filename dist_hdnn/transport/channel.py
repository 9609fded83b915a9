"""The part that all transports share: channels over fixed buffers, their tags and order, and the collectives.

A transport adds `_wire` (its way to move fixed messages once per round), `abort` and `_release`.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import NoReturn, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dist_hdnn.transport import collectives
from dist_hdnn.transport.messages import Buffers, Message, bytes_of, check_buffers
from dist_hdnn.transport.traffic import Record, Round

FIRST_TAG = 512  # smaller tags are for collectives


class Wire(Protocol):
    """A transport's own part of a channel. label: for error messages."""

    label: str

    def post(self) -> None:
        """Start sending and receiving."""

    def complete(self, timeout: float) -> None:
        """Return when all is sent and received, or raise a TransportError. Add the waits to `record.waited`."""

    def free(self) -> None:
        """Release everything. Called once, and between post and complete only when complete failed."""


def needs_staging(sends: Buffers, receives: Buffers) -> bool:
    """Whether a buffer is in the memory of a GPU, which most transports do not move."""
    return any(tensor.is_cuda for _, tensor in (*sends, *receives))


class Staging:
    """Pinned host buffers for a channel's device buffers, and the copies between them.

    Copies run on the current stream of the device, so they come after the kernels that wrote a buffer and before those
    that read it.
    """

    def __init__(self, sends: Buffers, receives: Buffers) -> None:
        self.sends = [(peer, _host_buffer(tensor)) for peer, tensor in sends]
        self.receives = [(peer, _host_buffer(tensor)) for peer, tensor in receives]
        self._out = [(host, device) for (_, host), (_, device) in zip(self.sends, sends, strict=True)]
        self._in = [(device, host) for (_, host), (_, device) in zip(self.receives, receives, strict=True)]
        self._device = next(tensor.device for _, tensor in (*sends, *receives))

    def copy_out(self) -> None:
        """Fill the host buffers, after the device has left them: also waits for the previous `copy_in`."""
        for host, device in self._out:
            host.copy_(device, non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()

    def copy_in(self) -> None:
        """Queue the copies of the received buffers."""
        for device, host in self._in:
            device.copy_(host, non_blocking=True)


def _host_buffer(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)


class FixedChannel:
    """A channel of any transport: keeps start and wait in turn, counts rounds, stages device buffers."""

    def __init__(
        self,
        owner: PointToPoint,
        wire: Wire | None,
        staging: Staging | None,
        messages: tuple[list[Message], list[Message]],
        label: str,
    ) -> None:
        self.label = label
        self.rounds = 0
        self.sent_bytes, self.received_bytes = (
            [(message.peer, message.data.numel()) for message in direction] for direction in messages
        )
        self._round: Round | None = None
        self._owner = owner
        self._wire = wire
        self._staging = staging
        self._state = "idle"  # idle, moving, failed, closed

    def start(self) -> None:
        if self._state != "idle":
            self._refuse("start")
        if self._owner._retired:
            self._owner._close_retired()
        self._state = "failed"
        if self._staging is not None:
            self._staging.copy_out()
        if self._wire is not None:
            self._round = self._owner.record.start(self, self._owner.context)
            self._wire.post()
        self._state = "moving"
        self.rounds += 1

    def wait(self, timeout: float | None = None) -> None:
        if self._state != "moving":
            self._refuse("wait")
        self._state = "failed"
        if self._wire is not None and self._round is not None:
            self._round.waiting = time.monotonic()
            self._wire.complete(self._owner.timeout if timeout is None else timeout)
            self._round.ended = True
        if self._staging is not None:
            self._staging.copy_in()
        self._state = "idle"

    def close(self) -> None:
        if self._state == "moving":
            self._refuse("close")
        if self._state != "closed" and self._wire is not None:
            self._wire.free()
        self._state = "closed"
        self._wire = self._staging = None
        self._owner._forget(self)

    def retire(self) -> None:
        if not self._owner._closed:
            self._owner._retired.append(self)  # atomic: no lock, as the collector may run inside any locked section

    def relabel(self, label: str) -> None:
        """Rename this exchange in error messages."""
        self.label = label
        if self._wire is not None:
            self._wire.label = label

    def _refuse(self, call: str) -> NoReturn:
        now = "between start and wait" if self._state == "moving" else self._state
        raise RuntimeError(f"{self.label}: {call} of a channel that is {now}; start and wait take turns, close is last")


class PointToPoint:
    """A worker's end of a transport; see `Transport`."""

    name = "point to point"
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
        self._channels: dict[FixedChannel, None] = {}
        self._retired: deque[FixedChannel] = deque()
        self._sent = np.zeros((size, 2), dtype=np.int64)
        self._star = collectives.Star(self)
        self._closed = False

    def channel(self, sends: Buffers, receives: Buffers, label: str) -> FixedChannel:
        return self._open(sends, receives, label, None)

    def _open(self, sends: Buffers, receives: Buffers, label: str, tag: int | None) -> FixedChannel:
        """Make a channel. Without a tag it takes the next one per peer and direction, so both ends count alike."""
        if self._closed:
            raise RuntimeError(f"{label}: the transport of worker {self.rank} is closed; make channels before that")
        self._close_retired()
        sends, receives = list(sends), list(receives)
        check_buffers(self.rank, self.size, sends, receives, label)
        sends, receives = ([pair for pair in pairs if pair[1].numel()] for pairs in (sends, receives))
        staging = Staging(sends, receives) if self.stages and needs_staging(sends, receives) else None
        if staging is not None:
            sends, receives = staging.sends, staging.receives
        outgoing, incoming = self._messages("send", sends, tag), self._messages("receive", receives, tag)
        wire = self._wire(outgoing, incoming, label) if outgoing or incoming else None
        channel = FixedChannel(self, wire, staging, (outgoing, incoming), label)
        self._channels[channel] = None
        return channel

    def _messages(self, direction: str, buffers: Sequence[tuple[int, Tensor]], tag: int | None) -> list[Message]:
        messages = []
        for peer, tensor in sorted(buffers, key=lambda pair: pair[0]):
            number = tag
            if number is None:
                number = FIRST_TAG + self._tags[direction, peer]
                self._tags[direction, peer] += 1
            messages.append(Message(peer, number, bytes_of(tensor)))
        return messages

    def barrier(self) -> None:
        self._star.barrier()

    def all_reduce(self, tensor: Tensor, op: str = "sum") -> None:
        self._star.all_reduce(tensor, op)

    def all_gather_bytes(self, data: bytes) -> list[bytes]:
        return self._star.all_gather_bytes(data)

    def sent(self) -> NDArray[np.int64]:
        total = self._sent.copy()
        for channel in self._channels:
            _count(channel, total)
        return total

    def close(self) -> None:
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
        self._last_words(message)
        os._exit(code)  # closes the connections at once, so the others notice

    def _last_words(self, message: str) -> None:
        print(f"worker {self.rank}: {message}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()

    def __deepcopy__(self, memo: dict[int, object]) -> PointToPoint:
        return self  # a copied network has the same workers

    def _close_retired(self) -> None:
        """Close the channels that finalizers have left here; one whose exchange was cut short stays open."""
        while self._retired:
            channel = self._retired.popleft()
            if channel._state != "moving":
                channel.close()

    def _forget(self, channel: FixedChannel) -> None:
        if channel in self._channels:
            del self._channels[channel]
            _count(channel, self._sent)

    def _buffer(self, *shape: int) -> Tensor:
        """(shape) uint8, zero, where collectives may send and receive."""
        return torch.zeros(shape, dtype=torch.uint8)

    def _wire(self, sends: list[Message], receives: list[Message], label: str) -> Wire:
        raise NotImplementedError

    def _release(self) -> None:
        """Release what the transport itself holds."""


def _count(channel: FixedChannel, total: NDArray[np.int64]) -> None:
    for peer, number in channel.sent_bytes:
        total[peer] += (channel.rounds, channel.rounds * number)
