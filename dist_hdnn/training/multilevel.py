"""Multilevel training: a shallow network first, its weights prolonged in time to a deeper one, which continues.

    levels 8, 16, 32     8 layers of step 4h  ->  16 of step 2h  ->  32 of step h, all over the same ODE time

The layers' weights are samples of a function of time at the middle of each layer. A deeper network takes that function,
piecewise linear between the samples and constant before the first and after the last, at the middle of its own layers.
Rows of a parameter are layers, so prolongation is local: it exchanges nothing, whoever owns what.

The epochs are split evenly over the levels, the remainder going to the last ones; batch order and learning rate
continue as in one run, the optimizer's moments start at zero.

Source: Haber and Ruthotto, arXiv:1705.03341, multilevel learning; they sample at the left ends of the layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.loop import Epoch, Recipe, Split, TrainingState, train


@dataclass(frozen=True)
class Level:
    """A network of `layers` layers of size `step`, and the epochs in which it trains (counted from 0)."""

    layers: int
    step: float
    epochs: range


def plan(levels: Sequence[int], layers: int, step: float, epochs: int) -> list[Level]:
    """Return the levels of a run that ends with `layers` layers of size `step`, by default that network alone.

    Raises ValueError, one line, unless every level is a multiple of the one before, the last is `layers`, and there is
    an epoch for each.
    """
    levels = list(levels) or [layers]
    if levels[0] < 1 or any(fine <= coarse or fine % coarse for coarse, fine in pairwise(levels)):
        raise ValueError(
            f"train.levels: expected numbers of layers of which each is a multiple of the one before, got {levels}. "
            "Double them, as in [8, 16, 32]."
        )
    if levels[-1] != layers:
        raise ValueError(
            f"train.levels: expected the last level to be network.layers = {layers}, got {levels}. "
            f"End the levels with {layers}, or set network.layers={levels[-1]}."
        )
    if epochs < len(levels):
        raise ValueError(
            f"train.epochs: expected at least one for each of the {len(levels)} levels, got {epochs}. "
            "Raise it, or drop a level."
        )
    ends = [epochs * (i + 1) // len(levels) for i in range(len(levels))]
    return [
        Level(depth, step * layers / depth, range(start, end))
        for depth, start, end in zip(levels, [0, *ends], ends, strict=False)
    ]


def train_levels(
    levels: Sequence[Level],
    finest: AgentClassifier,
    build: Callable[[Level], AgentClassifier],
    training: Split,
    validation: Split | None,
    recipe: Recipe,
    resumed: int | None = None,
    restore: Callable[[TrainingState], None] | None = None,
    **callbacks: Any,
) -> list[Epoch]:
    """Train level by level, `finest` last and in place, and return all records. callbacks: of `loop.train`.

    build: the untrained model of a level before the last. resumed: layers of the level to resume, whose state
    `restore` puts back. Several workers: collective, each with its part of a model.
    """
    history: list[Epoch] = []
    coarse: AgentClassifier | None = None
    for level in levels:
        if resumed is not None and level.layers < resumed:
            continue
        model = finest if level is levels[-1] else build(level)
        if coarse is not None:
            prolong(coarse, model)
        more: dict[str, Any] = {"restore": restore} if restore is not None and level.layers == resumed else {}
        train(model, training, validation, recipe, part=level.epochs, history=history, **more, **callbacks)
        coarse = model
    return history


@torch.no_grad()
def prolong(coarse: AgentClassifier, fine: AgentClassifier) -> None:
    """Overwrite `fine` by `coarse`: weights prolonged in time, others (readout, shared X, knots) copied.

    Both: the same but for layers and step. Raises ValueError where they differ in more.
    """
    stages = len(fine.network.graphs)
    from_coarse: dict[str, Tensor] = dict(coarse.named_parameters())
    for name, parameter in fine.named_parameters():
        values = from_coarse.get(name)
        if values is None or values.shape[1:] != parameter.shape[1:]:
            raise ValueError(
                f"prolongation: expected two networks that differ in layers and step alone, got another {name}. "
                "Build both with the same other options."
            )
        if len(values) != len(parameter):
            stage = name.rpartition(".")[2]  # Kp.1: of the layers 1, 1 + stages, ...; bp: of all layers
            first, stride = (int(stage), stages) if stage.isdigit() else (0, 1)
            old, new = (
                _middles(first, stride, len(rows), model.network.layers)
                for rows, model in ((values, coarse), (parameter, fine))
            )
            values = interpolated(values, old, new)
        parameter.copy_(values)


def interpolated(values: Tensor, times: Tensor, at: Tensor) -> Tensor:
    """Interpolate linearly in time, constant beyond the ends: values (times, ...) -> (at, ...). `times` ascend."""
    upper = torch.searchsorted(times, at).clamp(1, max(len(times) - 1, 1))
    if len(times) == 1:
        return values.expand(len(at), *values.shape[1:])
    share = ((at - times[upper - 1]) / (times[upper] - times[upper - 1])).clamp(0.0, 1.0)
    share = share.to(values.device, values.dtype).view(-1, *[1] * (values.ndim - 1))
    return values[upper - 1] * (1 - share) + values[upper] * share


def _middles(first: int, stride: int, rows: int, layers: int) -> Tensor:
    """Return the middles of the layers first, first + stride, ... as shares of the network's time, (rows,) float64."""
    return (first + stride * torch.arange(rows, dtype=torch.float64) + 0.5) / layers
