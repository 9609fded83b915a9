"""Programs: one direction of a sweep on a tape, run, recorded and then replayed.

The first run binds what a sweep binds lazily, the second is recorded while it runs, the others are replayed. A replay
needs the memory that the recorded run had: that of the tape, which a program belongs to, and that of the weights, whose
addresses are its key. Where they differ the sweep is run, and recorded again if they then stay.
Nothing else invalidates a program: another batch size has another tape, and a sweep whose states are watched is run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch

from dist_hdnn.operators.recording import Recording
from dist_hdnn.sweep.tape import Tape
from dist_hdnn.sweep.weights import Weights
from dist_hdnn.transport import Ledger, Rounds

TRIES = 4  # recordings that are never replayed before a program stops recording


class Program:
    """One direction of a sweep on one tape. ledger: where to book what replays send. replays: how many there were."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.replays, self.unused = 0, 0
        self._key: Hashable = None
        self._recording: Recording | None = None
        self._rounds: Rounds = {}
        self._reached: object = None  # progress of the tape at the end

    def run(self, tape: Tape, weights: Weights, work: Callable[[], None], place: Hashable = None) -> None:
        """Do the work or replay it. tape: ever the same. place: what else the work depends on."""
        key = place, torch.is_inference_mode_enabled(), *addresses(weights)
        if key != self._key:
            self._key, self._recording = key, None
            work()
        elif self._recording is not None:
            self.unused, self.replays = 0, self.replays + 1
            self._recording.play()
            self.ledger.book_all(self._rounds)
            tape.progress = self._reached
        elif self.unused < TRIES:
            self._record(tape, work)
        else:
            work()

    def _record(self, tape: Tape, work: Callable[[], None]) -> None:
        self.unused += 1
        try:
            with self.ledger.aside() as rounds, Recording() as made:
                work()
        finally:
            self.ledger.book_all(rounds)
        if made.refused or not made.kernels:  # without kernels Python calls as many operations as before
            self.unused = TRIES
        else:
            self._recording, self._rounds, self._reached = made, dict(rounds), tape.progress


def addresses(weights: Weights) -> list[tuple[int, int]]:
    """Return where weights lie, with the stride from layer to layer: 0 for those that all layers share."""
    return [(tensor.data_ptr(), tensor.stride(0)) for tensors in weights.values() for tensor in tensors]
