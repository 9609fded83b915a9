"""Signals that ask a run to stop: SIGTERM, SIGINT and SIGUSR1 leave a note, and nothing else.

Training reads the note after every step, agrees with the other workers, and stops with a checkpoint. A second SIGINT or
SIGTERM ends the process at once. Python calls signal handlers in the main thread only, so `listening` is for the main
thread; worker threads read the same note.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """A note that this process was asked to stop. reason: the name of the signal, None without one."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def __call__(self) -> str | None:
        """Return the reason."""
        return self.reason

    def ask(self, reason: str) -> None:
        """Note a reason; the first one stays."""
        self.reason = self.reason or reason


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Note signals inside the block; those that the process was started to ignore, as by nohup, stay ignored.

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
