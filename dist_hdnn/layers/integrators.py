"""Semi-implicit (symplectic) Euler: one layer forward, its exact adjoint, and its inverse.

    p⁺ = p - h Xᵀ ∇q,   ∇q = Kqᵀ σ(Kq q + bq)
    q⁺ = q + h X  ∇p,   ∇p = Kpᵀ σ(Kp p⁺ + bp)

Order 1, symplectic for every X (M J Mᵀ = J), explicit, exactly invertible.
Source: arXiv:2105.13205, the semi-implicit Euler H-DNN.
Shapes: p, q are (owned + ghost neurons of one half, B); the first `owned` rows are the state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dist_hdnn.layers.dynamics import Interconnection, PotentialGradient, Scratch


@dataclass
class Stage:
    """What layers with one pattern share: the products, and the memory of a half step."""

    potential: PotentialGradient
    interconnection: Interconnection | None  # None: X is the identity
    scratch: Scratch
    x_scratch: Scratch | None


@dataclass
class LayerWeights:
    """One layer's weights (or their gradients) in panel order: Kp, Kq, X (stored,), bp, bq (rows,)."""

    Kp: Tensor
    bp: Tensor
    Kq: Tensor
    bq: Tensor
    X: Tensor | None


@dataclass
class LayerRecord:
    """One layer's memory: the state it starts from, the state it ends in, and what its adjoint needs.

    p_next and q are read with their ghosts; z and u are σ's value and argument (u only where σ' needs it);
    force_q, force_p are ∇q and ∇p, kept where X is trained.
    """

    p: Tensor
    q: Tensor
    p_next: Tensor
    q_next: Tensor
    z_q: Tensor
    z_p: Tensor
    u_q: Tensor | None
    u_p: Tensor | None
    force_q: Tensor | None
    force_p: Tensor | None


def semi_implicit_step(stage: Stage, weights: LayerWeights, record: LayerRecord, h: float, owned: int) -> None:
    """(p, q) -> (p⁺, q⁺) in `record`. K-coupled: two gathers and two scatter-adds; X-coupled: one of each."""
    potential, coupling, scratch, x_scratch = stage.potential, stage.interconnection, stage.scratch, stage.x_scratch
    force = potential(record.q, weights.Kq, weights.bq, record.z_q, record.u_q, scratch)[:owned]
    if coupling is not None:
        assert weights.X is not None and x_scratch is not None and record.force_q is not None
        force = coupling.transposed(record.force_q.copy_(force), weights.X, x_scratch, "forward")[:owned]
    torch.sub(record.p[:owned], force, alpha=h, out=record.p_next[:owned])
    force = potential(record.p_next, weights.Kp, weights.bp, record.z_p, record.u_p, scratch)[:owned]
    if coupling is not None:
        assert weights.X is not None and x_scratch is not None and record.force_p is not None
        record.force_p[:owned].copy_(force)
        force = coupling.product(record.force_p, weights.X, x_scratch, "forward")
    torch.add(record.q[:owned], force, alpha=h, out=record.q_next[:owned])


def semi_implicit_adjoint(
    stage: Stage,
    weights: LayerWeights,
    record: LayerRecord,
    gradients: LayerWeights,
    dp: Tensor,
    dq: Tensor,
    h: float,
    owned: int,
) -> None:
    """(δp⁺, δq⁺) -> (δp, δq) in place; K's and b's gradients are written, X's is added to.

    dp, dq: (owned + ghosts, B). Mirrors `semi_implicit_step` from its last line to its first.
    """
    potential, coupling, scratch, x_scratch = stage.potential, stage.interconnection, stage.scratch, stage.x_scratch
    dv = scratch.adjoint_columns
    # q⁺ = q + h X ∇p(p⁺)
    if coupling is None:
        torch.mul(dq[:owned], h, out=dv[:owned])
    else:
        assert weights.X is not None and gradients.X is not None and x_scratch is not None
        assert record.force_p is not None
        scaled = torch.mul(dq[:owned], h, out=x_scratch.adjoint_columns[:owned])
        coupling.accumulate_gradient(scaled, record.force_p, gradients.X, x_scratch)
        dv[:owned].copy_(coupling.transposed(scaled, weights.X, x_scratch, "backward")[:owned])
    dx = potential.adjoint(
        dv, record.p_next, weights.Kp, record.z_p, record.u_p, gradients.Kp, gradients.bp, scratch
    )
    dp[:owned].add_(dx[:owned])
    # p⁺ = p - h Xᵀ ∇q(q)
    if coupling is None:
        torch.mul(dp[:owned], -h, out=dv[:owned])
    else:
        assert weights.X is not None and gradients.X is not None and x_scratch is not None
        assert record.force_q is not None
        scaled = x_scratch.adjoint_columns
        torch.mul(dp[:owned], -h, out=scaled[:owned])
        dv[:owned].copy_(coupling.product(scaled, weights.X, x_scratch, "backward"))
        coupling.accumulate_gradient(record.force_q, scaled, gradients.X, x_scratch)
    dx = potential.adjoint(dv, record.q, weights.Kq, record.z_q, record.u_q, gradients.Kq, gradients.bq, scratch)
    dq[:owned].add_(dx[:owned])


def semi_implicit_inverse(stage: Stage, weights: LayerWeights, record: LayerRecord, h: float, owned: int) -> None:
    """(p⁺, q⁺) -> (p, q) in `record`, exact up to rounding; the same exchanges as the step itself.

    Reads p_next and q_next, writes q and p.
    """
    potential, coupling, scratch, x_scratch = stage.potential, stage.interconnection, stage.scratch, stage.x_scratch
    force = potential(record.p_next, weights.Kp, weights.bp, record.z_p, record.u_p, scratch)[:owned]
    if coupling is not None:
        assert weights.X is not None and x_scratch is not None and record.force_p is not None
        record.force_p[:owned].copy_(force)
        force = coupling.product(record.force_p, weights.X, x_scratch, "forward")
    torch.sub(record.q_next[:owned], force, alpha=h, out=record.q[:owned])
    force = potential(record.q, weights.Kq, weights.bq, record.z_q, record.u_q, scratch)[:owned]
    if coupling is not None:
        assert weights.X is not None and x_scratch is not None and record.force_q is not None
        force = coupling.transposed(record.force_q.copy_(force), weights.X, x_scratch, "forward")[:owned]
    torch.add(record.p_next[:owned], force, alpha=h, out=record.p[:owned])
