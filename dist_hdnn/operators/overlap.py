"""Products that go on while slices travel: panels that need no ghost are computed between start and wait.

The same products as `PanelProducts`, in two parts: the operator's first chunks, the interior, and the rest, the
boundary. A gather takes the interior along; a scatter-add sends what the boundary contributes to ghosts, and the
interior follows.
"""

from __future__ import annotations

from torch import Tensor

from dist_hdnn.operators.exchange import Exchange
from dist_hdnn.operators.panel_products import PanelProducts
from dist_hdnn.operators.panels import PanelOperator
from dist_hdnn.operators.products import BlockProducts, BlockWeights, Rows, Sum, taken


class OverlappedProducts(PanelProducts):
    """See `PanelProducts`; sums are the same up to rounding."""

    force, pulled_back = BlockProducts.force, BlockProducts.pulled_back  # product by product

    def __init__(self, operator: PanelOperator, exchange: Exchange, like: Tensor) -> None:
        super().__init__(operator, exchange, like)
        self._inside, self._boundary = slice(0, operator.interior), slice(operator.interior, None)

    def affine(self, weights: BlockWeights, x: Tensor, out: Rows, phase: str) -> None:
        self.exchange.gather(x, phase, lambda: self._affine(weights, x, out, self._inside))
        self._affine(weights, x, out, self._boundary)

    def product(self, weights: BlockWeights, v: Tensor, out: Rows, phase: str) -> None:
        self.exchange.gather(v, phase, lambda: self._product(weights, v, out, self._inside))
        self._product(weights, v, out, self._boundary)

    def transposed(self, weights: BlockWeights, rows: Rows, phase: str, into: Sum | None = None) -> Tensor:
        self.output.zero_()
        self._transposed(weights, rows, self._boundary)
        self.exchange.scatter_add(self.output, phase, lambda: self._transposed(weights, rows, self._inside))
        return taken(self.output, into)
