"""The schedule of saves and stops: asked after every step, decided by all workers for the same step.

Workers that only talk to their neighbors do not know of a signal that one of them got, nor of each other's clocks. So
about once a second, at a step that all know, they add up their requests: one all-reduce of three numbers, booked as
metrics. The number of steps to the next one follows from the mean time of a step, which is in that sum, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from dist_hdnn.network.ownership import Ownership
from dist_hdnn.training.checkpoints.saver import Saver
from dist_hdnn.training.loop import TrainingState

PERIOD = 1.0  # seconds between the questions


class Stopped(Exception):
    """Training stopped on request, with a checkpoint of this step (exit code 75) or without (130).

    command: the command that resumes the run, for its last line.
    """

    def __init__(self, reason: str, step: int, saved: bool) -> None:
        super().__init__(f"stopped by {reason} after step {step}, with{'' if saved else 'out'} a checkpoint")
        self.command = ""
        self.reason, self.step, self.saved = reason, step, saved
        self.exit_code = 75 if saved else 130


class Agreement:
    """Requests of any worker, answered alike on all workers at steps that all know."""

    def __init__(self, ownership: Ownership, period: float = PERIOD) -> None:
        self.ownership, self.period = ownership, period
        self.last = self.next = 0
        self.asked = time.monotonic()

    def ask(self, step: int, requests: Sequence[bool]) -> list[bool]:
        """Return which requests any worker has, none between two questions. Collective, with ascending steps."""
        if self.ownership.alone:
            return list(requests)
        if step < self.next:
            return [False] * len(requests)
        now, before = time.monotonic(), step - self.last
        pace = (now - self.asked) / max(before, 1)
        sums = torch.tensor([*map(float, requests), pace], dtype=torch.float64)
        self.ownership.all_reduce(sums, "metrics")
        steps = int(self.period * self.ownership.workers / max(float(sums[-1]), 1e-9))
        self.next = step + max(1, min(steps, 2 * before))  # at most doubled, for a step may become slower
        self.last, self.asked = step, now
        return [value > 0 for value in sums[:-1].tolist()]


@dataclass
class Keeper:
    """Callback that saves at intervals, and stops training with a checkpoint on request.

    every, unit: "steps" and "epochs" since the start of the run, "seconds" on the clock of worker 0, or "never".
    batches: steps of an epoch. stop: the name of what asks this worker to stop, None so far. saver: None where nothing
    can be saved.
    """

    saver: Saver | None
    ownership: Ownership
    every: float
    unit: str
    batches: int
    stop: Callable[[], str | None]
    agreement: Agreement = field(init=False)

    def __post_init__(self) -> None:
        self.agreement = Agreement(self.ownership)
        self.saved_at = time.monotonic()

    def __call__(self, state: TrainingState) -> None:
        """Save or stop if it is time. Raises Stopped on all workers together, and the error of a save."""
        if self.saver is not None:
            self.saver.check()
        reason = self.stop()
        late = self.unit == "seconds" and self.ownership.rank == 0 and time.monotonic() - self.saved_at > self.every
        stop, save = self.agreement.ask(state.step, (reason is not None, late))
        every = round(self.every * (self.batches if self.unit == "epochs" else 1))
        if self.unit in ("steps", "epochs"):
            save = state.step % max(every, 1) == 0
        if (save or stop) and self.saver is not None:
            self.saver.save(state)
            self.saved_at = time.monotonic()
        if stop:
            if self.saver is not None:
                self.saver.finish()
            raise Stopped(reason or "a signal to another worker", state.step, self.saver is not None)
