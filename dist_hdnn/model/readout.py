"""Readouts: from the last state to class scores.

    sum      one linear map over all agents, that is a global sum of every agent's scores
    local    every agent classifies from its own block; the loss is the agents' mean, the prediction their majority

Both hold one weight per class and neuron, (classes, neurons), and differ in what is summed.
Shapes: state (batch, neurons), columns agent by agent; labels (batch,).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from dist_hdnn.layers.operators import offsets, ragged_ranges


class SumReadout(nn.Module):
    """scores = Σ over agents of W_i y_i, plus a bias; weights start at zero, so every start is the same."""

    def __init__(self, widths: NDArray[np.int64], classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, int(widths.sum())))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, state: Tensor) -> Tensor:
        """(batch, neurons) -> scores (batch, classes)."""
        return nn.functional.linear(state, self.weight, self.bias)

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy, a scalar."""
        return cross_entropy(scores, labels)

    def predict(self, scores: Tensor) -> Tensor:
        """(batch, classes) -> class (batch,)."""
        return scores.argmax(dim=-1)


class LocalReadout(nn.Module):
    """scores_i = W_i y_i + bias_i for every agent i, from its own block alone: no communication at all.

    widths: neurons of every agent.
    """

    padded_columns: Tensor

    def __init__(self, widths: NDArray[np.int64], classes: int) -> None:
        super().__init__()
        self.agents, self.classes, self.equal = len(widths), classes, len(set(widths.tolist())) == 1
        self.weight = nn.Parameter(torch.zeros(classes, int(widths.sum())))
        self.bias = nn.Parameter(torch.zeros(self.agents, classes))
        padded = np.full((self.agents, int(widths.max())), int(widths.sum()), dtype=np.int64)
        rows = np.repeat(np.arange(self.agents), widths)
        padded[rows, ragged_ranges(np.zeros(self.agents, np.int64), widths)] = np.arange(int(offsets(widths)[-1]))
        self.register_buffer("padded_columns", torch.from_numpy(padded), persistent=False)

    def forward(self, state: Tensor) -> Tensor:
        """(batch, neurons) -> scores (batch, agents, classes)."""
        blocks, weight = self._by_agent(state), self._by_agent(self.weight)
        return torch.einsum("baw,caw->bac", blocks, weight) + self.bias

    def _by_agent(self, columns: Tensor) -> Tensor:
        """(rows, neurons) -> (rows, agents, neurons of the widest agent); narrower blocks are filled with zeros."""
        if self.equal:
            return columns.view(len(columns), self.agents, -1)
        return nn.functional.pad(columns, (0, 1))[:, self.padded_columns]

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mean over agents and samples of the cross entropy, a scalar."""
        return cross_entropy(scores.flatten(0, 1), labels.repeat_interleave(self.agents))

    def predict(self, scores: Tensor) -> Tensor:
        """Majority vote of the agents, (batch, agents, classes) -> (batch,); a tie goes to the larger summed score."""
        votes = one_hot(scores.argmax(dim=-1), self.classes).sum(dim=1)
        tie_break = scores.softmax(dim=-1).mean(dim=1)  # in [0, 1), so it never outweighs a vote
        return (votes + 0.5 * tie_break).argmax(dim=-1)


READOUTS: dict[str, type[SumReadout] | type[LocalReadout]] = {"sum": SumReadout, "local": LocalReadout}
