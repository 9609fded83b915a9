"""The linear maps of the layers on a block-sparse matrix: K x, Kᵀ x and (S - Sᵀ - γ) x, each with its adjoint.

    Matrix       x -> K x               gather; backward one scatter-add
    Transposed   x -> c Kᵀ x            scatter-add; backward one gather
    Skew         x -> (S - Sᵀ - γ) x    gather and scatter-add, both ways

Each is bound to the memory of one batch. Arguments of `value` are in column space (owned + ghost neurons, B) and live
as long as the map, because their ghosts stay for the weight gradient; everything else is owned rows in canonical order.
Results are valid until the next call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dist_hdnn.operators.products import BlockProducts, BlockWeights, Pair, Rows, Views


@dataclass
class GradientSum:
    """Where a layer's gradient of one matrix or bias goes: the first contribution is written, further ones added."""

    views: Views
    fresh: bool = True

    def taken(self) -> tuple[Views, bool]:
        """Where the next contribution goes, and whether it is to be added."""
        accumulate, self.fresh = not self.fresh, False
        return self.views, accumulate

    def add_products(self, products: BlockProducts, *pairs: Pair) -> None:
        """Rows ⊗ columns of one or two pairs, summed over the batch."""
        products.weight_gradient(pairs, *self.taken())

    def add_sum(self, w: Tensor) -> None:
        """Σ w over the batch, (rows,)."""
        if self.fresh:
            torch.sum(w, dim=1, out=self.views[0])
        else:
            self.views[0].add_(w.sum(dim=1))
        self.fresh = False


class LinearMap(Protocol):
    """x -> L x on owned rows; `needs_ghosts`: whether `value` gathers its argument, which then has ghost rows."""

    needs_ghosts: bool

    def value(self, x: Tensor, weights: BlockWeights) -> Tensor:
        """L x of a column-space tensor that is kept."""

    def adjoint(
        self, w: Tensor, scale: float, x: Tensor, weights: BlockWeights, gradient: GradientSum | None
    ) -> Tensor:
        """Lᵀ (scale w); adds the weight gradient for the x that `value` saw."""

    def tangent(self, dx: Tensor, weights: BlockWeights) -> Tensor:
        """L dx of owned rows that need not be kept."""


class PanelRows:
    """Owned rows between canonical order and the panel order of one operator, with the memory for both."""

    def __init__(self, products: BlockProducts) -> None:
        operator = products.operator
        self.argument, self.result = products.rows(2)
        self._order = None if operator.rows_in_order else operator.row_order
        self._inverse = None if operator.rows_in_order else torch.argsort(operator.row_order)
        self._canonical = self.result.flat if operator.rows_in_order else torch.empty_like(self.result.flat)

    def into(self, rows: Tensor, factor: float = 1.0) -> Rows:
        """Factor times canonical rows -> panel order."""
        if self._order is None:
            scaled(rows, factor, self.argument.flat)
        else:
            torch.index_select(rows, 0, self._order, out=self.argument.flat)
            if factor != 1.0:
                self.argument.flat.mul_(factor)
        return self.argument

    def out(self) -> Tensor:
        """`result` in canonical order."""
        if self._inverse is None:
            return self._canonical
        return torch.index_select(self.result.flat, 0, self._inverse, out=self._canonical)


class Matrix:
    """x -> K x."""

    needs_ghosts = True

    def __init__(self, products: BlockProducts) -> None:
        self.products, self.rows = products, PanelRows(products)
        self.columns, self.owned = column_space(products)

    def value(self, x: Tensor, weights: BlockWeights) -> Tensor:
        self.products.product(weights, x, self.rows.result, "forward")
        return self.rows.out()

    def adjoint(
        self, w: Tensor, scale: float, x: Tensor, weights: BlockWeights, gradient: GradientSum | None
    ) -> Tensor:
        rows = self.rows.into(w, scale)
        if gradient is not None:
            gradient.add_products(self.products, (rows, x))
        return self.products.transposed(weights, rows, "backward")[: len(w)]

    def weight_gradient(self, w: Tensor, scale: float, x: Tensor, gradient: GradientSum) -> None:
        """The weight gradient alone, after `adjoint` of this w without it and `value` of this x."""
        gradient.add_products(self.products, (self.rows.into(w, scale), x))

    def tangent(self, dx: Tensor, weights: BlockWeights) -> Tensor:
        self.owned.copy_(dx)
        return self.value(self.columns, weights)


class Transposed:
    """x -> factor Kᵀ x."""

    needs_ghosts = False

    def __init__(self, products: BlockProducts, factor: float = 1.0) -> None:
        self.products, self.rows, self.factor = products, PanelRows(products), factor
        self.columns, self.owned = column_space(products)

    def value(self, x: Tensor, weights: BlockWeights) -> Tensor:
        return self.tangent(x[: len(self.owned)], weights)

    def adjoint(
        self, w: Tensor, scale: float, x: Tensor, weights: BlockWeights, gradient: GradientSum | None
    ) -> Tensor:
        scaled(w, scale * self.factor, self.owned)
        self.products.product(weights, self.columns, self.rows.result, "backward")
        if gradient is not None:
            gradient.add_products(self.products, (self.rows.into(x[: len(w)]), self.columns))
        return self.rows.out()

    def weight_gradient(self, w: Tensor, scale: float, x: Tensor, gradient: GradientSum) -> None:
        """The weight gradient alone, after `adjoint` of this w, whose columns are still here, and `value` of this x."""
        gradient.add_products(self.products, (self.rows.into(x[: len(w)]), self.columns))

    def tangent(self, dx: Tensor, weights: BlockWeights) -> Tensor:
        rows = self.rows.into(dx, self.factor)
        return self.products.transposed(weights, rows, "forward")[: len(dx)]


class Skew:
    """x -> (S - Sᵀ - γ) x, S strictly upper triangular: every free entry of the skew matrix once."""

    needs_ghosts = True

    def __init__(self, products: BlockProducts, gamma: float = 0.0) -> None:
        self.products, self.rows, self.gamma = products, PanelRows(products), gamma
        self.columns, self.owned = column_space(products)
        self.sum = torch.empty_like(self.owned)

    def value(self, x: Tensor, weights: BlockWeights) -> Tensor:
        owned = x[: len(self.owned)]
        self.products.product(weights, x, self.rows.result, "forward")
        other = self.products.transposed(weights, self.rows.into(owned), "forward")
        torch.sub(self.rows.out(), other[: len(owned)], out=self.sum)
        return self.sum.sub_(owned, alpha=self.gamma) if self.gamma else self.sum

    def adjoint(
        self, w: Tensor, scale: float, x: Tensor, weights: BlockWeights, gradient: GradientSum | None
    ) -> Tensor:
        """δx = (Sᵀ - S - γ) w and δS = w xᵀ - x wᵀ: w is gathered once for both."""
        scaled(w, scale, self.owned)
        self.products.product(weights, self.columns, self.rows.result, "backward")
        rows = self.rows.into(self.owned)
        if gradient is not None:
            gradient.add_products(self.products, (rows, x))
        other = self.products.transposed(weights, rows, "backward")
        torch.sub(other[: len(w)], self.rows.out(), out=self.sum)
        if gradient is not None:
            gradient.add_products(self.products, (self.rows.into(x[: len(w)], -1.0), self.columns))
        return self.sum.sub_(self.owned, alpha=self.gamma) if self.gamma else self.sum

    def tangent(self, dx: Tensor, weights: BlockWeights) -> Tensor:
        self.owned.copy_(dx)
        return self.value(self.columns, weights)


def column_space(products: BlockProducts) -> tuple[Tensor, Tensor]:
    """A new tensor in column space, (owned + ghost neurons, B), and its owned rows."""
    columns = torch.empty_like(products.output)
    return columns, columns[: products.operator.rows]


def scaled(x: Tensor, factor: float, out: Tensor) -> Tensor:
    """factor x in `out`; a copy costs half of a product."""
    return out.copy_(x) if factor == 1.0 else torch.mul(x, factor, out=out)
