"""Networks of known layer Jacobians: what the analysis is tested against."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.analysis.vectors import Space
from dist_hdnn.network.ownership import Ownership
from dist_hdnn.topology import ring


class MatrixLayers:
    """A linearized network given by its layer Jacobians (layers, batch, n, n)."""

    def __init__(self, matrices: Tensor) -> None:
        self.matrices, self.layers, self.products = matrices, len(matrices), 0

    def push(self, tangent: Tensor, first: int, last: int) -> Tensor:
        for layer in range(first, last):
            tangent = torch.einsum("bij,bj->bi", self.matrices[layer], tangent)
            self.products += 1
        return tangent

    def pull(self, cotangent: Tensor, last: int, first: int) -> Tensor:
        for layer in reversed(range(first, last)):
            cotangent = torch.einsum("bij,bi->bj", self.matrices[layer], cotangent)
            self.products += 1
        return cotangent


def space_of(neurons: int) -> Space:
    """One worker, two neurons an agent."""
    return Space(Ownership(ring(neurons // 2), np.full(neurons // 2, 2)))


def interconnection(neurons: int, seed: int = 0) -> Tensor:
    """J = [[0, -Xᵀ], [X, 0]] with a random X."""
    half = neurons // 2
    X = torch.eye(half, dtype=torch.float64) + 0.5 * randn(seed, half, half)
    J = torch.zeros(neurons, neurons, dtype=torch.float64)
    J[:half, half:], J[half:, :half] = -X.T, X
    return J


def symplectic_layers(layers: int, batch: int, J: Tensor, scale: float = 0.4, seed: int = 1) -> Tensor:
    """Layers p⁺ = p - Xᵀ A q, q⁺ = q + X B p⁺ with random symmetric A, B: M J Mᵀ = J exactly."""
    half = len(J) // 2
    X = J[half:, :half]
    A, B = randn(seed, 2, layers, batch, half, half) * scale
    kick, drift = (torch.eye(2 * half, dtype=torch.float64).repeat(layers, batch, 1, 1) for _ in range(2))
    kick[..., :half, half:] = -X.T @ (A + A.mT)
    drift[..., half:, :half] = X @ (B + B.mT)
    return drift @ kick


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
