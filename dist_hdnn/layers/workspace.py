"""Memory of a sweep: every layer's record and scratch, allocated once per batch shape and leased to one sweep at a time.

With `store` each layer has its own record, because a backward sweep will follow; without, two alternate and memory does
not grow with depth.
Shapes: states (columns, B) per half; `columns` = owned + ghost neurons of the stage with the largest halo.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dist_hdnn.layers.dynamics import Interconnection, PotentialGradient, Scratch
from dist_hdnn.layers.integrators import LayerRecord, Stage

StageProducts = tuple[PotentialGradient, Interconnection | None]


class Workspace:
    """Records and scratch of `layers` layers that cycle through `stages`, for states (batch, neurons) like `like`."""

    def __init__(self, stages: list[StageProducts], layers: int, like: Tensor, store: bool) -> None:
        self.batch, self.store = like.shape[0], store
        self.ticket = 0  # how often it was leased
        self.stages = [
            Stage(
                potential,
                coupling,
                Scratch(potential.operator, self.batch, like),
                None if coupling is None else Scratch(coupling.operator, self.batch, like),
            )
            for potential, coupling in stages
        ]
        self.like = like.new_empty(0)
        self.panels: dict[tuple[str, int], Tensor] = {}
        columns = [potential.operator.column_neurons for potential, _ in stages]
        rows = max(potential.operator.rows for potential, _ in stages)
        states, memories = (layers + 1, layers) if store else (2, 1)
        self.p, self.q = self._memory(states, max(columns)), self._memory(states, max(columns))
        self.dp, self.dq = self._memory(2, max(columns))
        keeps_argument = stages[0][0].sigma.keeps_argument
        x_columns = max(0 if coupling is None else coupling.operator.column_neurons for _, coupling in stages)
        z_q, z_p = self._memory(memories, rows), self._memory(memories, rows)
        u_q, u_p = (self._memory(memories, rows) if keeps_argument else [None] * memories for _ in range(2))
        force_q = self._memory(memories, rows) if x_columns else [None] * memories
        force_p = self._memory(memories, x_columns) if x_columns else [None] * memories
        self.records = []
        for layer in range(layers):
            here, there, memory = layer % states, (layer + 1) % states, layer % memories
            size = columns[layer % len(stages)]  # ghosts of a smaller halo lie in the same rows
            state = (self.p[here][:size], self.q[here][:size], self.p[there][:size], self.q[there][:size])
            kept = (z_q[memory], z_p[memory], u_q[memory], u_p[memory], force_q[memory], force_p[memory])
            self.records.append(LayerRecord(*state, *kept))
        self.final = layers % states

    def _memory(self, count: int, size: int) -> list[Tensor]:
        return list(self.like.new_empty(count, size, self.batch).unbind(0))

    def panel_buffer(self, name: str, stage: int, layers: int, stored: int) -> Tensor:
        """Panels (layers, stored) that only ever get weights written at the same places: the rest stays zero."""
        key = (name, stage)
        if key not in self.panels:
            self.panels[key] = self.like.new_zeros(layers, stored)
        return self.panels[key]


class WorkspacePool:
    """Workspaces not in use; a sweep leases one and returns it, so two sweeps at once never share memory."""

    KEPT = 4  # shapes kept for the next sweep: a training batch, a short last batch, and two for evaluation

    def __init__(self) -> None:
        self._idle: dict[tuple[object, ...], Workspace] = {}

    def lease(self, like: Tensor, store: bool, make: Callable[[], Workspace]) -> Workspace:
        """An idle workspace for this batch, dtype, device and mode, or a new one."""
        workspace = self._idle.pop(self._key(like.shape[0], like, store), None) or make()
        workspace.ticket += 1
        return workspace

    def give_back(self, workspace: Workspace) -> None:
        """Keep a workspace for the next sweep of its shape; beyond `KEPT` the oldest goes."""
        self._idle[self._key(workspace.batch, workspace.like, workspace.store)] = workspace
        while len(self._idle) > self.KEPT:
            del self._idle[next(iter(self._idle))]

    def clear(self) -> None:
        """Drop all memory, for instance before a module moves to another device."""
        self._idle.clear()

    @staticmethod
    def _key(batch: int, like: Tensor, store: bool) -> tuple[object, ...]:
        return batch, like.dtype, like.device, store

    def __deepcopy__(self, memo: dict[int, object]) -> WorkspacePool:
        return WorkspacePool()

    def __reduce__(self) -> tuple[type[WorkspacePool], tuple[()]]:
        return WorkspacePool, ()
