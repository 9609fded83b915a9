"""The products of one block-sparse matrix bound to one batch: preallocated memory and ready-made views, no allocation.

    affine, product      K x + b, K v                  gather, then batched GEMM
    activated, sloped    σ(K x + b), K v ⊙ σ'(u)       the same and σ
    transposed           Kᵀ z                          batched GEMM, then scatter-add
    weight_gradient      z xᵀ, summed over the batch, on the pattern

`BlockProducts` is what the layers know; `PanelProducts` here and `layers.tiles` are two ways to compute them.

A tensor in row space is kept as a flat (neurons, B) tensor and as one 3-D view per class of equal panels. Columns are
gathered for so many panels at a time as stay in the cache.
Shapes: B batch; per class (panels, rows, columns), (panels, columns, B), (panels, rows, B).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dist_hdnn.layers.activations import Activation
from dist_hdnn.layers.exchange import Exchange
from dist_hdnn.layers.operators import Arrangement, BlockOperator

Views = tuple[Tensor, ...]  # one per class
EVERY = slice(None)
CHUNK = 2048  # gathered rows at a time: 1 MB at batch 128 in float32; more calls cost more than the cache gains


class Rows(NamedTuple):
    """A tensor in row space, (rows, B), with its views (panels, rows, B)."""

    flat: Tensor
    classes: Views


Pair = tuple[Rows, Tensor]
"""Rows, and a tensor in column space whose ghosts are there."""


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
        self, weights: BlockWeights, v: Tensor, sigma: Activation, u: Rows | None, z: Rows, out: Rows, phase: str
    ) -> None:
        """K v ⊙ σ'(u), where z = σ(u)."""
        g = self.scratch()
        self.product(weights, v, g, phase)
        sigma.times_slope(g.flat, None if u is None else u.flat, z.flat, out=out.flat)

    def transposed(self, weights: BlockWeights, rows: Rows, phase: str) -> Tensor:
        """Kᵀ z, contributions of other workers included: (column_neurons, B), valid in its owned rows for now."""
        raise NotImplementedError

    def weight_gradient(self, pairs: Sequence[Pair], out: Views, accumulate: bool) -> None:
        """Σ rows ⊗ columns of one or two pairs, summed over the batch, written or added to the panels `out`."""
        raise NotImplementedError


class Chunk(NamedTuple):
    """Panels of one class whose columns fit the cache: their rows of x, memory for them, (panels, columns, B) of it."""

    rows: Tensor
    flat: Tensor
    panels: Tensor


class Class(NamedTuple):
    """The chunks of a class, `size` panels each but the last."""

    size: int
    chunks: Sequence[Chunk]


class PanelProducts(BlockProducts):
    """By batched GEMMs of PyTorch on the panels of a `BlockOperator`, whose columns are gathered chunk by chunk."""

    operator: BlockOperator

    def __init__(self, operator: BlockOperator, exchange: Exchange, like: Tensor) -> None:
        super().__init__(operator, exchange, like)
        self._in_order = operator.columns_in_order
        self._known: dict[int, tuple[Tensor, list[Class]]] = {}  # of tensors that need no gather
        self._ordered = like.new_empty(operator.gathered if exchange.ordered else 0, self.batch)
        self._classes = [] if self._in_order else self._chunked(operator)

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

    def transposed(self, weights: BlockWeights, rows: Rows, phase: str) -> Tensor:
        if not self._in_order:
            self.output.zero_()
        self._transposed(weights, rows, EVERY)
        if self.exchange.ordered:
            self.exchange.scatter_links(self._ordered, self.output, phase)
        else:
            self.exchange.scatter_add(self.output, phase)
        return self.output

    def weight_gradient(self, pairs: Sequence[Pair], out: Views, accumulate: bool) -> None:
        for number, (rows, columns) in enumerate(pairs):
            for panels, z, gradient in self._gathered(columns, EVERY, rows.classes, out):
                if accumulate or number:
                    gradient.baddbmm_(z, panels.mT)
                else:
                    torch.bmm(z, panels.mT, out=gradient)

    def _affine(self, weights: BlockWeights, x: Tensor, out: Rows, which: slice) -> None:
        for panels, w, b, u in self._gathered(x, which, weights.classes, weights.bias, out.classes):
            torch.baddbmm(b, w, panels, out=u)

    def _product(self, weights: BlockWeights, v: Tensor, out: Rows, which: slice) -> None:
        for panels, w, u in self._gathered(v, which, weights.classes, out.classes):
            torch.bmm(w, panels, out=u)

    def _transposed(self, weights: BlockWeights, rows: Rows, which: slice) -> None:
        for chunk, w, z in self._cut(self.output, which, weights.transposed, rows.classes):
            torch.bmm(w, z, out=chunk.panels)
            if not (self._in_order or self.exchange.ordered):
                self.output.index_add_(0, chunk.rows, chunk.flat)

    def _gathered(self, x: Tensor, which: slice, *views: Views) -> Iterator[tuple[Tensor, ...]]:
        """Of each chunk its panels of x, valid until the next, and its parts of `views`."""
        for chunk, *parts in self._cut(x, which, *views):
            if not self._in_order:
                torch.index_select(x, 0, chunk.rows, out=chunk.flat)
            yield chunk.panels, *parts

    def _cut(self, x: Tensor, which: slice, *views: Views) -> Iterator[tuple[Any, ...]]:
        """Each chunk of these classes and its parts of `views`."""
        classes = self._views(x) if self._in_order else self._classes
        for (size, chunks), *whole in zip(classes[which], *(view[which] for view in views), strict=True):
            yield from zip(chunks, *(view.split(size) for view in whole), strict=True)

    def _views(self, x: Tensor) -> list[Class]:
        """The panels of a tensor whose rows lie in their order."""
        known = self._known.get(id(x))
        if known is None:
            shapes = [(count, columns) for count, _, columns in self.operator.shapes]
            parts = x.split([count * columns for count, columns in shapes])
            index = self.operator.columns
            classes = [
                Class(shape[0], [Chunk(index, part, part.view(*shape, self.batch))])
                for part, shape in zip(parts, shapes, strict=True)
            ]
            known = self._known[id(x)] = x, classes  # holds x, so its id stays its own
        return known[1]

    def _chunked(self, operator: BlockOperator) -> list[Class]:
        """Chunks share one memory, unless contributions are to be summed in order when all of them are there."""
        rows = CHUNK if self._like.device.type == "cpu" else operator.gathered  # on a GPU launches cost, not caches
        sizes = [max(1, min(count, rows // (columns or 1))) for count, _, columns in operator.shapes]
        most = max((size * columns for size, (_, _, columns) in zip(sizes, operator.shapes, strict=True)), default=0)
        memory, start, classes = self._like.new_empty(most, self.batch), 0, []
        for size, (count, _, columns) in zip(sizes, operator.shapes, strict=True):
            chunks = []
            for index in operator.columns[start : start + count * columns].split(size * columns or 1):
                first = 0
                if self.exchange.ordered:
                    memory, first = self._ordered, start
                flat = memory[first : first + len(index)]
                chunks.append(Chunk(index, flat, flat.view(-1, columns, self.batch)))
                start += len(index)
            classes.append(Class(size, chunks))
        return classes


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
