"""Tensor memory counted exactly: every allocation and release of PyTorch's CPU allocator while something runs."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import NamedTuple

from torch.profiler import ProfilerActivity, profile


class Allocations(NamedTuple):
    """Bytes: all that was allocated, what is left of it (less what was released), and the most there was at a time."""

    allocated: int
    left: int
    peak: int


def allocations(work: Callable[[], object]) -> Allocations:
    """What `work` allocates; what it frees of memory from before is not counted."""
    gc.collect()  # garbage of others must not go while we count
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    assert recorded.profiler is not None and recorded.profiler.kineto_results is not None
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    left = peak = allocated = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        left += event.nbytes()
        peak, allocated = max(peak, left), allocated + max(event.nbytes(), 0)
    return Allocations(allocated, left, peak)
