"""What a run tells while it trains: metrics and progress, how it ended early, and what its first step has sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.run.files import MetricsFiles, write_summary
from dist_hdnn.run.progress import TrainingProgress
from dist_hdnn.training.checkpoints.schedule import Stopped
from dist_hdnn.training.loop import Epoch, NonFiniteError


@dataclass
class RunLog:
    """Is told of every step and epoch; of workers without a run directory it counts alone.

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
        """After every gradient step."""
        self.now = step
        if not self.traffic and step >= self.first:
            self.traffic, self.over_links = self.network.traffic(), self.network.link_traffic()
        if self.progress is not None:
            self.progress.step(step, loss)

    def epoch(self, record: Epoch) -> None:
        """After every epoch."""
        if self.metrics is not None and self.progress is not None:
            self.metrics.write(record)
            self.progress.epoch(record)


@contextmanager
def logged(log: RunLog, directory: Path | None, seed: int) -> Iterator[RunLog]:
    """Show the log's progress, and leave a summary.json in the directory if the run ends early.

    directory: None on workers that have none; log.progress and log.metrics are None there, too.
    """
    if directory is None or log.progress is None:
        yield log
        return
    (directory / "summary.json").unlink(missing_ok=True)  # what it says of a run that was stopped is over
    with log.progress:
        try:
            yield log
        except NonFiniteError as error:
            write_summary(directory, {"status": "non-finite", "error": str(error), "seed": seed})
            raise
        except Stopped as error:
            write_summary(directory, {"status": "stopped", "error": str(error), "steps": error.step, "seed": seed})
            raise
