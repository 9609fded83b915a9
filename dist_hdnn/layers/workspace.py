"""Memory of a sweep: every version of the state and what adjoints need, allocated once per batch shape and leased.

With `store` every update writes a new version of its part and keeps its own memory, because a backward sweep will
follow; without, parts are overwritten in place and memory does not grow with depth.
Shapes: versions (columns, B) per part; `columns` = owned + ghost neurons of the stage with the largest halo.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from dist_hdnn.layers.activations import Activation
from dist_hdnn.layers.architectures import Architecture, Force
from dist_hdnn.layers.dynamics import (
    Activated,
    Drift,
    Gradient,
    Interconnected,
    Memory,
    NearIdentity,
    Term,
    TermWeights,
)
from dist_hdnn.layers.exchange import Exchange
from dist_hdnn.layers.linear import LinearMap, Matrix, Skew, Transposed, column_space
from dist_hdnn.layers.operators import BlockOperator
from dist_hdnn.layers.plans import bind
from dist_hdnn.layers.products import BlockProducts, BlockWeights
from dist_hdnn.layers.updates import Update


class Stage(NamedTuple):
    """What layers of one graph share whatever the batch: plan and exchange of K, and of X unless it is the identity."""

    K: BlockOperator
    K_exchange: Exchange
    X: BlockOperator | None
    X_exchange: Exchange | None


class Model(NamedTuple):
    """What a sweep computes, whatever the batch."""

    architecture: Architecture
    stages: list[Stage]
    sigma: Activation
    layers: int
    h: float
    gamma: float = 0.0

    def terms(self, stage: Stage, like: Tensor) -> list[Term]:
        """Each part's term with the memory of one batch (batch, neurons) like `like`."""
        K = bind(stage.K, stage.K_exchange, like)
        X = None if stage.X is None or stage.X_exchange is None else bind(stage.X, stage.X_exchange, like)
        gradient = Gradient(K, self.sigma) if any(f.kind == "gradient" for f in self.architecture.forces) else None
        return [self._term(force, K, X, gradient) for force in self.architecture.forces]

    def _term(self, force: Force, K: BlockProducts, X: BlockProducts | None, gradient: Gradient | None) -> Term:
        """gradient: one for all parts, because they take turns."""
        owned = K.output[: K.operator.rows]
        if force.kind == "drift":
            return Drift(owned)
        if force.kind == "near_identity":
            return NearIdentity(Matrix(K), self.sigma, self.h, owned)
        if gradient is None:
            linear: LinearMap = Matrix(K)
            if force.kind == "activated_transposed":
                linear = Transposed(K, force.factor)
            elif force.kind == "activated_skew":
                linear = Skew(K, self.gamma)
            return Activated(linear, self.sigma, owned)
        if X is None or not force.interconnection:
            return gradient
        coupling: LinearMap = {"X": Matrix, "Xᵀ": Transposed, "J": Skew}[force.interconnection](X)
        columns, rows = column_space(X)
        return Interconnected(gradient, coupling, columns if coupling.needs_ghosts else rows)


class Workspace:
    """Versions and updates of every layer of `model`, for states (batch, neurons) like `like`.

    updates: every layer's, in order. boundaries: owned rows of every part before each layer and after the last.
    cotangents: memory for one vector per part, (neurons, B).
    """

    def __init__(self, model: Model, like: Tensor, store: bool) -> None:
        self.batch, self.store = like.shape[0], store
        self.ticket = 0  # how often it was leased
        self.like = like.new_empty(0)
        self.panels: dict[tuple[str, int], Tensor] = {}
        self.weights: list[list[TermWeights]] = []  # views that the last forward sweep used
        self.owned = model.stages[0].K.rows
        self._terms = [model.terms(stage, like) for stage in model.stages]
        self._columns = [stage.K.column_neurons for stage in model.stages]
        self._memories: dict[tuple[int, int], Iterator[Memory]] = {}
        self._readers: dict[int, int] = {}  # by id of a version, the stage that reads it with its ghosts
        self._slices: dict[tuple[int, int], Tensor] = {}
        parts = len(model.architecture.forces)
        self.cotangents = [self.like.new_empty(self.owned, self.batch) for _ in range(parts)]
        self._versions = [self._memory(model, part) for part in range(parts)]  # keeps them, and so their ids
        self._written = [iter(versions) for versions in self._versions]
        current = [next(written) for written in self._written]
        self.boundaries = [[self._rows(version) for version in current]]
        self.updates: list[list[Update]] = []
        for layer in range(model.layers):
            steps = model.architecture.integrator.steps
            updates = [self._update(model, layer % len(model.stages), current, *step) for step in steps]
            self.updates.append(updates)
            self.boundaries.append([self._rows(version) for version in current])

    def panel_buffer(self, name: str, stage: int, layers: int, stored: int) -> Tensor:
        """Panels (layers, stored) that only ever get weights written at the same places: the rest stays zero."""
        key = (name, stage)
        if key not in self.panels:
            self.panels[key] = self.like.new_zeros(layers, stored)
        return self.panels[key]

    def coupled(self, part: int, stage: int, v: Tensor, X: BlockWeights | None) -> Tensor:
        """The interconnection of a part's force alone, applied to owned rows: X v, Xᵀ v, J v, or v if there is none."""
        term = self._terms[stage][part]
        if not isinstance(term, Interconnected):
            return v
        assert X is not None, "an interconnection has weights"
        return term.coupling.tangent(v, X)

    def _memory(self, model: Model, part: int) -> tuple[Tensor, ...]:
        """All versions of a part in one allocation, with room for ghosts where a term gathers them."""
        architecture = model.architecture
        gathered = any(
            force.source == part and term.needs_ghosts
            for terms in self._terms
            for force, term in zip(architecture.forces, terms, strict=True)
        )
        writes = sum(advanced == part for advanced, _ in architecture.integrator.steps)
        versions = 1 + model.layers * writes if self.store else 1
        size = max(self._columns) if gathered else self.owned
        return self.like.new_empty(versions, size, self.batch).unbind(0)

    def _update(self, model: Model, stage: int, current: list[Tensor], part: int, coefficient: float) -> Update:
        """The next update; puts the version it writes into `current`."""
        integrator, force, term = (
            model.architecture.integrator,
            model.architecture.forces[part],
            self._terms[stage][part],
        )
        x, fresh = self._read(current[force.source], stage, term.needs_ghosts)
        if (stage, part) not in self._memories:
            layers = len(range(stage, model.layers, len(model.stages)))
            uses = layers * sum(advanced == part for advanced, _ in integrator.steps) if self.store else 1
            self._memories[stage, part] = itertools.cycle(term.memories(uses))
        memory = next(self._memories[stage, part])
        old = current[part]
        if self.store:
            current[part] = next(self._written[part])
        scale = 1.0 if integrator.replaces else coefficient * model.h * force.sign
        return Update(
            part,
            force.source,
            term,
            memory,
            x,
            fresh,
            self._rows(old),
            self._rows(current[part]),
            scale,
            integrator.replaces,
        )

    def _read(self, version: Tensor, stage: int, gathers: bool) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """The tensor in which a term of this stage reads a version, and the copy to make before, if there is one."""
        if not gathers:
            return self._rows(version), None
        size = self._columns[stage]
        if self.store and self._readers.setdefault(id(version), stage) != stage:
            copy = self.like.new_empty(size, self.batch)
            return copy, (self._rows(version), self._rows(copy))
        return self._slice(version, size), None  # ghosts of a smaller halo lie in the same rows

    def _rows(self, version: Tensor) -> Tensor:
        return self._slice(version, self.owned)

    def _slice(self, version: Tensor, size: int) -> Tensor:
        """The first rows of a version, always the same Python object: exchanges know tensors by identity."""
        if len(version) == size:
            return version
        key = id(version), size
        if key not in self._slices:
            self._slices[key] = version[:size]
        return self._slices[key]


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
