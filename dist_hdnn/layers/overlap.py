"""Products that go on while slices travel: panels that need no ghost are computed between start and wait.

The same products as `PanelProducts`, in two parts: the operator's first classes, the interior, and the rest, the
boundary. A gather takes the interior along; a scatter-add sends what the boundary contributes to ghosts, and the
interior follows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dist_hdnn.layers.exchange import Exchange
from dist_hdnn.layers.operators import BlockOperator
from dist_hdnn.layers.products import BlockWeights, Columns, PanelProducts, Rows


class OverlappedProducts(PanelProducts):
    """See `PanelProducts`; sums are the same up to rounding."""

    def __init__(self, operator: BlockOperator, exchange: Exchange, like: Tensor) -> None:
        super().__init__(operator, exchange, like)
        interior = sum(count * width for count, _, width in operator.shapes[: operator.interior])
        self._inside, self._boundary = slice(0, operator.interior), slice(operator.interior, None)
        self._inside_rows, self._boundary_rows = slice(0, interior), slice(interior, None)
        self._inside_index, self._boundary_index = self._index[:interior], self._index[interior:]

    def affine(self, weights: BlockWeights, x: Tensor, out: Rows, phase: str) -> None:
        def part(classes: slice, rows: slice, index: Tensor) -> None:
            torch.index_select(x, 0, index, out=self._x.flat[rows])
            parts = (weights.classes, weights.bias, self._x.classes, out.classes)
            for w, b, c, u in zip(*(views[classes] for views in parts), strict=True):
                torch.baddbmm(b, w, c, out=u)

        self.exchange.gather(x, phase, lambda: part(self._inside, self._inside_rows, self._inside_index))
        part(self._boundary, self._boundary_rows, self._boundary_index)

    def product(self, weights: BlockWeights, v: Tensor, out: Rows, phase: str) -> Columns:
        def part(classes: slice, rows: slice, index: Tensor) -> None:
            torch.index_select(v, 0, index, out=self._v.flat[rows])
            parts = (weights.classes, self._v.classes, out.classes)
            for w, c, u in zip(*(views[classes] for views in parts), strict=True):
                torch.bmm(w, c, out=u)

        self.exchange.gather(v, phase, lambda: part(self._inside, self._inside_rows, self._inside_index))
        part(self._boundary, self._boundary_rows, self._boundary_index)
        return self._v

    def transposed(self, weights: BlockWeights, rows: Rows, phase: str) -> Tensor:
        def part(classes: slice, here: slice, index: Tensor) -> None:
            contributions = self._contributions
            parts = (weights.transposed, rows.classes, contributions.classes)
            for w, z, x in zip(*(views[classes] for views in parts), strict=True):
                torch.bmm(w, z, out=x)
            self.output.index_add_(0, index, contributions.flat[here])

        self.output.zero_()
        part(self._boundary, self._boundary_rows, self._boundary_index)
        inside = self._inside, self._inside_rows, self._inside_index
        self.exchange.scatter_add(self.output, phase, lambda: part(*inside))
        return self.output
