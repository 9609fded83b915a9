"""Weights as functions of time: one set for every layer, one for all, or piecewise linear between knots.

A layer's weights are an elementwise map of the parameters, so neither owners nor exchanges know of it, and no bit of a
sum depends on who owns what. Source: Haber and Ruthotto, arXiv:1705.03341 (weights as a discretised function of time).
Shapes: a parameter (knots, entries) or (knots, neurons) -> (layers, ...) of the layers asked for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dist_hdnn.operators.indexed import Indexed


class TimeCourse(Indexed):
    """The weights of `layers` layers from `knots` sets, the first and the last at the first and the last layer.

    time: "free", one set per layer; "shared", one set; an integer from 2 to the number of layers, so many knots.
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
        """Numbers of the sets that a parameter holds, as keys of initial values; stage: of a matrix, else of a bias."""
        if stage is None:
            return range(self.knots)
        return range(stage, self.layers if self.free else self.knots * self.stages, self.stages)

    def forward(self, parameter: Tensor, stage: int | None = None) -> Tensor:
        """A parameter -> the weights of the stage's layers, or of all layers: the parameter itself if time is free."""
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
