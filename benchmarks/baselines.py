"""Other ways to compute a Hamiltonian layer of p and q (K sparse, X identity), for `layer.py`.

    floor      the six batched GEMMs of a half step on gathered panels, (agents, n, degree n), preallocated
    dense      K times its mask, plain autograd
    csr, bsr   torch's sparse matrices, K and its transpose, differentiated by hand; without the gradient of a BSR
               matrix, which torch lacks
    published  the arithmetic of the published H2_sparse: masked dense matrices of the whole state, J K formed for every
               half step, a Python loop over layers (arXiv:2105.13205, github.com/DecodEPFL/HamiltonianNet); halves are
               not overwritten, as this torch's autograd requires

Each function takes a network, a batch and a number of layers, and returns a function that runs forward and backward of
that many layers like the network's first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from dist_hdnn import HDNN

Step = Callable[[], object]


def floor(net: HDNN, batch: int, layers: int) -> Step:
    """Run six GEMMs per half step, panels of one shape together."""
    pattern, sizes = net.K_patterns[0], net.halves
    widths = np.bincount(pattern.rows(), sizes[pattern.columns], pattern.agents).astype(int)
    shapes, counts = np.unique(np.stack([sizes, widths], axis=1), axis=0, return_counts=True)
    calls: list[Step] = []
    for (rows, columns), count in zip(shapes.tolist(), counts.tolist(), strict=True):
        for _ in range(2):
            W, dW = torch.randn(count, rows, columns), torch.empty(count, rows, columns)
            x, dx = torch.randn(count, columns, batch), torch.empty(count, columns, batch)
            z, u = torch.randn(count, rows, batch), torch.empty(count, rows, batch)
            bias = torch.randn(count, rows, 1)
            calls += _six(W, dW, x, dx, z, u, bias)

    def step() -> None:
        for _ in range(layers):
            for call in calls:
                call()

    return step


def _six(W: Tensor, dW: Tensor, x: Tensor, dx: Tensor, z: Tensor, u: Tensor, bias: Tensor) -> list[Step]:
    Wt, xt = W.mT, x.mT
    return [
        lambda: torch.baddbmm(bias, W, x, out=u),
        lambda: torch.bmm(Wt, z, out=dx),
        lambda: torch.bmm(W, x, out=u),
        lambda: torch.bmm(z, xt, out=dW),
        lambda: dW.baddbmm_(z, xt),
        lambda: torch.bmm(Wt, z, out=dx),
    ]


def _indices(net: HDNN) -> tuple[Tensor, Tensor]:
    return net.scalar_positions("K" + net.architecture.parts[0], 0)


def dense(net: HDNN, batch: int, layers: int) -> Step:
    """Multiply by K masked and dense, with autograd."""
    neurons, h = int(net.halves.sum()), net.step
    rows, columns = _indices(net)
    mask = torch.zeros(neurons, neurons)
    mask[rows, columns] = 1.0
    K = [torch.randn(neurons, neurons).requires_grad_() for _ in range(2 * layers)]
    b = [torch.randn(neurons, 1).requires_grad_() for _ in range(2 * layers)]
    p0, q0, one = torch.randn(neurons, batch), torch.randn(neurons, batch), torch.randn(neurons, batch)

    def step() -> None:
        p, q = p0.requires_grad_(), q0.requires_grad_()
        for layer in range(layers):
            W = K[2 * layer] * mask
            p = p - h * W.T @ torch.tanh(W @ q + b[2 * layer])
            W = K[2 * layer + 1] * mask
            q = q + h * W.T @ torch.tanh(W @ p + b[2 * layer + 1])
        torch.autograd.grad([p, q], [*K, *b, p0, q0], [one, one])

    return step


def sparse(net: HDNN, batch: int, layers: int, blocked: bool) -> Step:
    """Multiply by CSR, or BSR of one block size, forward and backward by hand on preallocated operands."""
    rows, columns = _indices(net)
    neurons = int(net.halves.sum())
    matrix = torch.sparse_coo_tensor(torch.stack([rows, columns]), torch.randn(len(rows)), (neurons, neurons))
    K = matrix.coalesce().to_sparse_csr()
    Kt = matrix.t().coalesce().to_sparse_csr()
    pattern = K
    if blocked:
        n = int(net.halves[0])
        if not (net.halves == n).all():
            raise ValueError("bsr: expected agents of equal width")
        K, Kt = K.to_sparse_bsr((n, n)), Kt.to_sparse_bsr((n, n))
    x, v, bias = torch.randn(neurons, batch), torch.randn(neurons, batch), torch.randn(neurons, 1)

    def step() -> None:
        for _ in range(2 * layers):
            z = torch.tanh(K @ x + bias)
            y = x - net.step * (Kt @ z)
            w = (K @ v) * (1 - z * z)
            if not blocked:
                gradient = torch.sparse.sampled_addmm(pattern, z, v.t(), beta=0.0)
                torch.sparse.sampled_addmm(gradient, w, x.t())
            w.sum(1), y.add_(Kt @ w)

    return step


def published(net: HDNN, batch: int, layers: int) -> Step:
    """Compute as the published code, with all layers' K in one (neurons, neurons, layers) tensor."""
    neurons, h = net.neurons, net.step
    half = neurons // 2
    rows, columns = _indices(net)
    mask = torch.zeros(neurons, neurons)
    mask[rows, columns] = mask[half + rows, half + columns] = 1.0
    J = torch.zeros(neurons, neurons)
    J[half:, :half], J[:half, half:] = -torch.eye(half), torch.eye(half)
    K = (torch.randn(neurons, neurons, layers) * mask.unsqueeze(2)).requires_grad_()
    b = torch.randn(neurons, 1, layers).requires_grad_()
    y0, dy = torch.randn(batch, 1, neurons).requires_grad_(), torch.randn(batch, 1, neurons)

    def step() -> None:
        first, second = y0[:, :, :half], y0[:, :, half:]
        for j in range(layers):
            inner = (K[:, :, j].transpose(0, 1) * mask)[:half, :half]
            outer = torch.matmul(J, K[:, :, j] * mask)[half:, :half]
            second = second + h * linear(torch.tanh(linear(first, inner, b[:half, 0, j])), outer)
            inner = (K[:, :, j].transpose(0, 1) * mask)[half:, half:]
            outer = torch.matmul(J, K[:, :, j] * mask)[:half, half:]
            first = first + h * linear(torch.tanh(linear(second, inner, b[half:, 0, j])), outer)
        torch.autograd.grad(torch.cat([first, second], dim=2), [K, b, y0], dy)

    return step
