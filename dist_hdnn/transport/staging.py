"""Buffers in the memory of a GPU, for transports that move host memory: they go through fixed pinned buffers."""

from __future__ import annotations

import torch
from torch import Tensor

from dist_hdnn.transport.messages import Buffers


def needs_staging(sends: Buffers, receives: Buffers) -> bool:
    """Whether these buffers are not in host memory."""
    return any(tensor.is_cuda for _, tensor in (*sends, *receives))


class Staging:
    """Host buffers for a channel's device buffers, and the copies between them.

    Copies run on the current stream of the device, so they come after the kernels that wrote a buffer and before those
    that read it.
    """

    def __init__(self, sends: Buffers, receives: Buffers) -> None:
        self.sends = [(peer, _host_buffer(tensor)) for peer, tensor in sends]
        self.receives = [(peer, _host_buffer(tensor)) for peer, tensor in receives]
        self._out = [(host, device) for (_, host), (_, device) in zip(self.sends, sends, strict=True)]
        self._in = [(device, host) for (_, host), (_, device) in zip(self.receives, receives, strict=True)]
        self._device = next(tensor.device for _, tensor in (*sends, *receives))

    def copy_out(self) -> None:
        """Fill the host buffers. Waits for the device: also until the previous `copy_in` has left them."""
        for host, device in self._out:
            host.copy_(device, non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()

    def copy_in(self) -> None:
        """Queue the copies of what has been received."""
        for device, host in self._in:
            device.copy_(host, non_blocking=True)


def _host_buffer(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
