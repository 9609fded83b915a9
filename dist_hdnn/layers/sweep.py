"""The sweep: the whole stack of layers as ONE autograd function, forward and backward in a fixed loop order.

    forward     y0 -> yN         layer 0 to layer N - 1
    backward    δyN -> δy0, δK, δb, δX       layer N - 1 to layer 0

Nothing between the first and the last layer is an autograd node, so every worker runs the same exchanges in the same
order whatever its loss looks like.
Shapes: y (batch, neurons) at the edge, columns agent by agent, p before q; inside, (neurons of one half, batch).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dist_hdnn.layers.activations import Activation
from dist_hdnn.layers.integrators import (
    LayerGradients,
    LayerWeights,
    semi_implicit_adjoint,
    semi_implicit_inverse,
    semi_implicit_step,
)
from dist_hdnn.layers.operators import BlockOperator
from dist_hdnn.layers.products import BlockWeights, Views, layer_panels, layer_weights
from dist_hdnn.layers.workspace import Stage, Workspace, WorkspacePool
from dist_hdnn.transport import Transport


class Weights(NamedTuple):
    """All weights in canonical order: Kp, Kq per stage (layers of the stage, entries); bp, bq (layers, rows).

    X: one tensor (1, entries) shared by all layers, or one (layers of the stage, entries) per stage, or none.
    """

    Kp: list[Tensor]
    Kq: list[Tensor]
    bp: Tensor
    bq: Tensor
    X: list[Tensor]

    def flat(self) -> list[Tensor]:
        return [*self.Kp, *self.Kq, self.bp, self.bq, *self.X]

    @classmethod
    def from_flat(cls, tensors: tuple[Tensor, ...] | list[Tensor], stages: int) -> Weights:
        t = list(tensors)
        return cls(t[:stages], t[stages : 2 * stages], t[2 * stages], t[2 * stages + 1], t[2 * stages + 2 :])


class Place:
    """Where a sweep is; what error messages of the transport add."""

    def __init__(self, layers: int) -> None:
        self.layers, self.layer, self.sweep = layers, 0, "forward"

    def __str__(self) -> str:
        return f"layer {self.layer + 1} of {self.layers}, {self.sweep}"


class Sweep(nn.Module):
    """Layers of step h that cycle through stages; weights are arguments, so this module owns none.

    stages: plans and exchanges of each pattern; layer j uses stage j mod len(stages).
    p_columns, q_columns: columns of y that hold p and q, (neurons of one half,) each.
    transport: is told where the sweep is, so that its errors name layer and sweep.
    """

    p_columns: Tensor
    q_columns: Tensor

    def __init__(
        self,
        stages: list[Stage],
        sigma: Activation,
        layers: int,
        h: float,
        p_columns: Tensor,
        q_columns: Tensor,
        shared_x: bool,
        transport: Transport | None = None,
    ) -> None:
        super().__init__()
        self.transport, self.place = transport, Place(layers)
        operators = [operator for stage in stages for operator in (stage.K, stage.X) if operator is not None]
        self.operators = nn.ModuleList(operators)  # so that their index tensors follow the module to its device
        self.stages, self.sigma, self.layers, self.h, self.shared_x = stages, sigma, layers, h, shared_x
        self.owned = len(p_columns)
        self.register_buffer("p_columns", p_columns, persistent=False)
        self.register_buffer("q_columns", q_columns, persistent=False)
        self.pool = WorkspacePool()
        self.last: Workspace | None = None  # of the last sweep with gradients, for `first_non_finite`

    def forward(self, y: Tensor, weights: Weights) -> Tensor:
        """y0 (batch, neurons) -> yN (batch, neurons)."""
        flat = weights.flat()
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in [y, *flat]):
            output: Tensor = _SweepFunction.apply(self, y, *flat)  # type: ignore[no-untyped-call]
            return output
        with torch.no_grad():
            workspace = self.lease(y, store=False)
            self.run(y, weights, workspace)
            output = self.unpack(workspace.p[workspace.final], workspace.q[workspace.final])
            self.pool.give_back(workspace)
        return output

    @torch.no_grad()
    def states(self, y: Tensor, weights: Weights) -> Tensor:
        """Every layer's state: (layers + 1, batch, neurons), the first of them y."""
        workspace = self.lease(y, store=True)
        self.run(y, weights, workspace)
        states = torch.stack([self.unpack(p, q) for p, q in zip(workspace.p, workspace.q, strict=True)])
        self.pool.give_back(workspace)
        return states

    def first_non_finite(self) -> int | None:
        """The first layer of the last sweep with gradients whose state is not finite: 0 is the input, None all finite.

        Looks at this worker's memory alone and sends nothing.
        """
        if self.last is None:
            return None
        for layer, (p, q) in enumerate(zip(self.last.p, self.last.q, strict=True)):
            if not (p[: self.owned].isfinite().all() and q[: self.owned].isfinite().all()):
                return layer
        return None

    @torch.no_grad()
    def inverse(self, y: Tensor, weights: Weights) -> Tensor:
        """yN (batch, neurons) -> y0, by inverting every layer from the last to the first; exact up to rounding."""
        workspace = self.lease(y, store=True)
        self.pack(y, workspace.p[workspace.final], workspace.q[workspace.final])
        layers = self._arranged(weights, workspace)
        for layer in self._told("inverse", reversed(range(self.layers))):
            field, record = workspace.fields[layer % len(self.stages)], workspace.records[layer]
            semi_implicit_inverse(field, layers[layer], record, self.h, self.owned)
        start = self.unpack(workspace.p[0], workspace.q[0])
        self.pool.give_back(workspace)
        return start

    # -- the two loops -----------------------------------------------------------------------------------------------

    def run(self, y: Tensor, weights: Weights, workspace: Workspace) -> None:
        """Forward sweep; the last state is workspace.p, .q at `final`."""
        self.pack(y, workspace.p[0], workspace.q[0])
        workspace.weights = self._arranged(weights, workspace)
        for layer in self._told("forward", range(self.layers)):
            field, record = workspace.fields[layer % len(self.stages)], workspace.records[layer]
            semi_implicit_step(field, workspace.weights[layer], record, self.h, self.owned)

    def run_back(self, dy: Tensor, weights: Weights, workspace: Workspace) -> tuple[Tensor, Weights]:
        """Backward sweep after `run` in the same stored workspace: δyN -> (δy0, gradient of every weight)."""
        dp, dq = workspace.dp, workspace.dq
        self.pack(dy, dp, dq)
        layers = workspace.weights  # autograd has checked that no weight changed since `run`
        panels, gradients = self._gradients(weights, workspace)
        for layer in self._told("backward", reversed(range(self.layers))):
            field, record = workspace.fields[layer % len(self.stages)], workspace.records[layer]
            semi_implicit_adjoint(field, layers[layer], record, gradients[layer], dp, dq, self.h)
        return self.unpack(dp, dq), self._collected(panels)

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

    # -- edges: batch-first outside, neuron-first inside; canonical weights outside, panels inside -------------------

    def lease(self, y: Tensor, store: bool) -> Workspace:
        """Memory for one sweep of a batch like y."""
        return self.pool.lease(y, store, lambda: Workspace(self.stages, self.sigma, self.layers, y, store))

    def pack(self, y: Tensor, p: Tensor, q: Tensor) -> None:
        """y (batch, neurons) -> p, q (neurons of one half, batch)."""
        rows = y.t()
        torch.index_select(rows, 0, self.p_columns, out=p[: self.owned])
        torch.index_select(rows, 0, self.q_columns, out=q[: self.owned])

    def unpack(self, p: Tensor, q: Tensor) -> Tensor:
        """p, q (neurons of one half, batch) -> a new y (batch, neurons)."""
        y = p.new_empty(2 * self.owned, p.shape[1])
        y.index_copy_(0, self.p_columns, p[: self.owned]).index_copy_(0, self.q_columns, q[: self.owned])
        return y.t().contiguous()

    def _arranged(self, weights: Weights, workspace: Workspace) -> list[LayerWeights]:
        """Every layer's weights as views of panels."""
        count = len(self.stages)
        dealt: list[tuple[list[BlockWeights], list[BlockWeights], list[BlockWeights]]] = []
        for s, stage in enumerate(self.stages):
            Kp, Kq = (
                layer_weights(
                    stage.K,
                    stage.K.arrange(source, workspace.panel_buffer(name, s, len(source), stage.K.stored)),
                    stage.K.order_rows(bias[s::count]),
                )
                for name, source, bias in (("Kp", weights.Kp[s], weights.bp), ("Kq", weights.Kq[s], weights.bq))
            )
            X: list[BlockWeights] = []
            if stage.X is not None:
                source = weights.X[0 if self.shared_x else s]
                buffer = workspace.panel_buffer("X", s, len(source), stage.X.stored)
                X = layer_weights(stage.X, stage.X.arrange(source, buffer))
            dealt.append((Kp, Kq, X))
        layers = []
        for layer in range(self.layers):
            Kp, Kq, X = dealt[layer % count]
            row = layer // count
            layers.append(LayerWeights(Kp[row], Kq[row], X[0 if self.shared_x else row] if X else None))
        return layers

    def _gradients(self, weights: Weights, workspace: Workspace) -> tuple[list[_Panels], list[LayerGradients]]:
        """Memory for the gradients in panel order, per stage, and its views per layer."""

        def memory(name: str, s: int, operator: BlockOperator, layers: int) -> Tensor:
            if operator.stored_in_order:  # handed to autograd as it is, so it must be new
                return workspace.like.new_empty(layers, operator.stored)
            return workspace.panel_buffer("gradient of " + name, s, layers, operator.stored)

        panels = []
        for s, stage in enumerate(self.stages):
            layers = len(weights.Kp[s])
            bp, bq = (workspace.like.new_empty(layers, self.owned) for _ in range(2))
            X = None
            if stage.X is not None:
                X = memory("X", s, stage.X, 1 if self.shared_x else layers).zero_()
            Kp, Kq = (memory(name, s, stage.K, layers) for name in ("Kp", "Kq"))
            panels.append(_Panels(Kp, bp, Kq, bq, X))
        views: list[list[LayerGradients]] = []
        for stage, group in zip(self.stages, panels, strict=True):
            layers = len(group.Kp)
            X_views: list[Views] = [()] * layers
            if stage.X is not None and group.X is not None:
                X_views = layer_panels(stage.X, group.X) * (layers if self.shared_x else 1)
            Kp_views, Kq_views = layer_panels(stage.K, group.Kp), layer_panels(stage.K, group.Kq)
            rows = zip(Kp_views, group.bp, Kq_views, group.bq, X_views, strict=True)
            views.append([LayerGradients(*row) for row in rows])
        count = len(self.stages)
        return panels, [views[layer % count][layer // count] for layer in range(self.layers)]

    def _collected(self, panels: list[_Panels]) -> Weights:
        """Gradients in canonical order."""
        count = len(self.stages)
        bp, bq = (panels[0].bp.new_empty(self.layers, self.owned) for _ in range(2))
        Kp, Kq, X = [], [], []
        for s, (stage, group) in enumerate(zip(self.stages, panels, strict=True)):
            Kp.append(stage.K.collect(group.Kp))
            Kq.append(stage.K.collect(group.Kq))
            bp[s::count] = stage.K.restore_rows(group.bp)
            bq[s::count] = stage.K.restore_rows(group.bq)
            if stage.X is not None and group.X is not None:
                X.append(stage.X.collect(group.X))
        if self.shared_x and len(X) > 1:
            X = [torch.stack(X).sum(0)]
        return Weights(Kp, Kq, bp, bq, X)


class _Panels(NamedTuple):
    """One stage's gradients in panel order: (layers of the stage, stored or rows); X one row if it is shared."""

    Kp: Tensor
    bp: Tensor
    Kq: Tensor
    bq: Tensor
    X: Tensor | None


class _SweepFunction(torch.autograd.Function):
    """forward: the sweep from layer 0 to N - 1. backward: the hand-written adjoint sweep from layer N - 1 to 0.

    The first backward returns the workspace. A further one (retain_graph) finds it untouched, or, when another sweep
    has taken it since, runs the forward sweep again.
    """

    @staticmethod
    def forward(ctx: Any, sweep: Sweep, y: Tensor, *flat: Tensor) -> Tensor:
        workspace = sweep.lease(y, store=True)
        sweep.run(y, Weights.from_flat(flat, len(sweep.stages)), workspace)
        sweep.last = workspace
        ctx.sweep, ctx.workspace, ctx.ticket = sweep, workspace, workspace.ticket
        ctx.leased = True
        ctx.save_for_backward(y, *flat)
        return sweep.unpack(workspace.p[workspace.final], workspace.q[workspace.final])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        sweep, workspace = ctx.sweep, ctx.workspace
        y, *flat = ctx.saved_tensors
        weights = Weights.from_flat(flat, len(sweep.stages))
        if not ctx.leased:
            workspace = sweep.lease(y, store=True)
            if workspace.ticket - 1 != ctx.ticket or workspace is not ctx.workspace:
                sweep.run(y, weights, workspace)
            ctx.workspace, ctx.ticket = workspace, workspace.ticket
        dy0, gradients = sweep.run_back(dy, weights, workspace)
        sweep.pool.give_back(workspace)
        ctx.leased = False
        return None, dy0, *gradients.flat()
