"""The products of one block-sparse matrix by register tiles: nothing is gathered, padded or summed twice.

`K x + b` and its tanh, `K v` times tanh', `Kᵀ z` and the weight gradient are one kernel call each (see `kernels`).
What needs no ghost is computed while slices travel, and what goes to ghosts is computed first.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import Tensor

from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.exchange import Exchange
from dist_hdnn.operators.products import BlockProducts, BlockWeights, Pair, Rows, Sum, Views
from dist_hdnn.operators.tiles.kernels import gradient, pull
from dist_hdnn.operators.tiles.machine import Compiled
from dist_hdnn.operators.tiles.operator import TileOperator
from dist_hdnn.operators.tiles.threads import Work
from dist_hdnn.operators.tiles.vectors import lanes


class TileProducts(BlockProducts):
    """See `BlockProducts`. Tensors are contiguous, on the CPU, float32 or float64."""

    def __init__(self, operator: TileOperator, exchange: Exchange, like: Tensor) -> None:
        super().__init__(operator, exchange, like)
        self._element = like.element_size()
        self._lanes = lanes(self._element, self.batch)
        self._agents, self._interior = operator.owned, operator.interior
        self._by_row, self._by_column = Work(operator.by_row, self.batch), Work(operator.by_column, self.batch)
        self._column_agents = len(operator.by_column.order)
        self._kernels: dict[tuple[bool, bool, str], Compiled] = {}
        self._gradient: Compiled | None = None
        self._factors: dict[float, Tensor] = {}

    def affine(self, weights: BlockWeights, x: Tensor, out: Rows, phase: str) -> None:
        self._gathered(self._pull(bias=True), weights, x, out.flat, out.flat, phase, weights.bias[0])

    def activated(
        self, weights: BlockWeights, x: Tensor, sigma: Activation, u: Rows | None, z: Rows, phase: str
    ) -> None:
        if sigma.keeps_argument:
            super().activated(weights, x, sigma, u, z, phase)
        else:
            self._gathered(self._pull(bias=True, epilogue="tanh"), weights, x, z.flat, z.flat, phase, weights.bias[0])

    def product(self, weights: BlockWeights, v: Tensor, out: Rows, phase: str) -> None:
        self._gathered(self._pull(), weights, v, out.flat, out.flat, phase, out.flat)

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
        if sigma.keeps_argument:
            super().sloped(weights, v, sigma, u, z, out, phase, scale)
        else:
            self._gathered(self._pull(epilogue="slope"), weights, v, z.flat, out.flat, phase, self._factor(scale))

    def transposed(self, weights: BlockWeights, rows: Rows, phase: str, into: Sum | None = None) -> Tensor:
        work, out, call = self._by_column, self.output, self._pull(transposed=True)
        W, z = address(weights.classes[0]), address(rows.flat)
        arguments = W, z, z, z, address(out), work.table
        if self._column_agents > self._agents:
            work.run(call, arguments, self._agents, self._column_agents)
        if into is None:
            self.exchange.scatter_add(out, phase, lambda: work.run(call, arguments, 0, self._agents))
            return out
        add = self._pull(transposed=True, epilogue="add")
        factor, old = address(self._factor(into.scale)), address(into.old)
        sums = W, z, factor, old, address(into.new), work.table
        meanwhile = functools.partial(work.run, add, sums, 0, self._agents)
        self.exchange.scatter_add(out, phase, meanwhile, into.new, into.scale)
        return into.new

    def weight_gradient(self, pairs: Sequence[Pair], out: Views, accumulate: bool, scale: float = 1.0) -> None:
        if not (self.batch or accumulate):
            out[0].zero_()
        (z, v), (w, x) = pairs[0], pairs[-1]
        work, call = self._by_row, self._gradient
        if call is None:
            call = self._gradient = gradient(self._element, self._lanes)
        arguments = *(address(tensor) for tensor in (out[0], z.flat, v, w.flat, x)), work.table
        work.run(call, arguments, 0, self._agents, len(pairs), int(accumulate), address(self._factor(scale)))

    def _pull(self, transposed: bool = False, bias: bool = False, epilogue: str = "none") -> Compiled:
        key = transposed, bias, epilogue
        call = self._kernels.get(key)
        if call is None:
            call = self._kernels[key] = pull(self._element, self._lanes, *key)
        return call

    def _factor(self, value: float) -> Tensor:
        """One number where kernels can read it."""
        known = self._factors.get(value)
        if known is None:
            known = self._factors[value] = self._like.new_full((1,), value)
        return known

    def _gathered(
        self, call: Compiled, weights: BlockWeights, x: Tensor, z: Tensor, out: Tensor, phase: str, bias: Tensor
    ) -> None:
        """Gather x and pull; agents that need no ghost while slices travel. bias: or the factor, see `kernels.pull`."""
        work = self._by_row
        arguments = address(weights.classes[0]), address(x), address(bias), address(z), address(out), work.table

        def part(first: int, last: int) -> None:
            work.run(call, arguments, first, last)

        self.exchange.gather(x, phase, lambda: part(0, self._interior))
        if self._interior < self._agents:
            part(self._interior, self._agents)


def address(tensor: Tensor) -> int:
    """Of a tensor that kernels may read or write."""
    assert tensor.is_contiguous(), "kernels read rows one after the other"
    return tensor.data_ptr()
