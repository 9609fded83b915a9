"""Philox 4x32 with 10 rounds: random words that are a function of a counter and a key, without any state.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]  # 32-bit words held in 64 bits, so that products do not overflow

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
ROUNDS = 10
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Philox 4x32-10: four 32-bit counter words -> four 32-bit random words, elementwise over arrays."""
    c0, c1, c2, c3 = (words.copy() for words in counter)
    high0, high1 = np.empty_like(c0), np.empty_like(c0)
    k0, k1 = key
    for _ in range(ROUNDS):
        c0 *= _MULTIPLIERS[0]
        c2 *= _MULTIPLIERS[1]
        np.right_shift(c0, _HALF, out=high0)
        np.right_shift(c2, _HALF, out=high1)
        high0 ^= c3
        high0 ^= np.uint64(k1)
        high1 ^= c1
        high1 ^= np.uint64(k0)
        c0 &= _LOW
        c2 &= _LOW
        c0, c1, c2, c3, high0, high1 = high1, c2, high0, c0, c1, c3
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def philox_word(counter: tuple[int, int, int, int], key: tuple[int, int]) -> int:
    """Return the first random word of one counter, as `philox` does."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        low0, low1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = low1 >> 32 ^ c1 ^ k0, low1 & 0xFFFFFFFF, low0 >> 32 ^ c3 ^ k1, low0 & 0xFFFFFFFF
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0
