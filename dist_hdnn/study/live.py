"""Where a study is: a live table on a terminal, a plain line for every trial elsewhere; both on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dist_hdnn.study.axes import Trial, label_of
from dist_hdnn.study.runner import Progress
from dist_hdnn.study.trials import FAILED

SHOWN = 8  # of the newest results
REFRESH = 0.5  # seconds


class LiveTable:
    """Shows the progress of a study; a context manager. `changed` is the listener of a `Runner`."""

    def __init__(self, name: str) -> None:
        self.name, self.started, self.drawn = name, time.monotonic(), 0.0
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
                print(f"{self.name}: {_line(progress, result)}", file=sys.stderr, flush=True)
        elif result is not None or time.monotonic() - self.drawn > REFRESH:
            self.drawn = time.monotonic()
            self.live.update(self.table(progress), refresh=True)

    def table(self, progress: Progress) -> Group:
        """What the terminal shows."""
        failed = sum(result["status"] == FAILED for result in progress.results.values())
        done = len(progress.results)
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        counts = f"{self.name}  {done} of {progress.total} trials, {failed} failed  {minutes}:{seconds:02d}"
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("trial", "state", "test", "agents", "bytes/step", "parameters"):
            table.add_column(column, justify="left" if column in ("trial", "state") else "right", no_wrap=True)
        for result in progress.last[-SHOWN:]:
            state = Text(result["status"], style="red" if result["status"] == FAILED else "green")
            table.add_row(Text(words(result)), state, *_figures(result))
        for job in progress.running:
            state = Text(f"epoch {job.folder.epochs()}/{job.epochs}", style="cyan")
            table.add_row(Text(in_words(job.trial)), state, "", "", "", "")
        for trial, _ in progress.elsewhere.values():
            table.add_row(Text(in_words(trial)), Text("another process", style="dim"), "", "", "", "")
        bar = Table.grid()  # a bar alone does not end its line
        bar.add_row(ProgressBar(progress.total, done, width=40))
        return Group(Text(counts, style="bold"), bar, table)


def words(result: dict[str, Any]) -> str:
    """The options of a trial that has ended."""
    return _words(result["baseline"], result["values"])


def in_words(trial: Trial) -> str:
    """The options of a trial."""
    return _words(trial.baseline, trial.values)


def _words(baseline: str, values: Any) -> str:
    options = [f"{name.split('.')[-1]} {label_of(value)}" for name, value in values.items()]
    return ", ".join([baseline] * bool(baseline) + options)


def _figures(result: dict[str, Any]) -> tuple[str, str, str, str]:
    summary = result.get("summary", {})
    shares = [summary.get(key) for key in ("test_accuracy", "mean_agent_accuracy")]
    fits = [summary.get(key) for key in ("test_r2", "mean_agent_r2")]
    numbers = [summary.get(key) for key in ("bytes_per_step", "parameters")]
    test, agents = (
        f"{100 * share:.2f} %" if share is not None else "" if fit is None else f"R² {fit:.4f}"
        for share, fit in zip(shares, fits, strict=True)
    )
    sent, parameters = ("" if number is None else f"{number:,}" for number in numbers)
    return test, agents, sent, parameters


def _line(progress: Progress, result: dict[str, Any]) -> str:
    place = f"trial {len(progress.results)}/{progress.total}  {words(result)}"
    if result["status"] == FAILED:
        return f"{place}  failed: {result['error']}"
    test, _, sent, parameters = _figures(result)
    return f"{place}  test {test}  {sent} bytes/step  {parameters} parameters"
