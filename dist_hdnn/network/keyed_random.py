"""Counter-based random numbers: a weight's initial value depends on its key alone, not on who draws it or when.

    value = normal(seed, purpose; layer, row agent, column agent, element of the block)

So any worker can draw any block, in any order, and gets the same numbers. See `links.philox`.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.links.philox import Words, philox
from dist_hdnn.operators.sparsity import ScalarPattern
from dist_hdnn.topology.ragged import ragged_ranges

FloatArray = NDArray[np.float64]

CHUNK = 2**14  # numbers at a time, whose words then stay in the cache: six times faster than all at once


class Purpose(IntEnum):
    """The purpose of a random number, part of its key, so that two purposes never share a number."""

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
    WAVE = 9
    JITTER = 50  # of the latency of messages
    PROBE = 100  # random vectors of the analysis


def normal(seed: int, purpose: Purpose, layer: int, rows: Words, columns: Words, elements: Words) -> FloatArray:
    """Return standard normal numbers, one per key (layer, row, column, element), by Box and Muller."""
    if not 0 <= seed < 2**56:
        raise ValueError(f"seed: expected an integer from 0 to 2**56 - 1, got {seed}. Choose a smaller seed.")
    key = seed & 0xFFFFFFFF, (seed >> 32) << 8 | int(purpose)
    values = np.empty(elements.shape)
    flat, counters = values.reshape(-1), [array.reshape(-1) for array in (elements, rows, columns)]
    for start in range(0, len(flat), CHUNK):
        part = slice(start, start + CHUNK)
        element, row, column = (array[part] for array in counters)
        w0, w1, w2, w3 = philox((element, np.full_like(element, layer), row, column), key)
        flat[part] = _box_muller(_fraction(w0, w1), _fraction(w2, w3))
    return values


def _fraction(high: Words, low: Words) -> FloatArray:
    """Return 53 random bits as a whole number."""
    bits = high << np.uint64(21)
    bits ^= low
    return bits.astype(np.float64)


def _box_muller(u1: FloatArray, u2: FloatArray) -> FloatArray:
    """Compute sqrt(-2 log u1) cos(2 pi u2) in place, of u1 and u2 times 2^53."""
    scale = 2.0**-53
    u1 += 0.5
    u1 *= scale
    np.log(u1, out=u1)
    u1 *= -2.0
    np.sqrt(u1, out=u1)
    u2 *= 2.0 * np.pi * scale
    np.cos(u2, out=u2)
    u1 *= u2
    return u1


def block_keys(pattern: ScalarPattern, row_agents: Words, column_agents: Words) -> tuple[Words, Words, Words]:
    """Return row, column and element of every weight's key in canonical order, (entries,) each, alike for all layers.

    Block (i, j) is keyed by the *global* agents i and j: row_agents, column_agents are the global numbers of the
    pattern's row and column agents.
    """
    scalar_rows = pattern.scalar_rows()
    row_agent_of_neuron = np.repeat(np.arange(len(pattern.row_sizes)), pattern.row_sizes)
    row_in_agent = ragged_ranges(np.zeros(len(pattern.row_sizes), np.int64), pattern.row_sizes)
    column_of_block = pattern.expand(np.zeros(len(pattern.columns), dtype=np.int64))  # column inside the block
    blocks = pattern.expand_blocks(pattern.columns)
    elements = row_in_agent[scalar_rows] * pattern.column_sizes[blocks] + column_of_block
    rows = row_agents[row_agent_of_neuron[scalar_rows]].astype(np.uint64)
    return rows, column_agents[blocks].astype(np.uint64), elements.astype(np.uint64)
