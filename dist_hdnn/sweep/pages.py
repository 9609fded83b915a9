"""Huge pages behind large tensors: a page fault per 2 MiB instead of one per 4 KiB, on Linux where it offers them."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache

from torch import Tensor

LARGE = 8 << 20  # bytes from which on the call pays; below, memory is mostly used again and has its pages
PAGE = 2 << 20  # bytes of a huge page
MADV_HUGEPAGE = 14


def in_huge_pages(tensor: Tensor) -> Tensor:
    """Ask for huge pages behind a new tensor, which nobody has written yet, and return it.

    Advice only: the whole huge pages inside its own memory. Nothing happens to small tensors, on devices, and on
    systems without such pages. Source: man 2 madvise.
    """
    if tensor.nbytes >= LARGE and tensor.device.type == "cpu":
        first = -(-tensor.data_ptr() // PAGE) * PAGE
        end = (tensor.data_ptr() + tensor.nbytes) // PAGE * PAGE
        _madvise()(first, end - first, MADV_HUGEPAGE)
    return tensor


@cache
def _madvise() -> Callable[[int, int, int], int]:
    """Return the system's function, or one that does nothing where there is none."""
    found = getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None
    if found is None:
        return lambda address, length, advice: 0
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return found  # type: ignore[no-any-return]
