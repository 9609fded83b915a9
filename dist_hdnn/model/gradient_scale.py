"""By what factor a network's gradients were multiplied between backward and step, seen on a few of them.

torch.nn.utils.clip_grad_norm_ multiplies each worker's part by a factor of its own, which nothing else shows.
"""

from __future__ import annotations

import math
import weakref

import torch
from torch import Tensor

WITNESSES = 8  # numbers of one gradient that are looked at
STEP = 1e-6  # in the logarithm of a factor; so a difference of `APART` steps is a fifth of a percent
APART, ONE = 2000, 2**40


class GradientScale:
    """Watches the gradient of one parameter (sets, numbers)."""

    def __init__(self, parameter: Tensor) -> None:
        self._parameter = weakref.ref(parameter)
        self._before: Tensor | None = None
        parameter.register_post_accumulate_grad_hook(self._accumulated)

    def taken(self) -> int | None:
        """Before a step: the factor on a logarithmic scale; 0 if numbers have several, None if no gradient was seen."""
        parameter, before, self._before = self._parameter(), self._before, None
        if parameter is None or parameter.grad is None or before is None:
            return None
        factors = parameter.grad[0, :WITNESSES].double()[before != 0] / before[before != 0].double()
        if len(factors) < 2 or not factors.isfinite().all() or factors.min() <= 0:
            return 0
        if float(factors.max() / factors.min()) > 1 + 100 * STEP:
            return 0
        return ONE + round(math.log(float(factors[0])) / STEP)

    def _accumulated(self, parameter: Tensor) -> None:
        if parameter.grad is not None and parameter.grad.dtype in (torch.float32, torch.float64):
            self._before = parameter.grad[0, :WITNESSES].detach().clone()


def apart(one: int, other: int) -> bool:
    """Whether two factors as `taken` differ by more than rounding."""
    return abs(one - other) > APART


def factor(taken: int) -> float:
    """The factor again."""
    return math.exp((taken - ONE) * STEP)
