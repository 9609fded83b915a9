"""Largest singular values of a linear map that is known by its products alone, for all samples of a batch at once.

Golub and Kahan's bidiagonalization with full reorthogonalization ("Calculating the singular values and pseudo-inverse
of a matrix", SIAM J. Numer. Anal. 1965): after k steps A V = U B with orthonormal U, V and a small bidiagonal B. The
singular values of B are those of A seen in two subspaces: the largest is never above the largest of A, the smallest
never below the smallest of A (where U spans less than the whole space).
Shapes: vectors (batch, neurons), as in `space`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dist_hdnn.analysis.space import Space, safe_divide

Map = Callable[[Tensor], Tensor]
NEGLIGIBLE = 1e-13  # of the largest coefficient: what is left of a vector then is rounding, the subspace is invariant


class Ritz(NamedTuple):
    """largest, smallest: (batch,) approximate singular values; left: unit vectors with |Aᵀ left| >= largest."""

    largest: Tensor
    smallest: Tensor
    left: Tensor


def singular_values(product: Map, adjoint: Map, left: Tensor, space: Space, steps: int) -> Ritz:
    """Extreme singular values of A = `product`, Aᵀ = `adjoint`, by `steps` products with each, from a left vector.

    A good first vector is a left singular vector of a similar map; a random one does.
    """
    U: list[Tensor] = []
    V: list[Tensor] = []
    alphas: list[Tensor] = []
    betas: list[Tensor] = []
    v = space.normalized(adjoint(space.normalized(left)))
    for step in range(min(steps, space.neurons)):
        V.append(v)
        u = _orthogonal(product(v), U, space)
        alpha = _significant(space.norms(u), alphas + betas)
        alphas.append(alpha)
        U.append(safe_divide(u, alpha))
        if step + 1 == min(steps, space.neurons):
            break
        w = _orthogonal(adjoint(U[-1]), V, space)
        beta = _significant(space.norms(w), alphas + betas)
        betas.append(beta)
        v = safe_divide(w, beta)
    B = torch.diag_embed(torch.stack(alphas, dim=-1))
    if betas:
        B = B + torch.diag_embed(torch.stack(betas, dim=-1), offset=1)
    P, values, _ = torch.linalg.svd(B)
    vector = sum((P[:, i, :1] * u for i, u in enumerate(U)), torch.zeros_like(left))
    reached = torch.stack(alphas).gt(0).sum(dim=0)  # steps before the subspace was invariant
    smallest = values.gather(1, (reached - 1).clamp(min=0)[:, None])[:, 0]
    return Ritz(values[:, 0], smallest, vector)


def _orthogonal(vector: Tensor, basis: list[Tensor], space: Space) -> Tensor:
    """`vector` less its parts along `basis`; twice is enough (Kahan and Parlett)."""
    for _ in range(2 if basis else 0):
        parts = space.dots(basis, vector)
        for part, direction in zip(parts, basis, strict=True):
            vector = vector - part[:, None] * direction
    return vector


def _significant(length: Tensor, known: list[Tensor]) -> Tensor:
    """`length`, zero where it is but the rounding of larger ones."""
    if not known:
        return length
    largest = torch.stack(known).amax(dim=0)
    return torch.where(length > NEGLIGIBLE * largest, length, 0.0)
