"""What a term of the vector field is given and promises: the `Use` of a term in one update, and the protocol `Term`.

Shapes: sources x are in column space, all else is owned rows (neurons of a part, B).
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from dist_hdnn.dynamics.architectures import Force
from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.exchange import GhostedTensor
from dist_hdnn.operators.products import BlockWeights, GradientSum, Saved, Sum


class TermWeights(NamedTuple):
    """One layer's weights of a term: K (with its bias in panel order, where that is used), b (rows, 1), X or J."""

    K: Any = None  # BlockWeights, of every term that has a K
    b: Any = None
    X: BlockWeights | None = None


class TermGradients(NamedTuple):
    """Where their gradients go; None: not wanted."""

    K: GradientSum | None = None
    b: GradientSum | None = None
    X: GradientSum | None = None


class Use:
    """One update of a layer, bound to memory: part⁺ = part + scale · v(x), or part⁺ = v(x) if it replaces.

    part, source: numbers of the parts that it advances and reads. x: the source, as the term reads it. copied: owned
    rows to copy into x before, where x is memory of its own. saved: what the adjoint needs of the value.
    old, new: the part before and after. dv, dx: cotangents of part and source. scale: c h, with the force's sign.
    weights, gradients: of the layer at hand; whoever runs the update sets them.
    """

    def __init__(
        self,
        force: Force,
        part: int,
        term: Term,
        x: GhostedTensor,
        copied: Tensor | None,
        saved: Saved,
        parts: tuple[Tensor, Tensor],
        cotangents: tuple[GhostedTensor, Tensor],
        scale: float | None,
    ) -> None:
        """parts: old, new. cotangents: dv, dx. scale: None for an update that replaces."""
        self.part, self.source, self.term = part, force.source, term
        self.x, self.copied, self.saved = x, copied, saved
        self.old, self.new = parts
        self.dv, self.dx = cotangents
        self.replaces, self.scale = scale is None, 1.0 if scale is None else scale
        self.weights, self.gradients = TermWeights(), NO_GRADIENTS
        self.joint: Any = None  # value and adjoint in the same rounds, see `reversal`
        apart = part != force.source  # else a sum would overwrite what the term reads
        self.forward_sum = Sum(self.old, self.scale, self.new) if apart else None
        self.inverse_sum = Sum(self.new, -self.scale, self.old) if apart else None
        self.pulled_sum = Sum(self.dx, 1.0, self.dx) if apart else None


NO_GRADIENTS = TermGradients()


class Constants(NamedTuple):
    """What terms know besides their weights: σ, the step h, the damping γ, and the force that they serve."""

    sigma: Activation
    h: float
    gamma: float
    force: Force


class PlainMatrix(Protocol):
    """One layer's matrix in ordinary operations of PyTorch."""

    def product(self, x: Tensor) -> Tensor:
        """Return K x."""

    def transposed(self, x: Tensor) -> Tensor:
        """Return Kᵀ x."""

    def skew(self, x: Tensor) -> Tensor:
        """Return (K - Kᵀ) x."""


class Term(Protocol):
    """v(x). A sum `into` that a term can make on the way is made, and then None returned instead of v."""

    exchanges: ClassVar[tuple[str, ...]]
    """Rounds of `value`, in order; `adjoint` has as many."""
    reads_ghosts: bool
    """Whether `value` gathers x."""
    adds_bias: ClassVar[bool]
    """Whether its products add the bias, which then is needed in the order of their rows."""
    gathers_cotangent: bool
    """Whether `adjoint` gathers δv, which then is in column space; else δv is owned rows."""

    def saved(self, count: int) -> list[Saved]:
        """Make memory for what this many uses keep, side by side."""

    def value(self, use: Use, into: Sum | None) -> Tensor | None:
        """Compute v(x), valid until the next call. x gets its ghosts."""

    def adjoint(self, use: Use, into: Sum | None) -> Tensor | None:
        """Compute (∂v/∂x)ᵀ (scale δv) after `value`, and add the weight gradients that are wanted."""

    def tangent(self, use: Use, dx: Tensor) -> Tensor:
        """Compute (∂v/∂x) dx after `value`."""
