"""The loss gradient as momentum: p_j = ∂L/∂y_j is conjugate to the state, and p·f is the Hamiltonian of learning.

For y' = f(y) the gradient obeys p' = -(∂f/∂y)ᵀ p, so (y, p) moves in the Hamiltonian H(y, p) = p·f(y), which is
constant where the weights do not depend on time. The exact backward sweep is the cotangent lift of the forward step, so
it keeps p·f up to the integrator's error: the drift over a fixed time falls with h as h^order.
Source: Ruseckas, arXiv:1909.03767 (gradient and Hamiltonian); Hairer, Lubich, Wanner, VI.5 (cotangent lift).
Shapes: states, fields and momenta (batch, owned neurons).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dist_hdnn.analysis.vectors import LinearLayers, Space


class Momentum(NamedTuple):
    """p·f (hamiltonian), |p_j| (norms) and |f(y_j)| (field_norms) at y_0 .. y_N, each (layers + 1, batch)."""

    hamiltonian: Tensor
    norms: Tensor
    field_norms: Tensor

    def drift(self) -> Tensor:
        """Return the largest change of p·f along the layers as a share of the largest |p| |f|, (batch,)."""
        change = (self.hamiltonian - self.hamiltonian[-1]).abs().amax(dim=0)
        scale = (self.norms * self.field_norms).amax(dim=0)
        return change / scale.clamp(min=torch.finfo(scale.dtype).tiny)


def momentum(linear: LinearLayers, fields: Sequence[Tensor], gradient: Tensor, space: Space) -> Momentum:
    """Follow p·f along the layers, back from the loss gradient at the last state.

    fields: f at y_0 .. y_N, each of the layer that starts there, at y_N of the last layer.
    """
    rows, p = [], gradient
    for layer in reversed(range(linear.layers + 1)):
        if layer < linear.layers:
            p = linear.pull(p, layer + 1, layer)
        rows.append(_row(p, fields[layer], space))
    return Momentum(*torch.stack(rows[::-1], dim=1).unbind())


def _row(p: Tensor, f: Tensor, space: Space) -> Tensor:
    """Return p·f, |p| and |f| of every sample, (3, batch)."""
    pf, pp = space.dots([f, p], p)
    return torch.stack([pf, pp.sqrt(), space.norms(f)])
