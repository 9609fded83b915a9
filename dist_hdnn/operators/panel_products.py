"""Products by batched GEMMs of PyTorch on panels, whose columns are gathered chunk by chunk.

Shapes: B batch; per chunk (panels, rows, columns), (panels, columns, B), (panels, rows, B).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.ghosted import Exchange, GhostedTensor
from dist_hdnn.operators.panels import PanelOperator
from dist_hdnn.operators.products import (
    BlockProducts,
    BlockWeights,
    GradientSum,
    MatrixGradients,
    Pair,
    Rows,
    Saved,
    Sum,
    Views,
)


class Chunk(NamedTuple):
    """Panels whose columns fit the cache: numbers of their rows of x, memory for these, (panels, columns, B) of it."""

    columns: Tensor
    flat: Tensor
    panels: Tensor


class PanelProducts(BlockProducts):
    """See `BlockProducts`. A sum is left to the caller: adding on the way costs more than it saves here."""

    operator: PanelOperator

    def __init__(self, operator: PanelOperator, exchange: Exchange, like: Tensor) -> None:
        self._gathers = not operator.columns_in_order  # read by `ghosted`, which the next line calls
        super().__init__(operator, exchange, like)
        self._adds = self._gathers and exchange.links is None
        self._ordered = like.new_empty(operator.gathered if exchange.links else 0, self.batch)  # contributions
        self._chunks = self._made(operator) if self._gathers else []

    def ghosted(self, memory: Tensor | None = None) -> GhostedTensor:
        x = super().ghosted(memory)
        if not self._gathers:  # panels are views of x itself
            shapes = [(count, columns) for count, _, columns in self.operator.shapes]
            parts = x.tensor.split([count * columns for count, columns in shapes])
            pairs = zip(parts, shapes, strict=True)
            x.chunks = [Chunk(self.operator.columns, part, part.view(*shape, self.batch)) for part, shape in pairs]
        return x

    def row_views(self, flat: Tensor) -> Views:
        counts = [(count, height) for count, height, _ in self.operator.shapes]
        parts = flat.split([count * height for count, height in counts])
        return tuple(part.view(*shape, self.batch) for part, shape in zip(parts, counts, strict=True))

    def affine(self, weights: BlockWeights, x: GhostedTensor, out: Rows) -> None:
        self.exchange.gather(x)
        for panels, w, b, u in zip(self._gathered(x), weights.panels, weights.bias, out.views, strict=True):
            torch.baddbmm(b, w, panels, out=u)

    def product(self, weights: BlockWeights, v: GhostedTensor, out: Rows) -> None:
        self.exchange.gather(v)
        for panels, w, u in zip(self._gathered(v), weights.panels, out.views, strict=True):
            torch.bmm(w, panels, out=u)

    def transposed(self, weights: BlockWeights, rows: Rows, into: Sum | None = None) -> Tensor:
        self._clear()
        for chunk, KT, z in zip(self._of(self.output), weights.transposed, rows.views, strict=True):
            torch.bmm(KT, z, out=chunk.panels)
            if self._adds:
                self.output.tensor.index_add_(0, chunk.columns, chunk.flat)
        return self._scattered()

    def weight_gradient(self, pairs: Sequence[Pair], gradient: GradientSum, scale: float = 1.0) -> None:
        views, accumulate = gradient.target()
        for number, (rows, columns) in enumerate(pairs):
            for panels, z, dK in zip(self._gathered(columns), rows.views, views, strict=True):
                share = 1.0 if number else scale
                dK.baddbmm_(z, panels.mT, beta=int(accumulate or number > 0), alpha=share)

    def gradient_value(
        self, weights: BlockWeights, x: GhostedTensor, sigma: Activation, saved: Saved, into: Sum | None = None
    ) -> Tensor:
        """Compute Kᵀ σ(K x + b) chunk by chunk, so that z is still in the cache when it is multiplied."""
        self.exchange.gather(x)
        self._clear()
        gathers, adds, output = self._gathers, self._adds, self.output.tensor
        z = saved.z.views
        u = z if saved.u is None else saved.u.views  # in place where σ' needs no u
        for (K, KT, b), argument, value, of_x, of_output in zip(
            zip(*weights, strict=True), u, z, self._of(x), self._of(self.output), strict=True
        ):
            if gathers:
                torch.index_select(x.tensor, 0, of_x.columns, out=of_x.flat)
            torch.baddbmm(b, K, of_x.panels, out=argument)  # u = K x + b
            sigma.value(argument, out=value)  # z = σ(u)
            torch.bmm(KT, value, out=of_output.panels)  # Kᵀ z
            if adds:
                output.index_add_(0, of_output.columns, of_output.flat)
        return self._scattered()

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
    ) -> Tensor:
        """Compute the adjoint chunk by chunk: v is gathered once for both products, and w stays in the cache."""
        self.exchange.gather(v)
        self._clear()
        z, adds = saved.z.views, self._adds
        u: Sequence[Tensor | None] = [None] * len(z) if saved.u is None else saved.u.views
        views: Sequence[Tensor | None] = [None] * len(z)
        accumulate = False
        if gradients.K is not None:
            views, accumulate = gradients.K.target()
        parts = zip(weights.panels, weights.transposed, u, z, w.views, views, strict=True)
        chunks = zip(self._of(v), self._of(x), self._of(self.output), strict=True)
        for (K, KT, argument, value, out, dK), (of_v, of_x, of_output) in zip(parts, chunks, strict=True):
            panels = self._filled(of_v, v)
            torch.baddbmm(out, K, panels, beta=0, alpha=scale, out=out)  # K δ
            sigma.times_slope(out, argument, value, out=out)  # w = K δ ⊙ σ'(u)
            if dK is not None:
                dK.baddbmm_(value, panels.mT, beta=int(accumulate), alpha=scale)  # z δᵀ
                dK.baddbmm_(out, self._filled(of_x, x).mT)  # w xᵀ
            torch.bmm(KT, out, out=of_output.panels)  # Kᵀ w
            if adds:
                self.output.tensor.index_add_(0, of_output.columns, of_output.flat)
        if gradients.b is not None:
            self.row_sums(w.flat, gradients.b)
        return self._scattered()

    def _clear(self) -> None:
        """Clear the output before contributions are added."""
        if self._gathers:
            self.output.tensor.zero_()

    def _scattered(self) -> Tensor:
        if self.exchange.links is None:
            self.exchange.scatter_add(self.output)
        else:
            self.exchange.links.sum(self._ordered, self.output.owned)
        return self.output.owned

    def _gathered(self, x: GhostedTensor) -> Iterator[Tensor]:
        """Yield the panels of each chunk of x, valid until the next."""
        for chunk in self._of(x):
            yield self._filled(chunk, x)

    def _filled(self, chunk: Chunk, x: GhostedTensor) -> Tensor:
        """Return the panels of a chunk of x."""
        if self._gathers:
            torch.index_select(x.tensor, 0, chunk.columns, out=chunk.flat)
        return chunk.panels

    def _of(self, x: GhostedTensor) -> list[Chunk]:
        """Return the chunks of x: shared memory to gather into, or views of x where its rows lie in their order."""
        return self._chunks if self._gathers else x.chunks

    def _made(self, operator: PanelOperator) -> list[Chunk]:
        """Make the chunks, which share one memory unless contributions are summed in order at the end."""
        sizes = [count * columns for count, _, columns in operator.shapes]
        memory = self._like.new_empty(max(sizes, default=0), self.batch)
        chunks, start = [], 0
        for index, (count, _, columns) in zip(operator.columns.split(sizes), operator.shapes, strict=True):
            first = 0
            if self.exchange.links is not None:
                memory, first = self._ordered, start
            flat = memory[first : first + len(index)]
            chunks.append(Chunk(index, flat, flat.view(count, columns, self.batch)))
            start += len(index)
        return chunks
