"""Norms of the backward sensitivity matrices Φ_j = ∂y_N/∂y_{N-j}, which say whether gradients vanish or explode.

|Φ_j|₂ >= 1 for every j where all layers are symplectic with one J, or have determinant 1 (arXiv:2105.13205: from
Φ J Φᵀ = J follows |J| <= |Φ|² |J|; and if singular values have the product 1, one is >= 1).

Small networks use whole matrices. Large ones use products with Φ_j and its transpose, whose result is never above the
norm: a value >= 1 proves the bound, and a smaller one proves nothing. Singular values then come from Golub and Kahan's
bidiagonalization with full reorthogonalization ("Calculating the singular values and pseudo-inverse of a matrix", SIAM
J. Numer. Anal. 1965), for all samples at once: after k steps A V = U B with orthonormal U, V and a small bidiagonal B.
The largest singular value of B is never above that of A, and the smallest never below that of A (where U spans less
than the whole space). Shapes: vectors (batch, neurons), as in `vectors`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dist_hdnn.analysis.vectors import LinearLayers, Space, safe_divide

Map = Callable[[Tensor], Tensor]
Pair = tuple[Tensor, Tensor]
ApplyJ = Callable[[Tensor, bool], Tensor]  # (vector, transposed) -> J vector or Jᵀ vector
STEPS = 8  # products with Φ_j and its transpose for each depth that is examined
PROBE, J_PROBE = 0, 1  # numbers of the random vectors that searches start from
NEGLIGIBLE = 1e-13  # of the largest coefficient: the rest of a vector is rounding, the subspace is invariant


def exact_norms(matrices: Tensor) -> Tensor:
    """Return |Φ_j|₂ for j = 1 .. layers, (layers, batch), of layer Jacobians (layers, batch, n, n)."""
    product = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device).expand_as(matrices[0])
    norms = []
    for M in reversed(matrices.unbind()):
        product = product @ M
        norms.append(spectral_norm(product))
    return torch.stack(norms)


def spectral_norm(matrices: Tensor) -> Tensor:
    """Return |A|₂ of matrices (..., n, n), inf where they are not finite.

    The largest eigenvalue of A Aᵀ takes a third of the time of singular values.
    """
    scale = matrices.abs().amax(dim=(-2, -1))
    finite = scale.isfinite()
    safe = torch.where(finite, scale, 1.0).clamp(min=torch.finfo(matrices.dtype).tiny)
    scaled = torch.where(finite[..., None, None], matrices / safe[..., None, None], 0.0)
    largest: Tensor = torch.linalg.eigvalsh(scaled @ scaled.mT)[..., -1]
    return torch.where(finite, safe * largest.clamp(min=0).sqrt(), torch.inf)


def probed_norms(linear: LinearLayers, space: Space, batch: int, seed: int, pair: Pair | None) -> Tensor:
    """Return lower bounds of |Φ_j|₂ for j = 1 .. layers, (layers, batch).

    Search for the largest singular values at depths 1, 2, 4, ..., each from the vector of the last one. Every vector,
    pulled back through all layers, gives a bound at every depth. pair: see `conjugate_pair`.
    """
    layers = linear.layers
    bounds = [along_layers(linear, space, vector) for vector in pair or ()]
    left = space.gaussian(seed, PROBE, batch)
    for depth in (*(2**k for k in range(layers.bit_length()) if 2**k < layers), layers):
        left = layer_singular_values(linear, layers - depth, layers, left, space, STEPS).left
        bounds.append(along_layers(linear, space, left))
    return torch.stack(bounds).amax(dim=0)


def layer_singular_values(linear: LinearLayers, first: int, last: int, left: Tensor, space: Space, steps: int) -> Ritz:
    """Return the extreme singular values of ∂y_last/∂y_first, see `singular_values`."""

    def product(v: Tensor) -> Tensor:
        return linear.push(v, first, last)

    def adjoint(u: Tensor) -> Tensor:
        return linear.pull(u, last, first)

    return singular_values(product, adjoint, left, space, steps)


def along_layers(linear: LinearLayers, space: Space, left: Tensor) -> Tensor:
    """Return |Φ_jᵀ u| / |u| for j = 1 .. layers, (layers, batch), by one pass through the layers."""
    vector, norms = space.normalized(left), []
    for layer in reversed(range(linear.layers)):
        vector = linear.pull(vector, layer + 1, layer)
        norms.append(space.norms(vector))
    return torch.stack(norms)


def conjugate_pair(apply_J: ApplyJ, space: Space, batch: int, seed: int) -> Pair:
    """Return unit vectors u, v (batch, owned neurons) with uᵀ J v = |J|₂, which prove |Φ| >= 1 if Φ is symplectic.

    Then |J| = uᵀ Φ J Φᵀ v <= |Φᵀu| |J| |Φᵀv|, so the larger of |Φᵀu| and |Φᵀv| is at least 1, at every depth. Any u
    will do for J² = -I. Otherwise u belongs to the largest singular value of J.
    """
    start = space.gaussian(seed, J_PROBE, batch)
    ritz = singular_values(lambda v: apply_J(v, False), lambda u: apply_J(u, True), start, space, 3 * STEPS)
    left = space.normalized(ritz.left)
    return left, space.normalized(apply_J(left, True))


class Ritz(NamedTuple):
    """Approximate singular values, (batch,) each, and unit vectors `left` with |Aᵀ left| >= largest."""

    largest: Tensor
    smallest: Tensor
    left: Tensor


def singular_values(product: Map, adjoint: Map, left: Tensor, space: Space, steps: int) -> Ritz:
    """Return the extreme singular values of A = `product`, Aᵀ = `adjoint`, by `steps` products with each.

    left: the first vector, best a left singular vector of a similar map. A random one will do.
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
    B = torch.diag_embed(torch.stack(alphas, dim=-1))  # (batch, steps, steps), upper bidiagonal
    if betas:
        B = B + torch.diag_embed(torch.stack(betas, dim=-1), offset=1)
    P, values, _ = torch.linalg.svd(B)
    vector = sum((P[:, i, :1] * u for i, u in enumerate(U)), torch.zeros_like(left))
    reached = torch.stack(alphas).gt(0).sum(dim=0)  # steps before the subspace was invariant
    smallest = values.gather(1, (reached - 1).clamp(min=0)[:, None])[:, 0]
    return Ritz(values[:, 0], smallest, vector)


def _orthogonal(vector: Tensor, basis: list[Tensor], space: Space) -> Tensor:
    """Subtract the parts of `vector` along `basis`. Twice is enough (Kahan and Parlett)."""
    for _ in range(2 if basis else 0):
        parts = space.dots(basis, vector)
        for part, direction in zip(parts, basis, strict=True):
            vector = vector - part[:, None] * direction
    return vector


def _significant(length: Tensor, known: list[Tensor]) -> Tensor:
    """Return `length`, or zero where it is only the rounding of larger ones."""
    if not known:
        return length
    largest = torch.stack(known).amax(dim=0)
    return torch.where(length > NEGLIGIBLE * largest, length, 0.0)
