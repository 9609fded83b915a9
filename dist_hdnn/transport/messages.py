"""Messages of an exchange: the bytes of its buffers, and their checks before anything is posted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Buffers = Sequence[tuple[int, Tensor]]
Runs = Mapping[int, Sequence[Tensor]]
"""By peer, the contiguous tensors whose memory, one after the other, is what the peer is sent."""


class Message(NamedTuple):
    """One message of an exchange.

    data: (bytes,) uint8 view of the caller's buffer. tag: its number between two peers. runs: such views of the memory
    that a transport copies from instead, one after the other; empty where the buffer is filled by the caller.
    """

    peer: int
    tag: int
    data: Tensor
    runs: tuple[Tensor, ...] = ()


def bytes_of(tensor: Tensor) -> Tensor:
    """Return the memory of a contiguous tensor of any dtype: (bytes,) uint8."""
    return tensor.detach().reshape(-1).view(torch.uint8)


def check_runs(sends: Buffers, runs: Runs, label: str) -> None:
    """Raise ValueError unless the runs of a peer have the bytes of its buffer, in contiguous memory of the host."""
    sizes = {peer: tensor.nbytes for peer, tensor in sends}
    for peer, tensors in runs.items():
        given = sum(tensor.nbytes for tensor in tensors)
        if given != sizes.get(peer):
            raise ValueError(
                f"{label}: expected runs of {sizes.get(peer, 0)} bytes for worker {peer}, got {given}; cut its buffer"
            )
        for tensor in tensors:
            _check_tensor(f"{label}: a run for worker {peer}", tensor)


def check_buffers(rank: int, size: int, sends: Buffers, receives: Buffers, label: str) -> None:
    """Raise ValueError for a buffer that cannot be sent or received as it is."""
    for direction, buffers in (("send to", sends), ("receive from", receives)):
        seen: set[int] = set()
        for peer, tensor in buffers:
            who = f"{label}: worker {rank} cannot {direction} worker {peer}"
            _check_peer(who, rank, size, peer)
            if peer in seen:
                raise ValueError(f"{who} twice in one exchange; put both into one buffer, or make two channels")
            seen.add(peer)
            _check_tensor(who, tensor)
    devices = {tensor.device for _, tensor in (*sends, *receives)}
    if len(devices) > 1:
        raise ValueError(
            f"{label}: worker {rank} expected buffers on one device, got {sorted(map(str, devices))}; move them to one"
        )
    _check_overlap(rank, sends, receives, label)


def _check_peer(who: str, rank: int, size: int, peer: int) -> None:
    if isinstance(peer, bool) or not isinstance(peer, int) or not 0 <= peer < size:
        raise ValueError(f"{who}: expected a worker from 0 to {size - 1}; check the partition")
    if peer == rank:
        raise ValueError(f"{who}: that is itself; copy the slices instead")


def _check_tensor(who: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{who}: expected a tensor, got {type(tensor).__name__}; give a tensor")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type not in ("cpu", "cuda"):
        kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
        raise ValueError(f"{who}: expected a plain tensor on cpu or cuda, got {kind}; copy it into one")
    if tensor.requires_grad:
        raise ValueError(f"{who}: the buffer requires grad; give its detach()")
    if not tensor.is_contiguous():
        raise ValueError(
            f"{who}: expected contiguous memory, got shape {tuple(tensor.shape)} with strides {tensor.stride()}; "
            "copy it into a contiguous buffer first"
        )
    if tensor.is_conj() or tensor.is_neg():
        raise ValueError(f"{who}: the buffer is a lazy conjugate or negative; give its resolve_conj().resolve_neg()")


def _check_overlap(rank: int, sends: Buffers, receives: Buffers, label: str) -> None:
    """Refuse a receive buffer that overlaps any other. The same slice may be sent to several workers."""
    spans = [
        (tensor.data_ptr(), tensor.data_ptr() + tensor.numel() * tensor.element_size(), incoming, peer)
        for incoming, buffers in ((False, sends), (True, receives))
        for peer, tensor in buffers
        if tensor.numel()
    ]
    end = {True: (0, -1), False: (0, -1)}  # furthest end so far of what is received, sent; and the peer
    for first, last, incoming, peer in sorted(spans):
        reach, other = max(end[True], end[False]) if incoming else end[True]
        if first < reach:
            raise ValueError(
                f"{label}: worker {rank} has a buffer for worker {peer} that overlaps the one for worker {other}, "
                "and one of them is received; give them separate memory"
            )
        end[incoming] = max(end[incoming], (last, peer))
