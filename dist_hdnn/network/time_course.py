"""Weights in time: all layers' weights from a few sets, and the penalty on their change between layers.

time course   one set for every layer, one for all, or piecewise linear between knots
smoothness    (h/2) Σ_j |K_{j+1} - K_j|² + |b_{j+1} - b_j|²

Both are elementwise in the parameters, so every owner computes its own share, nothing is exchanged, and no bit of a sum
depends on who owns what. `smoothness` is the penalty for autograd; `add_smoothness_gradient` adds its gradient alone,
in one pass over the weights.
Source: Haber and Ruthotto, arXiv:1705.03341 (weights as a discretized function of time); the published H-DNN code uses
the same penalty.
Shapes: a parameter (knots, entries) or (knots, neurons) -> (layers, ...) of the layers asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dist_hdnn.operators.indexed import Indexed


class TimeCourse(Indexed):
    """The weights of `layers` layers from `knots` sets, the first and the last at the first and the last layer.

    time: "free", one set per layer; "shared", one set; an integer from 2 to the number of layers, the number of knots.
    stages: layer j is the stage j mod stages'; each stage has matrices of its own, with knots at the same times.
    Raises ValueError for anything else.
    """

    lower: Tensor
    share: Tensor

    def __init__(self, time: str | int, layers: int, stages: int) -> None:
        super().__init__()
        known = time in ("free", "shared") if isinstance(time, str) else not isinstance(time, bool) and time >= 2
        if not known or (isinstance(time, int) and time > layers):
            raise ValueError(
                f"network.time: expected free, shared, or a number of knots from 2 to the {layers} layers, got {time}. "
                "Choose one of these."
            )
        self.time, self.free, self.layers, self.stages = time, time == "free", layers, stages
        self.knots = layers if time == "free" else 1 if time == "shared" else int(time)
        place = torch.arange(layers, dtype=torch.float64) * ((self.knots - 1) / max(layers - 1, 1))
        lower = place.floor().long().clamp(max=max(self.knots - 2, 0))
        self.keep_index("lower", lower)
        self.register_buffer("share", (place - lower)[:, None], persistent=False)

    def sets(self, stage: int | None = None) -> range:
        """Return the numbers of a parameter's sets, as keys of initial values. stage: of a matrix, else of a bias."""
        if stage is None:
            return range(self.knots)
        return range(stage, self.layers if self.free else self.knots * self.stages, self.stages)

    def forward(self, parameter: Tensor, stage: int | None = None) -> Tensor:
        """Return the weights of the stage's layers, or of all layers: the parameter itself if time is free."""
        if self.free:
            return parameter
        layers = slice(None) if stage is None else slice(stage, None, self.stages)
        lower, share = self.lower[layers], self.share[layers].to(parameter.dtype)
        if self.knots == 1:
            repeated: Tensor = _Repeat.apply(parameter, lower)  # type: ignore[no-untyped-call]
            return repeated
        first = parameter.index_select(0, lower)
        return first * (1 - share) + parameter.index_select(0, lower + 1) * share


class _Repeat(torch.autograd.Function):
    """(1, entries) -> (layers, entries) without copies, so that `WeightPanels` arranges one row.

    Backward adds layer by layer: its bits are the same whoever owns how many entries, which those of `sum` are not.
    """

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, lower: Tensor) -> Tensor:
        ctx.save_for_backward(lower)
        return parameter.expand(len(lower), -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (lower,) = ctx.saved_tensors
        return gradient.new_zeros(1, gradient.shape[1]).index_add_(0, lower, gradient), None


CHUNK = 2**18  # weights at a time: 1 MB in float32, which stays in the cache


def smoothness(K: list[list[Tensor]], b: list[Tensor], h: float, union: list[Tensor] | None = None) -> Tensor:
    """Return (h/2) Σ |K_{j+1} - K_j|² + |b_{j+1} - b_j|² over layers, matrices and biases, a scalar.

    K: of every matrix per stage (layers of the stage, entries); layer j is row j // stages of stage j mod stages.
    b: (layers, neurons) each. union: with several stages, each stage's weights' places in the union of the patterns; a
    weight that a layer's pattern lacks counts as zero there.
    """
    layers = len(b[0])
    terms = [_squared_differences(_together(stages, layers, union)) for stages in K]
    return 0.5 * h * sum(map(_squared_differences, b), start=sum(terms, start=b[0].new_zeros(())))


def _together(stages: list[Tensor], layers: int, union: list[Tensor] | None) -> Tensor:
    """Return one matrix of all layers, (layers, entries of the union)."""
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

    Tensors without a gradient or a second layer are left out.
    """
    for v in parameters:
        if v.grad is None or len(v) == 1:
            continue
        columns = max(1, CHUNK // len(v))
        for part, gradient in zip(v.split(columns, dim=1), v.grad.split(columns, dim=1), strict=True):
            gradient[1:].add_(part[1:], alpha=scale).sub_(part[:-1], alpha=scale)
            gradient[:-1].add_(part[:-1], alpha=scale).sub_(part[1:], alpha=scale)
