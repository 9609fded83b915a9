"""What a worker remembers of its exchanges: the last ones, what it waits for now, and how long it waited for whom."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

LAST = 256  # exchanges that are remembered


@dataclass(slots=True)
class Round:
    """One exchange. sends, receives: (peer, bytes) of its messages. state: started, waiting, done."""

    label: str
    context: str
    sends: list[tuple[int, int]]
    receives: list[tuple[int, int]]
    started: float
    state: str = "started"


class Record:
    """Of one worker among `size`. waited: seconds that it has spent waiting for each worker.

    now: the exchange that it waits in at this moment, and since when, on the monotonic clock.
    """

    def __init__(self, size: int) -> None:
        self.rounds: deque[Round] = deque(maxlen=LAST)
        self.waited = [0.0] * size
        self.now: tuple[float, Round] | None = None

    def start(
        self, label: str, context: object, sends: list[tuple[int, int]], receives: list[tuple[int, int]]
    ) -> Round:
        """A new exchange has been started."""
        found = Round(label, "" if context is None else str(context), sends, receives, time.time())
        self.rounds.append(found)
        return found

    def wait(self, of: Round) -> None:
        """It is being waited for."""
        of.state = "waiting"
        self.now = time.monotonic(), of

    def done(self, of: Round) -> None:
        """It has ended well."""
        of.state = "done"
        self.now = None

    def as_json(self) -> dict[str, Any]:
        """Everything, the newest exchange last; times in seconds since 1970."""
        messages = [
            {
                "exchange": one.label,
                "where": one.context,
                "state": one.state,
                "started": one.started,
                "sends": [{"to": peer, "bytes": amount} for peer, amount in one.sends],
                "receives": [{"from": peer, "bytes": amount} for peer, amount in one.receives],
            }
            for one in self.rounds
        ]
        return {"waited_for": self.waited, "last_exchanges": messages}
