"""Weight smoothness in time: (h/2) Σ_j |K_{j+1} - K_j|² + |b_{j+1} - b_j|².

Separable by block, so every owner computes its own share and nothing is exchanged. `smoothness` is its value for
autograd; `add_smoothness_gradient` adds its gradient alone, in one pass over the weights.
Source: Haber and Ruthotto, arXiv:1705.03341; the published H-DNN code uses the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 2**18  # weights at a time: 1 MB in float32, which stays in the cache


def smoothness(K: list[list[Tensor]], b: list[Tensor], h: float, union: list[Tensor] | None = None) -> Tensor:
    """(h/2) Σ over layers of |K_{j+1} - K_j|² + |b_{j+1} - b_j|², a scalar, summed over matrices and biases.

    K: of every matrix per stage (layers of the stage, entries); layer j is row j // stages of stage j mod stages.
    b: (layers, neurons) each. union: with several stages, each stage's weights' places in the union of the patterns; a
    weight that a layer's pattern lacks counts as zero there.
    """
    layers = len(b[0])
    terms = [_squared_differences(_together(stages, layers, union)) for stages in K]
    return 0.5 * h * sum(map(_squared_differences, b), start=sum(terms, start=b[0].new_zeros(())))


def _together(stages: list[Tensor], layers: int, union: list[Tensor] | None) -> Tensor:
    """One matrix of all layers, (layers, entries of the union)."""
    if union is None:
        return stages[0]
    size = 1 + max(int(places.max()) if len(places) else 0 for places in union)
    weights = stages[0].new_zeros(layers, size)
    for stage, (values, places) in enumerate(zip(stages, union, strict=True)):
        own = torch.arange(stage, layers, len(stages), device=values.device)
        weights = weights.index_put((own[:, None], places[None, :]), values)
    return weights


class _SquaredDifferences(torch.autograd.Function):
    """forward: Σ |v_{j+1} - v_j|². backward: 2 (v_j - v_{j-1}) - 2 (v_{j+1} - v_j)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return (values[1:] - values[:-1]).square().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        twice = torch.sub(values[1:], values[:-1]).mul_(2 * g)
        gradient = torch.empty_like(values)
        gradient[:1] = 0
        gradient[1:] = twice
        gradient[:-1] -= twice
        return gradient


def _squared_differences(values: Tensor) -> Tensor:
    total: Tensor = _SquaredDifferences.apply(values)  # type: ignore[no-untyped-call]
    return total


@torch.no_grad()
def add_smoothness_gradient(parameters: Iterable[Tensor], scale: float) -> None:
    """Add the gradient of (scale/2) Σ |v_{j+1} - v_j|² to the `grad` of every v (layers, numbers).

    What has no gradient or no second layer is left out.
    """
    for v in parameters:
        if v.grad is None or len(v) == 1:
            continue
        columns = max(1, CHUNK // len(v))
        for part, gradient in zip(v.split(columns, dim=1), v.grad.split(columns, dim=1), strict=True):
            gradient[1:].add_(part[1:], alpha=scale).sub_(part[:-1], alpha=scale)
            gradient[:-1].add_(part[:-1], alpha=scale).sub_(part[1:], alpha=scale)
