"""Loss and accuracy of a model on data: of its prediction, and of every agent that answers for itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dist_hdnn.data.checks import MISSING
from dist_hdnn.ends.readout import LocalReadout, Readout, summed
from dist_hdnn.ends.targets import known
from dist_hdnn.training.classifier import AgentClassifier

EVALUATION_BATCH = 1000  # samples: small enough for wide networks, large enough to cost little
EVALUATION_VALUES = 2**26  # numbers of a batch's state on all workers together, for networks that are wider still


@dataclass(frozen=True)
class Evaluation:
    """Shares between 0 and 1. `accuracy` is the prediction's, with a local readout the majority vote's.

    Of a regression it is R² = 1 - Σ|prediction - target|² / Σ|target - mean|², which is 0 for predicting the mean,
    and NaN (null in files) where all targets are equal, so that there is nothing to explain.
    With own targets it is over all known targets of all agents, and missing ones count nowhere.

    per_agent: accuracy of each agent, None for readouts without predictions of single agents; NaN of an agent without a
    known target. Over impaired links agents that are down for a sample do not answer it: they have no vote, and the
    sample does not count in their accuracy.
    mse: mean squared error of a regression over all known targets, each in its unit as given, so that those of the
    largest scale decide it; None for classes. mse_of: that of each target, a row for each agent with targets of its
    own, else one row; NaN of a target that is never known.
    """

    loss: float
    accuracy: float
    per_agent: list[float] | None
    mse: float | None = None
    mse_of: list[list[float]] | None = None

    @property
    def mean_agent(self) -> float | None:
        """Mean accuracy of the agents for which it is defined."""
        return None if self.per_agent is None else _over_defined(self.per_agent, lambda each: sum(each) / len(each))

    @property
    def worst_agent(self) -> float | None:
        """Accuracy of the worst agent."""
        return None if self.per_agent is None else _over_defined(self.per_agent, min)


def _over_defined(values: list[float], combine: Callable[[list[float]], float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return combine(defined) if defined else math.nan


def evaluation_batch(model: AgentClassifier) -> int:
    """Return how many samples a sweep without gradients takes at once, the same on all workers."""
    neurons = int(model.network.ownership.all_widths.sum())
    return max(1, min(EVALUATION_BATCH, EVALUATION_VALUES // neurons))


@torch.no_grad()
def evaluate(
    model: AgentClassifier, x: Tensor, labels: Tensor, unit: float | Tensor = 1.0, repetition: int = 0
) -> Evaluation:
    """Return loss and accuracies on x (samples, features) and labels, in batches that bound the memory.

    labels: (samples,), or (samples, targets) of a regression; own targets (samples, agents) or (samples, agents,
    targets). unit: of real targets, (targets,) or (agents, targets), in which the mean squared error is told.
    repetition: number of the evaluation, for the fates of messages over impaired links.
    Several workers call it together; what has to be summed over them is booked as metrics.
    """
    readout, batch = model.readout, evaluation_batch(model)
    model.network.at(step=repetition)
    down = _down(model, len(x), batch)
    if down is not None and isinstance(readout, LocalReadout) and readout.own:
        labels, down = _with_gaps(readout, labels, down), None
    judge = _OfTargets(readout, labels, unit, down) if readout.regression else _OfClasses(readout, labels, down)
    loss = torch.zeros((), dtype=torch.float64, device=x.device)
    for number, (part, target) in enumerate(zip(x.split(batch), labels.split(batch), strict=True)):
        model.network.at(first=number * batch)
        scores = model(part)
        loss = loss + readout.loss(scores, target).double() * readout.amount(target)
        judge.add(scores, target, None if down is None else down[number * batch :][: len(part)])
    total = readout.reported_loss(loss / max(readout.amount(labels), 1))
    return judge.evaluation(total)


def _down(model: AgentClassifier, samples: int, batch: int) -> Tensor | None:
    """Tell which agents are down for which sample, (samples, agents); None if none can be."""
    parts = []
    for first in range(0, samples, batch):
        model.network.at(first=first)
        part = model.down(min(batch, samples - first))
        if part is None:
            return None
        parts.append(part)
    return torch.cat(parts) if parts else None


def _with_gaps(readout: LocalReadout, labels: Tensor, down: Tensor) -> Tensor:
    """Return own targets that are missing where their agents are down."""
    gaps = torch.zeros(labels.shape[:2], dtype=torch.bool, device=labels.device)
    gaps[:, readout.columns] = down[:, readout.output_agents]
    gaps = gaps.view(*gaps.shape, *[1] * (labels.ndim - 2))
    return labels.masked_fill(gaps, math.nan if readout.regression else MISSING)


class _OfClasses:
    """Accuracy of classes: right answers / known answers. down: (samples, agents), of shared targets; None: none."""

    def __init__(self, readout: Readout, labels: Tensor, down: Tensor | None) -> None:
        self.readout, self.labels, self.down, self.right = readout, labels, down, 0
        self.local = readout if isinstance(readout, LocalReadout) else None
        self.hits = torch.zeros(len(self.local.output_agents) if self.local else 0, dtype=torch.float64)
        self.hits = self.hits.to(labels.device)

    def add(self, scores: Tensor, target: Tensor, down: Tensor | None) -> None:
        """Count the right answers of a batch. down: its part of all."""
        if not self.readout.own:
            self.right += int((self.readout.predict(scores, down) == target).sum())
            target = target[:, None]
        elif self.local:
            target = target[:, self.local.columns[self.local.places]]
        if self.local:
            right = scores.argmax(dim=-1) == target
            self.hits[self.local.places] += (right if down is None else right & ~down[:, self.local.agents]).sum(dim=0)

    def evaluation(self, loss: float) -> Evaluation:
        """Return the shares."""
        hits, samples = summed(self.hits, self.readout.ownership), len(self.labels)
        if not self.readout.own:
            answers: int | Tensor = samples
            if self.local and self.down is not None:
                answers = (~self.down[:, self.local.output_agents]).sum(dim=0).double()
            return Evaluation(loss, self.right / samples, (hits / answers).tolist() if self.local else None)
        assert self.local is not None, "own targets are of agents"
        there = known(self.labels[:, self.local.columns]).sum(dim=0).double()
        return Evaluation(loss, float(hits.sum() / there.sum()), (hits / there).tolist())


class _OfTargets:
    """R² of real targets: 1 - squared errors / squared deviations from the mean, of the prediction and every agent.

    down: (samples, agents), of shared targets; None: none.
    """

    def __init__(self, readout: Readout, labels: Tensor, unit: float | Tensor, down: Tensor | None) -> None:
        self.readout, self.labels, self.unit, self.down = readout, labels, unit, down
        self.local = readout if isinstance(readout, LocalReadout) else None
        agents = len(self.local.output_agents) if self.local else 0
        self.missed, self.agents = (
            torch.zeros(count, dtype=torch.float64, device=labels.device) for count in (1, agents)
        )
        self.in_units = self.missed.new_zeros(agents if readout.own else 1, readout.classes)

    def add(self, scores: Tensor, target: Tensor, down: Tensor | None) -> None:
        """Add the squared errors of a batch. down: its part of all."""
        if self.readout.own and self.local:
            places, columns = self.local.places, self.local.columns[self.local.places]
            mine = target.reshape(len(target), -1, scores.shape[-1])[:, columns]
            errors = torch.where(known(mine), scores - mine.nan_to_num(), 0.0).double()
            self.agents[places] += self._summed(errors)
            errors = errors * (self.unit[columns] if isinstance(self.unit, Tensor) else self.unit)
            self.in_units[places] += torch.stack([self._summed(each) for each in errors.split(1, dim=2)], dim=1)
            return
        errors = (self.readout.predict(scores, down) - target).double()
        self.missed += errors.square().sum()
        self.in_units[0] += (errors * self.unit).square().sum(dim=0)
        if self.local:
            errors = (scores - target[:, None]).double()
            errors = errors if down is None else errors.masked_fill(down[:, self.local.agents, None], 0.0)
            self.agents[self.local.places] += self._summed(errors)

    def _summed(self, errors: Tensor) -> Tensor:
        """Sum the squares of errors (batch, agents, targets) of every agent, (agents,)."""
        if self.readout.ownership.deterministic:  # one agent at a time, so that no bit depends on which agents are here
            each = [errors[:, i].contiguous().square().sum() for i in range(errors.shape[1])]
            return torch.stack(each) if each else errors.new_zeros(0)
        return errors.square().sum(dim=(0, 2))

    def evaluation(self, loss: float) -> Evaluation:
        """Return R² and the mean squared error."""
        ownership, labels = self.readout.ownership, self.labels
        agents = summed(self.agents, ownership)
        if self.local and self.readout.own:
            labels = labels.reshape(len(labels), len(agents), -1)[:, self.local.columns]
            spreads, in_units = _spreads(labels), summed(self.in_units, ownership)
            explained = [_explained(*pair) for pair in zip(agents.tolist(), spreads.tolist(), strict=True)]
            whole = _explained(float(agents.sum()), float(spreads.sum()))
            there = known(labels).sum(dim=0)
            mse = float(in_units.sum()) / max(int(there.sum()), 1)
            return Evaluation(loss, whole, explained, mse, (in_units / there).tolist())
        spread = float((labels - labels.mean(dim=0)).double().square().sum())
        if bool((labels == labels[0]).all()):  # their mean is rounded, so the spread need not be 0
            spread = 0.0
        each = [spread] * len(agents)
        if self.local and self.down is not None:
            gaps = self.down[:, self.local.output_agents, None]
            each = _spreads(labels[:, None].expand(-1, len(agents), -1).masked_fill(gaps, math.nan)).tolist()
        explained = [_explained(*pair) for pair in zip(agents.tolist(), each, strict=True)]
        whole, mse = _explained(float(self.missed), spread), float(self.in_units.sum()) / labels.numel()
        mse_of = (self.in_units / len(labels)).tolist()
        return Evaluation(loss, whole, explained if self.local else None, mse, mse_of)


def _spreads(labels: Tensor) -> Tensor:
    """Return Σ|target - mean|² over the known own targets of every agent, (agents,); 0 where all are equal."""
    labels = labels.double()
    lowest, highest = (labels.nan_to_num(nan=fill) for fill in (math.inf, -math.inf))
    varies = lowest.amin(dim=0) < highest.amax(dim=0)  # (agents, targets)
    squares = (labels - labels.nanmean(dim=0)).square().nansum(dim=0)
    return (squares * varies).sum(dim=-1)


def _explained(error: float, spread: float) -> float:
    return 1.0 - error / spread if spread else math.nan
