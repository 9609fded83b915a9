"""Kernel calls spread over threads by agents: the number of torch, and torch's own threads where it has GNU OpenMP.

Elsewhere a pool of Python threads does the work. They cost more to wake and compete with those of torch.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

import numpy as np
import torch

from dist_hdnn.operators.recording import recording
from dist_hdnn.operators.tiles.machine import Compiled, openmp, team
from dist_hdnn.operators.tiles.operator import Segments

WORTH = 1 << 23  # multiply-adds of a call below which a second thread costs more than it saves

SEGMENTS, FAR = 7, 11  # entries of the tables of kernels: those of segments, then those of masks, then `far`


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, "tiles")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has no threads of its parent


class Work:
    """Kernel calls over the agents of `segments` for a batch. `table` is the address of the segments' table."""

    def __init__(self, segments: Segments, batch: int) -> None:
        self.segments, self.batch = segments, batch
        self._table = np.zeros(FAR + 1, dtype=np.int64)
        self._table[:SEGMENTS] = segments.table()
        self._table[FAR] = segments.far.ctypes.data
        self.table = self._table.ctypes.data
        self.small = int(segments.cost[-1]) * batch < WORTH
        self._cuts: dict[tuple[int, int, int], list[int]] = {}

    def read(self, *entries: int) -> None:
        """Let kernels read these entries of the table, behind those of the segments."""
        self._table[SEGMENTS : SEGMENTS + len(entries)] = entries

    def run(self, kernel: Compiled, arguments: tuple[int, ...], first: int, last: int, *extra: int) -> None:
        """Call kernel(*arguments, start, stop, batch, *extra) in parallel on parts of equal cost of first .. last."""
        if not self.batch and not extra:  # nothing to pull; a gradient (with extra) is zero, which the kernel writes
            return
        threads = self.threads()
        current = recording()
        if threads == 1:
            called = *arguments, first, last, self.batch, *extra
            if current is not None:
                current.kernel(kernel, called)
            kernel.call(*called)
            return
        if current is not None:
            current.refused = "a kernel runs on several threads"
        cuts = self.parts(first, last)
        start = openmp()
        if start is not None:
            places, values = np.array(cuts), (*arguments, self.batch, *extra)  # begins of parts, other arguments
            data = np.array([kernel.address, places.ctypes.data, threads, *values])
            start(team(len(values)).address, data.ctypes.data, threads, 0)
            return
        others = [
            _pool(threads).submit(kernel.call, *arguments, *pair, self.batch, *extra)
            for pair in zip(cuts[1:-1], cuts[2:], strict=True)
        ]
        kernel.call(*arguments, *cuts[:2], self.batch, *extra)
        wait(others)

    def threads(self) -> int:
        """Return how many threads a call has."""
        return 1 if self.small else torch.get_num_threads()

    def parts(self, first: int, last: int) -> list[int]:
        """Return where the parts of first .. last that threads take begin, and where the last one ends."""
        threads = self.threads()
        if threads == 1:
            return [first, last]
        return self._cuts.get((first, last, threads)) or self._cut(first, last, threads)

    def _cut(self, first: int, last: int, threads: int) -> list[int]:
        """Return where parts of equal cost begin, and where the last one ends."""
        cost = self.segments.cost[first : last + 1]
        inner = np.searchsorted(cost, cost[0] + (cost[-1] - cost[0]) * np.arange(1, threads) // threads)
        cuts = self._cuts[first, last, threads] = [first, *(first + inner).tolist(), last]
        return cuts
