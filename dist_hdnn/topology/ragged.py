"""Index arithmetic of blocks of unequal length that lie one after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def offsets(sizes: IntArray) -> IntArray:
    """Return the start of every block and the end of the last: (len(sizes) + 1,)."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])


def starts_in(order: IntArray | None, sizes: IntArray) -> IntArray:
    """Return the start of every block, (len(sizes),), where blocks lie in `order`; None: one after the other."""
    if order is None:
        return offsets(sizes)[:-1]
    starts = np.empty_like(sizes)
    starts[order] = offsets(sizes[order])[:-1]
    return starts


def ragged_ranges(starts: IntArray, lengths: IntArray) -> IntArray:
    """Concatenate arange(start, start + length) for every pair, without a Python loop."""
    ends = np.cumsum(lengths)
    within = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - lengths, lengths)  # position in its range
    return np.repeat(starts, lengths) + within
