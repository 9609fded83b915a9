"""The products of one block-sparse matrix bound to one batch: preallocated memory and ready-made views, no allocation.

    affine, product      K x + b, K v                  gather, then batched GEMM
    activated, sloped    σ(K x + b), K v ⊙ σ'(u)       the same and σ
    transposed           Kᵀ z                          batched GEMM, then scatter-add
    weight_gradient      z xᵀ, summed over the batch, on the pattern
    gradient_value       Kᵀ σ(K x + b)
    gradient_adjoint     its adjoint, with the weight gradient

`BlockProducts` is the interface; `panel_products` and `operators.tiles` are two ways to compute them.

A tensor in row space is kept as a flat (neurons, B) tensor and as one 3-D view per chunk of equal panels.
Shapes: B batch; per chunk (panels, rows, columns), (panels, columns, B), (panels, rows, B).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.ghosted import Exchange, GhostedTensor
from dist_hdnn.operators.sparsity import Arrangement

Views = tuple[Tensor, ...]  # one per chunk of panels


class Rows(NamedTuple):
    """A tensor in row space, (rows, B), with its views (panels, rows, B)."""

    flat: Tensor
    views: Views


Pair = tuple[Rows, GhostedTensor]
"""Rows, and a tensor in column space whose ghosts are there."""


class Saved(NamedTuple):
    """The memory that an adjoint reads again: z = σ(u), u where σ' needs it, and v of an X v or J v.

    update: number of the update in its layer, which tells messages apart where links are impaired.
    """

    z: Rows
    u: Rows | None = None
    v: GhostedTensor | None = None
    update: int = 0


class Sum(NamedTuple):
    """new := old + scale v. A product that can add v on the way takes it as `into`, and then returns no v.

    Shapes: owned rows (neurons, B). new may be old, but not what the product reads.
    """

    old: Tensor
    scale: float
    new: Tensor


class BlockWeights(NamedTuple):
    """One layer's panels: views (panels, rows, columns), the same transposed, and the bias (panels, rows, 1) if any."""

    panels: Views
    transposed: Views
    bias: Views


class GradientSum:
    """A layer's gradient of one matrix or bias: the first contribution is written, further ones added."""

    __slots__ = ("fresh", "views")

    def __init__(self, views: Views) -> None:
        self.views, self.fresh = views, True

    def target(self) -> tuple[Views, bool]:
        """Return where the next contribution goes, and whether it is to be added."""
        accumulate, self.fresh = not self.fresh, False
        return self.views, accumulate

    def add_rows(self, w: Tensor) -> None:
        """Add Σ w over the batch, (rows,), the gradient of a bias."""
        if self.fresh:
            torch.sum(w, dim=1, out=self.views[0])
        else:
            self.views[0].add_(w.sum(dim=1))
        self.fresh = False


class MatrixGradients(NamedTuple):
    """The gradients of a matrix and of its bias, None where they are not wanted."""

    K: GradientSum | None = None
    b: GradientSum | None = None


class BlockProducts:
    """An operator and its `exchange` with the memory that a batch like `like` (batch, neurons) needs.

    Arguments x and v in column space come from `ghosted`. Their ghost rows are filled here.
    """

    def __init__(self, operator: Arrangement, exchange: Exchange, like: Tensor) -> None:
        self.operator, self.exchange, self.batch = operator, exchange, like.shape[0]
        self._like = like.new_empty(0)
        self._scratch: Rows | None = None
        self.output = self.ghosted()

    def ghosted(self, memory: Tensor | None = None) -> GhostedTensor:
        """Bind memory (rows >= column neurons, B), new by default, as an argument of these products."""
        size = self.operator.column_neurons
        memory = self.exchange.memory((size, self.batch), self._like) if memory is None else memory
        return self.exchange.ghosted(memory[:size])

    def rows(self, count: int = 1) -> list[Rows]:
        """Return new tensors in row space, as rows of one allocation."""
        flat = self._like.new_empty(count, self.operator.rows, self.batch).unbind(0)
        return [Rows(tensor, self.row_views(tensor)) for tensor in flat]

    def scratch(self) -> Rows:
        """Return one tensor in row space for values that nobody keeps."""
        if self._scratch is None:
            (self._scratch,) = self.rows()
        return self._scratch

    def row_views(self, flat: Tensor) -> Views:
        """Return the views of a tensor in row space that products need."""
        return ()

    def affine(self, weights: BlockWeights, x: GhostedTensor, out: Rows) -> None:
        """Compute K x + b."""
        raise NotImplementedError

    def activated(self, weights: BlockWeights, x: GhostedTensor, sigma: Activation, saved: Saved) -> None:
        """Compute z = σ(K x + b). The argument u of σ stays in `saved` where it has a place."""
        u = saved.u or self.scratch()
        self.affine(weights, x, u)
        sigma.value(u.flat, out=saved.z.flat)

    def product(self, weights: BlockWeights, v: GhostedTensor, out: Rows) -> None:
        """Compute K v."""
        raise NotImplementedError

    def sloped(
        self, weights: BlockWeights, v: GhostedTensor, scale: float, sigma: Activation, saved: Saved, out: Rows
    ) -> None:
        """Compute scale · K v ⊙ σ'(u)."""
        g = self.scratch()
        self.product(weights, v, g)
        sigma.times_slope(g.flat, None if saved.u is None else saved.u.flat, saved.z.flat, out=out.flat)
        if scale != 1.0:
            out.flat.mul_(scale)

    def transposed(self, weights: BlockWeights, rows: Rows, into: Sum | None = None) -> Tensor | None:
        """Compute Kᵀ z, contributions of other workers included: owned rows, valid until the next call.

        into: the sum to make of it. Returns None where that was made, else Kᵀ z.
        """
        raise NotImplementedError

    def weight_gradient(self, pairs: Sequence[Pair], gradient: GradientSum, scale: float = 1.0) -> None:
        """Add Σ rows ⊗ columns of one or two pairs, summed over the batch. scale: factor of the first pair."""
        raise NotImplementedError

    def row_sums(self, w: Tensor, gradient: GradientSum) -> None:
        """Add Σ w over the batch, (rows,), the gradient of a bias. w: in row space, or owned rows."""
        gradient.add_rows(w)

    def gradient_value(
        self, weights: BlockWeights, x: GhostedTensor, sigma: Activation, saved: Saved, into: Sum | None = None
    ) -> Tensor | None:
        """Compute Kᵀ z with z = σ(K x + b), see `activated` and `transposed`."""
        self.activated(weights, x, sigma, saved)
        return self.transposed(weights, saved.z, into)

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
        """Compute Kᵀ w, w = K δ ⊙ σ'(u), for δ = scale v: the adjoint of the value.

        gradients: z δᵀ + w xᵀ and Σ w are added to those that are wanted. w is memory, valid for nobody after the call.
        """
        self.sloped(weights, v, scale, sigma, saved, w)
        if gradients.K is not None:
            self.weight_gradient(((saved.z, v), (w, x)), gradients.K, scale)
        if gradients.b is not None:
            self.row_sums(w.flat, gradients.b)
        return self.transposed(weights, w, into)

    def gradient_tangent(
        self, weights: BlockWeights, v: GhostedTensor, sigma: Activation, saved: Saved, w: Rows
    ) -> Tensor:
        """Compute Kᵀ w, w = K v ⊙ σ'(u): the tangent of the value."""
        self.sloped(weights, v, 1.0, sigma, saved, w)
        result = self.transposed(weights, w)
        assert result is not None, "no sum was asked for"
        return result

    @property
    def small(self) -> bool:
        """Whether products are so fast that what a call costs beside them counts, see `sweep.program`."""
        return False

    @property
    def alone(self) -> bool:
        """Whether owned rows are all of column space: no ghosts, and nobody else adds to them."""
        return not self.exchange.moves and len(self.output.owned) == self.operator.column_neurons


def layer_panels(operator: Arrangement, panels: Tensor) -> list[Views]:
    """Return every layer's views, such as (panels, rows, columns), one per chunk, of panels (layers, stored)."""
    return _layer_views(panels, operator.weight_shapes)


def layer_weights(operator: Arrangement, panels: Tensor, bias: Tensor | None = None) -> list[BlockWeights]:
    """Return every layer's weights of panels (layers, stored) and a bias (layers, rows) in panel order."""
    rows: list[Views] = [()] * len(panels) if bias is None else _layer_views(bias, operator.row_shapes)
    return [
        BlockWeights(views, tuple(view.mT for view in views if view.ndim > 2), b)
        for views, b in zip(layer_panels(operator, panels), rows, strict=True)
    ]


def _layer_views(flat: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Views]:
    """Split (layers, elements) into views of these shapes, one after the other, for every layer."""
    if not shapes:
        return [()] * len(flat)
    parts = zip(flat.split([math.prod(shape) for shape in shapes], dim=1), shapes, strict=True)
    return list(zip(*(part.view(len(flat), *shape).unbind(0) for part, shape in parts), strict=True))
