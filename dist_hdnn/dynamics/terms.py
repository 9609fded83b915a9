"""The terms of a layer's vector field, each a function of one part of the state with exact adjoint and tangent.

    Gradient        Kᵀ σ(K x + b)                  the gradient of Σ σ̃(K x + b) in x
    Interconnected  X v, Xᵀ v or J v of a term's value v
    Activated       σ(L x + b)                     L = K, ± Kᵀ or S - Sᵀ - γ
    NearIdentity    f + σ(x + h f), f = K x + b
    Drift           x

Terms are bound to the memory of one batch; what an adjoint needs again is in a `Memory`, one for every use in a stored
sweep. Sources: arXiv:2105.13205 (gradient, interconnection), arXiv:1705.03341 (activated), arXiv:1909.03767 (near
identity). Shapes: x is in column space (owned + ghost neurons of its part, B); all results are owned rows, valid until
the next call; z and u of a gradient are in the operator's row space.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dist_hdnn.dynamics.linear import GradientSum, LinearMap, column_space, scaled
from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.products import BlockProducts, BlockWeights, Rows, Sum, taken


class TermWeights(NamedTuple):
    """One layer's weights of a term: K (with its bias in panel order, where that is used), b (rows, 1), X or J."""

    K: BlockWeights | None
    b: Tensor | None
    X: BlockWeights | None


class TermGradients(NamedTuple):
    """Where their gradients go; None: not wanted."""

    K: GradientSum | None
    b: GradientSum | None
    X: GradientSum | None


NO_GRADIENTS = TermGradients(None, None, None)


class Memory(NamedTuple):
    """What an adjoint needs of a value: z = σ(u), u where σ' needs it, and the force that an interconnection took."""

    z: Rows
    u: Rows | None
    force: Tensor | None


class Term(Protocol):
    """v(x) on owned rows; `needs_ghosts`: whether `value` gathers x. into: return the sum with the result instead.

    gathers_cotangent: whether `adjoint` gathers δv, which then is in column space; else δv is owned rows.
    """

    needs_ghosts: bool
    gathers_cotangent: bool

    def memories(self, count: int) -> list[Memory]:
        """New memory for so many uses of this term, side by side."""

    def value(self, x: Tensor, weights: TermWeights, memory: Memory, into: Sum | None = None) -> Tensor:
        """v(x); x gets its ghosts."""

    def adjoint(
        self,
        dv: Tensor,
        scale: float,
        x: Tensor,
        weights: TermWeights,
        memory: Memory,
        gradients: TermGradients,
        into: Sum | None = None,
    ) -> Tensor:
        """(∂v/∂x)ᵀ (scale δv) after `value`; adds the weight gradients that are wanted."""

    def tangent(self, dx: Tensor, weights: TermWeights, memory: Memory) -> Tensor:
        """(∂v/∂x) dx after `value`."""


class Gradient:
    """Kᵀ σ(K x + b): gather and scatter-add, forward and backward."""

    needs_ghosts = gathers_cotangent = True

    def __init__(self, products: BlockProducts, sigma: Activation) -> None:
        self.products, self.sigma = products, sigma
        (self.w,) = products.rows()
        self.columns, self.owned = column_space(products)

    def memories(self, count: int) -> list[Memory]:
        z = self.products.rows(count)
        u = self.products.rows(count) if self.sigma.keeps_argument else [None] * count
        return [Memory(*each, None) for each in zip(z, u, strict=True)]

    def value(self, x: Tensor, weights: TermWeights, memory: Memory, into: Sum | None = None) -> Tensor:
        assert weights.K is not None, "a gradient has K"
        v = self.products.force(weights.K, x, self.sigma, memory.u, memory.z, "forward", into)
        return v[: len(self.owned)]

    def adjoint(
        self,
        dv: Tensor,
        scale: float,
        x: Tensor,
        weights: TermWeights,
        memory: Memory,
        gradients: TermGradients,
        into: Sum | None = None,
    ) -> Tensor:
        """δx = Kᵀ w, w = K δv ⊙ σ'(u); δK = z δvᵀ + w xᵀ, δb = Σ w, both owned here."""
        assert weights.K is not None, "a gradient has K"
        views, accumulate = (None, False) if gradients.K is None else gradients.K.taken()
        dx = self.products.pulled_back(
            weights.K, dv, x, self.sigma, memory.u, memory.z, self.w, views, accumulate, scale, "backward", into
        )
        if gradients.b is not None:
            gradients.b.add_sum(self.w.flat)
        return dx[: len(self.owned)]

    def in_columns(self, dv: Tensor) -> Tensor:
        """Owned rows in column space: themselves where no ghosts are to come beside them."""
        if self.products.alone(dv):
            return dv
        self.owned.copy_(dv)
        return self.columns

    def tangent(self, dx: Tensor, weights: TermWeights, memory: Memory) -> Tensor:
        """The Jacobian Kᵀ diag(σ') K is symmetric, so this is the adjoint."""
        assert weights.K is not None, "a gradient has K"
        columns = self.in_columns(dx)
        self.products.sloped(weights.K, columns, self.sigma, memory.u, memory.z, self.w, "forward")
        return self.products.transposed(weights.K, self.w, "forward")[: len(dx)]

    def energy(self, x: Tensor, weights: TermWeights) -> Tensor:
        """Σ σ̃(K x + b) over the owned rows, (B,): what this is the gradient of in x."""
        assert weights.K is not None, "a gradient has K"
        u = self.products.scratch()
        self.products.affine(weights.K, x, u, "forward")
        return self.sigma.integral(u.flat).sum(dim=0)


class Interconnected:
    """X v, Xᵀ v or J v of a gradient v."""

    gathers_cotangent = False

    def __init__(self, term: Gradient, coupling: LinearMap, like: Tensor) -> None:
        """like: a tensor in the coupling's column space."""
        self.term, self.coupling, self.needs_ghosts = term, coupling, term.needs_ghosts
        self._like = like

    def memories(self, count: int) -> list[Memory]:
        forces = self._like.new_empty(count, *self._like.shape).unbind(0)
        return [each._replace(force=v) for each, v in zip(self.term.memories(count), forces, strict=True)]

    def value(self, x: Tensor, weights: TermWeights, memory: Memory, into: Sum | None = None) -> Tensor:
        assert weights.X is not None and memory.force is not None, "an interconnection has weights and memory"
        force = self.term.value(x, weights, memory)
        memory.force[: len(force)].copy_(force)
        return taken(self.coupling.value(memory.force, weights.X), into)

    def adjoint(
        self,
        dv: Tensor,
        scale: float,
        x: Tensor,
        weights: TermWeights,
        memory: Memory,
        gradients: TermGradients,
        into: Sum | None = None,
    ) -> Tensor:
        assert weights.X is not None and memory.force is not None, "an interconnection has weights and memory"
        force = self.coupling.adjoint(dv, scale, memory.force, weights.X, gradients.X)
        return self.term.adjoint(self.term.in_columns(force), 1.0, x, weights, memory, gradients, into)

    def tangent(self, dx: Tensor, weights: TermWeights, memory: Memory) -> Tensor:
        assert weights.X is not None, "an interconnection has weights"
        return self.coupling.tangent(self.term.tangent(dx, weights, memory), weights.X)


class Activated:
    """σ(L x + b): the rounds of L."""

    gathers_cotangent = False

    def __init__(self, linear: LinearMap, sigma: Activation, like: Tensor) -> None:
        """like: a tensor of owned rows."""
        self.linear, self.sigma, self.needs_ghosts = linear, sigma, linear.needs_ghosts
        self.u, self.w = torch.empty_like(like), torch.empty_like(like)

    def memories(self, count: int) -> list[Memory]:
        return _canonical_memories(self.u, self.sigma, count)

    def value(self, x: Tensor, weights: TermWeights, memory: Memory, into: Sum | None = None) -> Tensor:
        assert weights.K is not None and weights.b is not None, "an activated term has K and b"
        u = self.u if memory.u is None else memory.u.flat
        torch.add(self.linear.value(x, weights.K), weights.b, out=u)
        return taken(self.sigma.value(u, out=memory.z.flat), into)

    def adjoint(
        self,
        dv: Tensor,
        scale: float,
        x: Tensor,
        weights: TermWeights,
        memory: Memory,
        gradients: TermGradients,
        into: Sum | None = None,
    ) -> Tensor:
        """δx = Lᵀ w and δb = Σ w, w = δv ⊙ σ'(u)."""
        assert weights.K is not None, "an activated term has K"
        scaled(dv, scale, self.u)
        w = _times_slope(self.sigma, self.u, memory, self.w)
        if gradients.b is not None:
            gradients.b.add_sum(w)
        return taken(self.linear.adjoint(w, 1.0, x, weights.K, gradients.K), into)

    def tangent(self, dx: Tensor, weights: TermWeights, memory: Memory) -> Tensor:
        assert weights.K is not None, "an activated term has K"
        return _times_slope(self.sigma, self.linear.tangent(dx, weights.K), memory, self.w)


class NearIdentity:
    """f + σ(x + h f) with f = L x + b, so that x + h v is φ_h((1 + h L) x + h b) for φ_h(x) = x + h σ(x)."""

    gathers_cotangent = False

    def __init__(self, linear: LinearMap, sigma: Activation, h: float, like: Tensor) -> None:
        """like: a tensor of owned rows."""
        self.linear, self.sigma, self.h, self.needs_ghosts = linear, sigma, h, linear.needs_ghosts
        self.u, self.v, self.w = (torch.empty_like(like) for _ in range(3))

    def memories(self, count: int) -> list[Memory]:
        return _canonical_memories(self.u, self.sigma, count)

    def value(self, x: Tensor, weights: TermWeights, memory: Memory, into: Sum | None = None) -> Tensor:
        assert weights.K is not None and weights.b is not None, "a near-identity term has K and b"
        u = self.u if memory.u is None else memory.u.flat
        f = torch.add(self.linear.value(x, weights.K), weights.b, out=self.v)
        torch.add(x[: len(f)], f, alpha=self.h, out=u)
        return taken(f.add_(self.sigma.value(u, out=memory.z.flat)), into)

    def adjoint(
        self,
        dv: Tensor,
        scale: float,
        x: Tensor,
        weights: TermWeights,
        memory: Memory,
        gradients: TermGradients,
        into: Sum | None = None,
    ) -> Tensor:
        """w = δv ⊙ σ'; δf = δv + h w, δx = w + Lᵀ δf, δb = Σ δf."""
        assert weights.K is not None, "a near-identity term has K"
        scaled(dv, scale, self.u)
        w = _times_slope(self.sigma, self.u, memory, self.w)
        f = torch.add(self.u, w, alpha=self.h, out=self.v)
        if gradients.b is not None:
            gradients.b.add_sum(f)
        return taken(torch.add(w, self.linear.adjoint(f, 1.0, x, weights.K, gradients.K), out=self.u), into)

    def tangent(self, dx: Tensor, weights: TermWeights, memory: Memory) -> Tensor:
        assert weights.K is not None, "a near-identity term has K"
        f = self.v.copy_(self.linear.tangent(dx, weights.K))
        torch.add(dx, f, alpha=self.h, out=self.u)
        return f.add_(_times_slope(self.sigma, self.u, memory, self.w))


class Drift:
    """x itself; no round."""

    needs_ghosts = gathers_cotangent = False

    def __init__(self, like: Tensor) -> None:
        """like: a tensor of owned rows."""
        self.scaled = torch.empty_like(like)

    def memories(self, count: int) -> list[Memory]:
        return [Memory(Rows(self.scaled, ()), None, None)] * count

    def value(self, x: Tensor, weights: TermWeights, memory: Memory, into: Sum | None = None) -> Tensor:
        return taken(x[: len(self.scaled)], into)

    def adjoint(
        self,
        dv: Tensor,
        scale: float,
        x: Tensor,
        weights: TermWeights,
        memory: Memory,
        gradients: TermGradients,
        into: Sum | None = None,
    ) -> Tensor:
        return taken(scaled(dv, scale, self.scaled), into)

    def tangent(self, dx: Tensor, weights: TermWeights, memory: Memory) -> Tensor:
        return dx

    def energy(self, x: Tensor, weights: TermWeights) -> Tensor:
        """|x|² / 2 over the owned rows, (B,)."""
        return 0.5 * x[: len(self.scaled)].square().sum(dim=0)


def _canonical_memories(like: Tensor, sigma: Activation, count: int) -> list[Memory]:
    def rows() -> list[Rows]:
        return [Rows(tensor, ()) for tensor in like.new_empty(count, *like.shape).unbind(0)]

    z, u = rows(), rows() if sigma.keeps_argument else [None] * count
    return [Memory(*each, None) for each in zip(z, u, strict=True)]


def _times_slope(sigma: Activation, g: Tensor, memory: Memory, out: Tensor) -> Tensor:
    return sigma.times_slope(g, None if memory.u is None else memory.u.flat, memory.z.flat, out=out)
