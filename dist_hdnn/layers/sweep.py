"""The sweep: the whole stack of layers as ONE autograd function, forward and backward in a fixed loop order.

    forward     y0 -> yN         layer 0 to layer N - 1
    backward    δyN -> δy0, δK, δb, δX       layer N - 1 to layer 0

Nothing between the first and the last layer is an autograd node, so every worker runs the same exchanges in the same
order whatever its loss looks like.
Shapes: y (batch, neurons) at the edge, columns agent by agent, p before q; inside, (neurons of one half, batch).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dist_hdnn.layers.integrators import (
    LayerWeights,
    semi_implicit_adjoint,
    semi_implicit_inverse,
    semi_implicit_step,
)
from dist_hdnn.layers.operators import BlockOperator
from dist_hdnn.layers.workspace import StageProducts, Workspace, WorkspacePool


class Weights(NamedTuple):
    """All weights in canonical order, one tensor per stage: Kp, Kq (layers of the stage, entries); bp, bq (layers, rows).

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


class Sweep(nn.Module):
    """Layers of step h that cycle through stages; weights are arguments, so this module owns none.

    stages: the products of each pattern; layer j uses stage j mod len(stages).
    p_columns, q_columns: columns of y that hold p and q, (neurons of one half,) each.
    """

    p_columns: Tensor
    q_columns: Tensor

    def __init__(
        self, stages: list[StageProducts], layers: int, h: float, p_columns: Tensor, q_columns: Tensor, shared_x: bool
    ) -> None:
        super().__init__()
        self.potentials = nn.ModuleList(potential for potential, _ in stages)
        self.interconnections = nn.ModuleList(coupling for _, coupling in stages if coupling is not None)
        self.stages, self.layers, self.h, self.shared_x = stages, layers, h, shared_x
        self.owned = len(p_columns)
        self.register_buffer("p_columns", p_columns, persistent=False)
        self.register_buffer("q_columns", q_columns, persistent=False)
        self.pool = WorkspacePool()

    def forward(self, y: Tensor, weights: Weights) -> Tensor:
        """y0 (batch, neurons) -> yN (batch, neurons)."""
        flat = weights.flat()
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in [y, *flat]):
            output: Tensor = _SweepFunction.apply(self, y, *flat)
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

    @torch.no_grad()
    def inverse(self, y: Tensor, weights: Weights) -> Tensor:
        """yN (batch, neurons) -> y0, by inverting every layer from the last to the first; exact up to rounding."""
        workspace = self.lease(y, store=True)
        self.pack(y, workspace.p[workspace.final], workspace.q[workspace.final])
        layers = self.arranged(weights, workspace)
        for layer in reversed(range(self.layers)):
            stage, record = workspace.stages[layer % len(self.stages)], workspace.records[layer]
            semi_implicit_inverse(stage, layers[layer], record, self.h, self.owned)
        start = self.unpack(workspace.p[0], workspace.q[0])
        self.pool.give_back(workspace)
        return start

    # -- the two loops -----------------------------------------------------------------------------------------------

    def run(self, y: Tensor, weights: Weights, workspace: Workspace) -> None:
        """Forward sweep; the last state is workspace.p, .q at `final`."""
        self.pack(y, workspace.p[0], workspace.q[0])
        for layer, layer_weights in enumerate(self.arranged(weights, workspace)):
            stage, record = workspace.stages[layer % len(self.stages)], workspace.records[layer]
            semi_implicit_step(stage, layer_weights, record, self.h, self.owned)

    def run_back(self, dy: Tensor, weights: Weights, workspace: Workspace) -> tuple[Tensor, Weights]:
        """Backward sweep after `run` in the same stored workspace: δyN -> (δy0, gradient of every weight)."""
        dp, dq = workspace.dp, workspace.dq
        self.pack(dy, dp, dq)
        layers = self.arranged(weights, workspace)
        gradients = self._gradient_panels(weights, workspace)
        gradient_layers = self._layer_views(gradients)
        for layer in reversed(range(self.layers)):
            stage, record = workspace.stages[layer % len(self.stages)], workspace.records[layer]
            semi_implicit_adjoint(stage, layers[layer], record, gradient_layers[layer], dp, dq, self.h, self.owned)
        return self.unpack(dp, dq), self._collected(gradients)

    # -- edges: batch-first outside, neuron-first inside; canonical weights outside, panels inside -------------------

    def pack(self, y: Tensor, p: Tensor, q: Tensor) -> None:
        """y (batch, neurons) -> p, q (neurons of one half, batch)."""
        rows = y.t()
        torch.index_select(rows, 0, self.p_columns, out=p[: self.owned])
        torch.index_select(rows, 0, self.q_columns, out=q[: self.owned])

    def unpack(self, p: Tensor, q: Tensor) -> Tensor:
        """p, q (neurons of one half, batch) -> a new y (batch, neurons)."""
        y = p.new_empty(p.shape[1], 2 * self.owned)
        y[:, self.p_columns] = p[: self.owned].t()
        y[:, self.q_columns] = q[: self.owned].t()
        return y

    def lease(self, y: Tensor, store: bool) -> Workspace:
        """Memory for one sweep of a batch like y."""
        return self.pool.lease(y, store, lambda: Workspace(self.stages, self.layers, y, store))

    def arranged(self, weights: Weights, workspace: Workspace) -> list[LayerWeights]:
        """Every layer's weights as views of panels."""
        panels = _Panels([], [], [], [], [])
        for s, (potential, coupling) in enumerate(self.stages):
            operator = potential.operator
            for name, source, target in (("Kp", weights.Kp[s], panels.Kp), ("Kq", weights.Kq[s], panels.Kq)):
                buffer = workspace.panel_buffer(name, s, source.shape[0], operator.stored)
                target.append(operator.arrange(source, buffer))
            panels.bp.append(operator.order_rows(weights.bp[s :: len(self.stages)]))
            panels.bq.append(operator.order_rows(weights.bq[s :: len(self.stages)]))
            if coupling is not None:
                source = weights.X[0 if self.shared_x else s]
                buffer = workspace.panel_buffer("X", s, source.shape[0], coupling.operator.stored)
                panels.X.append(coupling.operator.arrange(source, buffer))
        return self._layer_views(panels)

    def _gradient_panels(self, weights: Weights, workspace: Workspace) -> _Panels:
        """Memory for the gradients in panel order; new where it will be handed to autograd as it is."""

        def memory(name: str, s: int, operator: BlockOperator, layers: int) -> Tensor:
            if operator.stored_in_order:
                return weights.bp.new_empty(layers, operator.stored)
            return workspace.panel_buffer("gradient of " + name, s, layers, operator.stored)

        panels = _Panels([], [], [], [], [])
        for s, (potential, coupling) in enumerate(self.stages):
            layers = weights.Kp[s].shape[0]
            panels.Kp.append(memory("Kp", s, potential.operator, layers))
            panels.Kq.append(memory("Kq", s, potential.operator, layers))
            panels.bp.append(weights.bp.new_empty(layers, self.owned))
            panels.bq.append(weights.bq.new_empty(layers, self.owned))
            if coupling is not None:
                count = 1 if self.shared_x else layers
                panels.X.append(memory("X", s, coupling.operator, count).zero_())
        return panels

    def _layer_views(self, panels: _Panels) -> list[LayerWeights]:
        """The rows of each stage's panels, dealt out to the layers."""
        count = len(self.stages)
        rows = [[tensor.unbind(0) for tensor in group] for group in panels[:4]]
        x_rows = [tensor.unbind(0) for tensor in panels.X]
        views = []
        for layer in range(self.layers):
            s, row = layer % count, layer // count
            x = x_rows[s][0 if self.shared_x else row] if x_rows else None
            views.append(LayerWeights(rows[0][s][row], rows[1][s][row], rows[2][s][row], rows[3][s][row], x))
        return views

    def _collected(self, panels: _Panels) -> Weights:
        """Gradients in canonical order."""
        count = len(self.stages)
        bp, bq = (panels.bp[0].new_empty(self.layers, self.owned) for _ in range(2))
        Kp, Kq, X = [], [], []
        for s, (potential, coupling) in enumerate(self.stages):
            Kp.append(potential.operator.collect(panels.Kp[s]))
            Kq.append(potential.operator.collect(panels.Kq[s]))
            bp[s::count] = potential.operator.restore_rows(panels.bp[s])
            bq[s::count] = potential.operator.restore_rows(panels.bq[s])
            if coupling is not None:
                X.append(coupling.operator.collect(panels.X[s]))
        if self.shared_x and len(X) > 1:
            X = [torch.stack(X).sum(0)]
        return Weights(Kp, Kq, bp, bq, X)


class _Panels(NamedTuple):
    """Per stage: Kp, bp, Kq, bq, X in panel order, (layers of the stage, ...)."""

    Kp: list[Tensor]
    bp: list[Tensor]
    Kq: list[Tensor]
    bq: list[Tensor]
    X: list[Tensor]


class _SweepFunction(torch.autograd.Function):
    """forward: the sweep from layer 0 to N - 1. backward: the hand-written adjoint sweep from layer N - 1 to 0.

    The first backward returns the workspace. A further one (retain_graph) finds it untouched, or, when another sweep
    has taken it since, runs the forward sweep again.
    """

    @staticmethod
    def forward(ctx: Any, sweep: Sweep, y: Tensor, *flat: Tensor) -> Tensor:
        workspace = sweep.lease(y, store=True)
        sweep.run(y, Weights.from_flat(flat, len(sweep.stages)), workspace)
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
