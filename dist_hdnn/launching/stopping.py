"""Signals that ask a run to stop: SIGTERM, SIGINT and SIGUSR1 are noted here, and nothing else happens yet.

Whoever trains looks at the note after every step, agrees with the other workers, and stops with a checkpoint. A second
SIGINT or SIGTERM ends the process at once. Python calls signal handlers in the main thread only, so `listening` is for
the main thread; worker threads read the same note.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """Whether somebody asked this process to stop. reason: the signal's name."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def __call__(self) -> str | None:
        """The reason, None so far."""
        return self.reason

    def ask(self, reason: str) -> None:
        """Ask to stop; the first reason stays."""
        self.reason = self.reason or reason


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Note the signals until the block ends; those that this process was started to ignore, as by nohup, stay ignored.

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
            away = "\n" if os.isatty(2) else ""  # from a progress bar
            with suppress(OSError):  # nobody reads it any more
                os.write(
                    2, f"{away}dist-hdnn: {name}: stops soon, with a checkpoint; a second one ends at once\n".encode()
                )
        request.ask(name)

    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
