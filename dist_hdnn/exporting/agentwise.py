"""One agent's part of a network: its weights, its neighbors, and its rounds of messages.

    parts = AgentParts(net)
    parts.description(3)      plain values for JSON: who agent 3 is and what it does in every layer
    parts.tensors(3)          its rows of every matrix and bias, by name

Enough for an agent to run alone, exchanging slices with its neighbors: `one_agent.py` does so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.dynamics.architectures import Force
from dist_hdnn.dynamics.interconnection import interconnection_exchanges
from dist_hdnn.dynamics.terms import TERMS
from dist_hdnn.exporting.program import check_alone
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.topology import BlockPattern
from dist_hdnn.topology.ragged import IntArray, offsets

FORMAT = "dist_hdnn agent, version 1"


@dataclass(frozen=True)
class _Stored:
    """The blocks of a matrix that have weights, by rows and by columns. starts: of every agent's weights."""

    rows: BlockPattern
    columns: BlockPattern
    skew: bool
    starts: IntArray

    def of_row(self, agent: int) -> IntArray:
        """Return the column agents of an agent's row."""
        return self.rows.columns[self.rows.row_start[agent] : self.rows.row_start[agent + 1]]

    def peers(self, agent: int, exchange: str) -> tuple[list[int], list[int]]:
        """Return the agents to which an agent sends in an exchange, and those from which it receives."""
        start, stop = self.columns.row_start[agent : agent + 2]
        needed, needing = (
            [int(j) for j in ids if j != agent] for ids in (self.of_row(agent), self.columns.columns[start:stop])
        )
        return (needing, needed) if exchange == "gather" else (needed, needing)


class AgentParts:
    """The agents of a network of one process, one at a time. Raises ValueError on several workers."""

    def __init__(self, net: HDNN) -> None:
        check_alone(net)
        self.net, self.sizes, architecture = net, net.layout.sizes, net.architecture
        skew = {"K": architecture.skew, "X": architecture.interconnection == "J"}
        self.stored = {
            which: [self._stored(pattern, skew[which]) for pattern in patterns]
            for which, patterns in net.layout.stored.items()
        }
        self.weights = {name: [w.detach().cpu() for w in tensors] for name, tensors in net.weights().items()}
        self.starts = offsets(self.sizes)

    def description(self, agent: int) -> dict[str, Any]:
        """Return for JSON an agent's name, the layout of its tensors, and what it computes, sends and receives."""
        net, architecture = self.net, self.net.architecture
        parts, size = len(architecture.parts), int(self.sizes[agent])
        first = parts * int(self.starts[agent])

        def row(agents: IntArray) -> dict[str, list[int]]:
            return {"column_agents": agents.tolist(), "columns": self.sizes[agents].tolist()}

        return {
            "format": FORMAT,
            "agent": agent,
            "name": net.graph.names[agent],
            "neighbours": sorted({j for graph in net.graphs for j in graph.neighbours(agent)}),
            "architecture": architecture.name,
            "equation": architecture.equation,
            "activation": net.sweep.spec.sigma.name,
            "step": net.step,
            "gamma": net.sweep.spec.gamma,
            "layers": net.layers,
            "parts": list(architecture.parts),
            "neurons_per_part": size,
            "state_columns": [first, first + parts * size],
            "matrices": {name: [row(stored.of_row(agent)) for stored in self._of(name)] for name in self._matrices()},
            "schedule": [self._schedule(stage, agent) for stage in range(len(net.graphs))],
        }

    def tensors(self, agent: int) -> dict[str, Tensor]:
        """Return biases (layers, neurons), and for each graph rows "Kq.0" (layers of this graph, neurons, columns).

        Columns are those of the agents that `description` lists for the matrix, one after the other. Of skew matrices
        the entries above the diagonal; the interconnection has one layer where all share it.
        """
        own = slice(int(self.starts[agent]), int(self.starts[agent + 1]))
        tensors = {name: self.weights[name][0][:, own].clone() for name in self.net.architecture.biases}
        for name in self._matrices():
            for s, (stored, values) in enumerate(zip(self._of(name), self.weights[name], strict=False)):
                tensors[f"{name}.{s}"] = self._rows(stored, values, agent)
        return tensors

    def _rows(self, stored: _Stored, values: Tensor, agent: int) -> Tensor:
        """Return an agent's rows of a matrix, (layers, neurons, columns)."""
        size, seen = int(self.sizes[agent]), stored.of_row(agent)
        kept = np.ones((size, int(self.sizes[seen].sum())), dtype=np.bool_)
        if stored.skew:
            first = int(self.sizes[seen[: np.searchsorted(seen, agent)]].sum())
            kept[:, first : first + size] = np.triu(np.ones((size, size), dtype=np.bool_), 1)
        rows = values.new_zeros(len(values), kept.size)
        place = torch.from_numpy(np.flatnonzero(kept))
        rows[:, place] = values[:, int(stored.starts[agent]) : int(stored.starts[agent + 1])]
        return rows.view(len(values), *kept.shape)

    def _schedule(self, stage: int, agent: int) -> list[dict[str, Any]]:
        """Return the updates of a layer in order, with their rounds, numbered through the layer from 1."""
        net, number, updates = self.net, 0, []
        integrator, parts = net.architecture.integrator, net.architecture.parts
        for part, coefficient in integrator.steps:
            force = net.architecture.forces[part]
            rounds = []
            for matrix, exchange in self._exchanges(force):
                stored = self._of(matrix)[stage if len(self._of(matrix)) > 1 else 0]
                if not stored.rows.is_block_diagonal:
                    number += 1
                    rounds.append(self._round(number, matrix, exchange, stored, agent))
            updates.append(
                {
                    "part": parts[part],
                    "source": parts[force.source],
                    "kind": force.kind,
                    "K": force.K,
                    "b": force.b,
                    "factor": force.factor,
                    "interconnection": force.interconnection,
                    "scale": force.sign * (1.0 if integrator.replaces else coefficient * net.step),
                    "replaces": integrator.replaces,
                    "rounds": rounds,
                }
            )
        return updates

    def _round(self, number: int, matrix: str, exchange: str, stored: _Stored, agent: int) -> dict[str, Any]:
        to, sources = stored.peers(agent, exchange)
        own = int(self.sizes[agent])
        gather = exchange == "gather"  # own slices go out, others' come in; else others' go out
        sent = {j: [own if gather else int(self.sizes[j]), "batch"] for j in to}
        received = {j: [int(self.sizes[j]) if gather else own, "batch"] for j in sources}
        return {"round": number, "exchange": exchange, "matrix": matrix, "to": sent, "from": received}

    def _exchanges(self, force: Force) -> list[tuple[str, str]]:
        """Return (matrix, exchange) of a force, in order."""
        X = force.interconnection.removesuffix("ᵀ")
        own = [(force.K, exchange) for exchange in TERMS[force.kind].exchanges]
        return own + [(X, exchange) for exchange in interconnection_exchanges(force)]

    def _matrices(self) -> list[str]:
        architecture = self.net.architecture
        return [*architecture.matrices, *filter(None, [architecture.interconnection])]

    def _of(self, name: str) -> list[_Stored]:
        """Return the stored patterns of a matrix, one per graph, or the one of an interconnection that layers share."""
        if name != self.net.architecture.interconnection:
            return self.stored["K"]
        return self.stored["X"][: 1 if self.net.shared_x else None]

    def _stored(self, pattern: BlockPattern, skew: bool) -> _Stored:
        counts = np.bincount(pattern.rows(), self.sizes[pattern.columns], pattern.agents).astype(np.int64) * self.sizes
        if skew:
            own = pattern.rows()[pattern.rows() == pattern.columns]
            counts[own] -= self.sizes[own] * (self.sizes[own] + 1) // 2
        return _Stored(pattern, pattern.transpose(), skew, offsets(counts))
