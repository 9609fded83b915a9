"""Semi-implicit (symplectic) Euler: one layer forward, its exact adjoint, and its inverse.

    p⁺ = p - h Xᵀ ∇q,   ∇q = Kqᵀ σ(Kq q + bq)
    q⁺ = q + h X  ∇p,   ∇p = Kpᵀ σ(Kp p⁺ + bp)

Order 1, symplectic for every X (M J Mᵀ = J), explicit, exactly invertible.
Source: arXiv:2105.13205, the semi-implicit Euler H-DNN.
Shapes: p, q are (owned + ghost neurons of one half, B); the first `owned` rows are the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dist_hdnn.layers.dynamics import Interconnection, PotentialGradient
from dist_hdnn.layers.products import BlockWeights, Rows, Views


class Field(NamedTuple):
    """The products that layers of one pattern share, bound to one batch; without interconnection X is the identity."""

    potential: PotentialGradient
    interconnection: Interconnection | None


class LayerWeights(NamedTuple):
    """One layer's weights; X only where it is trained."""

    Kp: BlockWeights
    Kq: BlockWeights
    X: BlockWeights | None


class LayerGradients(NamedTuple):
    """Where one layer's gradients go: views of panels, bias rows in panel order."""

    Kp: Views
    bp: Tensor
    Kq: Views
    bq: Tensor
    X: Views


@dataclass
class LayerRecord:
    """One layer's memory: the state it starts from, the state it ends in, and what its adjoint needs.

    q and p_next are read with their ghosts; z and u are σ's value and argument (u only where σ' needs it);
    force_q (owned rows) and force_p (with ghosts) are ∇q and ∇p, kept where X is trained.
    """

    p: Tensor
    q: Tensor
    p_next: Tensor
    q_next: Tensor
    z_q: Rows
    z_p: Rows
    u_q: Rows | None
    u_p: Rows | None
    force_q: Tensor | None
    force_p: Tensor | None


def semi_implicit_step(field: Field, weights: LayerWeights, record: LayerRecord, h: float, owned: int) -> None:
    """(p, q) -> (p⁺, q⁺) in `record`. K-coupled: two gathers and two scatter-adds; X-coupled: one of each."""
    torch.sub(record.p[:owned], _force_q(field, weights, record, owned), alpha=h, out=record.p_next[:owned])
    torch.add(record.q[:owned], _force_p(field, weights, record, owned), alpha=h, out=record.q_next[:owned])


def semi_implicit_inverse(field: Field, weights: LayerWeights, record: LayerRecord, h: float, owned: int) -> None:
    """(p⁺, q⁺) -> (p, q) in `record`, exact up to rounding; the same exchanges as the step itself."""
    torch.sub(record.q_next[:owned], _force_p(field, weights, record, owned), alpha=h, out=record.q[:owned])
    torch.add(record.p_next[:owned], _force_q(field, weights, record, owned), alpha=h, out=record.p[:owned])


def semi_implicit_adjoint(
    field: Field,
    weights: LayerWeights,
    record: LayerRecord,
    gradients: LayerGradients,
    dp: Tensor,
    dq: Tensor,
    h: float,
) -> None:
    """(δp⁺, δq⁺) -> (δp, δq) in place, (owned, B) each; K's and b's gradients are written, X's is added to.

    Mirrors `semi_implicit_step` from its last line to its first.
    """
    potential, owned = field.potential, len(dp)
    dv = _adjoint_force_p(field, weights, record, gradients, dq, h)
    dx = potential.adjoint(dv, record.p_next, weights.Kp, record.z_p, record.u_p, gradients.Kp, gradients.bp)
    dp.add_(dx[:owned])
    dv = _adjoint_force_q(field, weights, record, gradients, dp, h)
    dx = potential.adjoint(dv, record.q, weights.Kq, record.z_q, record.u_q, gradients.Kq, gradients.bq)
    dq.add_(dx[:owned])


def _force_q(field: Field, weights: LayerWeights, record: LayerRecord, owned: int) -> Tensor:
    """Xᵀ ∇q, (owned, B)."""
    force = field.potential.value(record.q, weights.Kq, record.z_q, record.u_q)[:owned]
    if field.interconnection is None:
        return force
    assert weights.X is not None and record.force_q is not None, "a trained X has weights and memory"
    return field.interconnection.transposed(record.force_q.copy_(force), weights.X, "forward")[:owned]


def _force_p(field: Field, weights: LayerWeights, record: LayerRecord, owned: int) -> Tensor:
    """X ∇p⁺, (owned, B)."""
    force = field.potential.value(record.p_next, weights.Kp, record.z_p, record.u_p)[:owned]
    if field.interconnection is None:
        return force
    assert weights.X is not None and record.force_p is not None, "a trained X has weights and memory"
    record.force_p[:owned].copy_(force)
    return field.interconnection.product(record.force_p, weights.X, "forward")


def _adjoint_force_p(
    field: Field, weights: LayerWeights, record: LayerRecord, gradients: LayerGradients, dq: Tensor, h: float
) -> Tensor:
    """δ∇p = h Xᵀ δq⁺ in column space; adds h δq⁺ ⊗ ∇p to δX."""
    dv, coupling = field.potential.force, field.interconnection
    if coupling is None:
        torch.mul(dq, h, out=dv[: len(dq)])
        return dv
    assert weights.X is not None and record.force_p is not None, "a trained X has weights and memory"
    scaled = torch.mul(dq, h, out=coupling.columns[: len(dq)])
    coupling.accumulate_gradient(scaled, record.force_p, gradients.X)
    dv[: len(dq)].copy_(coupling.transposed(scaled, weights.X, "backward")[: len(dq)])
    return dv


def _adjoint_force_q(
    field: Field, weights: LayerWeights, record: LayerRecord, gradients: LayerGradients, dp: Tensor, h: float
) -> Tensor:
    """δ∇q = -h X δp⁺ in column space; adds -h ∇q ⊗ δp⁺ to δX."""
    dv, coupling = field.potential.force, field.interconnection
    if coupling is None:
        torch.mul(dp, -h, out=dv[: len(dp)])
        return dv
    assert weights.X is not None and record.force_q is not None, "a trained X has weights and memory"
    torch.mul(dp, -h, out=coupling.columns[: len(dp)])
    dv[: len(dp)].copy_(coupling.product(coupling.columns, weights.X, "backward"))
    coupling.accumulate_gradient(record.force_q, coupling.columns, gradients.X)
    return dv
