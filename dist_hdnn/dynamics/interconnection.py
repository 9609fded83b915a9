"""The interconnection: X v, Xᵀ v or J v of a gradient v, and the rounds that a layer takes with and without it.

Source: arXiv:2105.13205. Shapes: owned rows (neurons of a part, B); v in the column space of X or J.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from dist_hdnn.dynamics.architectures import Architecture, Force
from dist_hdnn.dynamics.linear import INTERCONNECTIONS, LinearMap
from dist_hdnn.dynamics.terms import TERMS, Gradient
from dist_hdnn.dynamics.use import Term, Use
from dist_hdnn.operators.ghosted import GhostedTensor
from dist_hdnn.operators.products import BlockProducts, GradientSum, Saved, Sum


class Interconnected(Term):
    """X v, Xᵀ v or J v of a gradient v."""

    adds_bias: ClassVar[bool] = True

    def __init__(self, gradient: Gradient, map: LinearMap, X: BlockProducts) -> None:
        self.gradient, self.map, self.reads_ghosts = gradient, map, gradient.reads_ghosts
        self._X = X
        self._alone = gradient.products.alone  # then the map's cotangent is all of the gradient's column space
        self._pulled = gradient.products.ghosted(map.cotangent) if self._alone else gradient.columns

    def saved(self, count: int) -> list[Saved]:
        like = self._X.output.tensor if self.map.reads_ghosts else self._X.output.owned
        memory = self._X.exchange.memory((count, *like.shape), like).unbind(0)
        bind = self._X.ghosted if self.map.reads_ghosts else GhostedTensor.without_ghosts
        return [s._replace(v=bind(v)) for s, v in zip(self.gradient.saved(count), memory, strict=True)]

    def value(self, use: Use, into: Sum | None) -> Tensor:
        saved = use.saved.v
        assert saved is not None and use.weights.X is not None, "an interconnection has weights and memory"
        v = self.gradient.value(use, None)
        assert v is not None, "no sum was asked for"
        saved.owned.copy_(v)
        return self.map.value(saved, use.weights.X)

    def adjoint(self, use: Use, into: Sum | None) -> Tensor | None:
        return self.gradient.pull(use, self.to_gradient(use, use.gradients.X), 1.0, into)

    def to_gradient(self, use: Use, gradient: GradientSum | None) -> GhostedTensor:
        """Return the cotangent of the gradient in its column space, Xᵀ (scale δv)."""
        v = use.saved.v
        assert v is not None and use.weights.X is not None, "an interconnection has weights and memory"
        dv = self.map.adjoint(use.dv.owned, use.scale, v, use.weights.X, gradient)
        if not self._alone:
            self._pulled.owned.copy_(dv)
        return self._pulled

    def tangent(self, use: Use, dx: Tensor) -> Tensor:
        assert use.weights.X is not None, "an interconnection has weights"
        return self.map.tangent(self.gradient.tangent(use, dx), use.weights.X)

    def energy(self, use: Use) -> Tensor:
        return self.gradient.energy(use)


def rounds(architecture: Architecture, by_k: bool, by_x: bool) -> int:
    """Count the exchanges of a layer forward, or backward, by the matrices that couple agents."""
    forces = [architecture.forces[part] for part, _ in architecture.integrator.steps]
    own = sum(len(TERMS[force.kind].exchanges) for force in forces)
    return own * by_k + sum(len(interconnection_exchanges(force)) for force in forces) * by_x


def rounds_reversed(architecture: Architecture, by_k: bool, by_x: bool) -> int:
    """Count the exchanges of a layer's backward sweep that rebuilds the state too, some with twice the slices.

    Only a gradient has value and adjoint in the same rounds; those of other terms, and of X, follow each other.
    """
    forces = [architecture.forces[part] for part, _ in architecture.integrator.steps]
    joint = sum(len(Gradient.exchanges) for force in forces if TERMS[force.kind] is Gradient)
    return 2 * rounds(architecture, by_k, by_x) - joint * by_k


def interconnection_exchanges(force: Force) -> tuple[str, ...]:
    """Return the rounds of a force's interconnection, in order."""
    return INTERCONNECTIONS[force.interconnection].exchanges if force.interconnection else ()
