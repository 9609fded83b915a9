"""Which trial of a study is next; Optuna's answer is in `optuna_search`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from dist_hdnn.study.axes import Trial
from dist_hdnn.study.trials import FAILED


@dataclass
class Tally:
    """Trials of a study that have ended, in this session or an earlier one, and how many of them failed."""

    done: int = 0
    failed: int = 0

    def note(self, result: dict[str, Any], times: int = 1) -> None:
        """A trial ended; times: how often the search had asked for it."""
        self.done += times
        self.failed += times * (result["status"] == FAILED)


class Search(Protocol):
    """Gives trials one by one and hears how each ended."""

    def next(self) -> Trial | None:
        """The next trial, None when there is none."""

    def ended(self, trial: Trial, result: dict[str, Any]) -> None:
        """A trial ended, now or in an earlier session; see `TrialFolder.record`."""

    @property
    def total(self) -> int:
        """Trials of the whole study."""

    @property
    def tally(self) -> Tally:
        """Those of them that have ended."""


class Listed:
    """Trials that are known beforehand, in this order."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self.left = deque({trial.id: trial for trial in trials}.values())
        self.own = {trial.id for trial in self.left}
        self.total, self.tally = len(self.left), Tally()

    def next(self) -> Trial | None:
        """The next of the list."""
        return self.left.popleft() if self.left else None

    def ended(self, trial: Trial, result: dict[str, Any]) -> None:
        """Count it once."""
        self.recall([{**result, "id": trial.id}])

    def recall(self, results: Iterable[dict[str, Any]]) -> None:
        """Count results of earlier sessions, so that progress continues from them."""
        for result in results:
            if result["id"] in self.own:
                self.own.remove(result["id"])
                self.tally.note(result)


class Both:
    """One search, then another."""

    def __init__(self, first: Search, second: Search) -> None:
        self.parts = (first, second)

    def next(self) -> Trial | None:
        """The next of the first that has one."""
        for part in self.parts:
            if (trial := part.next()) is not None:
                return trial
        return None

    def ended(self, trial: Trial, result: dict[str, Any]) -> None:
        """Told to both; a search knows its own trials."""
        for part in self.parts:
            part.ended(trial, result)

    @property
    def total(self) -> int:
        """Trials of both."""
        return sum(part.total for part in self.parts)

    @property
    def tally(self) -> Tally:
        """Of both."""
        tallies = [part.tally for part in self.parts]
        return Tally(sum(tally.done for tally in tallies), sum(tally.failed for tally in tallies))
