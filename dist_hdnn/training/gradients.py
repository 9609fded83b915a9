"""Sizes of the gradients of every layer's weights while a network trains."""

from __future__ import annotations

import torch

from dist_hdnn.ends.readout import summed
from dist_hdnn.network.hdnn import HDNN


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
        """After a backward sweep."""
        network, architecture = self.network, self.network.architecture
        stages = len(network.graphs) if network.time == "free" else 1  # knots are numbered alike on every graph
        for name in architecture.biases:
            self.squares += _squares(getattr(network, name).grad)
        for name in architecture.matrices:
            for s, parameter in enumerate(getattr(network, name)):
                self.squares[s % stages :: stages] += _squares(parameter.grad)
        self.steps += 1

    def take(self) -> list[float]:
        """The norms, one for each set; starts anew."""
        norms = (summed(self.squares.clone(), self.network.ownership) / max(self.steps, 1)).sqrt().tolist()
        self.squares.zero_()
        self.steps = 0
        return norms  # type: ignore[no-any-return]


def _squares(gradient: torch.Tensor | None) -> torch.Tensor:
    """(sets, numbers) -> sums of squares, (sets,)."""
    assert gradient is not None, "add() comes after backward()"
    norms: torch.Tensor = torch.linalg.vector_norm(gradient, dim=1, dtype=torch.float64)
    return norms**2
