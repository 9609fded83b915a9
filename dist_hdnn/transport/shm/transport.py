"""The shm transport: shared memory among the workers of a machine, gloo to those of others."""

from __future__ import annotations

import json
import os
import sys
import time
import weakref
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]

from dist_hdnn.transport.base import Transport
from dist_hdnn.transport.channel import Wire
from dist_hdnn.transport.errors import PeerLostError, TransportError
from dist_hdnn.transport.gloo import GlooTransport, GlooWire
from dist_hdnn.transport.messages import Message
from dist_hdnn.transport.rendezvous import environment_store, first_line, open_store
from dist_hdnn.transport.shm import rounds
from dist_hdnn.transport.shm.hosts import SplitWire, this_host, this_network, usable_cores
from dist_hdnn.transport.shm.peers import Home, Peer
from dist_hdnn.transport.shm.wire import ShmWire

# Tries with a pause, then with a yield, before a nap. Two workers that the system has put on one core take turns by
# yields; that both want to run is what makes it move one. Who naps early stays there: a round of 1 KB took 9 us after
# 200 pauses and 100 yields, 0.4 us after 3000 yields. Where workers outnumber cores, whoever waits is in the way of who
# works, but a few yields are less than a nap: 4 workers on 2 cores took 6 us a round, 27 us without.
PATIENT = 100, 3000
CROWDED = 5, 50


_OPEN: weakref.WeakSet[ShmTransport] = weakref.WeakSet()  # of this process


def missing() -> str:
    """Return what this machine lacks for the shm transport, or "" if nothing."""
    if sys.platform != "linux" or not hasattr(os, "memfd_create"):
        return f"the shm transport needs Linux, got {sys.platform}"
    return rounds.missing()


def join(
    rank: int | None = None, size: int | None = None, address: str | None = None, timeout: float = 120.0
) -> ShmTransport:
    """Make this process's end from rank, size and store address, or from torchrun's environment.

    Raises ValueError when neither is complete or the machine lacks something, PeerLostError when the workers do not
    meet within `timeout`.
    """
    if rank is not None and size is not None and address is not None:
        return ShmTransport(open_store(address, size, timeout), rank, size, timeout)
    if any(value is not None for value in (rank, size, address)):
        raise ValueError("shm: expected rank, size and store address together, or none of them under torchrun")
    store, rank, size = environment_store(timeout)
    return ShmTransport(store, rank, size, timeout)


def patience(workers: int, cores: int) -> tuple[int, int]:
    """Return the tries with a pause and with a yield before a nap, for so many workers of a machine on its cores."""
    return PATIENT if workers <= cores else CROWDED


class ShmTransport(Transport):
    """One of `size` processes that meet at `store` and make it at the same time.

    home: what this worker shows to others of its machine. peers: those others, by rank. patience: tries with a pause
    and with a yield before a nap.
    Raises ValueError where shared memory cannot work, PeerLostError when the workers do not meet within `timeout`.
    """

    name = "shm"

    def __init__(self, store: Store, rank: int, size: int, timeout: float = 120.0) -> None:
        super().__init__(rank, size, timeout)
        if lack := missing():
            raise ValueError(f"transport: {lack}; use gloo")
        self.waited = self.record.waited
        self.home = _new_home(rank, size)
        everybody = self._meet(store)
        here = [k for k in range(size) if everybody[k]["host"] == everybody[rank]["host"]]
        cores = {core for k in here for core in everybody[k]["cores"]}
        self.patience = patience(len(here), len(cores))
        self.peers = {k: self._peer(k, everybody[k]) for k in here if k != rank}
        one_network = len({said["network"] for said in everybody}) == 1
        self._far = GlooTransport(store, rank, size, timeout, one_network) if len(here) < size else None
        _OPEN.add(self)

    def _meet(self, store: Store) -> list[dict[str, Any]]:
        """Return what every worker says of itself."""
        home, own = self.home, PrefixStore("dist_hdnn shm", store)
        own.set_timeout(timedelta(seconds=self.timeout))
        mine = {
            "host": this_host(),
            "network": this_network(),
            "cores": usable_cores(),
            "process": os.getpid(),
            "home": [home.segment.descriptor, home.segment.size, home.lock],
        }
        started = time.monotonic()
        try:
            own.set(str(self.rank), json.dumps(mine))
            return [json.loads(own.get(str(k))) for k in range(self.size)]
        except RuntimeError as error:
            waited = time.monotonic() - started
            raise PeerLostError(
                f"worker {self.rank} of {self.size} did not reach all others within {waited:.1f} s: "
                f"{first_line(error)}; check their logs",
                self.rank,
                None,
                "start-up",
            ) from None

    def _peer(self, rank: int, said: dict[str, Any]) -> Peer:
        try:
            return Peer(rank, self.rank, said["process"], *said["home"])
        except OSError as error:
            raise PeerLostError(
                f"worker {self.rank} cannot open the memory of worker {rank}: {error.strerror}; check the log of "
                f"worker {rank}, or use the gloo transport",
                self.rank,
                rank,
                "start-up",
            ) from None

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        if like.device.type == "cpu" and not self._closed:
            try:
                return self.home.heap.tensor(shape, like.dtype)
            except OSError:  # no shared memory is left: messages take the way through a mailbox
                pass
        return like.new_empty(shape)

    def takes_runs(self, peer: int) -> bool:
        return peer in self.peers

    def _buffer(self, *shape: int) -> Tensor:
        return self.empty(shape, torch.empty(0, dtype=torch.uint8)).zero_()

    def _wire(self, sends: list[Message], receives: list[Message], label: str) -> Wire:
        self.home.sweep()
        near = [[message for message in messages if message.peer in self.peers] for messages in (sends, receives)]
        far = [[message for message in messages if message.peer not in self.peers] for messages in (sends, receives)]
        try:
            if not any(far):
                return ShmWire(self, sends, receives, label)
            assert self._far is not None, "who is on another machine is reached by gloo"
            other = GlooWire(self, self._far._group, far[0], far[1], label)
            return SplitWire(ShmWire(self, near[0], near[1], label), other) if any(near) else other
        except OSError as error:
            raise TransportError(_no_memory(self.rank, error), self.rank, None, label) from None

    def _release(self) -> None:
        for peer in self.peers.values():
            peer.close()
        self.home.close()
        if self._far is not None:
            self._far.close()


def _leave_to_parent() -> None:
    """Close the transports of a forked child, which has no lock and must not write where its parent does."""
    for transport in _OPEN:
        transport._closed = True
        for channel in transport._channels:
            channel._wire, channel._state = None, "of the parent process"


os.register_at_fork(after_in_child=_leave_to_parent)


def _new_home(rank: int, size: int) -> Home:
    try:
        return Home(size)
    except OSError as error:
        raise TransportError(_no_memory(rank, error), rank, None, "start-up") from None


def _no_memory(rank: int, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"worker {rank} got no shared memory: {reason}; free memory, raise its limit, or use the gloo transport"
