"""The last exchanges of a worker, for the report of a failure and for a line about a wait that lasts.

A row is made when an exchange starts and gets its second time when it ends: a few hundred nanoseconds each.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

KEPT = 256  # exchanges
PATIENCE = 30.0  # seconds of a wait until the first line about it, and between lines
LABEL, PEERS, NUMBER, LAYER, SWEEP, STARTED, ENDED = range(7)


class History:
    """Of one worker. rows: label, peers, how manieth of its channel, layer, sweep, seconds of start and of end."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.rows: deque[list[Any]] = deque(maxlen=KEPT)

    def start(self, label: str, peers: list[int], number: int, context: Any) -> list[Any]:
        """A row for an exchange that starts now."""
        row = [
            label,
            peers,
            number,
            getattr(context, "layer", None),
            getattr(context, "sweep", None),
            time.monotonic(),
            None,
        ]
        self.rows.append(row)
        return row

    def to_json(self) -> list[dict[str, Any]]:
        """The rows, the newest last; ended: None for an exchange that did not end. Times in seconds before now."""
        now = time.monotonic()
        return [
            {
                "exchange": row[LABEL],
                "peers": row[PEERS],
                "number": row[NUMBER],
                "layer": None if row[LAYER] is None else row[LAYER] + 1,
                "sweep": row[SWEEP],
                "started": round(row[STARTED] - now, 6),
                "ended": None if row[ENDED] is None else round(row[ENDED] - now, 6),
            }
            for row in list(self.rows)
        ]

    def long_wait(self, now: float) -> str | None:
        """A line about the exchange under way, if it has lasted."""
        row = self.rows[-1] if self.rows else None
        if row is None or row[ENDED] is not None or now - row[STARTED] < PATIENCE:
            return None
        where = "" if row[LAYER] is None else f" (layer {row[LAYER] + 1}, {row[SWEEP]})"
        who = " and ".join(map(str, row[PEERS]))
        return f"worker {self.rank} has waited {now - row[STARTED]:.0f} s for worker {who} in {row[LABEL]}{where}"
