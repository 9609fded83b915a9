"""A `Preparation` as a module: from raw readings to features, and from scores to real targets.

It does to a batch what `Preparation` does to arrays, in the same precision, so the bits are the same.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from dist_hdnn.data.preparation import Preparation


class Scaler(nn.Module):
    """Gaps filled and marked, then (x - mean) / deviation: readings (batch, readings) -> features (batch, features).

    A reading is a column, with windows a column at a lag, oldest first; NaN in gaps that are filled with the mean or
    zero. Filling with the last reading needs earlier rows, so then readings are the features themselves, filled and
    marked.
    source: (features,) the reading of each feature; mark: whether the feature says that it is missing; fill: what a gap
    becomes. names: of the readings. raw: their dtype. answers: see `Preparation.answers`.
    """

    source: Tensor
    mark: Tensor
    fill: Tensor
    shift: Tensor
    scale: Tensor
    target_mean: Tensor
    target_deviation: Tensor

    def __init__(
        self,
        preparation: Preparation,
        features: tuple[str, ...],
        dtype: torch.dtype,
        order: np.ndarray | None = None,
    ) -> None:
        """order: of the agents' own targets, see `LocalReadout.columns`."""
        super().__init__()
        self.raw, self.dtype = getattr(torch, preparation.dtype), dtype
        self.fills, self.scales = preparation.fill in ("mean", "zero"), bool(preparation.mean)
        columns, window = np.arange(len(features)), preparation.window
        marked = len(preparation.indicators) * window if self.fills else 0
        plain = len(features) - marked
        if marked:
            numbers = [preparation.columns.index(name) for name in preparation.indicators]
            columns[plain:] = (np.array(numbers)[:, None] * window + np.arange(window)).ravel()
        self.names = features[:plain]
        fills = np.repeat(preparation.fills, window) if self.fills else np.zeros(plain)
        self._keep("source", columns)
        self._keep("mark", np.arange(len(features)) >= plain)
        self._keep("fill", fills[columns], self.raw)
        self._keep("shift", np.array(preparation.mean or [0.0]), self.raw)
        self._keep("scale", 1.0 / np.array(preparation.deviation or [1.0]), self.raw)
        self.targets = bool(preparation.target_mean)
        shape = (len(preparation.answering), -1) if self.targets and preparation.targets else (1, -1)
        for name, values in (
            ("target_mean", preparation.target_mean),
            ("target_deviation", preparation.target_deviation),
        ):
            of_agents = np.reshape(values, shape) if self.targets else np.full((1, 1), float(name != "target_mean"))
            self._keep(name, of_agents[order] if order is not None and len(of_agents) > 1 else of_agents[0])

    def forward(self, x: Tensor) -> Tensor:
        """Map raw readings (batch, readings) to features of the network."""
        x = x.to(self.raw)
        if self.fills:
            seen = x[:, self.source]
            gaps = torch.isnan(seen)
            x = torch.where(self.mark, gaps.to(self.raw), torch.where(gaps, self.fill, seen))
        return self.scaled(x)

    def scaled(self, x: Tensor) -> Tensor:
        """Scale points (batch, features), filled and marked, to features of the network."""
        x = x.to(self.raw)
        return ((x - self.shift) * self.scale if self.scales else x).to(self.dtype)

    def answers(self, scores: Tensor) -> Tensor:
        """Map scores of a regression (..., targets) to their own units, float64. Return those of classes unchanged."""
        return scores.double() * self.target_deviation + self.target_mean if self.targets else scores

    def _keep(self, name: str, values: np.ndarray, dtype: torch.dtype | None = None) -> None:
        self.register_buffer(name, torch.from_numpy(values).to(dtype), persistent=False)
