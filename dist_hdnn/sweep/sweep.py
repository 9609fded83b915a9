"""The sweep: the whole stack of layers as ONE autograd function, forward and backward in a fixed order.

    forward     y_{j+1} = step_j(y_j)                                           layer 0 to layer N - 1
    backward    δy_j = (∂y_{j+1}/∂y_j)ᵀ δy_{j+1}, and every weight's gradient    layer N - 1 to layer 0

Nothing between the first and the last layer is an autograd node, so every worker runs the same exchanges in the same
order whatever its loss looks like. The tape decides what is kept between the two, and `step` what a layer does.
Shapes: y (batch, neurons) at the edge, columns agent by agent, p before q; inside, (neurons of one part, batch).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dist_hdnn.dynamics import step
from dist_hdnn.dynamics.layer import LayerSpec
from dist_hdnn.operators.indexed import Indexed
from dist_hdnn.operators.where import Where
from dist_hdnn.sweep.cuda_graphs import RECORDERS, Captured
from dist_hdnn.sweep.execution import Kept
from dist_hdnn.sweep.pages import in_huge_pages
from dist_hdnn.sweep.program import Program
from dist_hdnn.sweep.reconstruction import Reconstruction
from dist_hdnn.sweep.surroundings import under_autocast
from dist_hdnn.sweep.tape import Forget, Keep, Pool, Recompute, Reverse, State, Tape
from dist_hdnn.sweep.weight_gradients import GradientPanels, flat_results, new_results
from dist_hdnn.sweep.weights import Weights, flatten, unflatten
from dist_hdnn.transport import Ledger

Gradients = list[Tensor | None]
T = TypeVar("T", bound=Tape)
WEIGHTS = 1 << 20  # of all layers, beyond which handing out copies of their gradients costs what a replay saves
See = Callable[[int, State], object]
"""Called with a position, 0 for the input, and the state that a forward sweep has reached there."""


class Sweep(Indexed):
    """The layers of a network without their weights, which are arguments of the two sweeps in `Layers`.

    columns: of every part, the columns of y that hold it, (neurons of the part,). shared: one interconnection for all
    layers. fixed: names of weights that are constants. where: is told of the layer and the sweep, for exchanges.
    kept: what sweeps with gradients keep, see `tape`.
    captures: the ledger to book replayed sweeps in, if sweeps are to be recorded where a device can, see `cuda_graphs`.
    replays: the ledger, if small sweeps on the CPU are to be recorded, see `program`.
    """

    def __init__(
        self,
        spec: LayerSpec,
        columns: Sequence[Tensor],
        shared: bool,
        fixed: frozenset[str],
        where: Where,
        kept: Kept,
        captures: Ledger | None = None,
        replays: Ledger | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.layers, self.shared, self.fixed, self.where = spec, spec.layers, shared, fixed, where
        self.kept, self.captures, self.replays = kept, captures, replays
        operators = [operator for each in spec.graphs for operator in (each.K, each.X) if operator is not None]
        self.operators = nn.ModuleList(operators)  # so that their index tensors follow the module to its device
        self.owned, self.parts = len(columns[0]), len(columns)
        for part, index in enumerate(columns):
            self.keep_index(f"columns{part}", index)
        self.watchers: dict[int, Callable[[int, Tensor], object]] = OrderedDict()  # called with every layer's state
        self.reconstruction = Reconstruction()
        self.pool = Pool()
        self.last: Any = None  # tape of the last sweep with gradients, for `first_non_finite`

    def arguments(self, y: Tensor, weights: Weights) -> tuple[Any, ...]:
        """Return the arguments of `Layers` for a sweep with gradients where any are wanted, else for one without."""
        flat = flatten(weights)
        wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in [y, *flat])
        tape = self.lease(y) if wanted else self.lease_plain(y)
        return self, tape, weights, self.show if self.watchers else None, y, *flat

    def lease(self, y: Tensor) -> Any:
        """Lease the tape of a sweep with gradients over a batch like y."""
        kept = self.kept
        dtype = None if kept.dtype is None else getattr(torch, kept.dtype)

        def make() -> Tape:
            arguments = self.spec, self.shared, y
            if kept.memory == "recompute":
                return self.programmed(Recompute(*arguments, kept.every, dtype))
            if kept.memory == "reversible":
                return self.programmed(Reverse(*arguments, kept.every, self.reconstruction, dtype))
            return self.programmed(Keep(*arguments))

        if self.captures is None or y.device.type not in RECORDERS:
            return self.pool.lease(kept.memory, y, make)
        ledger, recorder = self.captures, RECORDERS[y.device.type]
        sweeps = partial(run, self), partial(run_back, self)
        return self.pool.lease("captured", y, lambda: Captured(make, sweeps, ledger, recorder(y.device)))

    def lease_plain(self, y: Tensor) -> Forget:
        """Lease the tape of a sweep without gradients over a batch like y."""
        make = lambda: self.programmed(Forget(self.spec, self.shared, y))  # noqa: E731
        return self.pool.lease("evaluate", y, make)  # type: ignore[no-any-return]

    def lease_kept(self, y: Tensor) -> Keep:
        """Lease a tape that keeps everything, whatever the memory mode."""
        return self.pool.lease("store", y, lambda: Keep(self.spec, self.shared, y))  # type: ignore[no-any-return]

    def programmed(self, tape: T) -> T:
        """Give a tape the programs of its directions if its products are small."""
        weights = tape.weights.stored * tape.layers
        if self.replays is not None and tape.buffers.small and weights <= WEIGHTS:
            tape.programs = Program(self.replays), Program(self.replays)
        return tape

    def first_non_finite(self) -> int | None:
        """Return the first layer of the last training sweep whose state is not finite (0: the input), or None.

        Looks at this worker's memory alone and sends nothing.
        """
        if self.last is None:
            return None
        for position, parts in self.last.known():
            if not all(part.isfinite().all() for part in parts):
                return position  # type: ignore[no-any-return]
        return None

    def show(self, position: int, parts: State) -> None:
        """Call the watchers with a copy of the state that a sweep has reached."""
        with torch.no_grad():
            state = self.unpack(parts)
        for watcher in list(self.watchers.values()):
            watcher(position, state)

    def pack(self, y: Tensor, parts: State) -> None:
        """Copy y (batch, neurons) to parts, (neurons of the part, batch) each."""
        rows = y.t()
        if not rows.is_contiguous():  # neurons lie row by row already where lifts and readouts made them
            rows = in_huge_pages(torch.empty_like(rows, memory_format=torch.contiguous_format)).copy_(rows)
        for part, tensor in enumerate(parts):
            torch.index_select(rows, 0, getattr(self, f"columns{part}"), out=tensor)

    def unpack(self, parts: State) -> Tensor:
        """Copy parts (neurons of the part, batch) to a new y (batch, neurons), in memory neuron by neuron."""
        batch = parts[0].shape[1]
        y = parts[0].new_empty_strided((batch, self.parts * self.owned), (1, batch))  # no view: may change in place
        in_huge_pages(y)
        for part, tensor in enumerate(parts):
            y.t().index_copy_(0, getattr(self, f"columns{part}"), tensor)
        return y

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy gets: not the memory of sweeps."""
        return {**self.__dict__, "last": None}


class Layers(torch.autograd.Function):
    """All layers, forward and backward.

    The first backward returns the tape. A further one (retain_graph) finds what it needs there, or, when the tape is
    used up or another sweep has taken it since, runs the forward sweep again.
    """

    @staticmethod
    def forward(
        ctx: Any, sweep: Sweep, tape: Any, weights: Weights, see: See | None, y: Tensor, *flat: Tensor
    ) -> Tensor:
        """Return yN of y0, (batch, neurons). flat: the tensors of `weights`, for autograd; none outside it."""
        if isinstance(tape, Captured):
            output = tape.run(y, weights, see)
        else:
            output = _forward(sweep, tape, y, weights, see)
        if not tape.keeps:
            sweep.pool.give_back(tape)
        elif flat:
            sweep.last = ctx.tape = tape
            ctx.sweep, ctx.ticket, ctx.leased, ctx.moment = sweep, tape.ticket, True, sweep.where.moment
            ctx.counts = {name: len(tensors) for name, tensors in weights.items()}
            ctx.save_for_backward(y, *flat)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Return δy0 of δyN, (batch, neurons), and the gradient of every weight."""
        if torch._C._functorch.is_legacy_batchedtensor(dy) or torch._C._functorch.is_batchedtensor(dy):
            raise ValueError(
                "HDNN: expected the gradient of one loss at a time, got several in one backward (is_grads_batched, "
                "vectorize=True). Leave that option out, or use net.linearize for products with Jacobians."
            )
        sweep, tape = ctx.sweep, ctx.tape
        y, *flat = ctx.saved_tensors
        weights = unflatten(flat, ctx.counts)
        if not ctx.leased:
            tape = sweep.lease(y)
            if tape.ticket - 1 != ctx.ticket or tape is not ctx.tape or not tape.repeatable:
                sweep.where.moment = ctx.moment
                run(sweep, tape, y, weights)
            ctx.tape, ctx.ticket = tape, tape.ticket
        with torch.autocast(y.device.type, enabled=False) if under_autocast(y) else nullcontext():
            back = tape.run_back if isinstance(tape, Captured) else partial(run_back, sweep, tape)
            dy0, gradients = back(y, dy, weights)
        tape.settle()
        sweep.pool.give_back(tape)
        ctx.leased = False
        return None, None, None, None, dy0, *gradients


@torch.no_grad()
def run(sweep: Sweep, tape: Any, y: Tensor, weights: Weights, see: See | None = None) -> Tensor:
    """Run a forward sweep outside autograd: y0 -> yN, (batch, neurons)."""
    return Layers.apply(sweep, tape, weights, see, y)  # type: ignore[no-any-return, no-untyped-call]


def _forward(sweep: Sweep, tape: Tape, y: Tensor, weights: Weights, see: See | None) -> Tensor:
    sweep.pack(y, tape.start)
    if see is not None:
        see(0, tape.start)
    tape.weights.hold(weights)
    tape.moment = sweep.where.moment

    def work() -> None:
        for layer in range(sweep.layers):
            sweep.where.at("forward", layer, sweep.layers)
            tape.before(layer)
            step.forward(tape.uses(layer), tape.weights.of(layer))
            if see is not None:
                see(layer + 1, tape.end(layer))

    if tape.programs is None or see is not None:
        work()
    else:
        tape.programs[0].run(tape, weights, work)
    sweep.where.leave()
    return sweep.unpack(tape.end(sweep.layers - 1))


def run_back(sweep: Sweep, tape: Tape, y: Tensor, dy: Tensor, weights: Weights) -> tuple[Tensor, Gradients]:
    """Run a backward sweep: δyN -> δy0, (batch, neurons), and every weight's gradient. y, weights: as forward."""
    where, d = sweep.where, tape.cotangents
    where.moment = tape.moment
    sweep.pack(dy, d)
    again = tape.weights.weights is None  # a further backward, whose panels may hold other layers than the first one's
    if again:
        tape.weights.hold(weights)  # autograd sees to it that they are the same
    results = tape.results or new_results(weights, sweep.fixed)

    def rerun(layer: int) -> None:
        where.at("backward", layer, sweep.layers)
        step.forward(tape.uses(layer), tape.weights.of(layer))

    def work() -> None:
        gradients = GradientPanels(tape.weights, results)
        for layer in reversed(range(sweep.layers)):
            tape.before_back(layer, rerun)
            where.at("backward", layer, sweep.layers)
            tape.back(tape.uses(layer), tape.weights.of(layer), gradients.of(layer))
            tape.after_back(layer)
        gradients.finish()

    if tape.programs is None:
        work()
    else:
        tape.results = results
        tape.programs[1].run(tape, weights, work, (tape.place, again))
        results = {name: [each.clone() for each in found] for name, found in results.items()}  # autograd takes these
    where.leave()
    dy0, flat = sweep.unpack(d), flat_results(weights, results)
    if tape.compares:
        sweep.pack(y, d)
        tape.close(d)
    return dy0, flat
