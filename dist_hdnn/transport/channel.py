"""Channels: one exchange over fixed buffers, repeated, on any transport, with buffers on a GPU staged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NoReturn, Protocol

import torch
from torch import Tensor

from dist_hdnn.transport.messages import Buffers, Message
from dist_hdnn.transport.traffic import Round

if TYPE_CHECKING:
    from dist_hdnn.transport.base import Transport


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
    """Return whether a buffer is in the memory of a GPU, which most transports do not move."""
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


class Channel:
    """A repeated exchange over fixed buffers: start, wait, start, wait, ...

    From `start` until `wait` returns, do not write to a send buffer and do not touch a receive buffer.
    """

    def __init__(
        self,
        owner: Transport,
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
        """Send and receive once, without waiting."""
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
        """Return when all has been sent and received. timeout: seconds, by default the transport's.

        Raises PeerLostError or TransportTimeoutError, after which the channel is of no use.
        """
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
        """Release its resources. The buffers stay the caller's."""
        if self._state == "moving":
            self._refuse("close")
        if self._state != "closed" and self._wire is not None:
            self._wire.free()
        self._state = "closed"
        self._wire = self._staging = None
        self._owner._forget(self)

    def retire(self) -> None:
        """Let the transport close it at its next use: for finalizers, which run at any moment and in any thread."""
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
