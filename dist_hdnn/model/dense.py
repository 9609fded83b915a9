"""The dense one-process twin: masked N x N matrices and plain autograd. The oracle of every test, and a baseline.

Slow and memory-hungry by design: nothing here is shared with the block-sparse sweep but the formula.
Shapes: y (batch, neurons), columns agent by agent, p before q.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dist_hdnn.model.network import HDNN


class DenseTwin(nn.Module):
    """The same network as `net`, copied when made: weights (layers, n, n) and 0/1 masks, n = neurons / 2."""

    masks: Tensor
    x_masks: Tensor

    def __init__(self, net: HDNN) -> None:
        super().__init__()
        self.step, self.layers = net.step, net.layers
        self.sigma = net.sweep.sigma.function
        self.p_columns, self.q_columns = torch.from_numpy(net.p_columns), torch.from_numpy(net.q_columns)
        self.Kp, self.Kq = (nn.Parameter(dense(net, which)) for which in ("Kp", "Kq"))
        self.register_buffer("masks", dense(net, "Kp", torch.ones_like))
        self.bp, self.bq = nn.Parameter(net.bp.detach().clone()), nn.Parameter(net.bq.detach().clone())
        if net.X_patterns is None:
            self.X = nn.Parameter(torch.eye(net.neurons // 2, dtype=net.bp.dtype)[None], requires_grad=False)
            self.register_buffer("x_masks", torch.eye(net.neurons // 2, dtype=net.bp.dtype)[None])
        else:
            count = 1 if net.shared_x else net.layers
            self.X = nn.Parameter(dense(net, "X")[:count])
            self.register_buffer("x_masks", dense(net, "X", torch.ones_like)[:count])

    def forward(self, y: Tensor) -> Tensor:
        """y0 -> yN, (batch, neurons), by the formulas of `semi_implicit_step` with whole matrices."""
        p, q = y[:, self.p_columns], y[:, self.q_columns]
        Kp, Kq, X = self.Kp * self.masks, self.Kq * self.masks, self.X * self.x_masks
        for j in range(self.layers):
            x = X[j % len(X)]
            p = p - self.step * self.sigma(q @ Kq[j].T + self.bq[j]) @ Kq[j] @ x
            q = q + self.step * self.sigma(p @ Kp[j].T + self.bp[j]) @ Kp[j] @ x.T
        out = y.new_empty(y.shape)
        out = out.index_copy(1, self.p_columns, p)
        return out.index_copy(1, self.q_columns, q)


def dense(net: HDNN, which: str, of: object = None) -> Tensor:
    """All layers of "Kp", "Kq" or "X" as dense matrices (layers, n, n), zero off the pattern.

    of: None for the weights, "grad" for their gradients, or a function of the weights such as torch.ones_like.
    """
    half = net.neurons // 2
    matrices = net.bp.new_zeros(net.layers, half, half)
    for layer in range(net.layers):
        rows, columns = net.scalar_positions(which, layer)
        stage, row = layer % len(net.graphs), layer // len(net.graphs)
        if which == "X" and net.shared_x:
            stage, row = 0, 0
        parameter = getattr(net, which)[stage]
        values = parameter.grad if of == "grad" else of(parameter) if callable(of) else parameter
        assert values is not None, "no gradient yet: call backward() first"
        matrices[layer, rows, columns] = values[row].detach()
    return matrices.detach()
