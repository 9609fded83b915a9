"""The terms of a layer's vector field, one class each.

    Gradient        Kᵀ σ(K x + b)           the gradient of Σ σ̃(K x + b) in x
    Activated       σ(L x + b)              L = K, c Kᵀ or S - Sᵀ - γ
    NearIdentity    f + σ(x + h f)          f = K x + b
    Drift           x

X v, Xᵀ v and J v of a gradient v are in `interconnection`.
A new term is one more class here and its name in `TERMS`. The class has the rounds that the term takes, its value,
adjoint and tangent in the memory of one batch, its plain formula and the bound of its slope, see `use.TermOfK`.
Sources: arXiv:2105.13205 (gradient, interconnection), arXiv:1705.03341 (activated), arXiv:1909.03767 (near identity).
Shapes: sources x are in column space, all else is owned rows (neurons of a part, B); a gradient's z, u and w are in the
row space of its products.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from dist_hdnn.dynamics.linear import LinearMap, Matrix, Skew, Transposed, scaled
from dist_hdnn.dynamics.use import Constants, PlainMatrix, TermOfK, Use
from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.ghosted import GhostedTensor
from dist_hdnn.operators.products import BlockProducts, MatrixGradients, Rows, Saved, Sum


class Gradient(TermOfK):
    """v = Kᵀ σ(K x + b). Its Jacobian Kᵀ diag(σ') K is symmetric."""

    exchanges: ClassVar[tuple[str, ...]] = ("gather", "scatter_add")
    adds_bias: ClassVar[bool] = True
    reads_ghosts = gathers_cotangent = True

    def __init__(self, K: BlockProducts, constants: Constants) -> None:
        self.products, self.sigma = K, constants.sigma
        (self.w,) = K.rows()
        self.columns = K.ghosted()

    def saved(self, count: int) -> list[Saved]:
        z = self.products.rows(count)
        u = self.products.rows(count) if self.sigma.keeps_argument else [None] * count
        return [Saved(*each) for each in zip(z, u, strict=True)]

    def value(self, use: Use, into: Sum | None) -> Tensor | None:
        return self.products.gradient_value(use.weights.K, use.x, self.sigma, use.saved, into)

    def adjoint(self, use: Use, into: Sum | None) -> Tensor | None:
        return self.pull(use, use.dv, use.scale, into)

    def pull(self, use: Use, dv: GhostedTensor, scale: float, into: Sum | None) -> Tensor | None:
        """Compute δx = Kᵀ w, w = K (scale δv) ⊙ σ'(u); δK = z δvᵀ + w xᵀ, δb = Σ w, both owned here."""
        gradients = MatrixGradients(use.gradients.K, use.gradients.b)
        return self.products.gradient_adjoint(
            use.weights.K, dv, scale, use.x, self.sigma, use.saved, self.w, gradients, into
        )

    def tangent(self, use: Use, dx: Tensor) -> Tensor:
        self.columns.owned.copy_(dx)
        return self.products.gradient_tangent(use.weights.K, self.columns, self.sigma, use.saved, self.w)

    def energy(self, use: Use) -> Tensor:
        """Compute Σ σ̃(K x + b)."""
        u = self.products.scratch()
        self.products.affine(use.weights.K, use.x, u)
        return self.sigma.integral(u.flat).sum(dim=0)

    @staticmethod
    def plain(K: PlainMatrix, b: Tensor, x: Tensor, constants: Constants) -> Tensor:
        return K.transposed(constants.sigma.function(K.product(x) + b))

    @staticmethod
    def slope(K: float, sigma: float, h: float, gamma: float) -> float:
        return sigma * K**2


class Activated(TermOfK):
    """v = σ(K x + b)."""

    exchanges: ClassVar[tuple[str, ...]] = Matrix.exchanges

    def __init__(self, K: BlockProducts, constants: Constants) -> None:
        self.products, self.linear, self.sigma = K, self.map(K, constants), constants.sigma
        self.reads_ghosts = self.linear.reads_ghosts
        self.u, self.w = (torch.empty_like(K.output.owned) for _ in range(2))

    @staticmethod
    def map(K: BlockProducts, constants: Constants) -> LinearMap:
        """Make the linear map L."""
        return Matrix(K)

    def saved(self, count: int) -> list[Saved]:
        return _canonical(self.u, self.sigma, count)

    def value(self, use: Use, into: Sum | None) -> Tensor:
        u = self.u if use.saved.u is None else use.saved.u.flat
        torch.add(self.linear.value(use.x, use.weights.K), use.weights.b, out=u)
        return self.sigma.value(u, out=use.saved.z.flat)

    def adjoint(self, use: Use, into: Sum | None) -> Tensor:
        """Compute δx = Lᵀ w and δb = Σ w, w = δv ⊙ σ'(u)."""
        gradients = use.gradients
        w = _times_slope(self.sigma, scaled(use.dv.owned, use.scale, self.u), use.saved, self.w)
        if gradients.b is not None:
            self.products.row_sums(w, gradients.b)
        return self.linear.adjoint(w, 1.0, use.x, use.weights.K, gradients.K)

    def tangent(self, use: Use, dx: Tensor) -> Tensor:
        return _times_slope(self.sigma, self.linear.tangent(dx, use.weights.K), use.saved, self.w)

    @staticmethod
    def plain(K: PlainMatrix, b: Tensor, x: Tensor, constants: Constants) -> Tensor:
        return constants.sigma.function(K.product(x) + b)

    @staticmethod
    def slope(K: float, sigma: float, h: float, gamma: float) -> float:
        return sigma * K


class ActivatedTransposed(Activated):
    """v = σ(c Kᵀ x + b), c the factor of its force."""

    exchanges: ClassVar[tuple[str, ...]] = Transposed.exchanges

    @staticmethod
    def map(K: BlockProducts, constants: Constants) -> LinearMap:
        return Transposed(K, constants.factor)

    @staticmethod
    def plain(K: PlainMatrix, b: Tensor, x: Tensor, constants: Constants) -> Tensor:
        return constants.sigma.function(constants.factor * K.transposed(x) + b)


class ActivatedSkew(Activated):
    """v = σ((S - Sᵀ - γ) x + b)."""

    skew = True
    exchanges: ClassVar[tuple[str, ...]] = Skew.exchanges

    @staticmethod
    def map(K: BlockProducts, constants: Constants) -> LinearMap:
        return Skew(K, constants.gamma)

    @staticmethod
    def plain(K: PlainMatrix, b: Tensor, x: Tensor, constants: Constants) -> Tensor:
        return constants.sigma.function(K.skew(x) - constants.gamma * x + b)

    @staticmethod
    def slope(K: float, sigma: float, h: float, gamma: float) -> float:
        return sigma * math.hypot(K, gamma)  # a skew matrix is normal


class NearIdentity(TermOfK):
    """v = f + σ(x + h f) with f = K x + b, so that x + h v is φ((1 + h K) x + h b) for φ(x) = x + h σ(x)."""

    exchanges: ClassVar[tuple[str, ...]] = Matrix.exchanges
    reads_ghosts = True

    def __init__(self, K: BlockProducts, constants: Constants) -> None:
        self.products, self.linear, self.sigma, self.h = K, Matrix(K), constants.sigma, constants.h
        self.u, self.v, self.w = (torch.empty_like(K.output.owned) for _ in range(3))

    def saved(self, count: int) -> list[Saved]:
        return _canonical(self.u, self.sigma, count)

    def value(self, use: Use, into: Sum | None) -> Tensor:
        u = self.u if use.saved.u is None else use.saved.u.flat
        f = torch.add(self.linear.value(use.x, use.weights.K), use.weights.b, out=self.v)
        torch.add(use.x.owned, f, alpha=self.h, out=u)
        return f.add_(self.sigma.value(u, out=use.saved.z.flat))

    def adjoint(self, use: Use, into: Sum | None) -> Tensor:
        """Compute δx = w + Kᵀ δf and δb = Σ δf, with w = δv ⊙ σ' and δf = δv + h w."""
        gradients = use.gradients
        dv = scaled(use.dv.owned, use.scale, self.u)
        w = _times_slope(self.sigma, dv, use.saved, self.w)
        f = torch.add(dv, w, alpha=self.h, out=self.v)
        if gradients.b is not None:
            self.products.row_sums(f, gradients.b)
        return torch.add(w, self.linear.adjoint(f, 1.0, use.x, use.weights.K, gradients.K), out=self.u)

    def tangent(self, use: Use, dx: Tensor) -> Tensor:
        f = self.v.copy_(self.linear.tangent(dx, use.weights.K))
        torch.add(dx, f, alpha=self.h, out=self.u)
        return f.add_(_times_slope(self.sigma, self.u, use.saved, self.w))

    @staticmethod
    def plain(K: PlainMatrix, b: Tensor, x: Tensor, constants: Constants) -> Tensor:
        f = K.product(x) + b
        return f + constants.sigma.function(x + constants.h * f)

    @staticmethod
    def slope(K: float, sigma: float, h: float, gamma: float) -> float:
        return K + sigma * (1.0 + h * K)


class Drift(TermOfK):
    """v = x, without a round."""

    def __init__(self, K: BlockProducts, constants: Constants) -> None:
        self.scaled = torch.empty_like(K.output.owned)

    def saved(self, count: int) -> list[Saved]:
        return [Saved(Rows(self.scaled, ()))] * count  # a place-holder: the adjoint needs nothing

    def value(self, use: Use, into: Sum | None) -> Tensor:
        return use.x.owned

    def adjoint(self, use: Use, into: Sum | None) -> Tensor:
        return scaled(use.dv.owned, use.scale, self.scaled)

    def tangent(self, use: Use, dx: Tensor) -> Tensor:
        return dx

    def energy(self, use: Use) -> Tensor:
        """Compute |x|² / 2."""
        return 0.5 * use.x.owned.square().sum(dim=0)

    @staticmethod
    def plain(K: PlainMatrix, b: Tensor, x: Tensor, constants: Constants) -> Tensor:
        return x

    @staticmethod
    def slope(K: float, sigma: float, h: float, gamma: float) -> float:
        return 1.0


TERMS: dict[str, type[TermOfK]] = {
    "gradient": Gradient,
    "activated": Activated,
    "activated_transposed": ActivatedTransposed,
    "activated_skew": ActivatedSkew,
    "near_identity": NearIdentity,
    "drift": Drift,
}
"""Every term by the `kind` of its force."""


def _canonical(like: Tensor, sigma: Activation, count: int) -> list[Saved]:
    """Make memory for what activations in canonical order keep, owned rows like `like`."""

    def rows() -> list[Rows]:
        return [Rows(tensor, ()) for tensor in like.new_empty(count, *like.shape).unbind(0)]

    u = rows() if sigma.keeps_argument else [None] * count
    return [Saved(*each) for each in zip(rows(), u, strict=True)]


def _times_slope(sigma: Activation, g: Tensor, saved: Saved, out: Tensor) -> Tensor:
    return sigma.times_slope(g, None if saved.u is None else saved.u.flat, saved.z.flat, out=out)
