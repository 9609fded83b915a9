"""By what factor gradients were multiplied between backward and step, and whose they are, seen on a few of them.

torch.nn.utils.clip_grad_norm_ multiplies each worker's part by a factor of its own, which nothing else shows.
"""

from __future__ import annotations

import math
import weakref
import zlib

import torch
from torch import Tensor

WITNESSES = 8  # numbers of a parameter or its gradient that are looked at
STEP = 1e-6  # in the logarithm of a factor; so a difference of `APART` steps is a fifth of a percent
APART, ONE = 2000, 2**40


class GradientScale:
    """Watches the gradient of one parameter, of this id."""

    def __init__(self, parameter: Tensor) -> None:
        self._parameter, self.id = weakref.ref(parameter), id(parameter)
        self._before: Tensor | None = None
        parameter.register_post_accumulate_grad_hook(self._accumulated)

    def taken(self) -> int | None:
        """Before a step: the factor on a logarithmic scale; 0 if numbers have several, None if no gradient was seen."""
        parameter, before, self._before = self._parameter(), self._before, None
        if parameter is None or parameter.grad is None or before is None:
            return None
        factors = _few(parameter.grad).double()[before != 0] / before[before != 0].double()
        if len(factors) < 2 or not factors.isfinite().all() or factors.min() <= 0:
            return 0
        if float(factors.max() / factors.min()) > 1 + 100 * STEP:
            return 0
        return ONE + round(math.log(float(factors[0])) / STEP)

    def marks(self) -> tuple[int, int]:
        """Of the weights and of their gradients, numbers that two workers share only if one has the other's; or 0."""
        parameter = self._parameter()
        if parameter is None or parameter.grad is None or not _is_known(parameter.grad):
            return 0, 0
        return _mark(parameter), _mark(parameter.grad)

    def watches(self, parameter: Tensor) -> bool:
        """Whether it is this parameter's."""
        return self._parameter() is parameter

    def _accumulated(self, parameter: Tensor) -> None:
        if parameter.grad is not None and _is_known(parameter.grad):
            self._before = _few(parameter.grad).clone()


def _is_known(values: Tensor) -> bool:
    return values.dtype in (torch.float32, torch.float64) and values.numel() > 0


def _few(values: Tensor) -> Tensor:
    return values.detach()[(0,) * (values.ndim - 1)][:WITNESSES]


def _mark(values: Tensor) -> int:
    """Of numbers that chance or a limit may have made alike, such as zeros and ones, 0."""
    few = _few(values).cpu()
    return 2 * zlib.crc32(few.numpy().tobytes()) + 1 if len(few.abs().unique()) >= 3 else 0


def apart(one: int, other: int) -> bool:
    """Whether two factors as `taken` differ by more than rounding."""
    return abs(one - other) > APART


def factor(taken: int) -> float:
    """The factor again."""
    return math.exp((taken - ONE) * STEP)
