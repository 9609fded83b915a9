"""The first weights of a network: its parameters by name, one worker's rows of each.

Kp, Kq, X, ...    a ParameterList: (sets of the graph's layers, entries) for each graph; X one set alone if shared
bp, bq, ...       a Parameter: (sets of all layers, neurons)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dist_hdnn.network.couplings import Layout
from dist_hdnn.network.parameters import draw_bias, skew_values
from dist_hdnn.network.time_course import TimeCourse


def draw_matrices(
    layout: Layout, course: TimeCourse, seed: int, scale: float, dtype: torch.dtype
) -> Iterator[tuple[str, nn.ParameterList]]:
    """The matrices K, each entry from a key of its own."""
    for name in layout.architecture.matrices:
        drawn = (matrix.draw(seed, name, course.sets(s), scale, dtype) for s, matrix in enumerate(layout.matrices["K"]))
        yield name, nn.ParameterList(drawn)


def draw_interconnection(
    layout: Layout, layers: int, shared: bool, seed: int, scale: float, dtype: torch.dtype
) -> nn.ParameterList:
    """X around the identity, or a trained J around J1. shared: one set for all of so many layers."""
    name, drawn = layout.architecture.interconnection, []
    for s, matrix in enumerate(layout.matrices["X"][: 1 if shared else None]):
        sets = [0] if shared else range(s, layers, len(layout.graphs))
        start = matrix.identity() if name == "X" else matrix.canonical_skew()
        drawn.append(matrix.draw(seed, name, sets, scale, dtype, start))
    return nn.ParameterList(drawn)


def fixed_skew(layout: Layout, J: Any, dtype: torch.dtype) -> Tensor:
    """A J that is not trained, (1, entries above the diagonal)."""
    return torch.from_numpy(skew_values(layout.matrices["X"][0], J))[None].to(dtype)


def draw_biases(
    layout: Layout, course: TimeCourse, seed: int, dtype: torch.dtype
) -> Iterator[tuple[str, nn.Parameter]]:
    """The biases b."""
    for name in layout.architecture.biases:
        sizes = layout.sizes[layout.agents]
        yield name, nn.Parameter(draw_bias(seed, name, course.sets(), layout.agents, sizes, dtype))
