"""The Hamiltonian field y' = J Kᵀ σ(K y + b) on block-sparse K and X, as two products and their adjoints.

    PotentialGradient    v = Kᵀ σ(K x + b), the gradient of Σ σ̃(K x + b) with respect to x      one gather, one scatter-add
    Interconnection      X v and Xᵀ v, the off-diagonal halves of J = [[0, -Xᵀ], [X, 0]]          one round each

Source: arXiv:2105.13205 (H-DNN), with K = blockdiag(Kp, Kq).
Shapes: x and v are (owned + ghost neurons of one half, B); z, u, w are (rows of K, B) in the operator's row order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dist_hdnn.layers.activations import Activation
from dist_hdnn.layers.exchange import Exchange
from dist_hdnn.layers.operators import BlockOperator


class Scratch:
    """Memory of one half step that nobody reads afterwards; shared by all layers that use one operator."""

    def __init__(self, operator: BlockOperator, batch: int, like: Tensor) -> None:
        def rows(count: int) -> Tensor:
            return torch.empty(count, batch, dtype=like.dtype, device=like.device)

        self.selected, self.selected_adjoint = rows(operator.gathered), rows(operator.gathered)
        self.contributions = rows(0 if operator.columns_in_order else operator.gathered)
        self.u, self.g, self.w = (rows(operator.rows) for _ in range(3))
        self.columns, self.adjoint_columns = rows(operator.column_neurons), rows(operator.column_neurons)


class PotentialGradient(nn.Module):
    """v = Kᵀ σ(K x + b) and its adjoint, for one block pattern of K; the weights are arguments."""

    def __init__(self, operator: BlockOperator, exchange: Exchange, sigma: Activation) -> None:
        super().__init__()
        self.operator, self.exchange, self.sigma = operator, exchange, sigma

    def forward(self, x: Tensor, K: Tensor, b: Tensor, z: Tensor, u: Tensor | None, scratch: Scratch) -> Tensor:
        """x (columns, B), K (stored,), b (rows,) -> v (columns, B), valid in its owned rows; keeps z = σ(u) and u."""
        u = scratch.u if u is None else u
        self.exchange.gather(x, "forward")
        selected = self.operator.select(x, scratch.selected)
        self.operator.product(K, selected, out=u).add_(b.unsqueeze(1))
        self.sigma.value(u, out=z)
        v = self.operator.transposed(K, z, scratch.contributions, out=scratch.columns)
        self.exchange.scatter_add(v, "forward")
        return v

    def adjoint(
        self,
        dv: Tensor,
        x: Tensor,
        K: Tensor,
        z: Tensor,
        u: Tensor | None,
        grad_K: Tensor,
        grad_b: Tensor,
        scratch: Scratch,
    ) -> Tensor:
        """δv -> δx (columns, B), valid in its owned rows; writes δK = z δvᵀ + w xᵀ and δb = Σ w, both owned here.

        x still holds the ghosts of the forward pass; the ghost rows of δv are gathered here.
        """
        self.exchange.gather(dv, "backward")
        dv_selected = self.operator.select(dv, scratch.selected_adjoint)
        x_selected = self.operator.select(x, scratch.selected)
        g = self.operator.product(K, dv_selected, out=scratch.g)
        w = self.sigma.times_slope(g, u, z, out=scratch.w)
        self.operator.weight_gradient(z, dv_selected, grad_K, accumulate=False)
        self.operator.weight_gradient(w, x_selected, grad_K, accumulate=True)
        torch.sum(w, dim=1, out=grad_b)
        dx = self.operator.transposed(K, w, scratch.contributions, out=scratch.columns)
        self.exchange.scatter_add(dx, "backward")
        return dx


class Interconnection(nn.Module):
    """X v and Xᵀ v for one block pattern T; each is one round, and the other's adjoint."""

    inverse_rows: Tensor

    def __init__(self, operator: BlockOperator, exchange: Exchange) -> None:
        super().__init__()
        self.operator, self.exchange = operator, exchange
        self.register_buffer("inverse_rows", torch.argsort(operator.row_order), persistent=False)

    def product(self, v: Tensor, X: Tensor, scratch: Scratch, phase: str) -> Tensor:
        """X v: (columns, B) -> (rows, B) in canonical order; gathers the ghost rows of v."""
        self.exchange.gather(v, phase)
        rows = self.operator.product(X, self.operator.select(v, scratch.selected), out=scratch.u)
        return rows if self.operator.rows_in_order else torch.index_select(rows, 0, self.inverse_rows, out=scratch.w)

    def transposed(self, v: Tensor, X: Tensor, scratch: Scratch, phase: str) -> Tensor:
        """Xᵀ v: (rows, B) in canonical order -> (columns, B), valid in its owned rows."""
        rows = self._in_panel_order(v, scratch)
        columns = self.operator.transposed(X, rows, scratch.contributions, out=scratch.columns)
        self.exchange.scatter_add(columns, phase)
        return columns

    def accumulate_gradient(self, rows: Tensor, columns: Tensor, grad_X: Tensor, scratch: Scratch) -> None:
        """δX += Σ over the batch of rows ⊗ columns; the ghost rows of `columns` are already there."""
        ordered = self._in_panel_order(rows, scratch)
        self.operator.weight_gradient(ordered, self.operator.select(columns, scratch.selected), grad_X, accumulate=True)

    def _in_panel_order(self, rows: Tensor, scratch: Scratch) -> Tensor:
        if self.operator.rows_in_order:
            return rows
        return torch.index_select(rows, 0, self.operator.row_order, out=scratch.g)
