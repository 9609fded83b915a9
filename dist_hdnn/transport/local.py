"""One worker, nobody to talk to."""

from __future__ import annotations

from typing import NoReturn

from dist_hdnn.transport.base import AbortError
from dist_hdnn.transport.channel import PointToPoint, Wire
from dist_hdnn.transport.messages import Message


class LocalTransport(PointToPoint):
    """Worker 0 of 1. Collectives return at once; a channel with peers is an error."""

    name = "local"

    def __init__(self, timeout: float = 120.0) -> None:
        super().__init__(0, 1, timeout)

    def abort(self, code: int, message: str) -> NoReturn:
        error = AbortError(message, 0)
        error.exit_code = code
        raise error

    def _wire(self, sends: list[Message], receives: list[Message], label: str) -> Wire:
        raise AssertionError(f"{label}: no peers, so no messages")
