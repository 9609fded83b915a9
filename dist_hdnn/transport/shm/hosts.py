"""Which workers share a machine, and the wire of a channel that goes to some of them and to others.

Workers of one machine see each other's processes: same kernel, same namespace of processes.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from dist_hdnn.transport.channel import Wire

HOST = "DIST_HDNN_HOST"  # a name that is added to the machine's, so that one machine can play several
BOOT, SPACES = Path("/proc/sys/kernel/random/boot_id"), "/proc/self/ns"
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, "200000 100000" for 2 cores


def this_host() -> str:
    """Return a name that workers have in common if and only if they can share memory."""
    return f"{_space('pid')} {os.environ.get(HOST, '')}"


def this_network() -> str:
    """Return a name that workers have in common if and only if they have the same loopback."""
    return _space("net")


def _space(kind: str) -> str:
    """Name a namespace of this process: that of process numbers, or that of networks."""
    with suppress(OSError):
        return f"{BOOT.read_text().strip()} {os.stat(f'{SPACES}/{kind}').st_ino}"
    return socket.gethostname()


def usable_cores() -> list[int]:
    """Return the cores that this process may use, fewer where its container has a quota."""
    cores = sorted(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, period = (int(number) for number in QUOTA.read_text().split())
        cores = cores[: max(quota // period, 1)]
    return cores


class SplitWire:
    """A wire to workers of this machine, and one to those of others."""

    def __init__(self, near: Wire, far: Wire) -> None:
        self._near, self._far = near, far

    @property
    def label(self) -> str:
        return self._near.label

    @label.setter
    def label(self, label: str) -> None:
        self._near.label = self._far.label = label

    def post(self) -> None:
        self._far.post()
        self._near.post()

    def complete(self, timeout: float) -> None:
        """Wait for the far ones first: their library moves them by itself, and they need no progress from here."""
        deadline = time.monotonic() + timeout
        self._far.complete(timeout)
        self._near.complete(max(deadline - time.monotonic(), 0.001))

    def free(self) -> None:
        self._far.free()
        self._near.free()
