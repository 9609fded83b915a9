"""What a worker remembers of its exchanges: the last ones, what it waits for now, and how long it waited for whom.

Kept while slices travel, so an exchange costs one small list; words are made when somebody asks.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Protocol

LAST = 256  # exchanges that are remembered

Round = list[Any]
"""[exchange, where the sweep was, when it started (seconds since 1970), when its wait began (monotonic), its end]"""
EXCHANGE, WHERE, STARTED, WAITING, ENDED = range(5)


class Exchange(Protocol):
    """sent_bytes, received_bytes: (peer, bytes) of its messages."""

    label: str
    sent_bytes: list[tuple[int, int]]
    received_bytes: list[tuple[int, int]]


class Record:
    """Of one worker among `size`. waited: seconds that it has spent waiting for each worker."""

    def __init__(self, size: int) -> None:
        self.rounds: deque[Round] = deque(maxlen=LAST)
        self.waited = [0.0] * size

    def start(self, exchange: Exchange, context: object) -> Round:
        """A new exchange has been started; context: as of a transport, it does not change."""
        found = [exchange, context, time.time(), None, None]
        self.rounds.append(found)
        return found

    def now(self) -> Round | None:
        """The exchange that this worker waits in at this moment."""
        last = self.rounds[-1] if self.rounds else None
        return last if last is not None and last[WAITING] is not None and last[ENDED] is None else None

    def as_json(self) -> dict[str, Any]:
        """Everything, the newest exchange last; times in seconds since 1970."""
        messages = [
            {
                "exchange": exchange.label,
                "where": "" if context is None else str(context),
                "state": "done" if ended is not None else "started" if waiting is None else "waiting",
                "started": started,
                "sends": [{"to": peer, "bytes": amount} for peer, amount in exchange.sent_bytes],
                "receives": [{"from": peer, "bytes": amount} for peer, amount in exchange.received_bytes],
            }
            for exchange, context, started, waiting, ended in self.rounds
        ]
        return {"waited_for": self.waited, "last_exchanges": messages}
