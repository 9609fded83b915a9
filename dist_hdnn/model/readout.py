"""Readouts: from the last state to class scores.

    sum      one linear map over all agents, that is a global sum of every agent's scores
    local    every agent classifies from its own block; the loss is the agents' mean, the prediction their majority

Both hold one weight per class and neuron, (classes, neurons), and differ in what is summed.
Shapes: state (batch, neurons), columns agent by agent; labels (batch,).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from dist_hdnn.layers.operators import offsets, ragged_ranges
from dist_hdnn.model.initialization import Purpose, normal


class SumReadout(nn.Module):
    """scores = Σ over agents of W_i y_i, plus a bias; W ~ N(0, 1 / neurons), keyed by (seed, class, agent).

    widths: neurons of every agent.
    """

    def __init__(self, widths: NDArray[np.int64], classes: int, seed: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(_initial(widths, classes, seed) / math.sqrt(widths.sum()))
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

    W_i ~ N(0, 1 / neurons of agent i), keyed by (seed, class, agent). widths: neurons of every agent.
    """

    padded_columns: Tensor

    def __init__(self, widths: NDArray[np.int64], classes: int, seed: int = 0) -> None:
        super().__init__()
        self.agents, self.classes, self.equal = len(widths), classes, len(set(widths.tolist())) == 1
        scale = torch.from_numpy(np.repeat(widths, widths) ** -0.5).to(torch.get_default_dtype())
        self.weight = nn.Parameter(_initial(widths, classes, seed) * scale)
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


def _initial(widths: NDArray[np.int64], classes: int, seed: int) -> Tensor:
    """Standard normal weights (classes, neurons), each a function of (seed, class, agent, neuron of the agent)."""
    agents = np.repeat(np.arange(len(widths)), widths).astype(np.uint64)
    neurons = ragged_ranges(np.zeros_like(widths), widths).astype(np.uint64)
    rows = [normal(seed, Purpose.READOUT, 0, np.full_like(agents, c), agents, neurons) for c in range(classes)]
    return torch.from_numpy(np.stack(rows)).to(torch.get_default_dtype())


READOUTS: dict[str, type[SumReadout] | type[LocalReadout]] = {"sum": SumReadout, "local": LocalReadout}
