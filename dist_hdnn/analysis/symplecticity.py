"""Symplecticity of layers, M J Mᵀ = J, their determinants and the error of their inverse, measured to rounding.

Residuals are |M J Mᵀ - J|_F / |M|₂², for every layer and for the whole network. Small networks use whole matrices.
Large ones estimate the Frobenius norm by random probes w, E |R w|² = |R|_F² (Girard 1989, Hutchinson 1990), and |M|₂ by
a lower bound, so that the quotient is not too small.
Source of M J Mᵀ = J: arXiv:2105.13205; it holds for every X, where MᵀJM = J needs J² = -I.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dist_hdnn.analysis.sensitivity import ApplyJ, spectral_norm
from dist_hdnn.analysis.vectors import LinearLayers, Space
from dist_hdnn.ends.readout import summed

PROBES, FIRST_PROBE = 2, 10  # random vectors per Frobenius norm, and the number of the first one


def exact_residuals(matrices: Tensor, Js: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Return residuals of the layers (layers, batch), and of their product (batch,).

    matrices: layer Jacobians (layers, batch, n, n). Js: one J (n, n) for all layers, or one for each. In the second
    case the product has none.
    """
    layers = [_relative(M, J) for M, J in zip(matrices, Js if len(Js) > 1 else [Js[0]] * len(matrices), strict=True)]
    if len(Js) > 1:
        return torch.stack(layers), None
    product = matrices[0]
    for M in matrices[1:]:
        product = M @ product
    return torch.stack(layers), _relative(product, Js[0])


def _relative(M: Tensor, J: Tensor) -> Tensor:
    residual: Tensor = torch.linalg.matrix_norm(M @ J @ M.mT - J)
    return residual / spectral_norm(M) ** 2


def probed_residuals(
    linear: LinearLayers,
    Js: Sequence[ApplyJ],
    space: Space,
    batch: int,
    seed: int,
    layer_norms: Tensor,
    product_norms: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Estimate the same from products with the layers and with the J of each.

    layer_norms (layers, batch): lower bounds of |M|₂. product_norms (batch,): of the product, None if it has no J.
    """
    probes = [space.gaussian(seed, FIRST_PROBE + number, batch) for number in range(PROBES)]

    def residual(first: int, last: int, norms: Tensor) -> Tensor:
        squares, apply_J = torch.zeros_like(norms), Js[first]
        for w in probes:
            difference = linear.push(apply_J(linear.pull(w, last, first), False), first, last) - apply_J(w, False)
            squares += space.norms(difference) ** 2
        return (squares / PROBES).sqrt() / norms**2

    layers = [residual(layer, layer + 1, layer_norms[layer]) for layer in range(linear.layers)]
    whole = None if product_norms is None else residual(0, linear.layers, product_norms)
    return torch.stack(layers), whole


def log_determinants(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return log |det M| of every layer (layers, batch), and the sign of the product's determinant (batch,)."""
    signs, logs = torch.linalg.slogdet(matrices)
    return logs, signs.prod(dim=0)


class Invertible(Protocol):
    """A network that runs forward and backward, as `HDNN` does."""

    def states(self, y: Tensor) -> Tensor: ...

    def inverse(self, y: Tensor) -> Tensor: ...


@torch.no_grad()
def reversibility_error(network: Invertible, y: Tensor, space: Space) -> tuple[Tensor, Tensor]:
    """Run y -> yN -> y0' and return the largest error of a neuron, and the largest relative error of a sample.

    The errors are |y0' - y| and |y0' - y| / max(|y|, |yN|). yN counts, because a sample may start near zero, and
    rounding is that of the states on the way. The dtype is that of y.
    """
    last = network.states(y)[-1]  # not the output, which is zero where agents are down
    difference = (network.inverse(last) - y).double()
    largest = torch.zeros(space.ownership.workers, dtype=torch.float64, device=y.device)
    largest[space.ownership.rank] = difference.abs().amax() if difference.numel() else 0.0
    lengths = torch.maximum(space.norms(y.double()), space.norms(last.double()))
    relative = space.norms(difference) / lengths.clamp(min=torch.finfo(y.dtype).tiny)
    return summed(largest, space.ownership).amax(), relative.amax()
