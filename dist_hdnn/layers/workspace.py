"""Memory of a sweep: every layer's record and scratch, allocated once per batch shape, leased to one sweep at a time.

With `store` each layer has its own record, because a backward sweep will follow; without, two alternate and memory does
not grow with depth.
Shapes: states (columns, B) per half; `columns` = owned + ghost neurons of the stage with the largest halo.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from dist_hdnn.layers.activations import Activation
from dist_hdnn.layers.dynamics import Interconnection, PotentialGradient
from dist_hdnn.layers.exchange import Exchange
from dist_hdnn.layers.integrators import Field, LayerRecord, LayerWeights
from dist_hdnn.layers.operators import BlockOperator
from dist_hdnn.layers.products import Rows


class Stage(NamedTuple):
    """What layers of one graph share whatever the batch: plan and exchange of K, and of X unless it is the identity."""

    K: BlockOperator
    K_exchange: Exchange
    X: BlockOperator | None
    X_exchange: Exchange | None

    def bound(self, sigma: Activation, like: Tensor) -> Field:
        """The products with the memory of one batch (batch, neurons) like `like`."""
        potential = PotentialGradient(self.K, self.K_exchange, sigma, like)
        if self.X is None or self.X_exchange is None:
            return Field(potential, None)
        return Field(potential, Interconnection(self.X, self.X_exchange, like))


class Workspace:
    """Records and scratch of `layers` layers that cycle through `stages`, for states (batch, neurons) like `like`."""

    def __init__(self, stages: list[Stage], sigma: Activation, layers: int, like: Tensor, store: bool) -> None:
        self.batch, self.store = like.shape[0], store
        self.ticket = 0  # how often it was leased
        self.like = like.new_empty(0)
        self.fields = [stage.bound(sigma, like) for stage in stages]
        self.panels: dict[tuple[str, int], Tensor] = {}
        self.weights: list[LayerWeights] = []  # views that the last forward sweep used
        columns = [stage.K.column_neurons for stage in stages]
        owned = stages[0].K.rows
        states, memories = (layers + 1, layers) if store else (2, 1)
        self.p, self.q = self._memory(states, max(columns)), self._memory(states, max(columns))
        self.dp, self.dq = self._memory(2, owned)
        z_q, z_p = self._rows(memories, layers), self._rows(memories, layers)
        u_q: list[Rows] | list[None] = [None] * layers
        u_p: list[Rows] | list[None] = [None] * layers
        if sigma.keeps_argument:
            u_q, u_p = self._rows(memories, layers), self._rows(memories, layers)
        x_columns = [0 if stage.X is None else stage.X.column_neurons for stage in stages]
        force_q = self._memory(memories, owned) if max(x_columns) else None
        force_p = self._memory(memories, max(x_columns)) if max(x_columns) else None
        self.records = []
        for layer in range(layers):
            here, there, memory = layer % states, (layer + 1) % states, layer % memories
            size = columns[layer % len(stages)]  # ghosts of a smaller halo lie in the same rows
            record = LayerRecord(
                p=self.p[here][:size],
                q=self.q[here][:size],
                p_next=self.p[there][:size],
                q_next=self.q[there][:size],
                z_q=z_q[layer],
                z_p=z_p[layer],
                u_q=u_q[layer],
                u_p=u_p[layer],
                force_q=None if force_q is None else force_q[memory],
                force_p=None if force_p is None else force_p[memory][: x_columns[layer % len(stages)]],
            )
            self.records.append(record)
        self.final = layers % states

    def _memory(self, count: int, size: int) -> list[Tensor]:
        return list(self.like.new_empty(count, size, self.batch).unbind(0))

    def _rows(self, memories: int, layers: int) -> list[Rows]:
        """One tensor in row space per layer; the layers of a stage share them where `memories` are fewer."""
        stages = len(self.fields)
        per_stage = [
            field.potential.products.rows(min(memories, len(range(s, layers, stages))))
            for s, field in enumerate(self.fields)
        ]
        return [per_stage[j % stages][(j // stages) % len(per_stage[j % stages])] for j in range(layers)]

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

    @staticmethod
    def _key(batch: int, like: Tensor, store: bool) -> tuple[object, ...]:
        return batch, like.dtype, like.device, store

    def __deepcopy__(self, memo: dict[int, object]) -> WorkspacePool:
        return WorkspacePool()

    def __reduce__(self) -> tuple[type[WorkspacePool], tuple[()]]:
        return WorkspacePool, ()
