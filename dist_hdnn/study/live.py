"""Where a study is: a live table on a terminal, a plain line for every trial elsewhere; both on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dist_hdnn.study.axes import Trial, label_of
from dist_hdnn.study.figures import figure, quantity, spoken
from dist_hdnn.study.runner import Progress
from dist_hdnn.study.trials import FAILED

SHOWN = 8  # of the newest results
REFRESH = 0.5  # seconds


class LiveTable:
    """Shows the progress of a study; a context manager. `changed` is the listener of a `Runner`."""

    def __init__(self, name: str, objectives: Iterable[str]) -> None:
        self.name, self.started, self.drawn = name, time.monotonic(), 0.0
        self.shown = list(dict.fromkeys([*objectives, "parameters"]))
        self.live: Live | None = None
        if sys.stderr.isatty():
            self.live = Live(console=Console(stderr=True), auto_refresh=False)

    def __enter__(self) -> LiveTable:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def changed(self, progress: Progress, result: dict[str, Any] | None) -> None:
        """After a trial has ended, and while time passes."""
        if self.live is None:
            if result is not None and progress.last and result is progress.last[-1]:
                print(f"{self.name}: {self._line(progress, result)}", file=sys.stderr, flush=True)
        elif result is not None or time.monotonic() - self.drawn > REFRESH:
            self.drawn = time.monotonic()
            self.live.update(self.table(progress), refresh=True)

    def table(self, progress: Progress) -> Group:
        """What the terminal shows."""
        done = progress.done
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        counts = f"{self.name}  {done} of {progress.total} trials, {progress.failed} failed  {minutes}:{seconds:02d}"
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("trial", "state", *(quantity(name).heading for name in self.shown)):
            table.add_column(column, justify="left" if column in ("trial", "state") else "right", no_wrap=True)
        for result in progress.last[-SHOWN:]:
            state = Text(result["status"], style="red" if result["status"] == FAILED else "green")
            table.add_row(Text(words(result)), state, *self._figures(result))
        for job in progress.running:
            state = Text(f"epoch {job.folder.epochs()}/{job.epochs}", style="cyan")
            table.add_row(Text(in_words(job.trial)), state)
        for trial, _ in progress.elsewhere.values():
            table.add_row(Text(in_words(trial)), Text("another process", style="dim"))
        bar = Table.grid()  # a bar alone does not end its line
        bar.add_row(ProgressBar(progress.total, done, width=40))
        return Group(Text(counts, style="bold"), bar, table)

    def _figures(self, result: dict[str, Any]) -> list[str]:
        """What the study compares, of a trial that has ended."""
        numbers = {name: result.get("summary", {}).get(name) for name in self.shown}
        return ["" if number is None else figure(name, number) for name, number in numbers.items()]

    def _line(self, progress: Progress, result: dict[str, Any]) -> str:
        place = f"trial {progress.done}/{progress.total}  {words(result)}"
        if result["status"] == FAILED:
            return f"{place}  failed: {result['error']}"
        numbers = {name: result["summary"].get(name) for name in self.shown}
        return "  ".join([place, *(spoken(name, number) for name, number in numbers.items() if number is not None)])


def words(result: dict[str, Any]) -> str:
    """The options of a trial that has ended."""
    return _words(result["baseline"], result["values"])


def in_words(trial: Trial) -> str:
    """The options of a trial."""
    return _words(trial.baseline, trial.values)


def _words(baseline: str, values: Any) -> str:
    options = [f"{name.split('.')[-1]} {label_of(value)}" for name, value in values.items()]
    return ", ".join([baseline] * bool(baseline) + options)
