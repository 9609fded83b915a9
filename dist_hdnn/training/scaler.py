"""Scaled losses: a gradient that overflows on one worker skips the step of all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dist_hdnn.network.sharing import held


class GradScaler(torch.amp.GradScaler):
    """As torch.amp.GradScaler, whose arguments it takes, on any number of workers: all skip a step together.

    `unscale_` and `step` are collective there: one global maximum of one number, booked as `optimizer`. So the scale is
    the same on all workers.
    """

    def _unscale_grads_(self, optimizer: torch.optim.Optimizer, *args: Any, **options: Any) -> dict[Any, Tensor]:
        found: dict[Any, Tensor] = super()._unscale_grads_(optimizer, *args, **options)
        parts = held()
        given = (id(parameter) for group in optimizer.param_groups for parameter in group["params"])
        ownership = next((parts[number].ownership for number in given if number in parts), None)
        if ownership is not None:
            largest = torch.tensor([max((float(value) for value in found.values()), default=0.0)])
            ownership.all_reduce(largest, "optimizer", "max")
            for value in found.values():
                value.fill_(float(largest))
        return found
