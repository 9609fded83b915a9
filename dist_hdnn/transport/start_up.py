"""A limit for a start-up that cannot be interrupted: MPI waits in it for all workers, for ever if one never comes."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LAST_WORDS = 0.2  # seconds for mpiexec to pass on what was printed; MPICH's drops it when it sees the end


@contextmanager
def limited(seconds: float, who: str) -> Iterator[None]:
    """End this process, after a line on stderr, when the block lasts longer, and remove the shared memory of its MPI.

    Another process watches it, since MPI holds the interpreter while it waits: no thread and no handler of a signal
    would get to run. who: for the line, such as "worker 1 of 2".
    """
    waiting = os.getpid()
    before = _shared_memory(waiting)
    reader, writer = os.pipe()
    watcher = os.fork()
    if watcher == 0:
        try:
            os.close(writer)
            if not select.select([reader], [], [], seconds)[0]:  # which ends with the block, and with the process
                _end(waiting, before, f"{who} waited {seconds:.0f} s for the others in the start-up of MPI")
        finally:
            os._exit(0)
    os.close(reader)
    try:
        yield
    finally:
        os.close(writer)
        os.waitpid(watcher, 0)


def _end(process: int, before: set[str], text: str) -> None:
    try:
        os.write(2, f"dist-hdnn: error: {text}; look first at what they reported, or allow a longer timeout\n".encode())
        time.sleep(LAST_WORDS)
    finally:
        left = _shared_memory(process) - before
        os.kill(process, signal.SIGKILL)
        for path in left:
            with suppress(OSError):
                os.unlink(path)


def _shared_memory(process: int) -> set[str]:
    """Return the files in /dev/shm that a process has mapped; none where there is no /proc."""
    with suppress(OSError), open(f"/proc/{process}/maps", encoding="utf-8", errors="replace") as maps:
        return {path for line in maps if (path := line.split()[-1]).startswith("/dev/shm/")}
    return set()
