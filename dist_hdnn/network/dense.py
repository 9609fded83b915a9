"""The dense one-process twin: whole matrices and plain autograd. The oracle of every test.

Slow and memory-hungry by design. The twin shares only the formula with the block-sparse sweep: it makes patterns,
positions and columns itself, from the graphs, the widths and the canonical `state_dict`. Every architecture is a
function that returns the forces on its parts, for one layer's weights w, and every integrator composes them.
Shapes: y (batch, neurons), columns agent by agent, p before q; parts (batch, neurons of the part).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.topology import BlockPattern, CommunicationGraph

Force = Callable[[Tensor], Tensor]
Activation = Callable[[Tensor], Tensor]
Matrices = dict[str, Tensor]


class DenseTwin:
    """The same network as `net`, a whole network in one process, with copies of its weights.

    weights: names and tensors of the `state_dict`, ready for gradients, and "J.0" where J is not trained. columns: of
    each part, its columns of the state. positions: (matrix, graph number) -> rows and columns of its entries.
    """

    def __init__(self, net: HDNN) -> None:
        self.step, self.layers, self.gamma = net.step, net.layers, net.sweep.spec.gamma
        self.sigma = net.sweep.spec.sigma.function
        self.time, self.shared_x, self.stages = net.time, net.shared_x, len(net.graphs)
        self.make_forces = FORCES[net.architecture.name]
        self.integrate = INTEGRATORS[net.architecture.integrator.name]
        self.weights = {name: w.detach().clone().requires_grad_() for name, w in net.state_dict().items()}
        if "skew" in dict(net.named_buffers()):
            self.weights["J.0"] = net.get_buffer("skew").detach().clone()
        widths = np.asarray(net.widths)
        parts = 1 if net.architecture.name in ONE_PART else 2
        self.sizes = widths // parts  # (agents,) neurons of a part
        starts = np.cumsum(widths) - widths  # first column of each agent
        self.columns = [
            torch.tensor([start + part * n + k for start, n in zip(starts, self.sizes, strict=True) for k in range(n)])
            for part in range(parts)
        ]
        self.positions = {}
        for key in self.weights:
            name, _, stage = key.partition(".")
            if stage:
                patterns = net.X_patterns if name in ("X", "J") else net.K_patterns
                assert patterns is not None, "an interconnection with weights has a pattern"
                mask = self._mask(net.graphs[int(stage)], patterns[int(stage)], skew=name in ("S", "J"))
                self.positions[name, int(stage)] = tuple(torch.from_numpy(mask).nonzero().T)

    def _mask(self, graph: CommunicationGraph, pattern: BlockPattern, skew: bool) -> NDArray[np.bool_]:
        """Return which entries (n, n) have weights; row by row, they are the entries of the `state_dict`."""
        linked = np.eye(len(self.sizes), dtype=bool)
        linked[graph.links[:, 0], graph.links[:, 1]] = linked[graph.links[:, 1], graph.links[:, 0]] = True
        kind, _, hops = pattern.kind.partition("=")
        if kind in ("neighbours", "block_diagonal", "hops"):
            power = int(hops) if hops else int(kind == "neighbours")
            blocks = np.linalg.matrix_power(linked.astype(float), power) > 0
        else:  # drawn or given: as the network says
            blocks = np.zeros_like(linked)
            blocks[pattern.rows(), pattern.columns] = True
        mask: NDArray[np.bool_] = blocks.repeat(self.sizes, axis=0).repeat(self.sizes, axis=1)
        return np.triu(mask, 1) if skew else mask

    def __call__(self, y: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Map the state before layer `first` to the state after layer `last` - 1, by default y0 to yN."""
        parts = [y[:, columns] for columns in self.columns]
        for j in range(first, self.layers if last is None else last):
            parts = self.integrate(parts, self.forces(j), self.step)
        out = y.new_empty(y.shape)
        for columns, part in zip(self.columns, parts, strict=True):
            out = out.index_copy(1, columns, part)
        return out

    def forces(self, layer: int) -> list[Force]:
        """Return the forces on the parts in a layer."""
        return self.make_forces(self.layer(layer), self.sigma, self.step, self.gamma)

    def layer(self, j: int) -> Matrices:
        """Return the matrices (n, n), of skew ones the upper half, and the biases (n,) of layer j."""
        n, s = int(self.sizes.sum()), j % self.stages
        found = {name: self._in_time(w, j, j) for name, w in self.weights.items() if "." not in name}
        for name in {name for name, _ in self.positions}:
            if name not in ("X", "J"):
                stage, entries = s, self._in_time(self.weights[f"{name}.{s}"], j, j // self.stages)
            elif self.shared_x:
                stage, entries = 0, self.weights[f"{name}.0"][0]
            else:
                stage, entries = s, self.weights[f"{name}.{s}"][j // self.stages]
            found[name] = entries.new_zeros(n, n).index_put(self.positions[name, stage], entries)
        return found

    def matrix(self, name: str) -> Tensor:
        """Return all layers of a matrix or bias, without gradients: (layers, n, n) or (layers, n)."""
        return torch.stack([self.layer(j)[name].detach() for j in range(self.layers)])

    def _in_time(self, sets: Tensor, j: int, row: int) -> Tensor:
        """Return the weights of layer j from sets (knots, ...): set `row` where every layer has its own."""
        if self.time == "free":
            return sets[row]
        if len(sets) == 1:
            return sets[0]
        place = j * (len(sets) - 1) / (self.layers - 1)  # in knots; the first and the last lie on a layer
        lower = min(int(place), len(sets) - 2)
        return (lower + 1 - place) * sets[lower] + (place - lower) * sets[lower + 1]


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


ONE_PART = ("H1", "antisymmetric", "MS2", "near_identity", "resnet", "mlp")
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
