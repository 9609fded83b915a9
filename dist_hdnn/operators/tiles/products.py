"""The products of one block-sparse matrix by register tiles: nothing is gathered, padded or summed twice.

`K x + b` and its tanh, `K v` times tanh', `Kᵀ z` and the weight gradient are one kernel call each (see `kernels`).
What needs no ghost is computed while slices travel, and what goes to ghosts is computed first.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import Tensor

from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.ghosted import Exchange, GhostedTensor
from dist_hdnn.operators.products import BlockProducts, BlockWeights, GradientSum, Pair, Rows, Saved, Sum
from dist_hdnn.operators.tiles.kernels import Kind, pull
from dist_hdnn.operators.tiles.kernels import gradient as gradient_kernel
from dist_hdnn.operators.tiles.machine import Compiled
from dist_hdnn.operators.tiles.operator import TileOperator
from dist_hdnn.operators.tiles.sums import row_sums
from dist_hdnn.operators.tiles.threads import Work
from dist_hdnn.operators.tiles.vectors import lanes

THIN = 4  # rows of an agent, in the mean, up to which fetching ahead pays: 10 000 x 4 17 % faster, 64 x 64 4 % slower


class TileProducts(BlockProducts):
    """See `BlockProducts`. Tensors are contiguous, on the CPU, float32 or float64."""

    def __init__(self, operator: TileOperator, exchange: Exchange, like: Tensor) -> None:
        super().__init__(operator, exchange, like)
        self._element = like.element_size()
        self._lanes = lanes(self._element, self.batch)
        self._agents, self._interior = operator.owned, operator.interior
        self._by_row, self._by_column = Work(operator.by_row, self.batch), Work(operator.by_column, self.batch)
        self._column_agents = len(operator.by_column.order)
        self._kernels: dict[Kind, Compiled] = {}
        self._gradients: dict[bool, Compiled] = {}
        self._thin = operator.rows <= THIN * operator.owned
        self._masked = False  # whether kernels take slices that are lost as zero
        self._factors: dict[float, Tensor] = {}

    @property
    def small(self) -> bool:
        return self._by_row.small and self._by_column.small

    def affine(self, weights: BlockWeights, x: GhostedTensor, out: Rows) -> None:
        self._gathered(self._pull(bias=True), weights, x, out.flat, out.flat, weights.bias[0])

    def activated(self, weights: BlockWeights, x: GhostedTensor, sigma: Activation, saved: Saved) -> None:
        if sigma.keeps_argument:
            super().activated(weights, x, sigma, saved)
        else:
            z = saved.z.flat
            self._gathered(self._pull(bias=True, epilogue="tanh"), weights, x, z, z, weights.bias[0])

    def product(self, weights: BlockWeights, v: GhostedTensor, out: Rows) -> None:
        self._gathered(self._pull(), weights, v, out.flat, out.flat, out.flat)

    def sloped(
        self, weights: BlockWeights, v: GhostedTensor, scale: float, sigma: Activation, saved: Saved, out: Rows
    ) -> None:
        if sigma.keeps_argument:
            super().sloped(weights, v, scale, sigma, saved, out)
        else:
            self._gathered(self._pull(epilogue="slope"), weights, v, saved.z.flat, out.flat, self._factor(scale))

    def transposed(self, weights: BlockWeights, rows: Rows, into: Sum | None = None) -> Tensor | None:
        work, out, call = self._by_column, self.output.tensor, self._pull(transposed=True)
        W, z = address(weights.panels[0]), address(rows.flat)
        arguments = W, z, z, z, address(out), work.table
        if self._column_agents > self._agents:  # ghosts first: they travel while the owned rows are computed
            work.run(call, arguments, self._agents, self._column_agents)
        if into is None:
            self.exchange.scatter_add(self.output, lambda: work.run(call, arguments, 0, self._agents))
            return self.output.owned
        add = self._pull(transposed=True, epilogue="add")
        factor, old = address(self._factor(into.scale)), address(into.old)
        sums = W, z, factor, old, address(into.new), work.table
        meanwhile = functools.partial(work.run, add, sums, 0, self._agents)
        self.exchange.scatter_add(self.output, meanwhile, into.new, into.scale)
        return None

    def weight_gradient(self, pairs: Sequence[Pair], gradient: GradientSum, scale: float = 1.0) -> None:
        (dK,), accumulate = gradient.target()
        if not (self.batch or accumulate):
            dK.zero_()
        (z, v), (w, x) = pairs[0], pairs[-1]
        work, call = self._by_row, self._gradients.get(self._masked)
        if call is None:
            call = self._gradients[self._masked] = gradient_kernel(self._element, self._lanes, self._masked)
        tensors = dK, z.flat, v.tensor, w.flat, x.tensor
        arguments = *(address(tensor) for tensor in tensors), work.table
        work.run(call, arguments, 0, self._agents, len(pairs), int(accumulate), address(self._factor(scale)))

    def row_sums(self, w: Tensor, gradient: GradientSum) -> None:
        (db,), accumulate = gradient.target()
        if not (self.batch or accumulate):
            db.zero_()
        out, work = address(db), self._by_row
        arguments = address(w), out, out, out, out, work.table
        work.run(row_sums(self._element, self._lanes), arguments, 0, self._agents, int(accumulate))

    def _pull(self, transposed: bool = False, bias: bool = False, epilogue: str = "none") -> Compiled:
        kind = Kind(transposed, bias, epilogue, self._masked, self._thin)
        call = self._kernels.get(kind)
        if call is None:
            call = self._kernels[kind] = pull(self._element, self._lanes, kind)
        return call

    def _factor(self, value: float) -> Tensor:
        """Return the address of one number for kernels."""
        known = self._factors.get(value)
        if known is None:
            known = self._factors[value] = self._like.new_full((1,), value)
        return known

    def _gathered(
        self, call: Compiled, weights: BlockWeights, x: GhostedTensor, z: Tensor, out: Tensor, bias: Tensor
    ) -> None:
        """Gather x and pull; agents that need no ghost while slices travel. bias: or the factor, see `kernels.pull`."""
        work = self._by_row
        arguments = address(weights.panels[0]), address(x.tensor), address(bias), address(z), address(out), work.table

        def part(first: int, last: int) -> None:
            work.run(call, arguments, first, last)

        self.exchange.gather(x, lambda: part(0, self._interior))
        if self._interior < self._agents:
            part(self._interior, self._agents)


def address(tensor: Tensor) -> int:
    """Return the address of a tensor that kernels may read or write."""
    assert tensor.is_contiguous(), "kernels read rows one after the other"
    return tensor.data_ptr()
