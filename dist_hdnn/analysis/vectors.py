"""Vectors as large as the state, spread over the workers: inner products and random probes.

Shapes: vectors (batch, neurons of the owned agents), one vector per sample. Figures of a sample are global: all workers
call together and get the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.ends.readout import summed
from dist_hdnn.network.keyed_random import Purpose, normal
from dist_hdnn.network.ownership import Ownership
from dist_hdnn.topology.ragged import ragged_ranges


class LinearLayers(Protocol):
    """A network linearized at one batch of states, as `sweep.linearization.Linearization` is.

    push(tangent, first, last): ∂y_last/∂y_first times a tangent of layer `first`. pull(cotangent, last, first): its
    transpose times a cotangent of layer `last`. y_j is the state before layer j, j = 0 .. layers.
    """

    @property
    def layers(self) -> int: ...

    def push(self, tangent: Tensor, first: int, last: int) -> Tensor: ...

    def pull(self, cotangent: Tensor, last: int, first: int) -> Tensor: ...


class Space:
    """The state space of one network, for vectors (batch, owned neurons) in float64."""

    def __init__(self, ownership: Ownership, device: torch.device | str = "cpu") -> None:
        self.ownership, self.device = ownership, device
        self.neurons = int(ownership.all_widths.sum())
        self.columns = torch.from_numpy(ownership.shard_of_agents(ownership.all_widths, dimension=1).index).to(device)

    def dots(self, vectors: Sequence[Tensor], other: Tensor) -> Tensor:
        """Return inner products of each of `vectors` with `other`, (vectors, batch), by one global sum."""
        return summed(torch.stack([torch.linalg.vecdot(vector, other) for vector in vectors]), self.ownership)

    def norms(self, vector: Tensor) -> Tensor:
        """Return the Euclidean norm of every sample's vector, (batch,)."""
        return self.dots([vector], vector)[0].sqrt()

    def normalized(self, vector: Tensor) -> Tensor:
        """Divide every sample's vector by its norm, or return zero where that is zero."""
        return safe_divide(vector, self.norms(vector))

    def gaussian(self, seed: int, number: int, batch: int) -> Tensor:
        """Draw probe `number` of a seed: standard normal (batch, owned neurons), the same on any workers."""
        widths = self.ownership.widths
        owners = np.repeat(self.ownership.agents, widths).astype(np.uint64)
        neurons = ragged_ranges(np.zeros_like(widths), widths).astype(np.uint64)
        shape = (batch, len(owners))  # a number is keyed by agent, sample and neuron within the agent
        samples = np.broadcast_to(np.arange(batch, dtype=np.uint64)[:, None], shape)
        rows, elements = np.broadcast_to(owners, shape), np.broadcast_to(neurons, shape)
        values = normal(seed, Purpose.PROBE, number, rows, samples, elements)
        return torch.from_numpy(values).to(self.device)

    def identity(self) -> Tensor:
        """Return this worker's columns of the identity, (all neurons, owned neurons)."""
        unit = torch.zeros(self.neurons, len(self.columns), dtype=torch.float64, device=self.device)
        unit[self.columns, torch.arange(len(self.columns), device=self.device)] = 1.0
        return unit

    def whole(self, vectors: Tensor) -> Tensor:
        """Gather (rows, owned neurons) to (rows, all neurons) on every worker, for small networks."""
        if self.ownership.alone:
            return vectors
        everyone = vectors.new_zeros(len(vectors), self.neurons)
        return summed(everyone.index_copy_(1, self.columns, vectors), self.ownership)


def safe_divide(vector: Tensor, length: Tensor) -> Tensor:
    """Return vector (batch, neurons) / length (batch,), zero where the length is zero."""
    return vector * torch.where(length > 0, 1.0 / length, 0.0)[:, None]
