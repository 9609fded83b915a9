"""Halo exchange: the only two operations through which agents see each other.

    gather       owned slices           -> owned slices + ghosts    neighbour slices come in
    scatter_add  owned slices + ghosts  -> owned slices             contributions go out, their owners sum them

Each is the transpose of the other, so each is the other's backward pass. Both work in place on one buffer whose first
rows are the owned neurons and whose last rows are the ghosts.
Shapes: (owned + ghost neurons, batch); rows are neurons, so a slice is contiguous.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor

from dist_hdnn.topology import BlockPattern, CommunicationGraph, non_links


class Exchange(Protocol):
    """What the layers need of an exchange; `phase` ("forward" or "backward") says to which sweep a round is booked."""

    def gather(self, slices: Tensor, phase: str) -> None:
        """Fill the ghost rows of `slices` with their owners' rows."""

    def scatter_add(self, slices: Tensor, phase: str) -> None:
        """Add the ghost rows of `slices` to their owners' rows."""


@dataclass
class SimulatedExchange:
    """All agents in one process: there are no ghosts, so nothing moves, but every round is counted.

    What is counted is what the same agents would send on a network of their own: in a round each agent's slice goes
    once over every directed off-diagonal entry of the pattern.

    slice_neurons: neurons of each agent's slice (half its width), (agents,).
    """

    pattern: BlockPattern
    graph: CommunicationGraph
    slice_neurons: np.ndarray
    rounds: Counter[str] = field(default_factory=Counter)  # by phase
    columns: int = 0  # samples of all rounds together
    element_size: int = 0

    def __post_init__(self) -> None:
        rows, columns = self.pattern.rows(), self.pattern.columns
        between = rows != columns
        self.messages_per_round = int(between.sum())
        self.neurons_per_round = int(self.slice_neurons[columns[between]].sum())
        self.non_links_per_round = len(non_links(self.pattern, self.graph))

    def gather(self, slices: Tensor, phase: str) -> None:
        self._count(slices, phase)

    def scatter_add(self, slices: Tensor, phase: str) -> None:
        self._count(slices, phase)

    def _count(self, slices: Tensor, phase: str) -> None:
        if self.messages_per_round:
            self.rounds[phase] += 1
            self.columns += slices.shape[1]
            self.element_size = slices.element_size()

    def traffic(self) -> dict[str, int]:
        """Messages, bytes and messages between agents that are not linked, since the last `reset`."""
        rounds = self.rounds.total()
        return {
            "rounds": rounds,
            "messages": rounds * self.messages_per_round,
            "bytes": self.neurons_per_round * self.columns * self.element_size,
            "non_neighbour_messages": rounds * self.non_links_per_round,
        }

    def reset(self) -> None:
        """Start counting anew."""
        self.rounds.clear()
        self.columns = 0
