"""Undoing an update and pulling a cotangent back through it in the same rounds: a force and its adjoint together.

    [x | δv]   gather         v = Kᵀ z, z = σ(K x + b)        δx = Kᵀ w, w = K δv ⊙ σ'(K x + b)
    [δx | v]   scatter-add    both on their way back

One message carries two slices side by side, so a backward sweep that rebuilds the states has the rounds of one that
kept them, with twice the payload. A term that has no such form is undone first and pulled through then, see
`Update.retrace`: its value and its adjoint use different rounds anyway.
Shapes: owned rows (neurons of a part, B); side by side (owned + ghost neurons, 2B).
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from dist_hdnn.dynamics.linear import Matrix, Transposed
from dist_hdnn.dynamics.terms import Gradient, Interconnected, Memory, Term, TermGradients, TermWeights
from dist_hdnn.operators.exchange import Exchange
from dist_hdnn.operators.products import Sum, taken


class Reversal(Protocol):
    """Value and adjoint of a term together; x: its source in column space, of which the owned rows are there."""

    def __call__(
        self,
        x: Tensor,
        dv: Tensor,
        scale: float,
        weights: TermWeights,
        memory: Memory,
        gradients: TermGradients,
        undone: Sum | None = None,
        pulled: Sum | None = None,
    ) -> tuple[Tensor, Tensor]:
        """v(x) and (∂v/∂x)ᵀ (scale δv), owned rows, valid until the next call, or the sums with them.

        Adds the weight gradients that are wanted.
        """


class GradientReversal:
    """Kᵀ σ(K x + b) and its adjoint in one gather and one scatter-add.

    gradient: bound to no exchange. exchange: that of its K.
    """

    def __init__(self, gradient: Gradient, exchange: Exchange) -> None:
        self.gradient, self.exchange = gradient, exchange
        self.rows, batch = gradient.owned.shape
        columns = gradient.columns if exchange.moves else gradient.columns[:0]  # else rounds are booked alone
        self.there, self.back = (columns.new_empty(len(columns), 2 * batch) for _ in range(2))
        self.x, self.dv = self.there.split(batch, dim=1)
        self.dx, self.v = self.back.split(batch, dim=1)
        self.value = gradient.owned.new_empty(gradient.owned.shape) if not exchange.moves else self.v

    def __call__(
        self,
        x: Tensor,
        dv: Tensor,
        scale: float,
        weights: TermWeights,
        memory: Memory,
        gradients: TermGradients,
        undone: Sum | None = None,
        pulled: Sum | None = None,
    ) -> tuple[Tensor, Tensor]:
        gradient, n = self.gradient, self.rows
        if not self.exchange.moves:
            self.exchange.gather(self.there, "backward")
            v = gradient.value(x, weights, memory, undone)
            if undone is None:
                v = self.value.copy_(v)
            dx = gradient.adjoint(dv, scale, x, weights, memory, gradients, pulled)
            self.exchange.scatter_add(self.back, "backward")
            return v, dx
        self.x[:n].copy_(x[:n])
        self.dv[:n].copy_(dv[:n])
        self.exchange.gather(self.there, "backward")
        x[n:].copy_(self.x[n:])
        gradient.columns.copy_(self.dv)
        gradient.value(x, weights, memory)
        self.v.copy_(gradient.products.output)
        gradient.adjoint(gradient.columns, scale, x, weights, memory, gradients)
        self.dx.copy_(gradient.products.output)
        self.exchange.scatter_add(self.back, "backward")
        return taken(self.v[:n], undone), taken(self.dx[:n], pulled)


class InterconnectedReversal:
    """X v or Xᵀ v of such a gradient: X has a round for δv before, and one for v after."""

    def __init__(self, inner: GradientReversal, coupling: Matrix | Transposed) -> None:
        self.inner, self.coupling = inner, coupling

    def __call__(
        self,
        x: Tensor,
        dv: Tensor,
        scale: float,
        weights: TermWeights,
        memory: Memory,
        gradients: TermGradients,
        undone: Sum | None = None,
        pulled: Sum | None = None,
    ) -> tuple[Tensor, Tensor]:
        assert weights.X is not None and memory.force is not None, "an interconnection has weights and memory"
        force = memory.force
        dforce = self.coupling.adjoint(dv, scale, force, weights.X, None)
        inner, dx = self.inner(x, dforce, 1.0, weights, memory, gradients, None, pulled)
        force[: len(inner)].copy_(inner)
        v = self.coupling.value(force, weights.X)
        if gradients.X is not None:
            self.coupling.weight_gradient(dv, scale, force, gradients.X)
        return taken(v, undone), dx


def has_gradient(term: Term) -> bool:
    """Whether the term is a gradient, or X or Xᵀ times one, which have a joint form."""
    if isinstance(term, Interconnected) and isinstance(term.coupling, Matrix | Transposed):
        term = term.term
    return isinstance(term, Gradient)


def reversal(term: Term, joint: GradientReversal | None) -> Reversal | None:
    """The joint form of a term, if it has one; joint: that of the gradient in it."""
    if joint is None or not has_gradient(term):
        return None
    if isinstance(term, Interconnected) and isinstance(term.coupling, Matrix | Transposed):
        return InterconnectedReversal(joint, term.coupling)
    return joint
