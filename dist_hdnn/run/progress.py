"""How far training is: a live bar on a terminal, one plain line every few epochs elsewhere."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from dist_hdnn.training.loop import Epoch

PLAIN_LINES = 10  # of a whole run, besides those that time asks for
PLAIN_SECONDS = 30.0  # a line at least this often
NAME_FROM = 100  # columns of a terminal, below which the name of the run gives its place to the figures
BAR = 24  # columns of the bar, where there are as many


class TrainingProgress:
    """Shows steps and the last epoch's figures on stderr; a context manager.

    epochs, steps: of the whole run. measure: "accuracy", in percent, or "r2".
    """

    def __init__(self, name: str, epochs: int, steps: int, measure: str = "accuracy") -> None:
        self.name, self.epochs, self.measure = name, epochs, measure
        self.every = max(1, epochs // PLAIN_LINES)
        self.last_line = time.monotonic()
        self.bar: Progress | None = None
        if sys.stderr.isatty():
            console = Console(stderr=True)
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None, table_column=Column(max_width=BAR)),  # the one that gives way
                MofNCompleteColumn(table_column=Column(no_wrap=True)),
                TextColumn("steps"),
                TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
                TextColumn("left"),
                TextColumn("{task.fields[figures]}"),
                console=console,
            )
            self.task = self.bar.add_task(name if console.width >= NAME_FROM else "", total=steps, figures="")

    def __enter__(self) -> TrainingProgress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def step(self, step: int, loss: float) -> None:
        """After every gradient step."""
        if self.bar is not None:
            self.bar.update(self.task, completed=step)

    def epoch(self, record: Epoch) -> None:
        """After every epoch."""
        which, value = "train", record.train_accuracy
        if record.validation_accuracy is not None:
            which, value = "validation", record.validation_accuracy
        figures = f"loss {record.loss:.4f}  {which} {in_words(value, self.measure)}"
        if record.mean_agent_accuracy is not None:
            figures += f"  agents {in_words(record.mean_agent_accuracy, self.measure)}"
        if self.bar is not None:
            self.bar.update(self.task, figures=figures)
            return
        now = time.monotonic()
        if record.epoch % self.every == 0 or record.epoch in (1, self.epochs) or now - self.last_line > PLAIN_SECONDS:
            self.last_line = now
            print(f"{self.name}: epoch {record.epoch}/{self.epochs}  {figures}", file=sys.stderr, flush=True)


def in_words(value: float, measure: str) -> str:
    """An accuracy in percent, or an R² with its name."""
    if math.isnan(value):
        return "R² undefined"
    return f"{100 * value:.2f} %" if measure == "accuracy" else f"R² {value:.4f}"
