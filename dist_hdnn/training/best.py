"""The best epoch so far, by its accuracy on validation data, with its weights: what a run ends with.

Only a higher accuracy replaces it, so of equal epochs the first stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dist_hdnn.ends.readout import summed
from dist_hdnn.training.checkpoints.manifest import score
from dist_hdnn.training.classifier import AgentClassifier


@dataclass
class Best:
    """epoch: from 1. accuracy: on the validation data, R² of a regression. weights: this worker's, by name."""

    epoch: int
    accuracy: float
    weights: dict[str, Tensor]

    def left(self, epoch: int, patience: int | None) -> bool:
        """Whether the best epoch lies more than `patience` epochs before `epoch`, which has not begun."""
        return patience is not None and epoch - self.epoch > patience

    @torch.no_grad()
    def put_back(self, model: AgentClassifier) -> None:
        """Give the model the weights of the best epoch."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.weights[name])


def better(model: AgentClassifier, accuracy: float | None, best: Best | None) -> bool:
    """Whether an epoch of this accuracy on validation data is the best so far: what worker 0 says. Collective.

    An accuracy that is undefined is the lowest, and the first epoch is the best until another one is.
    """
    wins = best is None or score(accuracy) > best.accuracy
    said = torch.tensor([float(wins and model.network.ownership.rank == 0)], dtype=torch.float64)
    return bool(summed(said, model.network.ownership)[0] > 0)


def snapshot(model: AgentClassifier, epoch: int, accuracy: float | None) -> Best:
    """The model as it is."""
    return Best(epoch, score(accuracy), {name: value.detach().clone() for name, value in model.named_parameters()})
