"""Workers as forks of this process: what `run_threads` is for threads, over shared memory or gloo.

results = run_forked(4, work)                   work(transport) in every fork; results by rank, pickled
monkeypatch.setattr(module, "run_threads", run_forked)      the tests of a module over shared memory
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import Any

from dist_hdnn.transport import Transport


def join(name: str, rank: int, size: int, address: str, timeout: float) -> Transport:
    """This process's end of a transport by its name, as the launcher makes it."""
    from dist_hdnn.launching.joining import open_transport
    from dist_hdnn.transport.rendezvous import Launch, open_store

    place = Launch("dist-hdnn", rank, size, rank, size)
    return open_transport(name, open_store(address, size, timeout), place, address, timeout)


def run_forked(
    workers: int, function: Callable[[Transport], Any], timeout: float = 60.0, transport: str = "shm"
) -> list[Any]:
    """Call function(transport) in one fork per worker and return the results by rank.

    Raises AssertionError with the traceback of the first worker that fails, or that takes longer than `timeout`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryDirectory(prefix="forked-") as folder:
        pids, pipes = [], []
        for rank in range(workers):
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(reader)
                _work(rank, workers, function, f"file://{folder}/store", timeout, transport, writer)
            os.close(writer)
            pids.append(pid)
            pipes.append(reader)
        try:
            return _results(pipes, time.monotonic() + timeout)
        finally:
            for pid, pipe in zip(pids, pipes, strict=True):
                os.close(pipe)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _work(
    rank: int,
    workers: int,
    function: Callable[[Transport], Any],
    address: str,
    timeout: float,
    name: str,
    writer: int,
) -> None:
    """Do one worker's part in a fork, which ends here, and write (whether it failed, result or traceback)."""
    try:
        joined = join(name, rank, workers, address, timeout)
        said = pickle.dumps((False, function(joined)))
        joined.barrier()
        joined.close()
    except BaseException:
        said = pickle.dumps((True, traceback.format_exc()))
    try:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(said)
    finally:
        os._exit(0)


def _results(pipes: list[int], deadline: float) -> list[Any]:
    """Read what the workers say until all have ended."""
    said = {pipe: bytearray() for pipe in pipes}
    left = set(pipes)
    while left:
        ready, _, _ = select.select(list(left), [], [], max(deadline - time.monotonic(), 0.0))
        assert ready, f"workers {sorted(pipes.index(pipe) for pipe in left)} did not end in time"
        for pipe in ready:
            data = os.read(pipe, 1 << 20)
            said[pipe] += data
            if not data:
                left.remove(pipe)
                assert said[pipe], f"worker {pipes.index(pipe)} ended without a word"
                failed, value = pickle.loads(said[pipe])
                assert not failed, f"worker {pipes.index(pipe)}: {value}"
    return [pickle.loads(said[pipe])[1] for pipe in pipes]
