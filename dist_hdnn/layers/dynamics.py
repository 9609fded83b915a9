"""The Hamiltonian field y' = J Kᵀ σ(K y + b) on block-sparse K and X, as two products and their adjoints.

    PotentialGradient    v = Kᵀ σ(K x + b), the gradient of Σ σ̃(K x + b) in x; one gather, one scatter-add
    Interconnection      X v and Xᵀ v, the off-diagonal halves of J = [[0, -Xᵀ], [X, 0]]; one round each

Both are bound to the memory of one batch. Source: arXiv:2105.13205 (H-DNN), with K = blockdiag(Kp, Kq).
Shapes: x and v are in column space (owned + ghost neurons of one half, B); z, u, g, w in the operator's row space.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dist_hdnn.layers.activations import Activation
from dist_hdnn.layers.exchange import Exchange
from dist_hdnn.layers.operators import BlockOperator
from dist_hdnn.layers.overlap import bind
from dist_hdnn.layers.products import BlockWeights, Rows, Views


class PotentialGradient:
    """v = Kᵀ σ(K x + b) and its adjoint, for one block pattern of K; weights and what is remembered are arguments."""

    def __init__(self, operator: BlockOperator, exchange: Exchange, sigma: Activation, like: Tensor) -> None:
        self.products, self.sigma = bind(operator, exchange, like), sigma
        self.u, self.g, self.w = self.products.rows(3)
        self.force = like.new_empty(operator.column_neurons, like.shape[0])  # δv on its way in, with room for ghosts

    def value(self, x: Tensor, weights: BlockWeights, z: Rows, u: Rows | None) -> Tensor:
        """x -> v, valid in its owned rows until the next call; remembers z = σ(u) and, where asked, u."""
        argument = self.u if u is None else u
        self.products.affine(weights, x, argument, "forward")
        self.sigma.value(argument.flat, out=z.flat)
        return self.products.transposed(weights, z, "forward")

    def adjoint(
        self,
        dv: Tensor,
        x: Tensor,
        weights: BlockWeights,
        z: Rows,
        u: Rows | None,
        gradient: Views,
        bias_gradient: Tensor,
    ) -> Tensor:
        """δv -> δx, valid in its owned rows; writes δK = z δvᵀ + w xᵀ and δb = Σ w, w = K δv ⊙ σ'(u), both owned here.

        x still holds the ghosts of the forward pass; the ghost rows of δv are gathered here.
        """
        products = self.products
        dv_columns, x_columns = products.product(weights, dv, self.g, "backward"), products.columns(x)
        self.sigma.times_slope(self.g.flat, None if u is None else u.flat, z.flat, out=self.w.flat)
        products.weight_gradient(z, dv_columns, gradient, accumulate=False)
        products.weight_gradient(self.w, x_columns, gradient, accumulate=True)
        torch.sum(self.w.flat, dim=1, out=bias_gradient)
        return products.transposed(weights, self.w, "backward")


class Interconnection:
    """X v and Xᵀ v for one block pattern T; each is one round, and the other's adjoint."""

    def __init__(self, operator: BlockOperator, exchange: Exchange, like: Tensor) -> None:
        self.products = bind(operator, exchange, like)
        self.result, self.argument = self.products.rows(2)
        self.columns = like.new_empty(operator.column_neurons, like.shape[0])  # an argument with room for its ghosts
        self._order = None if operator.rows_in_order else operator.row_order
        self._inverse = None if operator.rows_in_order else torch.argsort(operator.row_order)

    def product(self, v: Tensor, weights: BlockWeights, phase: str) -> Tensor:
        """X v: column space -> (rows, B) in canonical order, valid until the next call; gathers the ghosts of v."""
        self.products.product(weights, v, self.result, phase)
        if self._inverse is None:
            return self.result.flat
        return torch.index_select(self.result.flat, 0, self._inverse, out=self.argument.flat)

    def transposed(self, v: Tensor, weights: BlockWeights, phase: str) -> Tensor:
        """Xᵀ v: (rows, B) in canonical order -> column space, valid in its owned rows until the next call."""
        return self.products.transposed(weights, self._in_panel_order(v), phase)

    def accumulate_gradient(self, rows: Tensor, columns: Tensor, gradient: Views) -> None:
        """δX += rows ⊗ columns summed over the batch; the ghost rows of `columns` are already there."""
        selected = self.products.columns(columns)
        self.products.weight_gradient(self._in_panel_order(rows), selected, gradient, accumulate=True)

    def _in_panel_order(self, rows: Tensor) -> Rows:
        if self._order is None:
            self.argument.flat.copy_(rows)
        else:
            torch.index_select(rows, 0, self._order, out=self.argument.flat)
        return self.argument
