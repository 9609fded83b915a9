"""The sweep: the whole stack of layers as ONE autograd function, forward and backward in a fixed loop order.

    forward     y0 -> yN         layer 0 to layer N - 1
    backward    δyN -> δy0 and the gradient of every weight       layer N - 1 to layer 0

Nothing between the first and the last layer is an autograd node, so every worker runs the same exchanges in the same
order whatever its loss looks like.
Shapes: y (batch, neurons) at the edge, columns agent by agent, p before q; inside, (neurons of one part, batch).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dist_hdnn.layers.dynamics import NO_GRADIENTS, Drift, Gradient, Interconnected, TermWeights
from dist_hdnn.layers.plans import arrangement
from dist_hdnn.layers.products import BlockWeights, layer_weights
from dist_hdnn.layers.weights import GradientPanels, Operators, Weights, arranged, flatten, unflatten
from dist_hdnn.layers.workspace import Model, Workspace, WorkspacePool
from dist_hdnn.transport import Transport


class Place:
    """Where a sweep is; what error messages of the transport add."""

    def __init__(self, layers: int) -> None:
        self.layers, self.layer, self.sweep = layers, 0, "forward"

    def __str__(self) -> str:
        return f"layer {self.layer + 1} of {self.layers}, {self.sweep}"


class Sweep(nn.Module):
    """The layers of a model; weights are arguments, so this module owns none.

    columns: of every part, the columns of y that hold it, (neurons of the part,).
    shared: one interconnection for all layers. fixed: names of weights that are constants.
    transport: is told where the sweep is, so that its errors name layer and sweep.
    """

    def __init__(
        self,
        model: Model,
        columns: Sequence[Tensor],
        shared: bool,
        fixed: frozenset[str] = frozenset(),
        transport: Transport | None = None,
    ) -> None:
        super().__init__()
        self.model, self.layers, self.shared, self.fixed = model, model.layers, shared, fixed
        self.transport, self.place = transport, Place(model.layers)
        operators = [operator for stage in model.stages for operator in (stage.K, stage.X) if operator is not None]
        self.operators = nn.ModuleList(operators)  # so that their index tensors follow the module to its device
        self.stages, self.sigma = model.stages, model.sigma
        self.owned, self.parts = len(columns[0]), len(columns)
        for part, index in enumerate(columns):
            self.register_buffer(f"columns{part}", index, persistent=False)
        self.pool = WorkspacePool()
        self.last: Workspace | None = None  # of the last sweep with gradients, for `first_non_finite`

    def forward(self, y: Tensor, weights: Weights) -> Tensor:
        """y0 (batch, neurons) -> yN (batch, neurons)."""
        flat = flatten(weights)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in [y, *flat]):
            output: Tensor = _SweepFunction.apply(self, weights, y, *flat)  # type: ignore[no-untyped-call]
            return output
        with torch.no_grad():
            workspace = self.lease(y, store=False)
            self.run(y, weights, workspace)
            output = self.unpack(workspace.boundaries[-1])
            self.pool.give_back(workspace)
        return output

    @torch.no_grad()
    def states(self, y: Tensor, weights: Weights) -> Tensor:
        """Every layer's state: (layers + 1, batch, neurons), the first of them y."""
        workspace = self.lease(y, store=True)
        self.run(y, weights, workspace)
        states = torch.stack([self.unpack(parts) for parts in workspace.boundaries])
        self.pool.give_back(workspace)
        return states

    @torch.no_grad()
    def inverse(self, y: Tensor, weights: Weights) -> Tensor:
        """yN (batch, neurons) -> y0, by inverting every layer from the last to the first; exact up to rounding."""
        workspace = self.lease(y, store=False)
        self.pack(y, workspace.boundaries[-1])
        layers = self._arranged(weights, workspace)
        for layer in self._told("inverse", reversed(range(self.layers))):
            for update in reversed(workspace.updates[layer]):
                update.undo(layers[layer])
        start = self.unpack(workspace.boundaries[0])
        self.pool.give_back(workspace)
        return start

    @torch.no_grad()
    def apply_J(self, v: Tensor, weights: Weights, sign: float, layer: int) -> Tensor:
        """sign · J v for states (batch, neurons): J = [[0, -Xᵀ], [X, 0]] with a layer's X, or the J of H1."""
        architecture = self.model.architecture
        if self.parts == 1 and not architecture.interconnection:
            raise ValueError(
                f"apply_J: expected an architecture with an interconnection, got {architecture.name}, which has no J. "
                "Choose one of two parts (p, q), or H1."
            )
        workspace = self.lease(v, store=False)
        d = workspace.cotangents
        self.pack(v, d)
        X = self._coupling(weights, workspace, layer)
        signs = (sign,) if self.parts == 1 else (-sign, sign)
        result = [
            workspace.coupled(part, layer % len(self.stages), d[force.source], X) * signs[part]
            for part, force in enumerate(architecture.forces)
        ]
        self.pool.give_back(workspace)
        return self.unpack(result)

    @torch.no_grad()
    def fields(self, states: Sequence[Tensor], weights: Weights) -> list[Tensor]:
        """The forces on all parts at y_0 .. y_N, (batch, neurons) each: those of the next layer, at y_N of the last."""
        workspace = self.lease(states[0], store=False)
        layers, forces = self._arranged(weights, workspace), self.model.architecture.forces
        found = []
        for layer in self._told("forward", range(self.layers)):
            first = {update.part: update for update in reversed(workspace.updates[layer])}
            for y in states[layer : layer + (2 if layer + 1 == self.layers else 1)]:
                self.pack(y, workspace.boundaries[layer])
                rates = [first[part].rate(layers[layer]) * forces[part].sign for part in range(self.parts)]
                found.append(self.unpack(rates))
        self.pool.give_back(workspace)
        return found

    @torch.no_grad()
    def energy(self, y: Tensor, weights: Weights, layer: int) -> Tensor:
        """The Hamiltonian of one layer's field at states (batch, neurons): this worker's rows of the sum, (batch,)."""
        workspace = self.lease(y, store=False)
        self.pack(y, workspace.boundaries[0])
        of_layer = self._arranged(weights, workspace)[layer]
        total = y.new_zeros(len(y))
        for update in {update.part: update for update in workspace.updates[layer]}.values():
            term = update.term.term if isinstance(update.term, Interconnected) else update.term
            if not isinstance(term, Gradient | Drift):
                raise ValueError(
                    f"energy: expected an architecture whose field is a gradient times J, got "
                    f"{self.model.architecture.name}. Choose hamiltonian, MS3, H1 or leapfrog."
                )
            total += term.energy(update.x, of_layer[update.part])
        self.pool.give_back(workspace)
        return total

    def first_non_finite(self) -> int | None:
        """The first layer of the last sweep with gradients whose state is not finite: 0 is the input, None all finite.

        Looks at this worker's memory alone and sends nothing.
        """
        if self.last is None:
            return None
        for layer, parts in enumerate(self.last.boundaries):
            if not all(part.isfinite().all() for part in parts):
                return layer
        return None

    # -- the loops ---------------------------------------------------------------------------------------------------

    def run(self, y: Tensor, weights: Weights, workspace: Workspace) -> None:
        """Forward sweep; the state before each layer and after the last is in workspace.boundaries."""
        self.pack(y, workspace.boundaries[0])
        workspace.weights = self._arranged(weights, workspace)
        for layer in self._told("forward", range(self.layers)):
            of_layer = workspace.weights[layer]
            for update in workspace.updates[layer]:
                update.advance(of_layer)

    def run_back(self, dy: Tensor, weights: Weights, workspace: Workspace) -> tuple[Tensor, list[Tensor | None]]:
        """Backward sweep after `run` in the same stored workspace: δyN -> (δy0, gradient of every weight)."""
        d = workspace.cotangents
        self.pack(dy, d)
        gradients = GradientPanels(
            weights,
            self.model.architecture,
            self._operators(workspace),
            self.layers,
            self.shared,
            workspace.panel_buffer,
            self.fixed,
            workspace.like,
        )
        for layer in self._told("backward", reversed(range(self.layers))):
            of_layer, wanted = workspace.weights[layer], gradients.layers[layer]  # unchanged since `run`, says autograd
            for update in reversed(workspace.updates[layer]):
                update.pull(d, of_layer, wanted)
        return self.unpack(d), gradients.collected(weights)

    def pull(self, dy: Tensor, last: int, first: int, workspace: Workspace) -> Tensor:
        """Jᵀ of layers first .. last - 1 after `run`, per sample: (batch, neurons) at `last` -> at `first`."""
        d = workspace.cotangents
        self.pack(dy, d)
        nothing = [NO_GRADIENTS] * self.parts
        for layer in self._told("backward", reversed(range(first, last))):
            for update in reversed(workspace.updates[layer]):
                update.pull(d, workspace.weights[layer], nothing)
        return self.unpack(d)

    def push(self, dy: Tensor, first: int, last: int, workspace: Workspace) -> Tensor:
        """J of layers first .. last - 1 after `run`, per sample: (batch, neurons) at `first` -> at `last`."""
        d = workspace.cotangents
        self.pack(dy, d)
        for layer in self._told("forward", range(first, last)):
            for update in workspace.updates[layer]:
                update.push(d, workspace.weights[layer])
        return self.unpack(d)

    def _told(self, sweep: str, layers: Iterable[int]) -> Iterator[int]:
        """The layers of a sweep, one after the other, while the transport knows of it."""
        transport, place = self.transport, self.place
        place.sweep = sweep
        if transport is not None:
            transport.context = place
        for layer in layers:
            place.layer = layer
            yield layer
        if transport is not None:
            transport.context = None

    # -- edges: batch-first outside, neuron-first inside -------------------------------------------------------------

    def lease(self, y: Tensor, store: bool) -> Workspace:
        """Memory for one sweep of a batch like y."""
        return self.pool.lease(y, store, lambda: Workspace(self.model, y, store))

    def pack(self, y: Tensor, parts: Sequence[Tensor]) -> None:
        """y (batch, neurons) -> parts, (neurons of the part, batch) each."""
        rows = y.t().contiguous()  # whole rows are then copied one after the other, which is five times as fast
        for part, tensor in enumerate(parts):
            torch.index_select(rows, 0, self.get_buffer(f"columns{part}"), out=tensor)

    def unpack(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts (neurons of the part, batch) -> a new y (batch, neurons)."""
        y = parts[0].new_empty(self.parts * self.owned, parts[0].shape[1])
        for part, tensor in enumerate(parts):
            y.index_copy_(0, self.get_buffer(f"columns{part}"), tensor)
        return y.t().contiguous()

    def _arranged(self, weights: Weights, workspace: Workspace) -> list[list[TermWeights]]:
        architecture, buffer = self.model.architecture, workspace.panel_buffer
        return arranged(weights, architecture, self._operators(workspace), self.layers, self.shared, buffer)

    def _coupling(self, weights: Weights, workspace: Workspace, layer: int) -> BlockWeights | None:
        """A layer's X or J, without arranging the other weights."""
        name, stages = self.model.architecture.interconnection, len(self.stages)
        s, row = (layer % stages, 0) if self.shared else (layer % stages, layer // stages)
        operator = self._operators(workspace)[s][1]
        if not name or operator is None:
            return None
        source = weights[name][0 if self.shared else s]
        panels = operator.arrange(source, workspace.panel_buffer(name, s, len(source), operator.stored))
        return layer_weights(operator, panels)[row]

    def _operators(self, workspace: Workspace) -> Operators:
        like = workspace.like
        return [(arrangement(s.K, like), None if s.X is None else arrangement(s.X, like)) for s in self.stages]


class _SweepFunction(torch.autograd.Function):
    """forward: the sweep from layer 0 to N - 1. backward: the hand-written adjoint sweep from layer N - 1 to 0.

    The first backward returns the workspace. A further one (retain_graph) finds it untouched, or, when another sweep
    has taken it since, runs the forward sweep again.
    """

    @staticmethod
    def forward(ctx: Any, sweep: Sweep, weights: Weights, y: Tensor, *flat: Tensor) -> Tensor:
        workspace = sweep.lease(y, store=True)
        ctx.counts = {name: len(tensors) for name, tensors in weights.items()}
        sweep.run(y, unflatten(flat, ctx.counts), workspace)
        sweep.last = workspace
        ctx.sweep, ctx.workspace, ctx.ticket = sweep, workspace, workspace.ticket
        ctx.leased = True
        ctx.save_for_backward(y, *flat)
        return sweep.unpack(workspace.boundaries[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        sweep, workspace = ctx.sweep, ctx.workspace
        y, *flat = ctx.saved_tensors
        weights = unflatten(flat, ctx.counts)
        if not ctx.leased:
            workspace = sweep.lease(y, store=True)
            if workspace.ticket - 1 != ctx.ticket or workspace is not ctx.workspace:
                sweep.run(y, weights, workspace)
            ctx.workspace, ctx.ticket = workspace, workspace.ticket
        dy0, gradients = sweep.run_back(dy, weights, workspace)
        sweep.pool.give_back(workspace)
        ctx.leased = False
        return None, None, dy0, *gradients
