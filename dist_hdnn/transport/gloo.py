"""gloo: processes that exchange through PyTorch's gloo library over TCP, on one machine or several.

On one machine all sockets are bound to loopback only.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any

import torch.distributed as distributed
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]

from dist_hdnn.transport.base import Transport
from dist_hdnn.transport.errors import PeerLostError, TransportError
from dist_hdnn.transport.messages import Message
from dist_hdnn.transport.rendezvous import environment_store, first_line, is_local, open_store


def join(
    rank: int | None = None, size: int | None = None, address: str | None = None, timeout: float = 120.0
) -> GlooTransport:
    """Make this process's end from rank, size and store address, or from torchrun's environment.

    Raises ValueError when neither is complete, PeerLostError when the workers do not meet within `timeout`.
    """
    if rank is not None and size is not None and address is not None:
        return GlooTransport(open_store(address, size, timeout), rank, size, timeout, is_local(address))
    if any(value is not None for value in (rank, size, address)):
        raise ValueError("gloo: expected rank, size and store address together, or none of them under torchrun")
    store, rank, size = environment_store(timeout)
    return GlooTransport(store, rank, size, timeout, is_local())


class GlooTransport(Transport):
    """One of `size` processes that meet at `store` and make it at the same time.

    loopback: bind to 127.0.0.1, as all are on this machine. Otherwise gloo takes the interface of the host name, or the
    one named in GLOO_SOCKET_IFNAME.
    """

    name = "gloo"

    def __init__(self, store: Store, rank: int, size: int, timeout: float = 120.0, loopback: bool = True) -> None:
        super().__init__(rank, size, timeout)
        gloo: Any = distributed.ProcessGroupGloo
        own = PrefixStore("dist_hdnn gloo", store)
        own.set_timeout(timedelta(seconds=timeout))
        started = time.monotonic()
        try:
            if loopback and not os.environ.get("GLOO_SOCKET_IFNAME"):
                options = gloo._Options()
                options._devices = [gloo.create_device(hostname="127.0.0.1")]
                options._timeout = timedelta(seconds=timeout)
                self._group = gloo(own, rank, size, options)
            else:
                self._group = gloo(own, rank, size, timedelta(seconds=timeout))
        except RuntimeError as error:
            waited = time.monotonic() - started
            raise PeerLostError(
                f"worker {rank} of {size} did not reach all others within {waited:.1f} s: {first_line(error)}; "
                "check their logs",
                rank,
                None,
                "start-up",
            ) from None

    def _wire(self, sends: list[Message], receives: list[Message], label: str) -> GlooWire:
        return GlooWire(self, self._group, sends, receives, label)

    def _release(self) -> None:
        self._group = None


class GlooWire:
    """isend and irecv with a tag per channel. The group is dead after the first failure."""

    def __init__(
        self, transport: Transport, group: Any, sends: list[Message], receives: list[Message], label: str
    ) -> None:
        self.label = label
        self._transport = transport
        self._calls = [(group.recv, [data], peer, tag) for peer, tag, data, _ in receives]
        self._calls += [(group.send, [data], peer, tag) for peer, tag, data, _ in sends]
        self._works: list[tuple[int, Any]] = []

    def post(self) -> None:
        peer = -1
        try:
            for call, data, peer, tag in self._calls:
                self._works.append((peer, call(data, peer, tag)))
        except RuntimeError as error:
            raise self._failed(peer, error, 0.0) from None

    def complete(self, timeout: float) -> None:
        waited, now = self._transport.record.waited, time.monotonic()
        deadline = now + timeout
        for peer, work in self._works:
            try:
                work.wait(timedelta(seconds=max(deadline - now, 0.001)))
            except RuntimeError as error:
                raise self._failed(peer, error, timeout) from None
            now, before = time.monotonic(), now
            waited[peer] += now - before
        self._works.clear()

    def free(self) -> None:
        self._works.clear()
        self._calls.clear()

    def _failed(self, peer: int, error: RuntimeError, timeout: float) -> TransportError:
        if "Timed out waiting" in str(error):
            return self._transport._timed_out([peer], self.label, timeout)
        return self._transport._lost([peer], self.label, first_line(error))
