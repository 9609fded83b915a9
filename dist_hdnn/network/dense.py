"""The dense one-process twin: masked N x N matrices and plain autograd. The oracle of every test, and a baseline.

Slow and memory-hungry by design: nothing here is shared with the block-sparse sweep but the formula. Every architecture
is a function that returns the forces on its parts, for one layer's weights w; every integrator composes them.
Shapes: y (batch, neurons), columns agent by agent, p before q; parts (batch, neurons of the part).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dist_hdnn.network.hdnn import HDNN

Force = Callable[[Tensor], Tensor]
Activation = Callable[[Tensor], Tensor]
Matrices = dict[str, Tensor]


class DenseTwin(nn.Module):
    """The same network as `net`, copied when made: weights by name (layers, n, n) and masks, n neurons of a part."""

    def __init__(self, net: HDNN) -> None:
        super().__init__()
        self.step, self.layers, self.gamma = net.step, net.layers, net.sweep.spec.gamma
        self.sigma = net.sweep.spec.sigma.function
        self.forces, self.integrate = FORCES[net.architecture.name], INTEGRATORS[net.architecture.integrator.name]
        self.columns = [torch.from_numpy(columns) for columns in net.columns]
        self.weights, self.masks = nn.ParameterDict(), dict[str, Tensor]()
        for name, tensors in net.weights().items():
            if name in net.architecture.biases:
                self.weights[name] = nn.Parameter(tensors[0].detach().clone())
                continue
            constant = name in net.sweep.fixed
            count = 1 if name == net.architecture.interconnection and net.shared_x else net.layers
            self.weights[name] = nn.Parameter(dense(net, name)[:count], requires_grad=not constant)
            self.masks[name] = dense(net, name, torch.ones_like)[:count]

    def forward(self, y: Tensor) -> Tensor:
        """y0 -> yN, (batch, neurons)."""
        parts = [y[:, columns] for columns in self.columns]
        whole = {name: w * self.masks[name] if name in self.masks else w for name, w in self.weights.items()}
        for j in range(self.layers):
            layer = {name: w[j % len(w)] for name, w in whole.items()}
            forces = self.forces(layer, self.sigma, self.step, self.gamma)
            parts = self.integrate(parts, forces, self.step)
        out = y.new_empty(y.shape)
        for columns, part in zip(self.columns, parts, strict=True):
            out = out.index_copy(1, columns, part)
        return out


def hamiltonian(w: Matrices, s: Activation, h: float, gamma: float) -> list[Force]:
    """p' = -Xᵀ Kqᵀ s(Kq q + bq), q' = X Kpᵀ s(Kp p + bp)."""
    X = w.get("X", torch.eye(len(w["bp"]), dtype=w["bp"].dtype))
    return [
        lambda q: -s(q @ w["Kq"].T + w["bq"]) @ w["Kq"] @ X,
        lambda p: s(p @ w["Kp"].T + w["bp"]) @ w["Kp"] @ X.T,
    ]


def h1(w: Matrices, s: Activation, h: float, gamma: float) -> list[Force]:
    """y' = J Kᵀ s(K y + b)."""
    J = w["J"] - w["J"].T
    return [lambda y: s(y @ w["K"].T + w["b"]) @ w["K"] @ J.T]


def ms1(w: Matrices, s: Activation, h: float, gamma: float) -> list[Force]:
    """p' = s(K q + bp), q' = s(-Kᵀ p + bq)."""
    return [lambda q: s(q @ w["K"].T + w["bp"]), lambda p: s(-p @ w["K"] + w["bq"])]


def verlet(w: Matrices, s: Activation, h: float, gamma: float) -> list[Force]:
    """p' = -s(Kᵀ q + b), q' = s(K p + b)."""
    return [lambda q: -s(q @ w["K"] + w["b"]), lambda p: s(p @ w["K"].T + w["b"])]


def leapfrog(w: Matrices, s: Activation, h: float, gamma: float) -> list[Force]:
    """p' = -Kᵀ s(K q + b), q' = p."""
    return [lambda q: -s(q @ w["K"].T + w["b"]) @ w["K"], lambda p: p]


def antisymmetric(w: Matrices, s: Activation, h: float, gamma: float) -> list[Force]:
    """y' = s((S - Sᵀ - gamma) y + b)."""
    A = w["S"] - w["S"].T - gamma * torch.eye(len(w["b"]), dtype=w["b"].dtype)
    return [lambda y: s(y @ A.T + w["b"])]


def near_identity(w: Matrices, s: Activation, h: float, gamma: float) -> list[Force]:
    """(φ(x) - y) / h for x = (1 + h A) y + h b and φ(x) = x + h s(x)."""

    def rate(y: Tensor) -> Tensor:
        x = y + h * (y @ w["A"].T + w["b"])
        return (x + h * s(x) - y) / h

    return [rate]


def feed_forward(w: Matrices, s: Activation, h: float, gamma: float) -> list[Force]:
    """s(A y + b)."""
    return [lambda y: s(y @ w["A"].T + w["b"])]


FORCES = {
    "hamiltonian": hamiltonian,
    "MS3": hamiltonian,
    "H1": h1,
    "MS1": ms1,
    "verlet": verlet,
    "leapfrog": leapfrog,
    "antisymmetric": antisymmetric,
    "MS2": antisymmetric,
    "near_identity": near_identity,
    "resnet": feed_forward,
    "mlp": feed_forward,
}


def semi_implicit(parts: list[Tensor], forces: list[Force], h: float) -> list[Tensor]:
    p, q = parts
    p = p + h * forces[0](q)
    return [p, q + h * forces[1](p)]


def stormer_verlet(parts: list[Tensor], forces: list[Force], h: float) -> list[Tensor]:
    p, q = parts
    p = p + 0.5 * h * forces[0](q)
    q = q + h * forces[1](p)
    return [p + 0.5 * h * forces[0](q), q]


def yoshida4(parts: list[Tensor], forces: list[Force], h: float) -> list[Tensor]:
    root = 2.0 ** (1.0 / 3.0)
    for share in (1.0 / (2.0 - root), -root / (2.0 - root), 1.0 / (2.0 - root)):
        parts = stormer_verlet(parts, forces, share * h)
    return parts


INTEGRATORS: dict[str, Callable[[list[Tensor], list[Force], float], list[Tensor]]] = {
    "semi_implicit": semi_implicit,
    "stormer_verlet": stormer_verlet,
    "yoshida4": yoshida4,
    "forward_euler": lambda parts, forces, h: [parts[0] + h * forces[0](parts[0])],
    "layer_map": lambda parts, forces, h: [forces[0](parts[0])],
}


def dense(net: HDNN, which: str, of: object = None) -> Tensor:
    """All layers of a matrix ("Kp", "X", ...) as dense matrices (layers, n, n), zero off the pattern.

    of: None for the weights, "grad" for their gradients (of weights free in time), or a function of the weights such as
    torch.ones_like. Of a skew matrix, the entries above the diagonal.
    """
    n = len(net.columns[0])
    tensors = net.weights()[which]
    matrices = tensors[0].new_zeros(net.layers, n, n)
    for layer in range(net.layers):
        rows, columns = net.scalar_positions(which, layer)
        stage, row = layer % len(net.graphs), layer // len(net.graphs)
        if which == net.architecture.interconnection and net.shared_x:
            stage, row = 0, 0
        values = tensors[stage]
        if of is not None:
            values = getattr(net, which)[stage].grad if of == "grad" else of(values)  # type: ignore[operator]
        assert values is not None, "no gradient yet: call backward() first"
        matrices[layer, rows, columns] = values[row].detach()
    return matrices.detach()
