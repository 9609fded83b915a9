"""The linear maps of the layers on a block-sparse matrix: K x, Kᵀ x and (S - Sᵀ - γ) x, each with its adjoint.

    Matrix       x -> K x               gather; backward one scatter-add
    Transposed   x -> c Kᵀ x            scatter-add; backward one gather
    Skew         x -> (S - Sᵀ - γ) x    gather and scatter-add, both ways

Each is bound to the memory of one batch. Arguments of `value` are in column space and live as long as the map, because
their ghosts stay for the weight gradient; everything else is owned rows in the order of states.
Shapes: owned rows (neurons, B). Results are valid until the next call.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor

from dist_hdnn.operators.ghosted import GhostedTensor
from dist_hdnn.operators.products import BlockProducts, BlockWeights, GradientSum, Rows


class LinearMap(Protocol):
    """x -> L x on owned rows.

    exchanges: of `value`, in order; those of `adjoint` are the transposed ones. reads_ghosts: whether `value` gathers
    its argument. cotangent: where `adjoint` leaves its result.
    """

    exchanges: ClassVar[tuple[str, ...]]
    reads_ghosts: bool
    cotangent: Tensor

    def value(self, x: GhostedTensor, weights: BlockWeights) -> Tensor:
        """Compute L x of an argument that is kept."""

    def adjoint(
        self, w: Tensor, scale: float, x: GhostedTensor, weights: BlockWeights, gradient: GradientSum | None
    ) -> Tensor:
        """Compute Lᵀ (scale w), and add the weight gradient for the x that `value` saw."""

    def tangent(self, dx: Tensor, weights: BlockWeights) -> Tensor:
        """Compute L dx of owned rows that need not be kept."""


class PanelRows:
    """Owned rows between the order of states and the panel order of one operator, with the memory for both."""

    def __init__(self, products: BlockProducts) -> None:
        operator = products.operator
        self.argument, self.result = products.rows(2)
        self._order = operator.rows_of_states
        self._inverse = None if self._order is None else torch.argsort(self._order)
        self.restored = self.result.flat if self._order is None else torch.empty_like(self.result.flat)

    def into(self, rows: Tensor, factor: float = 1.0) -> Rows:
        """Bring factor times rows of a state into panel order."""
        if self._order is None:
            scaled(rows, factor, self.argument.flat)
        else:
            torch.index_select(rows, 0, self._order, out=self.argument.flat)
            if factor != 1.0:
                self.argument.flat.mul_(factor)
        return self.argument

    def out(self) -> Tensor:
        """Bring `result` into the order of states."""
        if self._inverse is None:
            return self.restored
        return torch.index_select(self.result.flat, 0, self._inverse, out=self.restored)


class Matrix:
    """x -> K x."""

    exchanges: ClassVar[tuple[str, ...]] = ("gather",)
    reads_ghosts = True

    def __init__(self, products: BlockProducts) -> None:
        self.products, self.rows, self.columns = products, PanelRows(products), products.ghosted()
        self.cotangent = products.output.owned

    def value(self, x: GhostedTensor, weights: BlockWeights) -> Tensor:
        self.products.product(weights, x, self.rows.result)
        return self.rows.out()

    def adjoint(
        self, w: Tensor, scale: float, x: GhostedTensor, weights: BlockWeights, gradient: GradientSum | None
    ) -> Tensor:
        rows = self.rows.into(w, scale)
        if gradient is not None:
            self.products.weight_gradient(((rows, x),), gradient)
        return transposed(self.products, weights, rows)

    def weight_gradient(self, w: Tensor, scale: float, x: GhostedTensor, gradient: GradientSum) -> None:
        """Add the weight gradient alone, after `adjoint` of this w without it and `value` of this x."""
        self.products.weight_gradient(((self.rows.into(w, scale), x),), gradient)

    def tangent(self, dx: Tensor, weights: BlockWeights) -> Tensor:
        self.columns.owned.copy_(dx)
        return self.value(self.columns, weights)


class Transposed:
    """x -> factor Kᵀ x."""

    exchanges: ClassVar[tuple[str, ...]] = ("scatter_add",)
    reads_ghosts = False

    def __init__(self, products: BlockProducts, factor: float = 1.0) -> None:
        self.products, self.rows, self.columns = products, PanelRows(products), products.ghosted()
        self.factor, self.cotangent = factor, self.rows.restored

    def value(self, x: GhostedTensor, weights: BlockWeights) -> Tensor:
        return self.tangent(x.owned, weights)

    def adjoint(
        self, w: Tensor, scale: float, x: GhostedTensor, weights: BlockWeights, gradient: GradientSum | None
    ) -> Tensor:
        scaled(w, scale * self.factor, self.columns.owned)
        self.products.product(weights, self.columns, self.rows.result)
        if gradient is not None:
            self.products.weight_gradient(((self.rows.into(x.owned), self.columns),), gradient)
        return self.rows.out()

    def weight_gradient(self, w: Tensor, scale: float, x: GhostedTensor, gradient: GradientSum) -> None:
        """Add the weight gradient alone, after `adjoint` of this w, whose columns are still here."""
        self.products.weight_gradient(((self.rows.into(x.owned), self.columns),), gradient)

    def tangent(self, dx: Tensor, weights: BlockWeights) -> Tensor:
        return transposed(self.products, weights, self.rows.into(dx, self.factor))


class Skew:
    """x -> (S - Sᵀ - γ) x, S strictly upper triangular: every free entry of the skew matrix once."""

    exchanges: ClassVar[tuple[str, ...]] = ("gather", "scatter_add")
    reads_ghosts = True

    def __init__(self, products: BlockProducts, gamma: float = 0.0) -> None:
        self.products, self.rows, self.columns = products, PanelRows(products), products.ghosted()
        self.gamma, self.cotangent = gamma, torch.empty_like(self.columns.owned)

    def value(self, x: GhostedTensor, weights: BlockWeights) -> Tensor:
        self.products.product(weights, x, self.rows.result)
        other = transposed(self.products, weights, self.rows.into(x.owned))
        total = torch.sub(self.rows.out(), other, out=self.cotangent)
        return total.sub_(x.owned, alpha=self.gamma) if self.gamma else total

    def adjoint(
        self, w: Tensor, scale: float, x: GhostedTensor, weights: BlockWeights, gradient: GradientSum | None
    ) -> Tensor:
        """Compute δx = (Sᵀ - S - γ) w and δS = w xᵀ - x wᵀ: w is gathered once for both."""
        dv = scaled(w, scale, self.columns.owned)
        self.products.product(weights, self.columns, self.rows.result)
        rows = self.rows.into(dv)
        if gradient is not None:
            self.products.weight_gradient(((rows, x),), gradient)
        other = transposed(self.products, weights, rows)
        total = torch.sub(other, self.rows.out(), out=self.cotangent)
        if gradient is not None:
            self.products.weight_gradient(((self.rows.into(x.owned, -1.0), self.columns),), gradient)
        return total.sub_(dv, alpha=self.gamma) if self.gamma else total

    def tangent(self, dx: Tensor, weights: BlockWeights) -> Tensor:
        self.columns.owned.copy_(dx)
        return self.value(self.columns, weights)


INTERCONNECTIONS: dict[str, type[Matrix | Transposed | Skew]] = {"X": Matrix, "Xᵀ": Transposed, "J": Skew}
"""The map of each interconnection."""


def transposed(products: BlockProducts, weights: BlockWeights, rows: Rows) -> Tensor:
    """Compute Kᵀ z as owned rows."""
    result = products.transposed(weights, rows)
    assert result is not None, "no sum was asked for"
    return result


def scaled(x: Tensor, factor: float, out: Tensor) -> Tensor:
    """Write factor x to `out`: a copy costs half of a product."""
    return out.copy_(x) if factor == 1.0 else torch.mul(x, factor, out=out)
