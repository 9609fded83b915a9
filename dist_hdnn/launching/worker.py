"""Being one of several worker processes: when it fails, all end, and the first line on stderr says why."""

from __future__ import annotations

import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from dist_hdnn.config import Config
from dist_hdnn.launching.waiting import told

if TYPE_CHECKING:
    from dist_hdnn.transport import Transport

GO_ON = "dist-hdnn: go on with: "  # how the line with the command begins that goes on with a failed run
BUG, USAGE, LOST, DISK, STOPPED, INTERRUPTED, READER_GONE = 1, 2, 5, 7, 75, 130, 141  # exit codes


def work(transport: Transport, config: Config, run: Callable[[Config, Transport | None], int | None]) -> int:
    """Call `run(config, transport)` as one worker; returns what that returns, the exit code of all workers, or 0.

    Whatever ends it early ends the others, too, with its exit code where the launcher passes that on.
    """
    try:
        with warnings.catch_warnings():
            if transport.rank:  # what worker 0 warns of is enough
                warnings.simplefilter("ignore")
            with told(transport):
                code = run(config, transport) or 0
                transport.barrier()
    except BaseException as error:
        code, message = verdict(error)
        if code == BUG and not isinstance(error, SystemExit):
            traceback.print_exc()
        transport.abort(code, message.removeprefix(f"worker {transport.rank} "))
    transport.close()
    return code


def verdict(error: BaseException) -> tuple[int, str]:
    """Exit code and one line for what ended a worker."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = "; ".join([text, *getattr(error, "__notes__", [])])  # who failed first
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) and error.code else BUG
        return code, f"called sys.exit({error.code!r}) before all workers had ended"
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    own = getattr(error, "exit_code", None)
    if isinstance(own, int):
        return own, text
    if isinstance(error, BrokenPipeError):
        return READER_GONE, "nobody reads what it says"
    if isinstance(error, ValueError | OSError):
        return USAGE if isinstance(error, ValueError) else DISK, text
    return BUG, f"{type(error).__name__}: {text}"


def follow_launcher(stop: Callable[[str], None] = lambda reason: None) -> None:
    """In a worker: end when the process that started it is gone, which is when standard input ends.

    What comes before that is why to stop, in a line: `stop` is called with it.
    """

    def watch() -> None:
        while said := os.read(0, 1024):
            stop(said.decode().split()[0])
        os._exit(LOST)

    threading.Thread(target=watch, name="follow the launcher", daemon=True).start()


def tell_processes(transport: Transport) -> None:
    """Worker 0 says on stderr which process each worker is; all workers call this.

    For MPICH on one machine: it kills all within a millisecond when one is killed, and names no more than a process,
    in 1 of 40 tries not that one but one that it killed itself.
    """
    pids = [int(data) for data in transport.all_gather_bytes(f"{os.getpid():16}".encode())]
    if transport.rank == 0:
        print(
            f"workers 0 to {transport.size - 1} are processes {' '.join(map(str, pids))}", file=sys.stderr, flush=True
        )
