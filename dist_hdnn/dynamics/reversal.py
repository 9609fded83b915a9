"""Undo an update and pull a cotangent back through it in the same rounds: a force and its adjoint together.

    [x | δv]   gather         v = Kᵀ z, z = σ(K x + b)        δx = Kᵀ w, w = K δv ⊙ σ'(K x + b)
    [δx | v]   scatter-add    both on their way back

One message carries two slices side by side, so a backward sweep that rebuilds the states has the rounds of one that
kept them, with twice the payload. A term that has no such form is undone first and pulled through then, see
`step.retrace`: its value and its adjoint use different rounds anyway.
Shapes: owned rows (neurons of a part, B); side by side (owned + ghost neurons, 2B).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dist_hdnn.dynamics.interconnection import Interconnected
from dist_hdnn.dynamics.linear import Matrix, Transposed
from dist_hdnn.dynamics.terms import Gradient
from dist_hdnn.dynamics.use import Term, Use
from dist_hdnn.operators.ghosted import Exchange, GhostedTensor
from dist_hdnn.operators.products import Sum


class GradientReversal:
    """Kᵀ σ(K x + b) and its adjoint in one gather and one scatter-add.

    gradient: bound to no exchange. exchange: that of its K.
    """

    def __init__(self, gradient: Gradient, exchange: Exchange) -> None:
        self.gradient, self.exchange = gradient, exchange
        whole, owned = gradient.columns.tensor, gradient.columns.owned
        batch = whole.shape[1]
        rows = len(whole) if exchange.moves else 0  # else rounds are only booked
        self.there, self.back = (exchange.ghosted(exchange.memory((rows, 2 * batch), whole)) for _ in range(2))
        self.x, self.dv = self.there.tensor.split(batch, dim=1)
        self.dx, self.v = self.back.tensor.split(batch, dim=1)
        self.value = torch.empty_like(owned) if not exchange.moves else self.v

    def __call__(self, use: Use) -> None:
        """Undo the update and pull its cotangent back."""
        v, dx = self.both(use, use.dv, use.scale, use.inverse_sum, use.pulled_sum)
        _finish(use, v, dx)

    def both(
        self, use: Use, dv: GhostedTensor, scale: float, undone: Sum | None, pulled: Sum | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Compute v(x) and (∂v/∂x)ᵀ (scale δv), owned rows or sums with them, and add weight gradients."""
        gradient, products, x = self.gradient, self.gradient.products, use.x
        if not self.exchange.moves:
            self.exchange.gather(self.there)
            v = gradient.value(use, undone)
            if v is not None and undone is not None:
                _add(undone, v)
                v = None
            elif v is not None:
                v = self.value.copy_(v)  # the adjoint needs its memory
            dx = gradient.pull(use, dv, scale, pulled)
            self.exchange.scatter_add(self.back)
            return v, dx
        n = len(x.owned)
        self.x[:n].copy_(x.owned)
        self.dv[:n].copy_(dv.owned)
        self.exchange.gather(self.there)
        x.tensor[n:].copy_(self.x[n:])
        gradient.columns.tensor.copy_(self.dv)
        gradient.value(use, None)
        self.v.copy_(products.output.tensor)
        gradient.pull(use, gradient.columns, scale, None)
        self.dx.copy_(products.output.tensor)
        self.exchange.scatter_add(self.back)
        return self.v[:n], self.dx[:n]


class InterconnectedReversal:
    """X v or Xᵀ v of such a gradient: X has a round for δv before, and one for v after."""

    def __init__(self, inner: GradientReversal, term: Interconnected, map: Matrix | Transposed) -> None:
        self.inner, self.term, self.map = inner, term, map

    def __call__(self, use: Use) -> None:
        """Undo the update and pull its cotangent back."""
        saved = use.saved.v
        assert use.weights.X is not None and saved is not None, "an interconnection has weights and memory"
        dv = self.term.to_gradient(use, None)
        v, dx = self.inner.both(use, dv, 1.0, None, use.pulled_sum)
        assert v is not None, "no sum was asked for"
        saved.owned.copy_(v)
        force_on_part = self.map.value(saved, use.weights.X)
        if use.gradients.X is not None:
            self.map.weight_gradient(use.dv.owned, use.scale, saved, use.gradients.X)
        _finish(use, force_on_part, dx)


def _finish(use: Use, v: Tensor | None, dx: Tensor | None) -> None:
    """Make the sums that were not made on the way."""
    assert use.inverse_sum is not None and use.pulled_sum is not None, "the source is another part"
    if v is not None:
        _add(use.inverse_sum, v)
    if dx is not None:
        _add(use.pulled_sum, dx)


def _add(into: Sum, v: Tensor) -> None:
    torch.add(into.old, v, alpha=into.scale, out=into.new)


Reversal = GradientReversal | InterconnectedReversal


def reversal(term: Term, joint: Callable[[], GradientReversal]) -> Reversal | None:
    """Return the joint form of a gradient, and of X v or Xᵀ v of one; None for other terms.

    joint: makes that of a gradient.
    """
    if isinstance(term, Gradient):
        return joint()
    if isinstance(term, Interconnected) and isinstance(term.map, Matrix | Transposed):
        return InterconnectedReversal(joint(), term, term.map)
    return None
