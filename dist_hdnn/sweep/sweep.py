"""The sweep: the whole stack of layers as ONE autograd function, forward and backward in a fixed loop order.

    forward     y0 -> yN         layer 0 to layer N - 1
    backward    δyN -> δy0 and the gradient of every weight       layer N - 1 to layer 0

Nothing between the first and the last layer is an autograd node, so every worker runs the same exchanges in the same
order whatever its loss looks like. What is kept between the two is said in `memory`.
Shapes: y (batch, neurons) at the edge, columns agent by agent, p before q; inside, (neurons of one part, batch).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dist_hdnn.dynamics.terms import Drift, Gradient, Interconnected
from dist_hdnn.sweep.buffers import Model
from dist_hdnn.sweep.cuda_graphs import RECORDERS, Captured, captured
from dist_hdnn.sweep.frame import Frame
from dist_hdnn.sweep.kept import Mode, layers_between
from dist_hdnn.sweep.opaque import under_autocast
from dist_hdnn.sweep.pool import Pool
from dist_hdnn.sweep.reconstruction import Reconstruction
from dist_hdnn.sweep.rounded import Rounded
from dist_hdnn.sweep.tape import Buffers, Recomputed, Reversible, Stored, Trace, memory_key
from dist_hdnn.sweep.weights import Weights, flatten, unflatten
from dist_hdnn.transport import Ledger, Transport


class Sweep(Frame):
    """The layers of a model; weights are arguments, so this module owns none.

    model, columns, shared, fixed, transport: as in `Frame`. memory, keep_every: what sweeps with gradients keep.
    keep_dtype: what it is rounded to, None: nothing is.
    captures: the ledger of one worker alone whose sweeps are replayed where a device can, see `captured`; else None.
    Raises ValueError for a memory mode that does not suit the model.
    """

    def __init__(
        self,
        model: Model,
        columns: Sequence[Tensor],
        shared: bool,
        fixed: frozenset[str] = frozenset(),
        transport: Transport | None = None,
        memory: Mode = "store",
        keep_every: int | None = None,
        keep_dtype: torch.dtype | None = None,
        captures: Ledger | None = None,
    ) -> None:
        super().__init__(model, columns, shared, fixed, transport)
        self.memory = memory
        self.keep_every = layers_between(memory, keep_every, model.architecture, self.layers, len(self.stages))
        self.keep_dtype, self.captures = keep_dtype, captures
        self.reconstruction = Reconstruction()
        self.pool: Pool[Any] = Pool()
        self.last: Trace | None = None  # of the last sweep with gradients, for `first_non_finite`

    def forward(self, y: Tensor, weights: Weights) -> Tensor:
        """y0 (batch, neurons) -> yN (batch, neurons)."""
        flat = flatten(weights)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in [y, *flat]):
            output: Tensor = _SweepFunction.apply(self, weights, y, *flat)  # type: ignore[no-untyped-call]
            return output
        with torch.no_grad():
            memory = self._held(y, weights)
            with self.watched():
                self._advance(y, memory)
            output = self.unpack(memory.boundaries[-1])
            self._give_back(memory)
        return output

    @torch.no_grad()
    def states(self, y: Tensor, weights: Weights) -> Tensor:
        """Every layer's state: (layers + 1, batch, neurons), the first of them y."""
        memory, states = self._held(y, weights), y.new_empty(self.layers + 1, *y.shape)
        self._advance(y, memory, states)
        self._give_back(memory)
        return states

    @torch.no_grad()
    def inverse(self, y: Tensor, weights: Weights) -> Tensor:
        """yN (batch, neurons) -> y0, by inverting every layer from the last to the first; exact up to rounding."""
        memory = self._held(y, weights)
        self.pack(y, memory.boundaries[-1])
        for layer in self.told("inverse", reversed(range(self.layers))):
            of_layer = memory.weights.of(layer)
            for update in reversed(memory.updates[layer]):
                update.undo(of_layer)
        start = self.unpack(memory.boundaries[0])
        self._give_back(memory)
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
        memory = self._held(v, weights)
        d = memory.workspace.cotangents
        self.pack(v, d)
        X = memory.weights.coupling(layer)
        signs = (sign,) if self.parts == 1 else (-sign, sign)
        result = [
            memory.workspace.coupled(part, layer % len(self.stages), d[force.source], X) * signs[part]
            for part, force in enumerate(architecture.forces)
        ]
        self._give_back(memory)
        return self.unpack(result)

    @torch.no_grad()
    def fields(self, states: Sequence[Tensor], weights: Weights) -> list[Tensor]:
        """The forces on all parts at y_0 .. y_N, (batch, neurons) each: those of the next layer, at y_N of the last."""
        memory, forces = self._held(states[0], weights), self.model.architecture.forces
        found = []
        for layer in self.told("forward", range(self.layers)):
            first = {update.part: update for update in reversed(memory.updates[layer])}
            of_layer = memory.weights.of(layer)
            for y in states[layer : layer + (2 if layer + 1 == self.layers else 1)]:
                self.pack(y, memory.boundaries[layer])
                rates = [first[part].rate(of_layer) * forces[part].sign for part in range(self.parts)]
                found.append(self.unpack(rates))
        self._give_back(memory)
        return found

    @torch.no_grad()
    def energy(self, y: Tensor, weights: Weights, layer: int) -> Tensor:
        """The Hamiltonian of one layer's field at states (batch, neurons): this worker's rows of the sum, (batch,)."""
        memory = self._held(y, weights)
        self.pack(y, memory.boundaries[0])
        of_layer = memory.weights.of(layer)
        total = y.new_zeros(len(y))
        for update in {update.part: update for update in memory.updates[layer]}.values():
            term = update.term.term if isinstance(update.term, Interconnected) else update.term
            if not isinstance(term, Gradient | Drift):
                raise ValueError(
                    f"energy: expected an architecture whose field is a gradient times J, got "
                    f"{self.model.architecture.name}. Choose hamiltonian, MS3, H1 or leapfrog."
                )
            total += term.energy(update.x, of_layer[update.part])
        self._give_back(memory)
        return total

    def first_non_finite(self) -> int | None:
        """The first layer of the last sweep with gradients whose state is not finite: 0 is the input, None all finite.

        Looks at this worker's memory alone and sends nothing.
        """
        if self.last is None:
            return None
        for position, parts in self.last.known():
            if not all(part.isfinite().all() for part in parts):
                return position
        return None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy gets: not the memory of sweeps."""
        return {**self.__dict__, "last": None}

    # -- memory and the loop without gradients -----------------------------------------------------------------------

    def _held(self, y: Tensor, weights: Weights) -> Buffers:
        """Memory for a sweep without gradients over a batch like y, with these weights."""
        memory: Buffers = self.pool.lease(memory_key(y, "evaluate"), lambda: Buffers(self, y, "evaluate"))
        memory.weights.hold(weights)
        return memory

    def _give_back(self, memory: Buffers) -> None:
        memory.weights.release()
        self.pool.give_back(memory)

    def lease_stored(self, y: Tensor) -> Stored:
        """Memory for a sweep that keeps everything, whatever the memory mode."""
        return self.pool.lease(memory_key(y, "store"), lambda: Stored(self, y))  # type: ignore[no-any-return]

    def lease_trace(self, y: Tensor) -> Trace:
        """Memory for a sweep with gradients over a batch like y."""
        dtype = None if self.keep_dtype == y.dtype else self.keep_dtype
        key = memory_key(y, "rounded" if self.memory == "store" and dtype else self.memory)

        def make() -> Trace:
            if self.memory == "recompute":
                return Recomputed(self, y, self.keep_every, dtype)
            if self.memory == "reversible":
                return Reversible(self, y, self.keep_every, self.reconstruction, dtype)
            return Rounded(self, y, dtype) if dtype else Stored(self, y)

        ledger, device = self.captures, y.device
        if ledger is None or device.type not in RECORDERS:
            return self.pool.lease(key, make)  # type: ignore[no-any-return]
        recorder = RECORDERS[device.type]
        return self.pool.lease(captured(key), lambda: Captured(make, self, ledger, recorder(device)))  # type: ignore[no-any-return]

    def _advance(self, y: Tensor, memory: Buffers, states: Tensor | None = None) -> None:
        """Forward sweep in place; states: where to write every layer's."""
        self.pack(y, memory.boundaries[0])
        self.show(0, memory.boundaries[0])
        if states is not None:
            states[0].copy_(y)
        for layer in self.told("forward", range(self.layers)):
            of_layer = memory.weights.of(layer)
            for update in memory.updates[layer]:
                update.advance(of_layer)
            self.show(layer + 1, memory.boundaries[-1])
            if states is not None:
                states[layer + 1].copy_(self.unpack(memory.boundaries[-1]))


class _SweepFunction(torch.autograd.Function):
    """forward: the sweep from layer 0 to N - 1. backward: the hand-written adjoint sweep from layer N - 1 to 0.

    The first backward returns the memory. A further one (retain_graph) finds what it needs there, or, when it is used
    up or another sweep has taken it since, runs the forward sweep again.
    """

    @staticmethod
    def forward(ctx: Any, sweep: Sweep, weights: Weights, y: Tensor, *flat: Tensor) -> Tensor:
        trace = sweep.lease_trace(y)
        ctx.counts = {name: len(tensors) for name, tensors in weights.items()}
        with sweep.watched():
            output = trace.run(y, unflatten(flat, ctx.counts))
        sweep.last = trace
        ctx.sweep, ctx.trace, ctx.ticket = sweep, trace, trace.ticket
        ctx.leased = True
        ctx.save_for_backward(y, *flat)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        if torch._C._functorch.is_legacy_batchedtensor(dy) or torch._C._functorch.is_batchedtensor(dy):
            raise ValueError(
                "HDNN: expected the gradient of one loss at a time, got several in one backward (is_grads_batched, "
                "vectorize=True). Leave that option out, or use net.linearize for products with Jacobians."
            )
        sweep, trace = ctx.sweep, ctx.trace
        y, *flat = ctx.saved_tensors
        weights = unflatten(flat, ctx.counts)
        if not ctx.leased:
            trace = sweep.lease_trace(y)
            if trace.ticket - 1 != ctx.ticket or trace is not ctx.trace or not trace.again:
                trace.run(y, weights)
            ctx.trace, ctx.ticket = trace, trace.ticket
        with torch.autocast(y.device.type, enabled=False) if under_autocast(y) else nullcontext():
            dy0, gradients = trace.run_back(y, dy, weights)
        trace.settle()
        sweep.pool.give_back(trace)
        ctx.leased = False
        return None, None, dy0, *gradients
