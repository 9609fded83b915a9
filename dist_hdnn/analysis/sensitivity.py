"""Backward sensitivity matrices Φ_j = ∂y_N/∂y_{N-j}: their norms, which say whether gradients vanish or explode.

Where all layers are symplectic with one J, or have determinant 1, |Φ_j|₂ >= 1 for every j (arXiv:2105.13205: from
Φ J Φᵀ = J follows |J| <= |Φ|² |J|; and of singular values whose product is 1 one is >= 1).

Small networks: whole matrices. Large ones: products with Φ_j and its transpose, whose result is never above the norm,
so a value >= 1 proves the bound, and a smaller one proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dist_hdnn.analysis.lanczos import Ritz, singular_values
from dist_hdnn.analysis.space import LinearLayers, Space

Pair = tuple[Tensor, Tensor]
ApplyJ = Callable[[Tensor, bool], Tensor]  # (vector, transposed) -> J vector or Jᵀ vector
STEPS = 8  # products with Φ_j and its transpose for each depth that is examined
PROBE, J_PROBE = 0, 1  # numbers of the random vectors that searches start from


def exact_norms(matrices: Tensor) -> Tensor:
    """Layer Jacobians (layers, batch, n, n) -> |Φ_j|₂ for j = 1 .. layers, (layers, batch)."""
    product = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device).expand_as(matrices[0])
    norms = []
    for M in reversed(matrices.unbind()):
        product = product @ M
        norms.append(spectral_norm(product))
    return torch.stack(norms)


def spectral_norm(matrices: Tensor) -> Tensor:
    """|A|₂ of matrices (..., n, n), inf where they are not finite.

    From the largest eigenvalue of A Aᵀ, in a third of the time of singular values.
    """
    scale = matrices.abs().amax(dim=(-2, -1))
    finite = scale.isfinite()
    safe = torch.where(finite, scale, 1.0).clamp(min=torch.finfo(matrices.dtype).tiny)
    scaled = torch.where(finite[..., None, None], matrices / safe[..., None, None], 0.0)
    largest: Tensor = torch.linalg.eigvalsh(scaled @ scaled.mT)[..., -1]
    return torch.where(finite, safe * largest.clamp(min=0).sqrt(), torch.inf)


def probed_norms(linear: LinearLayers, space: Space, batch: int, seed: int, pair: Pair | None) -> Tensor:
    """Lower bounds of |Φ_j|₂ for j = 1 .. layers, (layers, batch).

    The largest singular values at depths 1, 2, 4, ... are searched for, each from the last one's vector; every vector
    found, pulled back through all layers, gives a bound at every depth. pair: see `conjugate_pair`.
    """
    layers = linear.layers
    found = [along_layers(linear, space, vector) for vector in pair or ()]
    left = space.gaussian(seed, PROBE, batch)
    for depth in (*(2**k for k in range(layers.bit_length()) if 2**k < layers), layers):
        left = layer_singular_values(linear, layers - depth, layers, left, space, STEPS).left
        found.append(along_layers(linear, space, left))
    return torch.stack(found).amax(dim=0)


def layer_singular_values(linear: LinearLayers, first: int, last: int, left: Tensor, space: Space, steps: int) -> Ritz:
    """Extreme singular values of ∂y_last/∂y_first; see `lanczos.singular_values`."""

    def product(v: Tensor) -> Tensor:
        return linear.push(v, first, last)

    def adjoint(u: Tensor) -> Tensor:
        return linear.pull(u, last, first)

    return singular_values(product, adjoint, left, space, steps)


def along_layers(linear: LinearLayers, space: Space, left: Tensor) -> Tensor:
    """|Φ_jᵀ u| / |u| for j = 1 .. layers, (layers, batch), by one pass through the layers."""
    vector, norms = space.normalized(left), []
    for layer in reversed(range(linear.layers)):
        vector = linear.pull(vector, layer + 1, layer)
        norms.append(space.norms(vector))
    return torch.stack(norms)


def conjugate_pair(apply_J: ApplyJ, space: Space, batch: int, seed: int) -> Pair:
    """Unit vectors u, v (batch, owned neurons) with uᵀ J v = |J|₂: one of the two proves |Φ| >= 1 if Φ is symplectic.

    For then |J| = uᵀ Φ J Φᵀ v <= |Φᵀu| |J| |Φᵀv|, so the larger of |Φᵀu| and |Φᵀv| is at least 1, at every depth.
    For J² = -I any u does; else the largest singular value of J is searched for.
    """
    start = space.gaussian(seed, J_PROBE, batch)
    ritz = singular_values(lambda v: apply_J(v, False), lambda u: apply_J(u, True), start, space, 3 * STEPS)
    left = space.normalized(ritz.left)
    return left, space.normalized(apply_J(left, True))
