"""The scaling of a data set as a module: raw readings -> what the network was trained on, and scores -> real targets.

It does to one batch what `standardised` has done to all samples, in the same precision, so the bits are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Scaler(nn.Module):
    """(x - mean) / deviation of readings (batch, features), in the dtype of the readings as trained on, then as dtype.

    normalisation: as in `Dataset`; without any, x as it is. `answers` takes real targets back to their own units.
    """

    shift: Tensor
    scale: Tensor
    target_mean: Tensor
    target_deviation: Tensor

    def __init__(self, normalisation: Mapping[str, Any], readings: torch.dtype, dtype: torch.dtype) -> None:
        super().__init__()
        self.readings, self.dtype, self.scales = readings, dtype, bool(normalisation)
        deviation = torch.tensor(normalisation.get("deviation", [1.0]), dtype=torch.float64)
        mean = torch.tensor(normalisation.get("mean", [0.0]), dtype=torch.float64)
        self.register_buffer("shift", mean.to(readings), persistent=False)
        self.register_buffer("scale", (1.0 / deviation).to(readings), persistent=False)
        self.targets = "target_mean" in normalisation
        for name in ("target_mean", "target_deviation"):
            values = torch.tensor(normalisation.get(name, [0.0]), dtype=torch.float64)
            self.register_buffer(name, values, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Raw readings (batch, features) -> features of the network."""
        x = x.to(self.readings)
        return ((x - self.shift) * self.scale if self.scales else x).to(self.dtype)

    def answers(self, scores: Tensor) -> Tensor:
        """Scores of a regression (..., targets) -> targets in their own units, float64; of classes as they are."""
        return scores.double() * self.target_deviation + self.target_mean if self.targets else scores
