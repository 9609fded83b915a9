"""One of several worker processes: its exit codes, how it fails, and the signals that ask it to stop.

When a worker fails, all end, and a line on stderr says why. SIGTERM, SIGINT and SIGUSR1 leave a note, which training
reads after every step: the workers agree, and stop with a checkpoint. A second SIGINT or SIGTERM ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from dist_hdnn.config import Config
from dist_hdnn.launching.waiting import long_waits_shown

if TYPE_CHECKING:
    from dist_hdnn.transport import Transport

RESUME = "dist-hdnn: resume with: "  # begins the line with the command that resumes a failed run
BUG, USAGE, LOST, DISK, STOPPED, INTERRUPTED, READER_GONE = 1, 2, 5, 7, 75, 130, 141  # exit codes
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """A note that this process was asked to stop. Its reason, which a call returns: a signal's name, or None."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def __call__(self) -> str | None:
        return self.reason

    def ask(self, reason: str) -> None:
        """Note a reason, unless there is one."""
        self.reason = self.reason or reason


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Note signals inside the block, in the main thread, unless ignored from the start, as by nohup.

    Raises KeyboardInterrupt or SystemExit in the block at a second signal.
    """
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if request.reason is not None and number != signal.SIGUSR1:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)
        if request.reason is None:
            line = f"dist-hdnn: received {name}: saving a checkpoint and stopping; a second one ends at once\n"
            with suppress(OSError):  # the reader of stderr has gone
                os.write(2, ("\n" * os.isatty(2) + line).encode())  # below a progress bar
        request.ask(name)

    before = {number: signal.signal(number, note) for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def work(transport: Transport, config: Config, run: Callable[[Config, Transport | None], int | None]) -> int:
    """Call `run(config, transport)` as one worker, and return its exit code, 0 for None.

    An error ends the other workers too, with the same exit code where the launcher passes it on.
    """
    try:
        with warnings.catch_warnings():
            if transport.rank:  # the warnings of worker 0 are enough
                warnings.simplefilter("ignore")
            with long_waits_shown(transport):
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
    """Return the exit code and the one line for the error that ended a worker."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = "; ".join([text, *getattr(error, "__notes__", [])])  # notes name the worker that failed first
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) and error.code else BUG
        return code, f"called sys.exit({error.code!r}) before all workers had ended"
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    own = getattr(error, "exit_code", None)
    if isinstance(own, int):
        return own, text
    if isinstance(error, BrokenPipeError):
        return READER_GONE, "the reader of its output has gone"
    if isinstance(error, ValueError | OSError):
        return USAGE if isinstance(error, ValueError) else DISK, text
    return BUG, f"{type(error).__name__}: {text}"


def follow_launcher(stop: Callable[[str], None] = lambda reason: None) -> None:
    """End this worker when the process that started it is gone, that is, when standard input ends.

    A line before that is a reason to stop: `stop` is called with it.
    """

    def watch() -> None:
        while said := os.read(0, 1024):
            stop(said.decode().split()[0])
        os._exit(LOST)

    threading.Thread(target=watch, name="follow the launcher", daemon=True).start()


def tell_processes(transport: Transport) -> None:
    """Print on stderr, from worker 0, the process of each worker. Collective.

    For MPICH on one machine: when one process is killed, it kills all others within a millisecond and names a process
    alone, in 1 of 40 tries one that it killed itself.
    """
    pids = [int(data) for data in transport.all_gather_bytes(f"{os.getpid():16}".encode())]
    if transport.rank == 0:
        print(
            f"workers 0 to {transport.size - 1} are processes {' '.join(map(str, pids))}", file=sys.stderr, flush=True
        )
