"""Memory modes: what a forward sweep keeps for its backward sweep, and how the backward gets back the rest.

    store        every version of the state, and what adjoints need         memory grows with the layers
    recompute    the state every m layers; the m layers from there on are run again        with layers / m + m
    reversible   the last state; every update is undone on the way back     does not grow

In a reversible sweep rounding errors of the rebuilt states grow with depth, so the rebuilt first state is compared with
the input, see `reconstruction`; anchors, states kept every m layers, replace what was rebuilt there.
What is kept may be rounded to a shorter format (`keep_dtype`); of store that is a sweep of its own, see `rounded`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from dist_hdnn.dynamics.terms import NO_GRADIENTS
from dist_hdnn.operators.exchange import Booking
from dist_hdnn.sweep.buffers import Workspace
from dist_hdnn.sweep.frame import Frame
from dist_hdnn.sweep.reconstruction import Error, Reconstruction
from dist_hdnn.sweep.weight_gradients import GradientPanels
from dist_hdnn.sweep.weights import WeightPanels, Weights, layers_at_once

Gradients = list[Tensor | None]


def memory_key(like: Tensor, kind: str) -> Hashable:
    """What tells memory of one kind of sweep over batches (batch, neurons) like `like` from other memory."""
    return kind, like.shape[0], like.dtype, like.device


class Buffers:
    """The memory of one sweep at a time: a workspace, and the weights in panels.

    kept, reverses: as in `Workspace`. at_once: layers whose panels are there at a time; None: as many as fit the cache.
    """

    def __init__(
        self, frame: Frame, like: Tensor, kind: str, kept: int = 0, reverses: bool = False, at_once: int | None = None
    ) -> None:
        self.key, self.ticket = memory_key(like, kind), 0
        self.booking = Booking()
        model = frame.model if kind in ("store", "evaluate") else frame.model.rebooked(self.booking)
        self.workspace = Workspace(model, like, kept, reverses)
        self.updates, self.boundaries = self.workspace.updates, self.workspace.boundaries
        architecture, plans = frame.model.architecture, frame.plans(like)
        self.at_once = at_once or layers_at_once(architecture, plans, like.element_size())
        buffer = self.workspace.panel_buffer
        self.weights = WeightPanels(architecture, plans, frame.layers, frame.shared, buffer, self.at_once)
        self._frame = frame

    def settle(self) -> None:
        """After `run_back`: what the host has to do, which a sweep that is replayed on a device cannot."""

    def _gradients(self, weights: Weights) -> GradientPanels:
        """New gradients of these weights, which are held still (autograd sees to it) or again, for a backward sweep."""
        frame = self._frame
        if self.weights.weights is None:
            self.weights.hold(weights)
        return GradientPanels(
            weights,
            frame.model.architecture,
            self.weights.operators,
            frame.layers,
            frame.shared,
            self.workspace.panel_buffer,
            self.at_once,
            frame.fixed,
        )


class Trace(Protocol):
    """A sweep with gradients: `run`, then `run_back` in the same memory.

    again: whether a further `run_back` finds what it needs.
    """

    key: Hashable
    ticket: int
    again: bool

    def run(self, y: Tensor, weights: Weights) -> Tensor:
        """y0 (batch, neurons) -> yN."""

    def run_back(self, y: Tensor, dy: Tensor, weights: Weights) -> tuple[Tensor, Gradients]:
        """δyN (batch, neurons) -> δy0 and the gradient of every weight; y and weights as `run` had them."""

    def settle(self) -> None:
        """To be called after `run_back`: reports of it, if there are any."""

    def known(self) -> Iterator[tuple[int, Sequence[Tensor]]]:
        """The states that are kept, ascending: position (0: the input), owned rows of every part."""


class Stored(Buffers):
    """Every version is kept. Also the sweep that a linearisation works on."""

    def __init__(self, frame: Frame, like: Tensor) -> None:
        super().__init__(frame, like, "store", kept=frame.layers, at_once=frame.layers)
        self.frame, self.again = frame, True

    def run(self, y: Tensor, weights: Weights) -> Tensor:
        frame, panels = self.frame, self.weights
        frame.pack(y, self.boundaries[0])
        frame.show(0, self.boundaries[0])
        panels.hold(weights)
        for layer in frame.told("forward", range(frame.layers)):
            of_layer = panels.of(layer)
            for update in self.updates[layer]:
                update.advance(of_layer)
            frame.show(layer + 1, self.boundaries[layer + 1])
        return frame.unpack(self.boundaries[-1])

    def run_back(self, y: Tensor, dy: Tensor, weights: Weights) -> tuple[Tensor, Gradients]:
        frame, panels, d = self.frame, self.weights, self.workspace.cotangents
        frame.pack(dy, d)
        gradients = self._gradients(weights)
        for layer in frame.told("backward", reversed(range(frame.layers))):
            of_layer, wanted = panels.of(layer), gradients.of(layer)
            for update in reversed(self.updates[layer]):
                update.pull(d, of_layer, wanted)
        panels.release()
        return frame.unpack(d), gradients.collected()

    def known(self) -> Iterator[tuple[int, Sequence[Tensor]]]:
        return enumerate(self.boundaries)

    def pull(self, dy: Tensor, last: int, first: int) -> Tensor:
        """Jᵀ of layers first .. last - 1 after `run`, per sample: (batch, neurons) at `last` -> at `first`."""
        frame, d = self.frame, self.workspace.cotangents
        frame.pack(dy, d)
        nothing = [NO_GRADIENTS] * frame.parts
        for layer in frame.told("backward", reversed(range(first, last))):
            for update in reversed(self.updates[layer]):
                update.pull(d, self.weights.of(layer), nothing)
        return frame.unpack(d)

    def push(self, dy: Tensor, first: int, last: int) -> Tensor:
        """J of layers first .. last - 1 after `run`, per sample: (batch, neurons) at `first` -> at `last`."""
        frame, d = self.frame, self.workspace.cotangents
        frame.pack(dy, d)
        for layer in frame.told("forward", range(first, last)):
            for update in self.updates[layer]:
                update.push(d, self.weights.of(layer))
        return frame.unpack(d)


class Recomputed(Buffers):
    """The state before every `every` layers is kept; one segment of them is in memory at a time, the last one first.

    dtype: of the states that are kept, None: as they are computed.
    """

    def __init__(self, frame: Frame, like: Tensor, every: int, dtype: torch.dtype | None = None) -> None:
        super().__init__(frame, like, "recompute", kept=every)
        self.frame, self.again, self.every = frame, True, every
        self.segments = [range(first, min(first + every, frame.layers)) for first in range(0, frame.layers, every)]
        self.starts = [_memory_for(self.boundaries[0], dtype) for _ in self.segments]
        self.loaded = -1

    def run(self, y: Tensor, weights: Weights) -> Tensor:
        frame, end = self.frame, self.boundaries[0]
        frame.pack(y, end)
        frame.show(0, end)
        self.weights.hold(weights)
        for number, start in enumerate(self.starts):
            _copy(end, start)
            if number:
                _copy(end, self.boundaries[0])
            end = self._advance(number, "forward")
        return frame.unpack(end)

    def run_back(self, y: Tensor, dy: Tensor, weights: Weights) -> tuple[Tensor, Gradients]:
        frame, panels, d = self.frame, self.weights, self.workspace.cotangents
        frame.pack(dy, d)
        gradients = self._gradients(weights)
        for number in reversed(range(len(self.segments))):
            if self.loaded != number:
                self.booking.phase = "backward"
                _copy(self.starts[number], self.boundaries[0])
                self._advance(number, "backward")
                self.booking.phase = None
            for layer in frame.told("backward", reversed(self.segments[number])):
                of_layer, wanted = panels.of(layer), gradients.of(layer)
                for update in reversed(self.updates[layer % self.every]):
                    update.pull(d, of_layer, wanted)
        panels.release()
        return frame.unpack(d), gradients.collected()

    def known(self) -> Iterator[tuple[int, Sequence[Tensor]]]:
        for number, start in enumerate(self.starts):
            yield number * self.every, start
        if self.loaded == len(self.segments) - 1:
            for layer in self.segments[-1]:
                yield layer + 1, self.boundaries[layer % self.every + 1]

    def _advance(self, number: int, sweep: str) -> Sequence[Tensor]:
        """Run a segment from where it starts, so that its versions are in memory; returns the state after it."""
        for layer in self.frame.told(sweep, self.segments[number]):
            of_layer = self.weights.of(layer)
            for update in self.updates[layer % self.every]:
                update.advance(of_layer)
            self.frame.show(layer + 1, self.boundaries[layer % self.every + 1])
        self.loaded = number
        return self.boundaries[len(self.segments[number])]


class Reversible(Buffers):
    """One version of the state, which the forward sweep leaves at yN and the backward sweep at y0.

    every: layers between anchors, 0 for none. dtype: of the anchors, None: as they are computed.
    """

    def __init__(
        self, frame: Frame, like: Tensor, every: int, reconstruction: Reconstruction, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(frame, like, "reversible", reverses=True)
        self.frame, self.again, self.reconstruction = frame, False, reconstruction
        self.state = self.boundaries[0]
        places = range(every, frame.layers, every) if every else ()
        self.anchors = {layer: _memory_for(self.state, dtype) for layer in places}
        self._bounds = [_memory_for(self.state) for _ in range(2)] if dtype and places else []
        self._roundoff = torch.finfo(dtype).eps / 2 if dtype else 0.0
        self._scratch = _memory_for(self.state)

    def run(self, y: Tensor, weights: Weights) -> Tensor:
        frame, panels = self.frame, self.weights
        frame.pack(y, self.state)
        frame.show(0, self.state)
        panels.hold(weights)
        for layer in frame.told("forward", range(frame.layers)):
            if layer in self.anchors:
                _copy(self.state, self.anchors[layer])
            of_layer = panels.of(layer)
            for update in self.updates[layer]:
                update.advance(of_layer)
            frame.show(layer + 1, self.state)
        return frame.unpack(self.state)

    def run_back(self, y: Tensor, dy: Tensor, weights: Weights) -> tuple[Tensor, Gradients]:
        frame, panels, d = self.frame, self.weights, self.workspace.cotangents
        frame.pack(dy, d)
        gradients = self._gradients(weights)
        self._error = Error(self.state)
        self.booking.phase = "backward"
        for layer in frame.told("backward", reversed(range(frame.layers))):
            of_layer, wanted = panels.of(layer), gradients.of(layer)
            for update in reversed(self.updates[layer]):
                update.retrace(d, of_layer, wanted)
            if layer in self.anchors:
                known = self._allowed(self.anchors[layer])
                self._error.compare(self.state, known, self._scratch)
                _copy(known, self.state)
        self.booking.phase = None
        dy0, found = frame.unpack(d), gradients.collected()
        frame.pack(y, d)
        self._error.compare(self.state, d, self._scratch)
        panels.release()
        return dy0, found

    def settle(self) -> None:
        self.reconstruction.finish(self._error)

    def known(self) -> Iterator[tuple[int, Sequence[Tensor]]]:
        yield from self.anchors.items()
        yield self.frame.layers, self.state

    def _allowed(self, anchor: Sequence[Tensor]) -> Sequence[Tensor]:
        """The anchor; of a rounded one, the state nearest to the rebuilt one that it may have been rounded from."""
        if not self._bounds:
            return anchor
        lower, upper = self._bounds
        _copy(anchor, upper)
        for state, low, high, size in zip(self.state, lower, upper, self._scratch, strict=True):
            torch.abs(high, out=size)
            torch.sub(high, size, alpha=self._roundoff, out=low)
            high.add_(size, alpha=self._roundoff)
            torch.clamp(state, low, high, out=low)
        return lower


def _memory_for(parts: Sequence[Tensor], dtype: torch.dtype | None = None) -> list[Tensor]:
    return [torch.empty_like(part, dtype=dtype) for part in parts]


def _copy(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    for part, memory in zip(source, target, strict=True):
        memory.copy_(part)
