"""The interconnection: X v, Xᵀ v or J v of a gradient v, and the rounds that a layer takes with and without it.

Source: arXiv:2105.13205. Shapes: owned rows (neurons of a part, B); v in the column space of X or J.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from dist_hdnn.dynamics.architectures import Architecture, Force
from dist_hdnn.dynamics.linear import COUPLINGS, LinearMap
from dist_hdnn.dynamics.terms import TERMS, Gradient
from dist_hdnn.dynamics.use import Use
from dist_hdnn.operators.exchange import GhostedTensor
from dist_hdnn.operators.products import BlockProducts, GradientSum, Saved, Sum


class Interconnected:
    """X v, Xᵀ v or J v of a gradient v."""

    exchanges: ClassVar[tuple[str, ...]] = ()  # its own: those of its coupling come on top
    adds_bias: ClassVar[bool] = True
    gathers_cotangent = False

    def __init__(self, gradient: Gradient, coupling: LinearMap, X: BlockProducts) -> None:
        self.gradient, self.coupling, self.reads_ghosts = gradient, coupling, gradient.reads_ghosts
        self._X = X
        self._alone = gradient.products.alone  # then the coupling's cotangent is all of the gradient's column space
        self._pulled = gradient.products.ghosted(coupling.cotangent) if self._alone else gradient.columns

    def saved(self, count: int) -> list[Saved]:
        like = self._X.output.tensor if self.coupling.reads_ghosts else self._X.output.owned
        memory = like.new_empty(count, *like.shape).unbind(0)
        bind = self._X.ghosted if self.coupling.reads_ghosts else GhostedTensor.without_ghosts
        return [s._replace(force=bind(v)) for s, v in zip(self.gradient.saved(count), memory, strict=True)]

    def value(self, use: Use, into: Sum | None) -> Tensor:
        force = use.saved.force
        assert force is not None and use.weights.X is not None, "an interconnection has weights and memory"
        v = self.gradient.value(use, None)
        assert v is not None, "no sum was asked for"
        force.owned.copy_(v)
        return self.coupling.value(force, use.weights.X)

    def adjoint(self, use: Use, into: Sum | None) -> Tensor | None:
        return self.gradient.pull(use, self.to_gradient(use, use.gradients.X), 1.0, into)

    def to_gradient(self, use: Use, gradient: GradientSum | None) -> GhostedTensor:
        """Return the cotangent of the gradient in its column space, Xᵀ (scale δv)."""
        force = use.saved.force
        assert force is not None and use.weights.X is not None, "an interconnection has weights and memory"
        dforce = self.coupling.adjoint(use.dv.owned, use.scale, force, use.weights.X, gradient)
        if not self._alone:
            self._pulled.owned.copy_(dforce)
        return self._pulled

    def tangent(self, use: Use, dx: Tensor) -> Tensor:
        assert use.weights.X is not None, "an interconnection has weights"
        return self.coupling.tangent(self.gradient.tangent(use, dx), use.weights.X)

    def energy(self, use: Use) -> Tensor:
        """Return that of the gradient."""
        return self.gradient.energy(use)


def rounds(architecture: Architecture, by_k: bool, by_x: bool) -> int:
    """Count the exchanges of a layer's forward sweep, by which matrices couple agents; its backward has as many."""
    forces = [architecture.forces[part] for part, _ in architecture.integrator.steps]
    own = sum(len(TERMS[force.kind].exchanges) for force in forces)
    return own * by_k + sum(len(coupling_exchanges(force)) for force in forces) * by_x


def rounds_reversed(architecture: Architecture, by_k: bool, by_x: bool) -> int:
    """Count the exchanges of a layer's backward sweep that rebuilds the state too, some with twice the slices.

    Only a gradient has value and adjoint in the same rounds; those of other terms, and of X, follow each other.
    """
    forces = [architecture.forces[part] for part, _ in architecture.integrator.steps]
    joint = sum(len(Gradient.exchanges) for force in forces if TERMS[force.kind] is Gradient)
    return 2 * rounds(architecture, by_k, by_x) - joint * by_k


def coupling_exchanges(force: Force) -> tuple[str, ...]:
    """Return the rounds of a force's interconnection, in order."""
    return COUPLINGS[force.interconnection].exchanges if force.interconnection else ()
