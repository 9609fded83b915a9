"""Products by batched GEMMs of PyTorch on panels, whose columns are gathered chunk by chunk.

Shapes: B batch; per chunk (panels, rows, columns), (panels, columns, B), (panels, rows, B).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.exchange import Exchange
from dist_hdnn.operators.panels import PanelOperator
from dist_hdnn.operators.products import BlockProducts, BlockWeights, Pair, Rows, Sum, Views, taken

EVERY = slice(None)


class Chunk(NamedTuple):
    """Panels whose columns fit the cache: their rows of x, memory for them, (panels, columns, B) of it."""

    rows: Tensor
    flat: Tensor
    panels: Tensor


class PanelProducts(BlockProducts):
    """See `BlockProducts`."""

    operator: PanelOperator

    def __init__(self, operator: PanelOperator, exchange: Exchange, like: Tensor) -> None:
        super().__init__(operator, exchange, like)
        self._gathers = not operator.columns_in_order
        self._adds = self._gathers and not exchange.ordered
        self._known: dict[int, tuple[Tensor, list[Chunk]]] = {}  # of tensors that need no gather
        self._ordered = like.new_empty(operator.gathered if exchange.ordered else 0, self.batch)
        self._chunks = self._made(operator) if self._gathers else []

    def row_views(self, flat: Tensor) -> Views:
        counts = [(count, height) for count, height, _ in self.operator.shapes]
        parts = flat.split([count * height for count, height in counts])
        return tuple(part.view(*shape, self.batch) for part, shape in zip(parts, counts, strict=True))

    def affine(self, weights: BlockWeights, x: Tensor, out: Rows, phase: str) -> None:
        self.exchange.gather(x, phase)
        self._affine(weights, x, out, EVERY)

    def product(self, weights: BlockWeights, v: Tensor, out: Rows, phase: str) -> None:
        self.exchange.gather(v, phase)
        self._product(weights, v, out, EVERY)

    def transposed(self, weights: BlockWeights, rows: Rows, phase: str, into: Sum | None = None) -> Tensor:
        self._clear()
        self._transposed(weights, rows, EVERY)
        return self._scattered(phase, into)

    def weight_gradient(self, pairs: Sequence[Pair], out: Views, accumulate: bool, scale: float = 1.0) -> None:
        for number, (rows, columns) in enumerate(pairs):
            for panels, z, gradient in zip(self._gathered(columns, EVERY), rows.classes, out, strict=True):
                share = 1.0 if number else scale
                gradient.baddbmm_(z, panels.mT, beta=int(accumulate or number > 0), alpha=share)

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
        """Chunk by chunk, so that z is still in the cache when it is multiplied."""
        self.exchange.gather(x, phase)
        self._clear()
        arguments = z.classes if u is None else u.classes
        parts = zip(*weights, arguments, z.classes, self._of(self.output), strict=True)
        for panels, (w, wT, b, argument, value, chunk) in zip(self._gathered(x, EVERY), parts, strict=True):
            torch.baddbmm(b, w, panels, out=argument)
            sigma.value(argument, out=value)
            self._contribute(wT, value, chunk)
        return self._scattered(phase, into)

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
        """Chunk by chunk: the columns of v are gathered once for both products, and w stays in the cache."""
        self.exchange.gather(v, phase)
        self._clear()
        count = len(z.classes)
        arguments: Sequence[Tensor | None] = [None] * count if u is None else u.classes
        gradients: Sequence[Tensor | None] = [None] * count if gradient is None else gradient
        parts = zip(weights.classes, weights.transposed, arguments, z.classes, w.classes, gradients, strict=True)
        chunks = zip(self._of(v), self._of(x), self._of(self.output), strict=True)
        for (K, KT, argument, value, out, dK), (of_v, of_x, of_output) in zip(parts, chunks, strict=True):
            panels = self._filled(of_v, v)
            torch.baddbmm(out, K, panels, beta=0, alpha=scale, out=out)
            sigma.times_slope(out, argument, value, out=out)
            if dK is not None:
                dK.baddbmm_(value, panels.mT, beta=int(accumulate), alpha=scale)
                dK.baddbmm_(out, self._filled(of_x, x).mT)
            self._contribute(KT, out, of_output)
        return self._scattered(phase, into)

    def _affine(self, weights: BlockWeights, x: Tensor, out: Rows, which: slice) -> None:
        parts = zip(weights.classes[which], weights.bias[which], out.classes[which], strict=True)
        for panels, (w, b, u) in zip(self._gathered(x, which), parts, strict=True):
            torch.baddbmm(b, w, panels, out=u)

    def _product(self, weights: BlockWeights, v: Tensor, out: Rows, which: slice) -> None:
        parts = zip(weights.classes[which], out.classes[which], strict=True)
        for panels, (w, u) in zip(self._gathered(v, which), parts, strict=True):
            torch.bmm(w, panels, out=u)

    def _transposed(self, weights: BlockWeights, rows: Rows, which: slice) -> None:
        chunks = self._of(self.output)[which]
        for chunk, wT, z in zip(chunks, weights.transposed[which], rows.classes[which], strict=True):
            self._contribute(wT, z, chunk)

    def _clear(self) -> None:
        """Before contributions are added."""
        if self._gathers:
            self.output.zero_()

    def _contribute(self, wT: Tensor, z: Tensor, chunk: Chunk) -> None:
        """Kᵀ z of one chunk, to the output or, where sums are ordered, to the contributions."""
        torch.bmm(wT, z, out=chunk.panels)
        if self._adds:
            self.output.index_add_(0, chunk.rows, chunk.flat)

    def _scattered(self, phase: str, into: Sum | None) -> Tensor:
        if self.exchange.ordered:
            self.exchange.scatter_links(self._ordered, self.output, phase)
        else:
            self.exchange.scatter_add(self.output, phase)
        return taken(self.output, into)

    def _gathered(self, x: Tensor, which: slice) -> Iterator[Tensor]:
        """Of each chunk its panels of x, valid until the next."""
        for chunk in self._of(x)[which]:
            yield self._filled(chunk, x)

    def _filled(self, chunk: Chunk, x: Tensor) -> Tensor:
        """The panels of a chunk of x."""
        if self._gathers:
            torch.index_select(x, 0, chunk.rows, out=chunk.flat)
        return chunk.panels

    def _of(self, x: Tensor) -> list[Chunk]:
        """The chunks of a tensor in column space: views of it where its rows lie in their order, else shared memory."""
        if self._gathers:
            return self._chunks
        known = self._known.get(x.data_ptr())
        if known is None:
            shapes = [(count, columns) for count, _, columns in self.operator.shapes]
            parts = x.split([count * columns for count, columns in shapes])
            pairs = zip(parts, shapes, strict=True)
            chunks = [Chunk(self.operator.columns, part, part.view(*shape, self.batch)) for part, shape in pairs]
            known = self._known[x.data_ptr()] = x, chunks  # holds x, so its address stays its own
        return known[1]

    def _made(self, operator: PanelOperator) -> list[Chunk]:
        """Chunks share one memory, unless contributions are to be summed in order when all of them are there."""
        sizes = [count * columns for count, _, columns in operator.shapes]
        memory = self._like.new_empty(max(sizes, default=0), self.batch)
        chunks, start = [], 0
        for index, (count, _, columns) in zip(operator.columns.split(sizes), operator.shapes, strict=True):
            first = 0
            if self.exchange.ordered:
                memory, first = self._ordered, start
            flat = memory[first : first + len(index)]
            chunks.append(Chunk(index, flat, flat.view(count, columns, self.batch)))
            start += len(index)
        return chunks
