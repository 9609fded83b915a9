"""Standard streams that outlast their readers, so that a closed pipe does not end a training."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any


def open_standard_streams() -> None:
    """Open the streams that this process was started without (`2>&-`), so that no file takes their numbers."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest free number is this one
            os.set_inheritable(number, True)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False))


@contextmanager
def outlasting_readers() -> Iterator[None]:
    """Drop output to stdout and stderr, inside the block, once its reader has gone, as after `| head`."""
    before = sys.stdout, sys.stderr
    lasting = Lasting(sys.stdout), Lasting(sys.stderr)
    sys.stdout, sys.stderr = lasting  # type: ignore[assignment]
    try:
        yield
    finally:
        for stream in lasting:
            stream.flush()
        sys.stdout, sys.stderr = before


class Lasting:
    """A text stream that drops its output once its reader has gone."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        """Redirect the stream, with what it still buffers, to nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
