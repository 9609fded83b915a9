"""The products of one block-sparse matrix bound to one batch: preallocated memory and ready-made views, no allocation.

    affine, product      K x + b, K v                  gather, then batched GEMM
    activated, sloped    σ(K x + b), K v ⊙ σ'(u)       the same and σ
    transposed           Kᵀ z                          batched GEMM, then scatter-add
    weight_gradient      z xᵀ, summed over the batch, on the pattern

`BlockProducts` is what the layers know; `PanelProducts` here and `layers.tiles` are two ways to compute them.

A tensor in row space or gathered column space is kept as a flat (neurons, B) tensor and as one 3-D view per class of
equal panels; the views are made once, because making them costs as much as a small GEMM.
Shapes: B batch; per class (panels, rows, columns), (panels, columns, B), (panels, rows, B).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dist_hdnn.layers.activations import Activation
from dist_hdnn.layers.exchange import Exchange
from dist_hdnn.layers.operators import Arrangement, BlockOperator

Views = tuple[Tensor, ...]  # one per class


class Rows(NamedTuple):
    """A tensor in row space, (rows, B), with its views (panels, rows, B)."""

    flat: Tensor
    classes: Views


class Columns(NamedTuple):
    """Gathered columns, (gathered, B), with views (panels, columns, B) and (panels, B, columns)."""

    flat: Tensor
    classes: Views
    transposed: Views


Pair = tuple[Rows, Columns]


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

    def product(self, weights: BlockWeights, v: Tensor, out: Rows, phase: str) -> Columns:
        """K v; returns the columns of v, for `weight_gradient`, valid until the next call."""
        raise NotImplementedError

    def sloped(
        self, weights: BlockWeights, v: Tensor, sigma: Activation, u: Rows | None, z: Rows, out: Rows, phase: str
    ) -> Columns:
        """K v ⊙ σ'(u), z = σ(u); returns the columns of v as `product` does."""
        g = self.scratch()
        columns = self.product(weights, v, g, phase)
        sigma.times_slope(g.flat, None if u is None else u.flat, z.flat, out=out.flat)
        return columns

    def columns(self, x: Tensor) -> Columns:
        """The panels' columns of x, whose ghosts are there already; valid until the next call or `affine`."""
        raise NotImplementedError

    def transposed(self, weights: BlockWeights, rows: Rows, phase: str) -> Tensor:
        """Kᵀ z, contributions of other workers included: (column_neurons, B), valid in its owned rows for now."""
        raise NotImplementedError

    def weight_gradient(self, pairs: Sequence[Pair], out: Views, accumulate: bool) -> None:
        """Σ rows ⊗ columns of one or two pairs, summed over the batch, written or added to the panels `out`."""
        raise NotImplementedError


class PanelProducts(BlockProducts):
    """By batched GEMMs of PyTorch on the panels of a `BlockOperator`, whose columns are gathered before."""

    operator: BlockOperator

    def __init__(self, operator: BlockOperator, exchange: Exchange, like: Tensor) -> None:
        super().__init__(operator, exchange, like)
        self._index, self._in_order = operator.columns, operator.columns_in_order
        self._known: dict[int, Columns] = {}  # views of column-space tensors that need no gather
        self._x, self._v = self._columns(), self._columns()
        self._contributions = self._columns()
        if self._in_order:
            self._contributions = self._views(self.output)

    def row_views(self, flat: Tensor) -> Views:
        return self._split(flat, [height for _, height, _ in self.operator.shapes])

    def affine(self, weights: BlockWeights, x: Tensor, out: Rows, phase: str) -> None:
        self.exchange.gather(x, phase)
        columns = self.columns(x)
        for w, b, c, u in zip(weights.classes, weights.bias, columns.classes, out.classes, strict=True):
            torch.baddbmm(b, w, c, out=u)

    def product(self, weights: BlockWeights, v: Tensor, out: Rows, phase: str) -> Columns:
        self.exchange.gather(v, phase)
        columns = self._select(v, self._v)
        for w, c, u in zip(weights.classes, columns.classes, out.classes, strict=True):
            torch.bmm(w, c, out=u)
        return columns

    def columns(self, x: Tensor) -> Columns:
        return self._select(x, self._x)

    def transposed(self, weights: BlockWeights, rows: Rows, phase: str) -> Tensor:
        for w, z, x in zip(weights.transposed, rows.classes, self._contributions.classes, strict=True):
            torch.bmm(w, z, out=x)
        if self.exchange.ordered:
            self.exchange.scatter_links(self._contributions.flat, self.output, phase)
            return self.output
        if not self._in_order:
            self.output.zero_().index_add_(0, self._index, self._contributions.flat)
        self.exchange.scatter_add(self.output, phase)
        return self.output

    def weight_gradient(self, pairs: Sequence[Pair], out: Views, accumulate: bool) -> None:
        for rows, columns in pairs:
            for z, x, gradient in zip(rows.classes, columns.transposed, out, strict=True):
                if accumulate:
                    gradient.baddbmm_(z, x)
                else:
                    torch.bmm(z, x, out=gradient)
            accumulate = True

    def _select(self, x: Tensor, out: Columns) -> Columns:
        """Copy the panels' columns of x to `out`, or just look at them where they lie in order."""
        if self._in_order:
            known = self._known.get(id(x))
            if known is None:
                known = self._known[id(x)] = self._views(x)  # holds x, so its id stays its own
            return known
        torch.index_select(x, 0, self._index, out=out.flat)
        return out

    def _columns(self) -> Columns:
        return self._views(self._like.new_empty(0 if self._in_order else self.operator.gathered, self.batch))

    def _views(self, flat: Tensor) -> Columns:
        classes = self._split(flat, [width for _, _, width in self.operator.shapes]) if flat.shape[0] else ()
        return Columns(flat, classes, tuple(view.transpose(1, 2) for view in classes))

    def _split(self, flat: Tensor, sizes: list[int]) -> Views:
        counts = [count for count, _, _ in self.operator.shapes]
        parts = flat.split([count * size for count, size in zip(counts, sizes, strict=True)])
        return tuple(part.view(count, size, self.batch) for part, count, size in zip(parts, counts, sizes, strict=True))


def layer_panels(operator: Arrangement, panels: Tensor) -> list[Views]:
    """Panels (layers, stored) -> for every layer its views, such as (panels, rows, columns), one per class."""
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
