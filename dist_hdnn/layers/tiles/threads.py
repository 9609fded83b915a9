"""Work cut over threads by agents: as many threads as torch uses, each in a call that needs no GIL."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

WORTH = 1 << 22  # multiply-adds of a call below which a second thread costs more than it does


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, "tiles")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


def over_threads(work: Callable[[int, int], None], first: int, last: int, cost: NDArray[np.int64], batch: int) -> None:
    """work(start, stop) on parts of range(first, last) of equal cost, side by side; cost: before every position."""
    total = int(cost[last] - cost[first])
    threads = min(torch.get_num_threads(), last - first) if total * batch >= 2 * WORTH else 1
    if threads <= 1:
        if last > first:
            work(first, last)
        return
    targets = cost[first] + total * np.arange(1, threads) // threads
    cuts = [first, *np.searchsorted(cost[first : last + 1], targets).tolist(), last]
    cuts[1:-1] = [first + cut for cut in cuts[1:-1]]
    pool = _pool(threads)
    others = [pool.submit(work, *pair) for pair in zip(cuts[1:-1], cuts[2:], strict=True)]
    work(cuts[0], cuts[1])
    wait(others)
