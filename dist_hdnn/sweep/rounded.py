"""A stored sweep in half the memory: what adjoints need is kept rounded, all products and sums stay as they are.

Updates work in place, as without gradients. What the adjoint of an update needs (its source x with the ghosts, z, and u
and the force where they count) is rounded into memory of its own, and put back before the backward sweep pulls through
that update. So a forward sweep has the bits of one that keeps everything unrounded, and what a gradient is made
of has the relative error of the format: 2⁻⁸ at most in bfloat16.
Shapes: as the tensors that are kept, (owned + ghost neurons, B) and (neurons, B).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dist_hdnn.dynamics.step import Update
from dist_hdnn.dynamics.terms import Drift, Interconnected
from dist_hdnn.sweep.frame import Frame
from dist_hdnn.sweep.tape import Buffers, Gradients
from dist_hdnn.sweep.weights import Weights

Pairs = list[tuple[Tensor, Tensor]]
"""Working memory, and where it is kept."""


class Kept(NamedTuple):
    """What one update's adjoint needs: what is to be kept before the update and after it, and all that is put back."""

    before: Pairs
    after: Pairs
    back: Pairs


class Rounded(Buffers):
    """Kept is what adjoints need, in `dtype`; a source that several updates read, once."""

    def __init__(self, frame: Frame, like: Tensor, dtype: torch.dtype) -> None:
        super().__init__(frame, like, "rounded")
        self.frame, self.again, self.state = frame, True, self.boundaries[0]
        self._states: list[list[Tensor]] = [[] for _ in range(frame.layers + 1)]
        self._kept = self._memory(dtype)

    def run(self, y: Tensor, weights: Weights) -> Tensor:
        frame, panels = self.frame, self.weights
        frame.pack(y, self.state)
        frame.show(0, self.state)
        panels.hold(weights)
        for layer in frame.told("forward", range(frame.layers)):
            of_layer = panels.of(layer)
            for update, kept in zip(self.updates[layer], self._kept[layer], strict=True):
                _keep(kept.before)
                update.advance(of_layer)
                _keep(kept.after)
            frame.show(layer + 1, self.state)
        return frame.unpack(self.state)

    def run_back(self, y: Tensor, dy: Tensor, weights: Weights) -> tuple[Tensor, Gradients]:
        frame, panels, d = self.frame, self.weights, self.workspace.cotangents
        frame.pack(dy, d)
        gradients = self._gradients(weights)
        for layer in frame.told("backward", reversed(range(frame.layers))):
            of_layer, wanted = panels.of(layer), gradients.of(layer)
            for update, kept in zip(reversed(self.updates[layer]), reversed(self._kept[layer]), strict=True):
                for working, rounded in kept.back:
                    working.copy_(rounded)
                update.pull(d, of_layer, wanted)
        panels.release()
        return frame.unpack(d), gradients.collected()

    def known(self) -> Iterator[tuple[int, Sequence[Tensor]]]:
        yield from enumerate(self._states)

    def _memory(self, dtype: torch.dtype) -> list[list[Kept]]:
        """Of every layer and update. A part is another source after every update that writes it."""
        stages, owned = len(self.frame.stages), self.workspace.owned
        written = [0] * self.frame.parts
        sources: dict[tuple[int, int, int], Tensor] = {}
        found: list[list[Kept]] = []
        for layer, updates in enumerate(self.updates):
            at_start, of_layer = list(written), list[Kept]()
            for update in updates:
                x, own = update.x, _remembered(update)
                kept = Kept([], [], [])
                key = id(x), layer % stages, written[update.source]
                if own is not None and key not in sources:
                    source = sources[key] = torch.empty_like(x, dtype=dtype)
                    kept.before.append((x[:owned], source[:owned]))  # the update may overwrite these rows
                    if len(x) > owned:
                        kept.after.append((x[owned:], source[owned:]))
                    self._states[layer + (written[update.source] > at_start[update.source])].append(source[:owned])
                if own is not None:
                    pairs = [(tensor, torch.empty_like(tensor, dtype=dtype)) for tensor in own]
                    kept.after.extend(pairs)
                    kept.back.extend([(x, sources[key]), *pairs])
                written[update.part] += 1
                of_layer.append(kept)
            found.append(of_layer)
        self._states[-1].extend(self.state)
        return found


def _remembered(update: Update) -> list[Tensor] | None:
    """What the adjoint needs beside x; None if not even x."""
    term, memory = update.term, update.memory
    if isinstance(term.term if isinstance(term, Interconnected) else term, Drift):
        return None if memory.force is None else [memory.force]
    return [tensor for tensor in (memory.z.flat, memory.u and memory.u.flat, memory.force) if tensor is not None]


def _keep(pairs: Pairs) -> None:
    for working, rounded in pairs:
        rounded.copy_(working)
