"""Metrics of an epoch: accuracy of a model and of its agents, the best epoch so far, sizes of gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dist_hdnn.ends.readout import LocalReadout, summed
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.training.checkpoints.manifest import score
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
    """Return how many samples a sweep without gradients takes at once, the same on all workers."""
    neurons = int(model.network.ownership.all_widths.sum())
    return max(1, min(EVALUATION_BATCH, EVALUATION_VALUES // neurons))


@torch.no_grad()
def evaluate(model: AgentClassifier, x: Tensor, labels: Tensor) -> Evaluation:
    """Return loss and accuracies on x (samples, features), labels (samples,) or (samples, targets).

    In batches that bound the memory. Several workers call it together; sums over them are booked as metrics.
    """
    readout, samples, batch = model.readout, len(x), evaluation_batch(model)
    local = isinstance(readout, LocalReadout)
    loss, whole = (torch.zeros((), dtype=torch.float64, device=x.device) for _ in range(2))
    agents = torch.zeros(
        len(readout.output_agents) if isinstance(readout, LocalReadout) else 0, dtype=torch.float64, device=x.device
    )
    for part, target in zip(x.split(batch), labels.split(batch), strict=True):
        scores = model(part)
        loss = loss + readout.loss(scores, target).double() * len(part)
        if readout.regression:  # squared errors
            whole = whole + (readout.predict(scores) - target).double().square().sum()
        else:  # correct answers
            whole = whole + (readout.predict(scores) == target).sum()
        if isinstance(readout, LocalReadout) and readout.regression:
            agents[readout.places] += (scores - target[:, None]).double().square().sum(dim=(0, 2))
        elif isinstance(readout, LocalReadout):
            agents[readout.places] += (scores.argmax(dim=-1) == target[:, None]).sum(dim=0)
    counts = [float(value) for value in (whole, *(summed(agents, readout.ownership) if local else ()))]
    if readout.regression:
        spread = float((labels - labels.mean(dim=0)).double().square().sum())
        equal = bool((labels == labels[0]).all())  # their mean is rounded, so the spread need not be 0
        accuracies = [math.nan if equal else 1.0 - error / spread for error in counts]
    else:
        accuracies = [right / samples for right in counts]
    return Evaluation(readout.reported_loss(loss / samples), accuracies[0], accuracies[1:] if local else None)


@dataclass
class Best:
    """The epoch of highest accuracy on validation data so far, with its weights. Of equal epochs the first.

    epoch: from 1. accuracy: R² of a regression. weights: this worker's, by name.
    """

    epoch: int
    accuracy: float
    weights: dict[str, Tensor]

    @torch.no_grad()
    def put_back(self, model: AgentClassifier) -> None:
        """Give the model the weights of the best epoch."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.weights[name])


def better(model: AgentClassifier, accuracy: float | None, best: Best | None) -> bool:
    """Return whether this accuracy on validation data is the highest so far, as worker 0 says. Collective.

    An accuracy that is undefined is the lowest, and the first epoch is the best until another one is.
    """
    wins = best is None or score(accuracy) > best.accuracy
    said = torch.tensor([float(wins and model.network.ownership.rank == 0)], dtype=torch.float64)
    return bool(summed(said, model.network.ownership)[0] > 0)


def snapshot(model: AgentClassifier, epoch: int, accuracy: float | None) -> Best:
    """Return the model as it is now, as the best epoch."""
    return Best(epoch, score(accuracy), {name: value.detach().clone() for name, value in model.named_parameters()})


class GradientLog:
    """|∂L/∂(K_j, b_j)| for every set of weights j, as the root mean square over the steps since `take`.

    A set is a layer's where each layer has its own, else one of the knots in time. X and J, which all layers share, are
    left out. Several workers: the gradient of the whole network; `take` sums over them, once an epoch.
    """

    def __init__(self, network: HDNN) -> None:
        self.network, self.steps = network, 0
        biases = [getattr(network, name) for name in network.architecture.biases]
        self.squares = torch.zeros(len(biases[0]), dtype=torch.float64, device=biases[0].device)

    @torch.no_grad()
    def add(self) -> None:
        """Add the gradients of a backward sweep."""
        network, architecture = self.network, self.network.architecture
        stages = len(network.graphs) if network.time == "free" else 1  # knots are numbered alike on every graph
        for name in architecture.biases:
            self.squares += _squares(getattr(network, name).grad)
        for name in architecture.matrices:
            for s, parameter in enumerate(getattr(network, name)):
                self.squares[s % stages :: stages] += _squares(parameter.grad)
        self.steps += 1

    def take(self) -> list[float]:
        """Return the norms, one for each set, and start anew."""
        norms = (summed(self.squares.clone(), self.network.ownership) / max(self.steps, 1)).sqrt().tolist()
        self.squares.zero_()
        self.steps = 0
        return norms  # type: ignore[no-any-return]


def _squares(gradient: Tensor | None) -> Tensor:
    """Return sums of squares, (sets, numbers) -> (sets,)."""
    assert gradient is not None, "add() comes after backward()"
    norms: Tensor = torch.linalg.vector_norm(gradient, dim=1, dtype=torch.float64)
    return norms**2
