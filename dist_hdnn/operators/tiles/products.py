"""The products of one block-sparse matrix by register tiles: nothing is gathered, padded or summed twice.

`K x + b` and its tanh, `K v` times tanh', `Kᵀ z` and the weight gradient are one kernel call each (see `kernels`).
Where agents are thin and of one size, a gradient and its adjoint are one call each (see `fused`): of the agents that
need no ghost and the columns that need no other agents. The others' kernels do the rest.
What needs no ghost is computed while slices travel, and what goes to ghosts is computed first.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from torch import Tensor

from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.ghosted import Exchange, GhostedTensor
from dist_hdnn.operators.products import (
    BlockProducts,
    BlockWeights,
    GradientSum,
    MatrixGradients,
    Pair,
    Rows,
    Saved,
    Sum,
)
from dist_hdnn.operators.tiles.fused import fused_adjoint, fused_forward
from dist_hdnn.operators.tiles.kernels import Kind, pull
from dist_hdnn.operators.tiles.kernels import gradient as gradient_kernel
from dist_hdnn.operators.tiles.machine import Compiled
from dist_hdnn.operators.tiles.operator import TileOperator
from dist_hdnn.operators.tiles.readiness import Plan, plan, uniform_rows
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
        self._factors: dict[tuple[float, ...], Tensor] = {}
        self._works: dict[tuple[int, int], Work] = {}  # by plan and direction
        self._tiles, self._uniform = operator, uniform_rows(operator)

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
        if into is not None:
            self._add_transposed(self._by_column, self._agents, weights, rows, into)
            return None
        work, call = self._by_column, self._pull(transposed=True)
        W, z = address(weights.panels[0]), address(rows.flat)
        arguments = W, z, z, z, address(self.output.tensor), work.table
        if self._column_agents > self._agents:  # ghosts first: they travel while the owned rows are computed
            work.run(call, arguments, self._agents, self._column_agents)
        self.exchange.scatter_add(self.output, lambda: work.run(call, arguments, 0, self._agents))
        return self.output.owned

    def _add_transposed(self, work: Work, owned: int, weights: BlockWeights, rows: Rows, into: Sum) -> None:
        """Make the sum with Kᵀ z for the columns of `work`, of which the first `owned` are no ghosts."""
        W, z, columns = address(weights.panels[0]), address(rows.flat), len(work.segments.order)
        if columns > owned:
            arguments = W, z, z, z, address(self.output.tensor), work.table
            work.run(self._pull(transposed=True), arguments, owned, columns)
        add = self._pull(transposed=True, epilogue="add")
        sums = W, z, address(self._factor(into.scale)), address(into.old), address(into.new), work.table
        meanwhile = functools.partial(work.run, add, sums, 0, owned) if owned else None
        self.exchange.scatter_add(self.output, meanwhile, into.new, into.scale)

    def weight_gradient(self, pairs: Sequence[Pair], gradient: GradientSum, scale: float = 1.0) -> None:
        (dK,), accumulate = gradient.target()
        if not (self.batch or accumulate):
            dK.zero_()
        self._weight_gradient(pairs, dK, accumulate, scale)

    def _weight_gradient(
        self, pairs: Sequence[Pair], dK: Tensor, accumulate: bool, scale: float, first: int = 0
    ) -> None:
        (z, v), (w, x) = pairs[0], pairs[-1]
        work, call = self._by_row, self._gradients.get(self._masked)
        if call is None:
            call = self._gradients[self._masked] = gradient_kernel(self._element, self._lanes, self._masked)
        tensors = dK, z.flat, v.tensor, w.flat, x.tensor
        arguments = *(address(tensor) for tensor in tensors), work.table
        work.run(call, arguments, first, self._agents, len(pairs), int(accumulate), address(self._factor(scale)))

    def gradient_value(
        self, weights: BlockWeights, x: GhostedTensor, sigma: Activation, saved: Saved, into: Sum | None = None
    ) -> Tensor | None:
        fused = self._fused(sigma, into)
        if fused is None or into is None:
            return super().gradient_value(weights, x, sigma, saved, into)
        z, bias, work = saved.z.flat, weights.bias[0], self._by_row
        tensors = weights.panels[0], x.tensor, bias, z, into.old
        arguments = *(address(tensor) for tensor in tensors), fused.tables[0]
        extra = address(into.new), address(self._factor(into.scale))
        call = fused_forward(self._element, self._lanes, fused.size)
        self.exchange.gather(x, lambda: work.run(call, arguments, 0, self._interior, *extra))
        self._border(self._pull(bias=True, epilogue="tanh"), weights, x, z, z, bias)
        self._add_transposed(self._rest(fused, 0), fused.ready.left, weights, saved.z, into)
        return None

    def gradient_adjoint(
        self,
        weights: BlockWeights,
        v: GhostedTensor,
        scale: float,
        x: GhostedTensor,
        sigma: Activation,
        saved: Saved,
        w: Rows,
        gradients: MatrixGradients,
        into: Sum | None = None,
    ) -> Tensor | None:
        fused, (of_K, of_b) = self._fused(sigma, into), gradients
        if fused is None or into is None or into.old is not into.new or of_K is None or of_b is None:
            return super().gradient_adjoint(weights, v, scale, x, sigma, saved, w, gradients, into)
        (dK,), add_K = of_K.target()
        (db,), add_b = of_b.target()
        work, interior, agents = self._by_row, self._interior, self._agents
        tensors = weights.panels[0], v.tensor, x.tensor, saved.z.flat, into.new
        arguments = *(address(tensor) for tensor in tensors), fused.tables[1]
        addresses = (address(tensor) for tensor in (w.flat, dK, db, self._factor(scale, into.scale)))
        extra = *addresses, int(add_K) + 2 * int(add_b)
        call = fused_adjoint(self._element, self._lanes, fused.size)
        self.exchange.gather(v, lambda: work.run(call, arguments, 0, interior, *extra))
        self._border(self._pull(epilogue="slope"), weights, v, saved.z.flat, w.flat, self._factor(scale))
        if interior < agents:
            self._weight_gradient(((saved.z, v), (w, x)), dK, add_K, scale, interior)
            self._row_sums(w.flat, db, add_b, interior)
        self._add_transposed(self._rest(fused, 1), fused.ready.left, weights, w, into)
        return None

    def _fused(self, sigma: Activation, into: Sum | None) -> Plan | None:
        """Return the plan of fused kernels for the threads of now, None where other kernels do the work."""
        if into is None or sigma.keeps_argument or self._masked or not self._uniform:
            return None
        return plan(self._tiles, self._uniform, self._by_row.parts(0, self._interior))

    def _rest(self, fused: Plan, adjoint: int) -> Work:
        """Return the work on columns that a plan leaves."""
        key = id(fused), adjoint
        if key not in self._works:
            self._works[key] = Work(fused.rest[adjoint], self.batch)
        return self._works[key]

    def row_sums(self, w: Tensor, gradient: GradientSum) -> None:
        (db,), accumulate = gradient.target()
        if not (self.batch or accumulate):
            db.zero_()
        self._row_sums(w, db, accumulate)

    def _row_sums(self, w: Tensor, db: Tensor, accumulate: bool, first: int = 0) -> None:
        out, work = address(db), self._by_row
        arguments = address(w), out, out, out, out, work.table
        work.run(row_sums(self._element, self._lanes), arguments, first, self._agents, int(accumulate))

    def _pull(self, transposed: bool = False, bias: bool = False, epilogue: str = "none") -> Compiled:
        kind = Kind(transposed, bias, epilogue, self._masked, self._thin)
        call = self._kernels.get(kind)
        if call is None:
            call = self._kernels[kind] = pull(self._element, self._lanes, kind)
        return call

    def _factor(self, *values: float) -> Tensor:
        """Return numbers for kernels, in memory that stays."""
        known = self._factors.get(values)
        if known is None:
            known = self._factors[values] = self._like.new_tensor(values)
        return known

    def _gathered(
        self, call: Compiled, weights: BlockWeights, x: GhostedTensor, z: Tensor, out: Tensor, bias: Tensor
    ) -> None:
        """Gather x and pull; agents that need no ghost while slices travel. bias: or the factor, see `kernels.pull`."""
        work = self._by_row
        arguments = address(weights.panels[0]), address(x.tensor), address(bias), address(z), address(out), work.table

        self.exchange.gather(x, lambda: work.run(call, arguments, 0, self._interior))
        self._border(call, weights, x, z, out, bias)

    def _border(
        self, call: Compiled, weights: BlockWeights, x: GhostedTensor, z: Tensor, out: Tensor, bias: Tensor
    ) -> None:
        """Pull the agents that need ghosts."""
        work = self._by_row
        arguments = address(weights.panels[0]), address(x.tensor), address(bias), address(z), address(out), work.table
        if self._interior < self._agents:
            work.run(call, arguments, self._interior, self._agents)


def address(tensor: Tensor) -> int:
    """Return the address of a tensor that kernels may read or write."""
    assert tensor.is_contiguous(), "kernels read rows one after the other"
    return tensor.data_ptr()
