"""One update of a layer, bound to memory (`Use`), and what every term of the vector field does (`Term`).

Shapes: sources x are in column space, all else is owned rows (neurons of a part, B).
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from dist_hdnn.dynamics.architectures import Force
from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.ghosted import GhostedTensor
from dist_hdnn.operators.products import BlockProducts, BlockWeights, GradientSum, Saved, Sum


class TermWeights(NamedTuple):
    """One layer's weights of a term: K (with its bias in panel order, where that is used), b (rows, 1), X or J."""

    K: Any = None  # BlockWeights, of every term that has a K
    b: Any = None
    X: BlockWeights | None = None


class TermGradients(NamedTuple):
    """The gradients of these weights, None where they are not wanted."""

    K: GradientSum | None = None
    b: GradientSum | None = None
    X: GradientSum | None = None


class Use:
    """One update of a layer, bound to memory: part⁺ = part + scale · v(x), or part⁺ = v(x) if it replaces.

    part: number of the part that it advances. x: the source, as the term reads it. copied: owned rows to copy into x
    before a forward step, where x is memory of its own. saved: what the adjoint needs of the value.
    old, new: the part before and after. dv, dx: cotangents of part and source. scale: c h, with the force's sign.
    weights, gradients: of the layer at hand, set by `step`. joint: value and adjoint in the same rounds, if the term
    has that form, see `reversal`.
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
        self.part, self.term = part, term
        self.x, self.copied, self.saved = x, copied, saved
        self.old, self.new = parts
        self.dv, self.dx = cotangents
        self.replaces, self.scale = scale is None, 1.0 if scale is None else scale
        self.weights, self.gradients = TermWeights(), NO_GRADIENTS
        self.joint: Any = None
        apart = part != force.source  # else a sum would overwrite what the term reads
        self.forward_sum = Sum(self.old, self.scale, self.new) if apart else None
        self.inverse_sum = Sum(self.new, -self.scale, self.old) if apart else None
        self.pulled_sum = Sum(self.dx, 1.0, self.dx) if apart else None


NO_GRADIENTS = TermGradients()


class Constants(NamedTuple):
    """The constants of a term: σ, the step h, the damping γ, and the factor c of its force."""

    sigma: Activation
    h: float
    gamma: float
    factor: float = 1.0


class PlainMatrix(Protocol):
    """One layer's matrix in ordinary operations of PyTorch."""

    def product(self, x: Tensor) -> Tensor:
        """Return K x."""

    def transposed(self, x: Tensor) -> Tensor:
        """Return Kᵀ x."""

    def skew(self, x: Tensor) -> Tensor:
        """Return (K - Kᵀ) x."""


class Term(Protocol):
    """v(x) of a batch. A term makes the sum `into` on the way if it can, and then returns None instead of v.

    exchanges: rounds of `value`, in order; `adjoint` has as many. reads_ghosts: whether `value` gathers x.
    adds_bias: whether its products add the bias, which then is needed in the order of their rows.
    gathers_cotangent: whether `adjoint` gathers δv, which then is in column space; else δv is owned rows.
    """

    exchanges: ClassVar[tuple[str, ...]] = ()
    adds_bias: ClassVar[bool] = False
    reads_ghosts: bool = False
    gathers_cotangent: bool = False

    def saved(self, count: int) -> list[Saved]:
        """Make memory for what this many uses keep, side by side."""

    def value(self, use: Use, into: Sum | None) -> Tensor | None:
        """Compute v(x), valid until the next call. x gets its ghosts."""

    def adjoint(self, use: Use, into: Sum | None) -> Tensor | None:
        """Compute (∂v/∂x)ᵀ (scale δv) after `value`, and add the weight gradients that are wanted."""

    def tangent(self, use: Use, dx: Tensor) -> Tensor:
        """Compute (∂v/∂x) dx after `value`."""

    def energy(self, use: Use) -> Tensor | None:
        """Compute the function whose gradient v is, summed over this worker's rows, (B,); None if there is none."""
        return None


class TermOfK(Term, Protocol):
    """A term made of K alone, as `terms.TERMS` has them, with its formula outside the memory of a batch."""

    skew: ClassVar[bool] = False
    """Whether ∂v/∂x is skew where σ' is constant."""

    def __init__(self, K: BlockProducts, constants: Constants) -> None:
        """Bind the term to the products of K."""

    @staticmethod
    def plain(K: PlainMatrix, b: Tensor, x: Tensor, constants: Constants) -> Tensor:
        """Compute v by ordinary operations of PyTorch. Exports and the dense twin's check read it."""

    @staticmethod
    def slope(K: float, sigma: float, h: float, gamma: float) -> float:
        """Bound |∂v/∂x| for a norm of K and the largest slope of σ."""
