"""Search of a study: the next trial, and the count of those that have ended; Optuna's is in `optuna_search`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from dist_hdnn.study.axes import Trial
from dist_hdnn.study.trials import FAILED


class Search:
    """Trials of a list, in its order, each once.

    total: trials of the whole study. done, failed: those of them that have ended, in this session or an earlier one.
    """

    def __init__(self, trials: Iterable[Trial]) -> None:
        self.left = deque({trial.id: trial for trial in trials}.values())
        self.open = {trial.id for trial in self.left}
        self.total, self.done, self.failed = len(self.left), 0, 0

    def next(self) -> Trial | None:
        """Return the next trial, None when there is none."""
        return self.left.popleft() if self.left else None

    def ended(self, result: dict[str, Any]) -> None:
        """Count a trial that ended, now or in an earlier session; result: see `TrialFolder.record`."""
        if result["id"] in self.open:
            self.open.remove(result["id"])
            self.count(result)

    def count(self, result: dict[str, Any], times: int = 1) -> None:
        """Count a result. times: how often the search had asked for the trial."""
        self.done += times
        self.failed += times * (result["status"] == FAILED)
