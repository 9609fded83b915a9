"""Records of a training run: the best epoch so far, and the gradient norms of its layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dist_hdnn.ends.readout import summed
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.training.checkpoints.manifest import score
from dist_hdnn.training.classifier import AgentClassifier


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
