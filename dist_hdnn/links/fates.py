"""The fate of every message: a pure function of seed, link, step, layer, round, direction and sample.

    lost(seed; sender, receiver, step, sample, layer, update, round, direction)

So it is the same on any workers and transports, in any order of asking, and another link's fate changes none.
A fate compares one uniform number with a probability: a message that is lost at 10 % is lost at 20 %, too.
Shapes: (messages, B), one message per link and sample.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.links.philox import philox, philox_word
from dist_hdnn.topology.ragged import IntArray

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
CHUNK = 2**15  # numbers at a time, which then stay in the cache


class Draw(IntEnum):
    """The purpose of a draw, part of its key, so that two purposes never share a number."""

    LOSS = 30
    RENEWAL = 31
    OUTAGE = 32
    AGENT = 33
    FAILOUT = 34
    VICTIM = 35
    DELAY = 36
    ROUNDING = 37
    SAMPLE = 38
    STRENGTH = 39
    ROUND = 40


class Moment(NamedTuple):
    """A sweep, as fates know it.

    training: of a training step; evaluations have fates of their own. step: number of the gradient step, or of the
    repetition of an evaluation. first: number of the batch's first sample. copies: consecutive rows of the batch that
    are one sample and meet one fate. strength: factor of all probabilities but failout.
    """

    training: bool = False
    step: int = 0
    first: int = 0
    strength: float = 1.0
    copies: int = 1


class Round(NamedTuple):
    """A round of messages: layer, number of the update in it, 0 for the gather and 1 for the replies, and the sweep."""

    layer: int = 0
    update: int = 0
    reply: int = 0
    backward: int = 0

    @property
    def code(self) -> int:
        """A number for the key."""
        return self.layer << 8 | self.update << 2 | self.reply << 1 | self.backward


class Keys:
    """Keys (first, second) of one purpose, such as the sender and the receiver of every link, (keys,) each."""

    def __init__(self, seed: int, draw: Draw, first: IntArray, second: IntArray, third: IntArray | None = None) -> None:
        """third: tells several keys of one pair apart, such as the values of a slice."""
        self._seed = seed
        self.words = _words(seed, draw, first, second, third)

    def bits(self, moment: Moment, batch: int, code: int = 0) -> NDArray[np.uint32]:
        """Return 32 random bits per key and sample, (keys, batch). code: of the round, if the fate is of a round."""
        of_samples = self.samples(moment, batch)
        keys = self.words ^ np.uint32(self.round(moment, code))
        _mix(keys)
        bits = np.empty((len(keys), batch), dtype=np.uint32)
        rows = max(1, CHUNK // max(batch, 1))
        for start in range(0, len(keys), rows):
            part = bits[start : start + rows]
            np.bitwise_xor(keys[start : start + rows, None], of_samples, out=part)
            _mix(part)
        return bits

    def round(self, moment: Moment, code: int) -> int:
        """Return 32 random bits of a round, the same for all keys and samples."""
        step = moment.step & 0xFFFFFFFF, moment.step >> 32, code << 1 | moment.training, 0
        return philox_word(step, _key(self._seed, Draw.ROUND))

    def samples(self, moment: Moment, batch: int) -> NDArray[np.uint32]:
        """Return 32 random bits per row of a batch, the same in every round."""
        return _of_samples(self._seed, moment.first, batch, moment.copies)


def below(bits: NDArray[np.uint32], probability: FloatArray) -> BoolArray:
    """Tell which uniform numbers bits / 2^32 are below a probability of each row, (rows,)."""
    limit, certain = limits(probability)
    chosen = bits < limit[:, None]
    chosen[certain] = True
    return chosen


def limits(probability: FloatArray) -> tuple[NDArray[np.uint32], BoolArray]:
    """Return below which bits a number is below its probability, and where every number is, (rows,) each."""
    limit = np.ceil(np.clip(probability, 0.0, 1.0) * 2.0**32)
    return np.minimum(limit, 2.0**32 - 1).astype(np.uint32), limit >= 2.0**32


def _words(
    seed: int, draw: Draw, first: IntArray, second: IntArray, third: IntArray | None = None
) -> NDArray[np.uint32]:
    """Return 32 random bits per pair or triple of numbers."""
    nothing = np.zeros(len(first), dtype=np.uint64)
    counter = first.astype(np.uint64), second.astype(np.uint64), nothing, nothing
    if third is not None:
        counter = *counter[:2], third.astype(np.uint64), nothing
    return philox(counter, _key(seed, draw))[0].astype(np.uint32)


def _key(seed: int, draw: Draw) -> tuple[int, int]:
    return seed & 0xFFFFFFFF, (seed >> 32) << 8 | int(draw)


@lru_cache(maxsize=8)
def _of_samples(seed: int, first: int, batch: int, copies: int) -> NDArray[np.uint32]:
    """Return 32 random bits per row of a batch, the same in every round."""
    samples = first + np.arange(batch) // copies
    return _words(seed, Draw.SAMPLE, samples & 0xFFFFFFFF, samples >> 32)


def _mix(bits: NDArray[np.uint32]) -> None:
    """Scramble 32-bit words in place: the finalizer of MurmurHash3."""
    shifted = np.empty_like(bits)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, None)):
        np.right_shift(bits, np.uint32(shift), out=shifted)
        bits ^= shifted
        if factor is not None:
            bits *= np.uint32(factor)
