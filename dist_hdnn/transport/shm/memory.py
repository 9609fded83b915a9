"""Memory that workers of one machine share: segments without a name, and the heap of a worker made of them.

A segment is a memfd, which lies in no folder, not even in /dev/shm, and goes with the last process that has mapped it,
however that ends. All of it is allocated when it is made, so that writing to it never fails. Others open it by process
and descriptor through /proc.
"""

from __future__ import annotations

import bisect
import mmap
import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LINE = 64  # bytes of a cache line, which every piece begins and no two pieces share
SMALLEST, LARGEST = 1 << 20, 1 << 26  # bytes of a segment, which may be larger for a larger piece
SEGMENTS = 512  # of one heap
SHIFT = 40  # a place is (number of the segment << SHIFT) + offset in bytes


class Segment:
    """Mapped shared memory. bytes: (size,) uint8. words: the same as int64. address: where it begins here."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor, self.size = descriptor, size
        self.bytes: NDArray[np.uint8] = np.frombuffer(mmap.mmap(descriptor, size), dtype=np.uint8)
        self.words: NDArray[np.int64] = self.bytes.view(np.int64)
        self.address = int(self.bytes.ctypes.data)

    @classmethod
    def new(cls, size: int) -> Segment:
        """Make one, zero. Raises OSError when there is no memory."""
        descriptor = os.memfd_create("dist_hdnn")
        try:
            os.posix_fallocate(descriptor, 0, size)
            return cls(descriptor, size)
        except OSError:
            os.close(descriptor)
            raise

    @classmethod
    def of(cls, process: int, descriptor: int, size: int) -> Segment:
        """Map that of another process. Raises OSError when it has gone or belongs to another user."""
        opened = open_of(process, descriptor)
        try:
            return cls(opened, size)
        finally:
            os.close(opened)

    def close(self) -> None:
        """Close the descriptor of one that was made here; the memory stays until nothing uses it."""
        os.close(self.descriptor)


def open_of(process: int, descriptor: int) -> int:
    """Open the file behind a descriptor of another process."""
    return os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)


class Piece(NamedTuple):
    """A piece of a heap. size: bytes, a multiple of LINE. place: as others find it. address: as this worker does."""

    segment: int
    start: int
    size: int
    address: int

    @property
    def place(self) -> int:
        return (self.segment << SHIFT) + self.start


class Heap:
    """The shared memory of one worker, taken and given back in pieces. It grows by segments, which it keeps.

    announce: called with the number of a new segment, and it.
    """

    def __init__(self, announce: Callable[[int, Segment], None]) -> None:
        self.segments: list[Segment] = []
        self._announce = announce
        self._gaps: list[list[tuple[int, int]]] = []  # of every segment, (begin, end) in order
        self._dropped: deque[Piece] = deque()  # by finalizers, which run at any moment and in any thread

    def take(self, size: int) -> Piece:
        """Return a piece of at least `size` bytes. Raises OSError when there is no memory for it."""
        while self._dropped:
            self.give(self._dropped.popleft())
        size = -(-size // LINE) * LINE
        for number, gaps in enumerate(self._gaps):
            for at, (begin, end) in enumerate(gaps):
                if end - begin >= size:
                    gaps[at : at + 1] = [(begin + size, end)] if end - begin > size else []
                    return Piece(number, begin, size, self.segments[number].address + begin)
        self._grow(size)
        return self.take(size)

    def _grow(self, size: int) -> None:
        if len(self.segments) == SEGMENTS:
            raise OSError(f"{SEGMENTS} segments are in use")
        held = sum(segment.size for segment in self.segments)
        wanted = max(size, min(max(held, SMALLEST), LARGEST))  # twice what there was, within limits
        segment = Segment.new(-(-wanted // mmap.PAGESIZE) * mmap.PAGESIZE)
        self.segments.append(segment)
        self._gaps.append([(0, segment.size)])
        self._announce(len(self.segments) - 1, segment)

    def give(self, piece: Piece) -> None:
        """Take a piece back."""
        gaps, begin, end = self._gaps[piece.segment], piece.start, piece.start + piece.size
        at = bisect.bisect(gaps, (begin, end))
        if at < len(gaps) and gaps[at][0] == end:
            end = gaps.pop(at)[1]
        if at and gaps[at - 1][1] == begin:
            at, begin = at - 1, gaps[at - 1][0]
            del gaps[at]
        gaps.insert(at, (begin, end))

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor in this heap, whose piece comes back when the last view of it is gone. Raises OSError."""
        piece = self.take(max(torch.Size(shape).numel() * dtype.itemsize, 1))
        array = self.segments[piece.segment].bytes[piece.start : piece.start + piece.size]
        weakref.finalize(array, self._dropped.append, piece).atexit = False
        whole = torch.from_numpy(array)  # keeps the array, and every tensor on its storage does
        strides = torch.empty(shape, device="meta").stride()
        return torch.empty(0, dtype=dtype).set_(whole.untyped_storage(), 0, shape, strides)  # no view

    def place(self, address: int, size: int) -> int | None:
        """Return the place of memory that lies in this heap, None for other memory."""
        for number, segment in enumerate(self.segments):
            offset = address - segment.address
            if 0 <= offset and offset + size <= segment.size:
                return (number << SHIFT) + offset
        return None

    def close(self) -> None:
        """Close the descriptors. Tensors stay."""
        for segment in self.segments:
            segment.close()
