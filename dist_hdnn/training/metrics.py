"""Accuracy of a model: of its prediction, and of every agent where agents predict for themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dist_hdnn.ends.readout import LocalReadout, summed
from dist_hdnn.training.classifier import AgentClassifier

EVALUATION_BATCH = 1000  # samples: small enough for wide networks, large enough to cost little
EVALUATION_VALUES = 2**26  # numbers of a batch's state on all workers together, for networks that are wider still


@dataclass(frozen=True)
class Evaluation:
    """Shares between 0 and 1. `accuracy` is the prediction's, with a local readout the majority vote's.

    Of a regression it is R² = 1 - Σ|prediction - target|² / Σ|target - mean|², which is 0 for predicting the mean,
    and NaN (null in files) where all targets are equal, so that there is nothing to explain.

    per_agent: accuracy of each agent, None for readouts without predictions of single agents.
    """

    loss: float
    accuracy: float
    per_agent: list[float] | None

    @property
    def mean_agent(self) -> float | None:
        """Mean accuracy of the agents."""
        return None if self.per_agent is None else sum(self.per_agent) / len(self.per_agent)

    @property
    def worst_agent(self) -> float | None:
        """Accuracy of the worst agent."""
        return None if self.per_agent is None else min(self.per_agent)


def evaluation_batch(model: AgentClassifier) -> int:
    """Samples that a sweep without gradients takes at once; the same on all workers."""
    neurons = int(model.network.ownership.all_widths.sum())
    return max(1, min(EVALUATION_BATCH, EVALUATION_VALUES // neurons))


@torch.no_grad()
def evaluate(model: AgentClassifier, x: Tensor, labels: Tensor) -> Evaluation:
    """Loss and accuracies on x (samples, features), labels (samples,), in batches that bound the memory.

    Several workers call it together; what has to be summed over them is booked as metrics.
    """
    readout = model.readout
    if readout.regression:
        return _of_regression(model, x, labels)
    loss, right = torch.zeros((), dtype=torch.float64, device=x.device), 0
    hits = None
    if isinstance(readout, LocalReadout):
        hits = torch.zeros(len(readout.output_agents), dtype=torch.float64, device=x.device)
    batch = evaluation_batch(model)
    for part, target in zip(x.split(batch), labels.split(batch), strict=True):
        scores = model(part)
        loss = loss + readout.loss(scores, target).double() * len(part)
        right += int((readout.predict(scores) == target).sum())
        if isinstance(readout, LocalReadout) and hits is not None:
            hits[readout.places] += (scores.argmax(dim=-1) == target[:, None]).sum(dim=0)
    samples = len(x)
    per_agent = None if hits is None else (summed(hits, readout.ownership) / samples).tolist()
    return Evaluation(readout.reported_loss(loss / samples), right / samples, per_agent)


def _of_regression(model: AgentClassifier, x: Tensor, targets: Tensor) -> Evaluation:
    """Loss and R² on x (samples, features), targets (samples, targets)."""
    readout = model.readout
    local = isinstance(readout, LocalReadout)
    loss, missed = (torch.zeros((), dtype=torch.float64, device=x.device) for _ in range(2))
    agents = torch.zeros(len(readout.output_agents) if isinstance(readout, LocalReadout) else 0, dtype=torch.float64)
    agents = agents.to(x.device)
    batch = evaluation_batch(model)
    for part, target in zip(x.split(batch), targets.split(batch), strict=True):
        scores = model(part)
        loss = loss + readout.loss(scores, target).double() * len(part)
        missed = missed + (readout.predict(scores) - target).double().square().sum()
        if isinstance(readout, LocalReadout):
            agents[readout.places] += (scores - target[:, None]).double().square().sum(dim=(0, 2))
    spread = float((targets - targets.mean(dim=0)).double().square().sum())
    errors = [float(value) for value in (missed, *summed(agents, readout.ownership))]
    equal = bool((targets == targets[0]).all())  # their mean is rounded, so the spread need not be 0
    explained = [math.nan if equal else 1.0 - error / spread for error in errors]
    return Evaluation(readout.reported_loss(loss / len(x)), explained[0], explained[1:] if local else None)
