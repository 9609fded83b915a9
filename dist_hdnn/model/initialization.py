"""Counter-based random numbers: a weight's initial value depends on its key alone, not on who draws it or when.

    value = normal(seed, purpose; layer, row agent, column agent, element of the block)

So any worker can draw any block, in any order, and gets the same numbers.
Source: Philox 4x32 with 10 rounds, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.layers.operators import ScalarPattern, ragged_ranges

Words = NDArray[np.uint64]  # 32-bit words held in 64 bits, so that products do not overflow
FloatArray = NDArray[np.float64]

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


class Purpose(IntEnum):
    """What a random number is for; part of its key, so two purposes never share a number."""

    K_P = 1
    K_Q = 2
    X = 3
    BIAS_P = 4
    BIAS_Q = 5
    READOUT = 6
    LIFT = 20
    FILTER = 21
    K = 7
    BIAS = 8
    PROBE = 100  # random vectors of the analysis


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Philox 4x32-10: four 32-bit counter words -> four 32-bit random words, elementwise over arrays."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> _HALF) ^ c1 ^ np.uint64(k0),
            product1 & _LOW,
            (product0 >> _HALF) ^ c3 ^ np.uint64(k1),
            product0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def normal(seed: int, purpose: Purpose, layer: int, rows: Words, columns: Words, elements: Words) -> FloatArray:
    """Standard normal numbers, one per key (layer, row, column, element), by Box and Muller; shape of `elements`."""
    if not 0 <= seed < 2**56:
        raise ValueError(f"seed: expected an integer from 0 to 2**56 - 1, got {seed}. Choose a smaller seed.")
    key = seed & 0xFFFFFFFF, (seed >> 32) << 8 | int(purpose)
    layers = np.broadcast_to(np.uint64(layer), elements.shape)
    w0, w1, w2, w3 = philox((elements, layers, rows, columns), key)
    u1 = ((w0 << np.uint64(21)) ^ w1).astype(np.float64)  # 53 bits
    u2 = ((w2 << np.uint64(21)) ^ w3).astype(np.float64)
    scale = 2.0**-53
    return np.sqrt(-2.0 * np.log((u1 + 0.5) * scale)) * np.cos((2.0 * np.pi * scale) * u2)


def normal_blocks(
    seed: int, purpose: Purpose, layer: int, pattern: ScalarPattern, row_agents: Words, column_agents: Words
) -> FloatArray:
    """One layer's weights in canonical order, (entries,): block (i, j) is keyed by the *global* agents i and j.

    row_agents, column_agents: global numbers of the pattern's row and column agents.
    """
    scalar_rows = pattern.scalar_rows()
    row_agent_of_neuron = np.repeat(np.arange(len(pattern.row_sizes)), pattern.row_sizes)
    row_in_agent = ragged_ranges(np.zeros(len(pattern.row_sizes), np.int64), pattern.row_sizes)
    column_of_block = pattern.expand(np.zeros(len(pattern.columns), dtype=np.int64))  # column inside the block
    blocks = pattern.expand_blocks(pattern.columns)
    elements = row_in_agent[scalar_rows] * pattern.column_sizes[blocks] + column_of_block
    return normal(
        seed,
        purpose,
        layer,
        row_agents[row_agent_of_neuron[scalar_rows]].astype(np.uint64),
        column_agents[blocks].astype(np.uint64),
        elements.astype(np.uint64),
    )
