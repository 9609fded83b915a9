"""Whether a living process works on a run: a lock in its directory, which the kernel drops with the process.

The main process of a run (worker 0) holds an flock on `lock` as long as it trains, so nothing has to be cleaned up
after a kill. The file says who: the process and its machine. On NFS the lock is the server's: that of a process that
was killed is dropped at once, that of a machine that is gone when the server notices (NFSv4: about 90 s). Where a file
system has no locks, nobody holds any.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

NAME = "lock"


class RunLock:
    """A held lock, or none where there are no locks; a context manager."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = descriptor

    def release(self) -> None:
        """Give it back."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def take(directory: Path) -> RunLock | None:
    """Hold the run in this directory; None when another process does. Raises OSError when it cannot be written."""
    descriptor = os.open(directory / NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            return RunLock()
        raise
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return RunLock(descriptor)


def holder(directory: Path) -> str:
    """Who has told last that it holds the lock."""
    try:
        return (directory / NAME).read_text(encoding="utf-8").strip() or "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"
