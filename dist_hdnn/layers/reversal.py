"""Undoing an update and pulling a cotangent back through it in the same rounds: a force and its adjoint together.

    [x | δv]  gather        [u | g] = K [x | δv]        z = σ(u + b), w = g ⊙ σ'(u + b)
    [w | z]   scatter-add   [δx | v] = Kᵀ [w | z]       δK = w xᵀ + z δvᵀ = [w | z] [x | δv]ᵀ

One message carries two slices side by side, one GEMM does the work of two, so a backward sweep that rebuilds the states
has the rounds of one that kept them, with twice the payload. A term that has no such form is undone first and pulled
through then, see `Update.retrace`: its value and its adjoint use different rounds anyway.
Shapes: owned rows (neurons of a part, B); side by side (neurons, 2B).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dist_hdnn.layers.activations import Activation
from dist_hdnn.layers.dynamics import Gradient, Interconnected, Memory, Term, TermGradients, TermWeights
from dist_hdnn.layers.linear import Matrix, Transposed, column_space, scaled
from dist_hdnn.layers.products import BlockProducts


class Retraced(NamedTuple):
    """A term's value v(x) and (∂v/∂x)ᵀ (scale δv), owned rows, valid until the next call."""

    v: Tensor
    dx: Tensor


class Reversal(Protocol):
    """Value and adjoint of a term together; x: the owned rows of its source."""

    def __call__(
        self, x: Tensor, dv: Tensor, scale: float, weights: TermWeights, memory: Memory, gradients: TermGradients
    ) -> Retraced:
        """Adds the weight gradients that are wanted."""


class GradientReversal:
    """Kᵀ σ(K x + b) and its adjoint in one gather and one scatter-add.

    products: of K, bound to twice the batch. single: the same, bound to the batch.
    """

    def __init__(self, products: BlockProducts, single: BlockProducts, sigma: Activation) -> None:
        self.products, self.sigma, self.batch = products, sigma, single.batch
        self.before, self.after = products.rows(2)  # [u | g] and [w | z]
        _, self.g = self.before.flat.split(self.batch, dim=1)
        self.w, self.z_beside_w = self.after.flat.split(self.batch, dim=1)
        self.u, self.z = single.rows(2)
        pairs = zip(self.before.classes or [self.before.flat], self.u.classes or [self.u.flat], strict=True)
        self.biased = [(view[..., : self.batch], u) for view, u in pairs]
        self.columns, owned = column_space(products)
        self.x, self.dv = owned.split(self.batch, dim=1)

    def __call__(
        self, x: Tensor, dv: Tensor, scale: float, weights: TermWeights, memory: Memory, gradients: TermGradients
    ) -> Retraced:
        assert weights.K is not None, "a gradient has K"
        self.x.copy_(x)
        scaled(dv, scale, self.dv)
        self.products.product(weights.K, self.columns, self.before, "backward")
        for (product, u), b in zip(self.biased, weights.K.bias, strict=True):
            torch.add(product, b, out=u)
        u, z = self.u.flat, self.z.flat
        self.sigma.value(u, out=z)  # on contiguous memory, where tanh is faster by up to a third
        self.z_beside_w.copy_(z)
        self.sigma.times_slope(self.g, u if self.sigma.keeps_argument else None, z, out=self.w)
        if gradients.K is not None:
            gradients.K.add_products(self.products, (self.after, self.columns))
        if gradients.b is not None:
            gradients.b.add_sum(self.w)
        dx, v = self.products.transposed(weights.K, self.after, "backward")[: len(x)].split(self.batch, dim=1)
        return Retraced(v, dx)


class InterconnectedReversal:
    """X v or Xᵀ v of such a gradient: X has a round for δv before, and one for v after."""

    def __init__(self, inner: GradientReversal, coupling: Matrix | Transposed) -> None:
        self.inner, self.coupling = inner, coupling

    def __call__(
        self, x: Tensor, dv: Tensor, scale: float, weights: TermWeights, memory: Memory, gradients: TermGradients
    ) -> Retraced:
        assert weights.X is not None and memory.force is not None, "an interconnection has weights and memory"
        force = memory.force
        dforce = self.coupling.adjoint(dv, scale, force, weights.X, None)
        inner, dx = self.inner(x, dforce, 1.0, weights, memory, gradients)
        force[: len(inner)].copy_(inner)
        v = self.coupling.value(force, weights.X)
        if gradients.X is not None:
            self.coupling.weight_gradient(dv, scale, force, gradients.X)
        return Retraced(v, dx)


def gradient_of(term: Term) -> Gradient | None:
    """The gradient in a term that has a joint form, or None."""
    if isinstance(term, Interconnected) and isinstance(term.coupling, Matrix | Transposed):
        term = term.term
    return term if isinstance(term, Gradient) else None


def reversal(term: Term, joint: GradientReversal | None) -> Reversal | None:
    """The joint form of a term, if it has one; joint: that of the gradient in it."""
    if joint is None or gradient_of(term) is None:
        return None
    if isinstance(term, Interconnected) and isinstance(term.coupling, Matrix | Transposed):
        return InterconnectedReversal(joint, term.coupling)
    return joint
