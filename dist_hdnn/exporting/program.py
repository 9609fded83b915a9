"""A trained network as a plain module: the same formula in ordinary tensor operations, for `torch.export`.

    plain = plain_copy(model)      any nn.Module; every HDNN and gossip inside becomes plain, all else is copied

No autograd function, no workspace, no exchange: products gather the blocks' columns, multiply them in one batch and add
them up by row agent, so memory follows the blocks, never agents squared. Not for training: weights are buffers.
Shapes: y (batch, neurons) at the edge; inside, slices (agents, w, batch), w the widest agent's neurons of a part;
narrower agents end in rows that nothing reads. Matrices (layers, blocks, w, w).
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dist_hdnn.dynamics.architectures import Force
from dist_hdnn.dynamics.terms import TERMS
from dist_hdnn.dynamics.use import Constants
from dist_hdnn.ends.gossip import MetropolisAverage
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.topology.ragged import IntArray, ragged_ranges


def plain_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module whose networks and gossip are plain. Raises ValueError on several workers."""
    replaced: dict[int, object] = {}
    for part in module.modules():
        if isinstance(part, HDNN):
            replaced[id(part)] = PlainNetwork(part)
        elif isinstance(part, MetropolisAverage):
            replaced[id(part)] = PlainAverage(part)
    plain: nn.Module = copy.deepcopy(module, replaced)
    return plain.eval().requires_grad_(False)


def check_alone(net: HDNN) -> None:
    """Raise ValueError unless this process holds the whole network."""
    if not net.ownership.alone:
        raise ValueError(
            f"export: expected a network of one process, got worker {net.ownership.rank}'s part of one on "
            f"{net.ownership.workers}. Save its state_dict, load it into a network without workers, and export that."
        )


class Blocks(nn.Module):
    """A block-sparse matrix of several layers: block b is at (rows[b], columns[b]) of agents x agents.

    row, column: neurons of every weight; values: (layers, entries). owner, inside: agent of every neuron, and its
    number there. w: neurons of the widest agent.
    """

    values: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, row: IntArray, column: IntArray, values: Tensor, owner: IntArray, inside: IntArray) -> None:
        super().__init__()
        agents, w = int(owner.max()) + 1, int(inside.max()) + 1
        keys, block = np.unique(owner[row] * agents + owner[column], return_inverse=True)
        place = torch.from_numpy((block * w + inside[row]) * w + inside[column]).to(values.device)
        filled = values.new_zeros(len(values), len(keys) * w * w).index_copy(1, place, values.detach())
        self.register_buffer("values", filled.view(-1, len(keys), w, w))
        self.register_buffer("rows", torch.from_numpy(keys // agents).to(values.device))
        self.register_buffer("columns", torch.from_numpy(keys % agents).to(values.device))

    def of(self, layer: int) -> LayerBlocks:
        """Return one layer's matrix."""
        return LayerBlocks(self.values[layer], self.rows, self.columns)


class LayerBlocks(NamedTuple):
    """One layer's blocks, (blocks, w, w), and the agents of their rows and columns."""

    values: Tensor
    rows: Tensor
    columns: Tensor

    def product(self, x: Tensor) -> Tensor:
        """Return K x of slices (agents, w, batch)."""
        return torch.zeros_like(x).index_add(0, self.rows, self.values @ x[self.columns])

    def transposed(self, x: Tensor) -> Tensor:
        """Return Kᵀ x of slices (agents, w, batch)."""
        return torch.zeros_like(x).index_add(0, self.columns, self.values.mT @ x[self.rows])

    def skew(self, x: Tensor) -> Tensor:
        """Return (S - Sᵀ) x of slices (agents, w, batch)."""
        return self.product(x) - self.transposed(x)


class PlainNetwork(nn.Module):
    """A copy of a network in plain operations, (batch, neurons) -> (batch, neurons). Raises ValueError.

    It has `by_agent`, `local`, `neurons`, `widths` and `owned` for modules that use them; other names of an HDNN are
    refused in one line.
    """

    def __init__(self, net: HDNN) -> None:
        super().__init__()
        check_alone(net)
        self.architecture, self.step, self.layers = net.architecture, net.step, net.layers
        self.stages, self.gamma, self.sigma = len(net.graphs), net.sweep.spec.gamma, net.sweep.spec.sigma
        self.agents, sizes = net.graph.agents, net.layout.sizes
        self.neurons, self.widths, self.owned, self.local = net.neurons, net.widths, net.owned, nn.Identity()
        owner, inside = np.repeat(np.arange(len(sizes)), sizes), ragged_ranges(np.zeros_like(sizes), sizes)
        self.width = int(sizes.max())
        device = next(net.parameters()).device
        slots = torch.from_numpy(owner * self.width + inside).to(device)
        self.register_buffer("slots", slots)  # of every neuron of a part, its row among all slices' rows
        for part, columns in enumerate(net.columns):
            self.register_buffer(f"columns{part}", torch.from_numpy(columns).to(device))
        self.matrices = nn.ModuleDict()
        for name, tensors in net.weights().items():
            if name in net.architecture.biases:
                bias = tensors[0].detach().new_zeros(net.layers, self.agents * self.width)
                padded = bias.index_copy(1, slots, tensors[0].detach())
                self.register_buffer(name, padded.view(net.layers, self.agents, self.width, 1))
                continue
            for s, values in enumerate(tensors):
                row, column = (index.numpy() for index in net.scalar_positions(name, s))
                self.matrices[f"{name}{s}"] = Blocks(row, column, values, owner, inside)

    def forward(self, y: Tensor) -> Tensor:
        """Map y0 (batch, neurons) to yN."""
        columns = [self.get_buffer(f"columns{part}") for part in range(len(self.architecture.parts))]
        slots, rows = self.get_buffer("slots"), y.t()
        zeros = y.new_zeros(self.agents * self.width, y.shape[0])
        shape = self.agents, self.width, y.shape[0]
        parts = [zeros.index_copy(0, slots, rows[index]).view(shape) for index in columns]
        integrator = self.architecture.integrator
        for layer in range(self.layers):
            for part, coefficient in integrator.steps:
                force = self.architecture.forces[part]
                v = force.sign * self._force(force, parts[force.source], layer)
                parts[part] = v if integrator.replaces else parts[part] + coefficient * self.step * v
        out = torch.zeros_like(rows)
        for index, part_of_state in zip(columns, parts, strict=True):
            out = out.index_copy(0, index, part_of_state.reshape(zeros.shape)[slots])
        return out.t()

    def by_agent(self, state: Tensor) -> dict[int, Tensor]:
        """Split a state (batch, neurons) into {agent: (batch, its neurons)}."""
        return dict(enumerate(state.split(self.widths.tolist(), dim=1)))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or not hasattr(HDNN, name):
                raise
        raise ValueError(
            f"export: expected a module that uses net(y), net.by_agent or net.local, got one that uses net.{name}, "
            "which an exported program does not have. Read it when the module is made, and keep it there."
        )

    def _force(self, force: Force, x: Tensor, layer: int) -> Tensor:
        """Return the force on a part, without sign, at the part x that it depends on."""
        constants = Constants(self.sigma, self.step, self.gamma, force.factor)
        K: Any = self._matrix(force.K, layer) if force.K else None
        b: Any = self.get_buffer(force.b)[layer] if force.b else None
        v: Tensor = TERMS[force.kind].plain(K, b, x, constants)
        if not force.interconnection:
            return v
        X = self._matrix(force.interconnection.removesuffix("ᵀ"), layer)
        return {"X": X.product, "Xᵀ": X.transposed, "J": X.skew}[force.interconnection](v)

    def _matrix(self, name: str, layer: int) -> LayerBlocks:
        """Return the matrix of a name that a layer uses."""
        s = layer % self.stages if f"{name}{layer % self.stages}" in self.matrices else 0
        matrix = self.matrices[f"{name}{s}"]  # one for all layers where they share it
        assert isinstance(matrix, Blocks)
        return matrix.of(min(layer // self.stages, len(matrix.values) - 1))


class PlainAverage(nn.Module):
    """The rounds of gossip of a `MetropolisAverage` in plain operations, (batch, agents, values) -> averages."""

    def __init__(self, average: MetropolisAverage) -> None:
        super().__init__()
        self.rounds, pattern = average.rounds, average.operator.pattern
        agents = np.arange(average.operator.rows)
        weights = average.get_buffer("weights")
        self.matrix = Blocks(pattern.scalar_rows(), pattern.scalar_columns(), weights, agents, np.zeros_like(agents))

    def forward(self, values: Tensor) -> Tensor:
        """Average in all rounds."""
        batch, agents, size = values.shape
        x = values.transpose(0, 1).reshape(agents, 1, batch * size)
        matrix = self.matrix.to(x.dtype).of(0)
        for _ in range(self.rounds):
            x = matrix.product(x)
        return x.view(agents, batch, size).transpose(0, 1)
