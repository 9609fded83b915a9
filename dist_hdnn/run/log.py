"""Reports of a run while it trains: metrics, progress, and why it ended early.

metrics.jsonl, metrics.csv    one line per epoch, readable during the run
"""

from __future__ import annotations

import csv
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.run.files import measured, write_summary
from dist_hdnn.training.checkpoints.schedule import Stopped
from dist_hdnn.training.loop import Epoch, NonFiniteError

PLAIN_LINES = 10  # per run, where stderr is no terminal
PLAIN_SECONDS = 30.0  # and a line at least this often
NAME_FROM = 100  # columns of a terminal; a narrower one shows no name, to have room for the figures
BAR = 24  # columns of the bar, at most


class MetricsFiles:
    """metrics.jsonl and metrics.csv in a run directory. Every record is on disk when `write` returns.

    measure: the name of accuracies, "accuracy" or "r2".
    """

    def __init__(self, directory: Path, measure: str = "accuracy") -> None:
        self.measure = measure
        self.jsonl, self.csv = directory / "metrics.jsonl", directory / "metrics.csv"

    def begin(self, records: Sequence[dict[str, Any]]) -> None:
        """Start the files anew with the epochs before the checkpoint that the run resumes from."""
        for path in (self.jsonl, self.csv):
            path.unlink(missing_ok=True)
        if records:
            self.write(*records)

    def write(self, *records: dict[str, Any]) -> None:
        """Append epochs."""
        rows = [measured(record, self.measure) for record in records]
        with self.jsonl.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        with self.csv.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerows(rows)


class TrainingProgress:
    """A live bar on a terminal, one plain line every few epochs elsewhere, on stderr.

    bar: its context manager, None without a terminal. epochs, steps: of the whole run. measure: "accuracy", in percent,
    or "r2".
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
                BarColumn(bar_width=None, table_column=Column(max_width=BAR)),  # shrinks first
                MofNCompleteColumn(table_column=Column(no_wrap=True)),
                TextColumn("steps"),
                TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
                TextColumn("left"),
                TextColumn("{task.fields[figures]}"),
                console=console,
            )
            self.task = self.bar.add_task(name if console.width >= NAME_FROM else "", total=steps, figures="")

    def step(self, step: int) -> None:
        """Show a gradient step."""
        if self.bar is not None:
            self.bar.update(self.task, completed=step)

    def epoch(self, record: Epoch) -> None:
        """Show an epoch."""
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
    """Return an accuracy in percent, or an R² with its name."""
    if math.isnan(value):
        return "R² undefined"
    return f"{100 * value:.2f} %" if measure == "accuracy" else f"R² {value:.4f}"


@dataclass
class RunLog:
    """Record of every step and epoch, on workers without a run directory of counts alone.

    first: the step whose traffic is counted. now: steps so far. traffic, over_links: of this worker in that step, empty
    and None before it.
    """

    network: HDNN
    first: int
    now: int
    progress: TrainingProgress | None = None
    metrics: MetricsFiles | None = None
    traffic: dict[str, int] = field(default_factory=dict)
    over_links: NDArray[np.int64] | None = None

    def step(self, step: int, loss: float) -> None:
        """Record a gradient step."""
        self.now = step
        if not self.traffic and step >= self.first:
            self.traffic, self.over_links = self.network.traffic(), self.network.link_traffic()
        if self.progress is not None:
            self.progress.step(step)

    def epoch(self, record: Epoch) -> None:
        """Record an epoch."""
        if self.metrics is not None and self.progress is not None:
            self.metrics.write(asdict(record))
            self.progress.epoch(record)


@contextmanager
def logged(log: RunLog, directory: Path | None, seed: int) -> Iterator[RunLog]:
    """Show the progress of a run, and leave a summary.json in its directory if it ends early.

    directory: None on workers without one, where log.progress and log.metrics are None too.
    """
    if directory is None or log.progress is None:
        yield log
        return
    (directory / "summary.json").unlink(missing_ok=True)  # of an earlier attempt
    with log.progress.bar or nullcontext():
        try:
            yield log
        except NonFiniteError as error:
            write_summary(directory, {"status": "non-finite", "error": str(error), "seed": seed})
            raise
        except Stopped as error:
            write_summary(directory, {"status": "stopped", "error": str(error), "steps": error.step, "seed": seed})
            raise
