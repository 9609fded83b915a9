"""The products of one block-sparse matrix bound to one batch: preallocated memory and ready-made views, no allocation.

    affine, product      K x + b, K v                  gather, then batched GEMM
    activated, sloped    σ(K x + b), K v ⊙ σ'(u)       the same and σ
    transposed           Kᵀ z                          batched GEMM, then scatter-add; or at once old + c Kᵀ z
    weight_gradient      z xᵀ, summed over the batch, on the pattern
    force, pulled_back   Kᵀ σ(K x + b), and its adjoint with the weight gradient

`BlockProducts` is what the layers know; `panel_products` and `layers.tiles` are two ways to compute them.

A tensor in row space is kept as a flat (neurons, B) tensor and as one 3-D view per chunk of equal panels.
Shapes: B batch; per chunk (panels, rows, columns), (panels, columns, B), (panels, rows, B).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.exchange import Exchange
from dist_hdnn.operators.sparsity import Arrangement

Views = tuple[Tensor, ...]  # one per chunk of panels


class Rows(NamedTuple):
    """A tensor in row space, (rows, B), with its views (panels, rows, B)."""

    flat: Tensor
    classes: Views


Pair = tuple[Rows, Tensor]
"""Rows, and a tensor in column space whose ghosts are there."""


class Sum(NamedTuple):
    """new := old + scale v for a v that nobody wants by itself; owned rows (neurons, B). new may be old, and not x."""

    old: Tensor
    scale: float
    new: Tensor


class BlockWeights(NamedTuple):
    """One layer's panels: views (panels, rows, columns), the same transposed, and the bias (panels, rows, 1) if any."""

    classes: Views
    transposed: Views
    bias: Views


class BlockProducts:
    """An operator and its `exchange` with the memory that a batch like `like` (batch, neurons) needs.

    Arguments x and v in column space (column_neurons, B) must be tensors that live as long as this object: views of
    them are kept. Their ghost rows are filled here.
    """

    def __init__(self, operator: Arrangement, exchange: Exchange, like: Tensor) -> None:
        self.operator, self.exchange, self.batch = operator, exchange, like.shape[0]
        self._like = like.new_empty(0)
        self.output = like.new_empty(operator.column_neurons, self.batch)  # column space: owned rows, then ghosts
        self._scratch: Rows | None = None

    def rows(self, count: int = 1) -> list[Rows]:
        """New tensors in row space, as rows of one allocation."""
        flat = self._like.new_empty(count, self.operator.rows, self.batch).unbind(0)
        return [Rows(tensor, self.row_views(tensor)) for tensor in flat]

    def scratch(self) -> Rows:
        """One tensor in row space for values that nobody keeps."""
        if self._scratch is None:
            (self._scratch,) = self.rows()
        return self._scratch

    def row_views(self, flat: Tensor) -> Views:
        """The views of a tensor in row space that products need."""
        return ()

    def affine(self, weights: BlockWeights, x: Tensor, out: Rows, phase: str) -> None:
        """K x + b."""
        raise NotImplementedError

    def activated(
        self, weights: BlockWeights, x: Tensor, sigma: Activation, u: Rows | None, z: Rows, phase: str
    ) -> None:
        """z = σ(K x + b); the argument of σ stays in u where one is given."""
        u = u or self.scratch()
        self.affine(weights, x, u, phase)
        sigma.value(u.flat, out=z.flat)

    def product(self, weights: BlockWeights, v: Tensor, out: Rows, phase: str) -> None:
        """K v."""
        raise NotImplementedError

    def sloped(
        self,
        weights: BlockWeights,
        v: Tensor,
        sigma: Activation,
        u: Rows | None,
        z: Rows,
        out: Rows,
        phase: str,
        scale: float = 1.0,
    ) -> None:
        """Scale K v ⊙ σ'(u), where z = σ(u)."""
        g = self.scratch()
        self.product(weights, v, g, phase)
        sigma.times_slope(g.flat, None if u is None else u.flat, z.flat, out=out.flat)
        if scale != 1.0:
            out.flat.mul_(scale)

    def transposed(self, weights: BlockWeights, rows: Rows, phase: str, into: Sum | None = None) -> Tensor:
        """Kᵀ z, contributions of other workers included: (column_neurons, B), valid in its owned rows for now.

        into: take the sum with it instead, and return that.
        """
        raise NotImplementedError

    def weight_gradient(self, pairs: Sequence[Pair], out: Views, accumulate: bool, scale: float = 1.0) -> None:
        """Σ rows ⊗ columns of one or two pairs, summed over the batch, written or added to the panels `out`.

        scale: factor of the first pair.
        """
        raise NotImplementedError

    def force(
        self,
        weights: BlockWeights,
        x: Tensor,
        sigma: Activation,
        u: Rows | None,
        z: Rows,
        phase: str,
        into: Sum | None = None,
    ) -> Tensor:
        """Kᵀ z with z = σ(K x + b), see `activated` and `transposed`."""
        self.activated(weights, x, sigma, u, z, phase)
        return self.transposed(weights, z, phase, into)

    def pulled_back(
        self,
        weights: BlockWeights,
        v: Tensor,
        x: Tensor,
        sigma: Activation,
        u: Rows | None,
        z: Rows,
        w: Rows,
        gradient: Views | None,
        accumulate: bool,
        scale: float,
        phase: str,
        into: Sum | None = None,
    ) -> Tensor:
        """The adjoint of `force` for δ = scale v: Kᵀ w, w = K δ ⊙ σ'(u), and z δᵀ + w xᵀ to the gradient if wanted."""
        self.sloped(weights, v, sigma, u, z, w, phase, scale)
        if gradient is not None:
            self.weight_gradient(((z, v), (w, x)), gradient, accumulate, scale)
        return self.transposed(weights, w, phase, into)

    def alone(self, rows: Tensor) -> bool:
        """Whether owned rows are all of column space, no ghosts, and nobody else adds to them."""
        return not (self.exchange.moves or self.exchange.ordered) and len(rows) == self.operator.column_neurons


def taken(v: Tensor, into: Sum | None) -> Tensor:
    """v whose first rows are the owned ones, or the sum with them."""
    return v if into is None else torch.add(into.old, v[: len(into.old)], alpha=into.scale, out=into.new)


def layer_panels(operator: Arrangement, panels: Tensor) -> list[Views]:
    """Panels (layers, stored) -> for every layer its views, such as (panels, rows, columns), one per chunk."""
    return _layer_views(panels, operator.weight_shapes)


def layer_weights(operator: Arrangement, panels: Tensor, bias: Tensor | None = None) -> list[BlockWeights]:
    """Panels (layers, stored), bias (layers, rows) in panel order -> every layer's weights."""
    rows: list[Views] = [()] * len(panels) if bias is None else _layer_views(bias, operator.row_shapes)
    return [
        BlockWeights(classes, tuple(view.mT for view in classes if view.ndim > 2), b)
        for classes, b in zip(layer_panels(operator, panels), rows, strict=True)
    ]


def _layer_views(flat: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Views]:
    """(layers, elements) -> for every layer views of these shapes, one after the other."""
    if not shapes:
        return [()] * len(flat)
    parts = zip(flat.split([math.prod(shape) for shape in shapes], dim=1), shapes, strict=True)
    return list(zip(*(part.view(len(flat), *shape).unbind(0) for part, shape in parts), strict=True))
