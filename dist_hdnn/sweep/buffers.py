"""Memory of a sweep: every version of the state and what adjoints need, allocated once per batch shape and leased.

In the layers that are kept every update writes a new version of its part and keeps its own memory, because a backward
sweep will follow; with none kept, parts are overwritten in place and memory does not grow with depth.
Shapes: versions (columns, B) per part; `columns` = owned + ghost neurons of the stage with the largest halo.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from dist_hdnn.dynamics.architectures import Architecture, Force
from dist_hdnn.dynamics.linear import LinearMap, Matrix, Skew, Transposed, column_space
from dist_hdnn.dynamics.reversal import GradientReversal, Reversal, has_gradient, reversal
from dist_hdnn.dynamics.step import Update
from dist_hdnn.dynamics.terms import (
    Activated,
    Drift,
    Gradient,
    Interconnected,
    Memory,
    NearIdentity,
    Term,
)
from dist_hdnn.operators.activations import Activation
from dist_hdnn.operators.choice import bind
from dist_hdnn.operators.exchange import Booking, Exchange, Rebooked, Silent
from dist_hdnn.operators.products import BlockProducts, BlockWeights
from dist_hdnn.operators.sparsity import BlockOperator


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

    def reversals(self, stage: Stage, terms: list[Term], like: Tensor) -> list[Reversal | None]:
        """Of each part, value and adjoint in the same rounds, if its term has that form and sums are not ordered."""
        joint = None
        if any(map(has_gradient, terms)) and not stage.K_exchange.ordered:  # one for all parts: they take turns
            joint = GradientReversal(Gradient(bind(stage.K, Silent(), like), self.sigma), stage.K_exchange)
        return [reversal(term, joint) for term in terms]

    def rebooked(self, booking: Booking) -> Model:
        """The same on exchanges that ask `booking` for the phase."""

        def of(exchange: Exchange | None) -> Any:
            return None if exchange is None else Rebooked(exchange, booking)

        stages = [s._replace(K_exchange=of(s.K_exchange), X_exchange=of(s.X_exchange)) for s in self.stages]
        return self._replace(stages=stages)

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
    """Versions and updates of the layers of `model`, for states (batch, neurons) like `like`.

    kept: layers whose versions are kept, all or the first ones, whose updates others can take in turn; 0: none.
    reverses: updates can be retraced.
    updates: of every layer, or of the kept ones, in order. boundaries: owned rows of every part before each of these
    and after the last. cotangents: memory for one vector per part, (neurons, B).
    """

    def __init__(self, model: Model, like: Tensor, kept: int = 0, reverses: bool = False) -> None:
        self.batch, self.kept = like.shape[0], kept
        self.like = like.new_empty(0)
        self.panels: dict[tuple[str, int], Tensor] = {}
        self.owned = model.stages[0].K.rows
        self._terms = [model.terms(stage, like) for stage in model.stages]
        self._reversals: list[list[Reversal | None]] = [[None] * len(terms) for terms in self._terms]
        if reverses:
            pairs = zip(model.stages, self._terms, strict=True)
            self._reversals = [model.reversals(stage, terms, like) for stage, terms in pairs]
        self._columns = [stage.K.column_neurons for stage in model.stages]
        self._memories: dict[tuple[int, int], Iterator[Memory]] = {}
        self._readers: dict[int, int] = {}  # by id of a version, the stage that reads it with its ghosts
        self._slices: dict[tuple[int, int], Tensor] = {}
        parts = len(model.architecture.forces)
        self._cotangents = [self.like.new_empty(max(self._columns), self.batch) for _ in range(parts)]
        self.cotangents = [self._rows(cotangent) for cotangent in self._cotangents]
        self._versions = [self._memory(model, part) for part in range(parts)]  # keeps them, and so their ids
        self._written = [iter(versions) for versions in self._versions]
        current = [next(written) for written in self._written]
        self.boundaries: list[Sequence[Tensor]] = [[self._rows(version) for version in current]]
        self.updates: list[list[Update]] = []
        for layer in range(kept or model.layers):
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
        versions = 1 + self.kept * writes
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
            layers = len(range(stage, self.kept, len(model.stages)))
            uses = layers * sum(advanced == part for advanced, _ in integrator.steps)
            self._memories[stage, part] = itertools.cycle(term.memories(uses or 1))
        memory = next(self._memories[stage, part])
        old = current[part]
        if self.kept:
            current[part] = next(self._written[part])
        scale = 1.0 if integrator.replaces else coefficient * model.h * force.sign
        return Update(
            part,
            force.source,
            term,
            memory,
            x,
            fresh,
            self._slice(self._cotangents[part], self._columns[stage])
            if term.gathers_cotangent
            else self.cotangents[part],
            self._rows(old),
            self._rows(current[part]),
            scale,
            integrator.replaces,
            self._reversals[stage][part],
        )

    def _read(self, version: Tensor, stage: int, gathers: bool) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """The tensor in which a term of this stage reads a version, and the copy to make before, if there is one."""
        if not gathers:
            return self._rows(version), None
        size = self._columns[stage]
        if self.kept and self._readers.setdefault(id(version), stage) != stage:
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
