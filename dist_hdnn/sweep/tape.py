"""Tapes: the states that a forward sweep keeps for its backward sweep, and the way back to those that it does not keep.

    Forget      nothing: no backward sweep follows                                     does not grow with the layers
    Keep        every version of the state, and what adjoints need                     grows with the layers
    Recompute   the state every m layers; the m layers from there on are run again     with layers / m + m
    Reverse     the last state; every update is undone on the way back                 does not grow

A sweep calls its tape before each layer forward, and before and after each layer backward; what they share is `Tape`.
In a reversing sweep rounding errors of the rebuilt states grow with depth, so the rebuilt first state is compared with
the input, see `reconstruction`; anchors, states kept every m layers, replace what was rebuilt there.
States that a tape keeps apart may be rounded to a shorter format (`keep_dtype`).
Shapes: a state is a list of its parts, owned rows (neurons of a part, B).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dist_hdnn.dynamics import step
from dist_hdnn.dynamics.layer import LayerSpec
from dist_hdnn.dynamics.use import Use
from dist_hdnn.links.fates import Moment
from dist_hdnn.sweep.buffers import Buffers
from dist_hdnn.sweep.reconstruction import Error, Reconstruction
from dist_hdnn.sweep.weights import WeightPanels

if TYPE_CHECKING:
    from dist_hdnn.sweep.program import Program

State = Sequence[Tensor]


class Tape:
    """The memory of a sweep over a batch like `like`, and the calls that a sweep makes, of which tapes override some.

    key, ticket: see `Pool`. moment: of the sweep, for the fates of its messages. keeps: whether a backward sweep may
    follow. repeatable: whether a further one finds what it needs. compares: whether the backward compares the
    rebuilt input. back: what the backward does to a layer.
    progress: what a direction leaves for the next one besides numbers in memory. programs: of both directions, where
    they are recorded. results: gradients that recorded backward sweeps write.
    kept, reverses: as in `Buffers`. at_once: layers whose weights are arranged at a time; None: as many as fit the
    cache.
    """

    keeps, repeatable, compares = True, True, False
    back = staticmethod(step.backward)

    def __init__(
        self,
        spec: LayerSpec,
        shared: bool,
        like: Tensor,
        kept: int = 0,
        reverses: bool = False,
        at_once: int | None = None,
    ) -> None:
        self.key: Hashable = None
        self.ticket, self.moment = 0, Moment()
        self.layers, self.buffers = spec.layers, Buffers(spec, like, kept, reverses)
        self.cotangents, self.start = self.buffers.cotangents, self.buffers.boundaries[0]
        self.weights = WeightPanels(spec, shared, like, at_once)
        self.progress: Any = None
        self.programs: tuple[Program, Program] | None = None
        self.results: dict[str, list[Tensor]] | None = None

    @property
    def place(self) -> Hashable:
        """Return what the work of a backward sweep depends on besides numbers."""
        return None

    def uses(self, layer: int) -> list[Use]:
        """Return the updates of a layer, in order."""
        return self.buffers.uses[layer]

    def end(self, layer: int) -> State:
        """Return where the state is after a layer."""
        return self.buffers.boundaries[layer + 1]

    def before(self, layer: int) -> None:
        """Prepare for a layer forward."""

    def before_back(self, layer: int, rerun: Callable[[int], None]) -> None:
        """Prepare for a layer backward. rerun: runs a layer forward once more."""

    def after_back(self, layer: int) -> None:
        """Close a layer backward."""

    def close(self, packed: State) -> None:
        """Close the backward sweep, whose input `packed` was."""

    def settle(self) -> None:
        """Report, on the host, on a backward sweep that is over."""

    def release(self) -> None:
        """Let go of the weights of a sweep that is over."""
        self.weights.release()

    def known(self) -> Iterator[tuple[int, State]]:
        """Yield the states that are kept, ascending: position (0: the input) and state."""
        yield self.layers, self.end(self.layers - 1)


class Forget(Tape):
    """Every layer overwrites the state in place."""

    keeps = False


class Keep(Tape):
    """Every version is kept. Also the tape of a linearization."""

    def __init__(self, spec: LayerSpec, shared: bool, like: Tensor) -> None:
        super().__init__(spec, shared, like, kept=spec.layers, at_once=spec.layers)

    def known(self) -> Iterator[tuple[int, State]]:
        return enumerate(self.buffers.boundaries)


class Recompute(Tape):
    """The state before every `every` layers is kept, and one segment of layers is in memory, the last one first.

    dtype: of the states that are kept, None: as they are computed.
    """

    def __init__(
        self, spec: LayerSpec, shared: bool, like: Tensor, every: int, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(spec, shared, like, kept=every)
        self.every, self.progress = every, -1  # the segment in memory
        self.starts = [_memory_for(self.start, dtype) for _ in range(0, spec.layers, every)]

    @property
    def place(self) -> int:
        return self.progress  # type: ignore[no-any-return]

    def uses(self, layer: int) -> list[Use]:
        return self.buffers.uses[layer % self.every]

    def end(self, layer: int) -> State:
        return self.buffers.boundaries[layer % self.every + 1]

    def before(self, layer: int) -> None:
        segment, place = divmod(layer, self.every)
        if place == 0:
            reached = self.start if segment == 0 else self.end(layer - 1)
            _copy(reached, self.starts[segment])
            if segment:
                _copy(reached, self.start)
            self.progress = segment

    def before_back(self, layer: int, rerun: Callable[[int], None]) -> None:
        segment = layer // self.every
        if self.progress != segment:
            _copy(self.starts[segment], self.start)
            for again in range(segment * self.every, min((segment + 1) * self.every, self.layers)):
                rerun(again)
            self.progress = segment

    def known(self) -> Iterator[tuple[int, State]]:
        for segment, start in enumerate(self.starts):
            yield segment * self.every, start
        if self.progress == len(self.starts) - 1:
            for layer in range(self.progress * self.every, self.layers):
                yield layer + 1, self.end(layer)


class Reverse(Tape):
    """One version of the state, which the forward sweep leaves at yN and the backward sweep at y0.

    every: layers between anchors, 0 for none. dtype: of the anchors, None: as they are computed.
    """

    repeatable, compares = False, True
    back = staticmethod(step.retrace)

    def __init__(
        self,
        spec: LayerSpec,
        shared: bool,
        like: Tensor,
        every: int,
        reconstruction: Reconstruction,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(spec, shared, like, reverses=True)
        self.reconstruction = reconstruction
        places = range(every, spec.layers, every) if every else ()
        self.anchors = {layer: _memory_for(self.start, dtype) for layer in places}
        self._bounds = [_memory_for(self.start) for _ in range(2)] if dtype and places else []
        self._roundoff = torch.finfo(dtype).eps / 2 if dtype else 0.0
        self._scratch = _memory_for(self.start)

    def before(self, layer: int) -> None:
        if layer in self.anchors:
            _copy(self.start, self.anchors[layer])

    def before_back(self, layer: int, rerun: Callable[[int], None]) -> None:
        if layer == self.layers - 1:
            self.progress = Error.of(self.start)

    def after_back(self, layer: int) -> None:
        if layer in self.anchors:
            known = self._allowed(self.anchors[layer])
            self.progress = self.progress.compared(self.start, known, self._scratch)
            _copy(known, self.start)

    def close(self, packed: State) -> None:
        self.progress = self.progress.compared(self.start, packed, self._scratch)

    def settle(self) -> None:
        self.reconstruction.finish(self.progress)

    def known(self) -> Iterator[tuple[int, State]]:
        yield from self.anchors.items()
        yield self.layers, self.start

    def _allowed(self, anchor: State) -> State:
        """Return the anchor, or, of a rounded one, the state nearest to the rebuilt one that rounds to it."""
        if not self._bounds:
            return anchor
        lower, upper = self._bounds
        _copy(anchor, upper)
        for state, low, high, size in zip(self.start, lower, upper, self._scratch, strict=True):
            torch.abs(high, out=size)
            torch.sub(high, size, alpha=self._roundoff, out=low)
            high.add_(size, alpha=self._roundoff)
            torch.clamp(state, low, high, out=low)
        return lower


def _memory_for(parts: State, dtype: torch.dtype | None = None) -> list[Tensor]:
    return [torch.empty_like(part, dtype=dtype) for part in parts]


def _copy(source: State, target: State) -> None:
    for part, memory in zip(source, target, strict=True):
        memory.copy_(part)


class Pool:
    """Tapes that are not in use. A sweep leases one and returns it, so two sweeps at once never share memory."""

    KEPT = 4  # shapes kept for the next sweep: a training batch, a short last batch, and two for evaluation

    def __init__(self) -> None:
        self._idle: dict[Hashable, Any] = {}

    def lease(self, kind: str, like: Tensor, make: Callable[[], Any]) -> Any:
        """Return an idle tape of this kind for batches (batch, neurons) like `like`, or a new one."""
        key = kind, like.shape[0], like.dtype, like.device
        tape = self._idle.pop(key, None) or make()
        tape.key, tape.ticket = key, tape.ticket + 1
        return tape

    def give_back(self, tape: Any) -> None:
        """Keep a tape for the next sweep, and drop the oldest beyond `KEPT`."""
        tape.release()
        self._idle[tape.key] = tape
        while len(self._idle) > self.KEPT:
            del self._idle[next(iter(self._idle))]

    def __deepcopy__(self, memo: dict[int, object]) -> Pool:
        return Pool()

    def __reduce__(self) -> tuple[type[Pool], tuple[()]]:
        return type(self), ()
