"""The products of one block-sparse matrix by register tiles: nothing is gathered, padded or summed twice.

`K x + b` and its tanh, `K v` times tanh', `Kᵀ z` and the weight gradient are one kernel call each (see `kernels`).
What needs no ghost is computed while slices travel, and what goes to ghosts is computed first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dist_hdnn.layers.activations import Activation
from dist_hdnn.layers.exchange import Exchange
from dist_hdnn.layers.products import BlockProducts, BlockWeights, Columns, Pair, Rows, Views
from dist_hdnn.layers.tiles.kernels import gradient, lanes, pull
from dist_hdnn.layers.tiles.machine import Compiled
from dist_hdnn.layers.tiles.operator import Segments, TileOperator
from dist_hdnn.layers.tiles.threads import over_threads


class TileProducts(BlockProducts):
    """See `BlockProducts`. Tensors are contiguous, on the CPU, float32 or float64."""

    def __init__(self, operator: TileOperator, exchange: Exchange, like: Tensor) -> None:
        super().__init__(operator, exchange, like)
        self._element = like.element_size()
        self._lanes = lanes(self._element, self.batch)
        self._by_row, self._by_column = operator.by_row, operator.by_column
        self._row_addresses, self._column_addresses = self._by_row.addresses(), self._by_column.addresses()
        self._agents, self._interior = operator.owned, operator.interior
        self._column_agents = len(self._by_column.order)

    def affine(self, weights: BlockWeights, x: Tensor, out: Rows, phase: str) -> None:
        self._gathered(self._pull(bias=True), weights, x, out.flat, out.flat, phase)

    def activated(
        self, weights: BlockWeights, x: Tensor, sigma: Activation, u: Rows | None, z: Rows, phase: str
    ) -> None:
        if sigma.keeps_argument:
            super().activated(weights, x, sigma, u, z, phase)
        else:
            self._gathered(self._pull(bias=True, epilogue="tanh"), weights, x, z.flat, z.flat, phase)

    def product(self, weights: BlockWeights, v: Tensor, out: Rows, phase: str) -> Columns:
        self._gathered(self._pull(), weights, v, out.flat, out.flat, phase)
        return self.columns(v)

    def sloped(
        self, weights: BlockWeights, v: Tensor, sigma: Activation, u: Rows | None, z: Rows, out: Rows, phase: str
    ) -> Columns:
        if sigma.keeps_argument:
            return super().sloped(weights, v, sigma, u, z, out, phase)
        self._gathered(self._pull(epilogue="slope"), weights, v, z.flat, out.flat, phase)
        return self.columns(v)

    def columns(self, x: Tensor) -> Columns:
        return Columns(x, (), ())

    def transposed(self, weights: BlockWeights, rows: Rows, phase: str) -> Tensor:
        (blocks,), z, out = weights.classes, rows.flat, self.output
        tensors = _addresses(blocks, z, z, z, out)
        call = self._pull(transposed=True).call
        arguments = *tensors, *self._column_addresses

        def part(first: int, last: int) -> None:
            self._run(call, arguments, self._by_column, first, last)

        if self._column_agents > self._agents:
            part(self._agents, self._column_agents)
        self.exchange.scatter_add(out, phase, lambda: part(0, self._agents))
        return out

    def weight_gradient(self, pairs: Sequence[Pair], out: Views, accumulate: bool) -> None:
        first, last = pairs[0], pairs[-1]
        tensors = _addresses(out[0], *(each.flat for each in (*first, *last)))
        arguments = *tensors, *self._row_addresses
        extra = len(pairs), int(accumulate)
        self._run(gradient(self._element, self._lanes).call, arguments, self._by_row, 0, self._agents, extra)

    def _pull(self, transposed: bool = False, bias: bool = False, epilogue: str = "none") -> Compiled:
        return pull(self._element, self._lanes, transposed, bias, epilogue)

    def _gathered(self, kernel: Compiled, weights: BlockWeights, x: Tensor, z: Tensor, out: Tensor, phase: str) -> None:
        """Gather x and pull; agents that need no ghost while slices travel."""
        bias = weights.bias[0] if weights.bias else z
        arguments = *_addresses(weights.classes[0], x, bias, z, out), *self._row_addresses

        def part(first: int, last: int) -> None:
            self._run(kernel.call, arguments, self._by_row, first, last)

        self.exchange.gather(x, phase, lambda: part(0, self._interior))
        if self._interior < self._agents:
            part(self._interior, self._agents)

    def _run(
        self,
        call: Any,
        arguments: tuple[int, ...],
        segments: Segments,
        first: int,
        last: int,
        extra: tuple[int, ...] = (),
    ) -> None:
        batch = self.batch
        over_threads(
            lambda start, stop: call(*arguments, start, stop, batch, *extra), first, last, segments.cost, batch
        )


def _addresses(*tensors: Tensor) -> tuple[int, ...]:
    for tensor in tensors:
        assert tensor.is_contiguous(), "kernels read rows one after the other"
    return tuple(tensor.data_ptr() for tensor in tensors)
