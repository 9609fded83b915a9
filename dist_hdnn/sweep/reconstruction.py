"""Measure how well a reversing sweep rebuilds its states: the largest relative error, with a warning in time.

    error = max |rebuilt - known| / max |known|      over this worker's neurons and the batch

Known are the input and the anchors; where they are zero, the last state tells what is large. Layers are undone exactly
but for rounding, which the layers before amplify: the error grows with depth, time and the size of the weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

WARNED = 1e-3  # gradients inherit the error of the states
REFUSED = 0.1
REMEDY = "Set network.keep_every for anchors, such as 16, or choose network.memory=recompute, which is exact"


class ReconstructionError(ArithmeticError):
    """Rebuilt states have nothing to do with those of the forward sweep, and so have the gradients."""

    exit_code = 6


class Error(NamedTuple):
    """The error of one sweep so far. last: the largest magnitude in the state that its backward starts from."""

    last: Tensor
    value: Tensor

    @classmethod
    def of(cls, last: Sequence[Tensor]) -> Error:
        """Return none, for a backward that starts from this state."""
        size = largest(last)
        return cls(size, torch.zeros_like(size))

    def compared(self, rebuilt: Sequence[Tensor], known: Sequence[Tensor], scratch: Sequence[Tensor]) -> Error:
        """Compare rebuilt parts with what they were. scratch: memory of their shapes."""
        for a, b, difference in zip(rebuilt, known, scratch, strict=True):
            torch.sub(a, b, out=difference)
        of_known = largest(known)
        scale = torch.where(of_known == 0, self.last, of_known).clamp_min(torch.finfo(of_known.dtype).tiny)
        return self._replace(value=torch.maximum(self.value, largest(scratch) / scale))  # hands on NaN


class Reconstruction:
    """The error of the sweeps of one network.

    `worst`: the largest since `reset`, a scalar; None before the first. On a device nothing is read before it is asked.
    """

    def __init__(self) -> None:
        self.worst: Tensor | None = None
        self._warned = False

    def finish(self, error: Error) -> None:
        """Remember the error of a sweep. On the CPU, warn of a large one or raise ReconstructionError."""
        self.worst = error.value.clone() if self.worst is None else torch.maximum(self.worst, error.value)
        if error.value.device.type == "cpu":
            self.check()

    def check(self) -> float | None:
        """Return the largest error so far, after a warning above `WARNED`; raise above `REFUSED` or if not finite."""
        if self.worst is None:
            return None
        error = float(self.worst)
        if not error <= REFUSED:
            raise ReconstructionError(
                f"memory=reversible: expected rebuilt states to be those of the forward sweep, got a relative error of "
                f"{error:.2g}. {REMEDY}; lower train.learning_rate or network.step if the states overflow."
            )
        if error > WARNED and not self._warned:
            self._warned = True
            warnings.warn(
                f"memory=reversible: states are rebuilt with a relative error of {error:.2g}, and gradients suffer as "
                f"much. {REMEDY}.",
                UserWarning,
                stacklevel=2,
            )
        return error

    def reset(self) -> None:
        """Forget the largest error."""
        self.worst = None


def largest(parts: Sequence[Tensor]) -> Tensor:
    """Return the largest magnitude in some tensors, a scalar: NaN if there is one, 0 for no tensors."""
    ends = [torch.aminmax(part) for part in parts if part.numel()]  # a norm takes 17 times as long
    found = [end for low, high in ends for end in (-low, high)]
    return torch.stack(found).max() if found else torch.zeros(())
