"""One step of a layer: every part of the state advanced, in the order of the integrator.

    forward     part⁺ = part + c h v(source)           semi-implicit Euler: p⁺ from q, then q⁺ from p⁺
    backward    δsource += (∂v/∂source)ᵀ c h δpart     the same updates in reverse order
    inverse     part = part⁺ - c h v(source)           the same updates in reverse order
    tangent     dpart += c h (∂v/∂source) dsource      the updates in order

v is the force on the part: a term of the vector field, bound to the weights of the layer. c comes with the integrator,
and the sign of the force with `Use.scale`: c h for q, -c h for p.
With v from X, Kq, bq the semi-implicit step is  p⁺ = p - h Xᵀ Kqᵀ σ(Kq q + bq),  q⁺ = q + h X Kpᵀ σ(Kp p⁺ + bp).
Source: arXiv:2105.13205. Shapes: parts and their cotangents are owned rows (neurons of a part, B), changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dist_hdnn.dynamics.use import TermGradients, TermWeights, Use

Uses = Sequence[Use]


def forward(uses: Uses, weights: Sequence[TermWeights]) -> None:
    """Advance every part. weights: of the layer, for each part."""
    for use in uses:
        use.weights = weights[use.part]
        if use.copied is not None:
            use.x.owned.copy_(use.copied)
        v = use.term.value(use, use.forward_sum)
        if v is None:
            continue  # the product has added it already
        if use.replaces:
            use.new.copy_(v)
        else:
            torch.add(use.old, v, alpha=use.scale, out=use.new)


def backward(uses: Uses, weights: Sequence[TermWeights], gradients: Sequence[TermGradients]) -> None:
    """Pull the cotangents of all parts back through the layer, and add the weight gradients that are wanted."""
    for use in reversed(uses):
        use.weights, use.gradients = weights[use.part], gradients[use.part]
        dx = use.term.adjoint(use, use.pulled_sum)
        if dx is None:
            continue  # the product has added it already
        if use.replaces:
            use.dx.copy_(dx)
        else:
            use.dx.add_(dx)


def inverse(uses: Uses, weights: Sequence[TermWeights]) -> None:
    """Undo the layer, whose updates read other parts than they advance.

    For one version of the state, which terms read where it lies: there is nothing to copy before.
    """
    for use in reversed(uses):
        use.weights = weights[use.part]
        v = use.term.value(use, use.inverse_sum)
        if v is not None:
            torch.add(use.new, v, alpha=-use.scale, out=use.old)


def retrace(uses: Uses, weights: Sequence[TermWeights], gradients: Sequence[TermGradients]) -> None:
    """Do `inverse` and `backward` together, in the same rounds where a term has such a form."""
    for use in reversed(uses):
        if use.joint is None:
            inverse((use,), weights)  # leaves the ghosts and the z that the adjoint needs
            backward((use,), weights, gradients)
        else:
            use.weights, use.gradients = weights[use.part], gradients[use.part]
            use.joint(use)


def tangent(uses: Uses, weights: Sequence[TermWeights]) -> None:
    """Push tangents, which lie where cotangents do, through the layer."""
    for use in uses:
        use.weights = weights[use.part]
        dv = use.term.tangent(use, use.dx)
        if use.replaces:
            use.dv.owned.copy_(dv)
        else:
            use.dv.owned.add_(dv, alpha=use.scale)


def force(use: Use, weights: Sequence[TermWeights]) -> Tensor:
    """Return v(source), valid until the term is used again."""
    use.weights = weights[use.part]
    v = use.term.value(use, None)
    assert v is not None, "no sum was asked for"
    return v
