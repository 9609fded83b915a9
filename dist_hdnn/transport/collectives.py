"""Barrier, all-reduce and all-gather for scalars, readouts and digests: up to worker 0, combined there, and back.

    worker k  --header, data-->  worker 0  --header, result-->  worker k

2 (workers - 1) messages. All transports use these, so sums run in rank order and come out the same bit for bit.
The header names the call, so calls that differ are an error on all workers. Messages are padded to a capacity that
depends on their length only and has its own tag: calls of very different length do not meet, and end in a timeout that
names the worker.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dist_hdnn.transport.errors import DisagreementError
from dist_hdnn.transport.messages import bytes_of

if TYPE_CHECKING:
    from dist_hdnn.transport.base import Transport
    from dist_hdnn.transport.channel import Channel

HEADER = 128
SMALLEST = 512
CALL = struct.Struct("<16s16sqq")  # operation, dtype, elements, number of the collective
VERDICT = struct.Struct("<qq")  # agreed (1) or not (0), the first worker that differs; then its CALL and worker 0's
PATIENCE = 2.0  # seconds that others wait longer than worker 0, which can name the missing worker

Bytes = NDArray[np.uint8]
NOTHING: Bytes = np.zeros(0, np.uint8)
OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": torch.add,
    "max": torch.maximum,
    "min": torch.minimum,
}


class Lane(NamedTuple):
    """A channel for one capacity in one direction. rows: (peers, capacity) uint8. host: the same in host memory."""

    channel: Channel
    rows: Tensor
    host: Tensor
    memory: Bytes  # of host

    def fetch(self) -> Bytes:
        """Return the received messages."""
        if self.host is not self.rows:
            self.host.copy_(self.rows)
        return self.memory

    def post(self) -> None:
        """Send `memory`."""
        if self.host is not self.rows:
            self.rows.copy_(self.host)
        self.channel.start()


class Star:
    """The collectives of one transport, over channels that are made at first use and kept."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._calls = 0

    def barrier(self) -> None:
        if self._transport.size > 1:
            self._round("barrier", "", 0, NOTHING, 0, lambda rows: NOTHING)

    def all_reduce(self, tensor: Tensor, op: str = "sum") -> None:
        if op not in OPERATIONS:
            raise ValueError(f"all_reduce: expected op {', '.join(OPERATIONS)}, got {op!r}; choose one of them")
        if tensor.requires_grad:
            raise ValueError("all_reduce: the tensor requires grad, which its sum would lose; give its detach()")
        if tensor.dtype == torch.bool or (tensor.is_complex() and op != "sum"):
            raise ValueError(f"all_reduce: no {op} of {tensor.dtype}; convert the tensor to another type")
        if self._transport.size == 1:
            return
        host = tensor.cpu().contiguous()
        dtype, shape = host.dtype, host.shape

        def combine(rows: list[Bytes]) -> Bytes:
            if not shape.numel():
                return NOTHING
            return _bytes(_reduce([torch.from_numpy(row).view(dtype) for row in rows], op))

        kind = str(dtype).removeprefix("torch.")
        result = self._round(f"all_reduce {op}", kind, host.numel(), _bytes(host), host.nbytes, combine)
        if shape.numel():
            tensor.copy_(torch.from_numpy(result).view(dtype).view(shape))

    def all_gather_bytes(self, data: bytes) -> list[bytes]:
        size, length = self._transport.size, len(data)
        if size == 1:
            return [data]
        payload = np.frombuffer(data, dtype=np.uint8)
        result = self._round("all_gather_bytes", "bytes", length, payload, size * length, np.concatenate).tobytes()
        return [result[k * length : (k + 1) * length] for k in range(size)]

    def _round(
        self,
        call: str,
        kind: str,
        elements: int,
        payload: Bytes,
        reply_bytes: int,
        combine: Callable[[list[Bytes]], Bytes],
    ) -> Bytes:
        """Return (reply_bytes,), valid until the next call: worker 0's `combine` of all payloads in rank order."""
        transport = self._transport
        header = CALL.pack(call.encode(), kind.encode(), elements, self._calls)
        self._calls += 1
        end = HEADER + len(payload)
        up, down = self._lane("up", end), self._lane("down", HEADER + reply_bytes)
        up.channel.relabel(_describe(header))
        down.channel.relabel(up.channel.label)
        if transport.rank == 0:
            up.channel.start()
            up.channel.wait()
            rows = up.fetch()
            verdict = _compare(header, rows)
            reply: Bytes = down.memory[0]
            reply[: len(verdict)] = np.frombuffer(verdict, dtype=np.uint8)
            if len(verdict) == VERDICT.size:
                reply[HEADER : HEADER + reply_bytes] = combine([payload, *(row[HEADER:end] for row in rows)])
            down.post()
            down.channel.wait()
        else:
            down.channel.start()
            up.memory[0, : CALL.size] = np.frombuffer(header, dtype=np.uint8)
            up.memory[0, HEADER:end] = payload
            up.post()
            last = time.monotonic() + transport.timeout + min(PATIENCE, transport.timeout / 4)
            up.channel.wait(last - time.monotonic())
            down.channel.wait(max(last - time.monotonic(), 0.001))
            reply = down.fetch()[0]
        self._judge(reply[:HEADER].tobytes(), header)
        return reply[HEADER : HEADER + reply_bytes]

    def _judge(self, reply: bytes, header: bytes) -> None:
        agreed, worker = VERDICT.unpack_from(reply)
        if agreed:
            return
        theirs, first = (reply[start : start + CALL.size] for start in (VERDICT.size, VERDICT.size + CALL.size))
        raise DisagreementError(
            f"worker 0 is in {_describe(first)}, but worker {worker} in {_describe(theirs)}; all workers must call the "
            "same collectives in the same order",
            self._transport.rank,
            worker,
            _describe(header),
        )

    def _lane(self, direction: str, length: int) -> Lane:
        capacity, tag = _capacity(length)
        if (direction, tag) not in self._lanes:
            transport = self._transport
            root, others = transport.rank == 0, range(1, transport.size)
            rows = transport._buffer(len(others) if root and direction == "up" else 1, capacity)
            buffers = [(k, rows[k - 1 if direction == "up" else 0]) for k in others] if root else [(0, rows[0])]
            outward = root == (direction == "down")
            channel = transport._open(buffers if outward else [], [] if outward else buffers, "collective", tag)
            host = rows if rows.device.type == "cpu" else torch.zeros(rows.shape, dtype=torch.uint8)
            self._lanes[direction, tag] = Lane(channel, rows, host, host.numpy())
        return self._lanes[direction, tag]


def _capacity(length: int) -> tuple[int, int]:
    """Return the bytes that a message is padded to, and the tag of that capacity.

    At least SMALLEST, then at most 1/8 more; a multiple of 64, so every row of a buffer is aligned for every dtype.
    """
    length = max(length, SMALLEST)
    step = length.bit_length() - 4
    capacity = -(-length >> step) << step  # the leading four bits, rounded up
    step = capacity.bit_length() - 4
    return capacity, 8 * step + (capacity >> step) - 8


def _reduce(rows: list[Tensor], op: str) -> Tensor:
    """Reduce in rank order. Sum bfloat16 and float16 in float32 and round once."""
    dtype = rows[0].dtype
    narrow = dtype in (torch.bfloat16, torch.float16)
    total = rows[0].to(torch.float32 if narrow else dtype)
    for row in rows[1:]:
        total = OPERATIONS[op](total, row.to(total.dtype))
    return total.to(dtype)


def _compare(header: bytes, rows: Bytes) -> bytes:
    """Return the verdict on these calls, with the call of the first worker that differs from ours."""
    for worker, row in enumerate(rows, start=1):
        theirs: bytes = row[: CALL.size].tobytes()
        if theirs != header:
            return VERDICT.pack(0, worker) + theirs + header
    return VERDICT.pack(1, 0)


def _bytes(tensor: Tensor) -> Bytes:
    return bytes_of(tensor).numpy()  # type: ignore[no-any-return]


def _describe(header: bytes) -> str:
    *names, elements, number = CALL.unpack(header)
    call, kind = (name.rstrip(b"\0").decode() for name in names)
    values = f" of {elements} {kind}" if elements else ""
    return f"{call}{values} (collective {number})"
