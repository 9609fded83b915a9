"""Averaging over a communication graph with neighbors only: Metropolis weights, differentiable.

    x_i <- x_i + Σ over neighbors j of (x_j - x_i) / (1 + max(degree i, degree j))

The weights are symmetric and their rows sum to one, so rounds keep the mean, and the backward pass is the same rounds.
Source: Xiao, Boyd and Kim, "Distributed average consensus with least-mean-square deviation", JPDC 67, 2007.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.network.ownership import Ownership
from dist_hdnn.operators.choice import panels
from dist_hdnn.operators.ghosted import GhostedTensor
from dist_hdnn.operators.indexed import Indexed
from dist_hdnn.operators.panel_products import PanelProducts
from dist_hdnn.operators.products import BlockWeights, Rows, layer_weights
from dist_hdnn.sweep.surroundings import opaque
from dist_hdnn.topology import neighbours

KEPT = 4  # sizes of batches whose buffers are kept


class _Memory(NamedTuple):
    """Buffers for one number of columns."""

    x: GhostedTensor
    products: PanelProducts
    weights: BlockWeights
    rows: Rows


class MetropolisAverage(Indexed):
    """Rounds of averaging over the first graph of a network, (batch, agents of this worker, values)."""

    weights: Tensor
    order: Tensor

    def __init__(self, ownership: Ownership, rounds: int) -> None:
        super().__init__()
        if rounds < 0:
            raise ValueError(f"readout.rounds: expected 0 or more rounds of gossip, got {rounds}. Set 4, for example.")
        self.rounds = rounds
        pattern = neighbours(ownership.graph)
        single = np.ones(ownership.graph.agents, dtype=np.int64)
        matrix, self.exchange, columns = ownership.operator(pattern, "gossip", single, phase="readout")
        self.operator = panels(matrix)
        rows = ownership.agents[self.operator.pattern.block_rows]
        others = columns[self.operator.pattern.columns]
        degrees = ownership.graph.degrees()
        weights = np.where(rows == others, 0.0, 1.0 / (1.0 + np.maximum(degrees[rows], degrees[others])))
        weights[rows == others] = 1.0 - np.bincount(self.operator.pattern.block_rows, weights, len(ownership.agents))
        self.register_buffer("weights", torch.from_numpy(weights)[None], persistent=False)
        self.keep_index("order", torch.argsort(self.operator.row_order))
        self._memories: dict[tuple[object, ...], _Memory] = {}

    @opaque
    def forward(self, values: Tensor) -> Tensor:
        """Average (batch, agents, values) over the agents in all rounds."""
        if values.ndim != 3 or values.shape[1] != self.operator.rows:
            raise ValueError(
                f"gossip: expected values of shape (batch, {self.operator.rows}, values), one row per agent of this "
                f"worker, got {tuple(values.shape)}. Give the scores of a LocalReadout."
            )
        averaged: Tensor = _Average.apply(self, values)  # type: ignore[no-untyped-call]
        return averaged

    def average(self, values: Tensor) -> Tensor:
        """Average in all rounds without gradient. The operation is its own adjoint."""
        batch, agents, size = values.shape
        memory = self._memory(values, batch * size)
        memory.x.owned[:] = values.transpose(0, 1).reshape(agents, batch * size)
        for _ in range(self.rounds):
            memory.products.product(memory.weights, memory.x, memory.rows)
            torch.index_select(memory.rows.flat, 0, self.order, out=memory.x.owned)
        return memory.x.owned.view(agents, batch, size).transpose(0, 1).contiguous()

    def _memory(self, like: Tensor, columns: int) -> _Memory:
        """Return the buffers for this number of columns, kept because channels are bound to them."""
        key = columns, like.dtype, like.device
        memory = self._memories.pop(key, None)
        if memory is None:
            products = PanelProducts(self.operator, self.exchange, like.new_empty(columns, 0))
            x = products.ghosted()
            arranged = self.operator.arrange(self.weights.to(like.dtype), like.new_zeros(1, self.operator.stored))
            weights = layer_weights(self.operator, arranged)[0]
            memory = _Memory(x, products, weights, products.rows()[0])
        self._memories[key] = memory
        while len(self._memories) > KEPT:
            del self._memories[next(iter(self._memories))]
        return memory


class _Average(torch.autograd.Function):
    """forward: rounds of x <- W x. backward: rounds of g <- Wᵀ g = W g."""

    @staticmethod
    def forward(ctx: Any, average: MetropolisAverage, values: Tensor) -> Tensor:
        ctx.average = average
        return average.average(values.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.average.average(gradient)
