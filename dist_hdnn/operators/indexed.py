"""Index tensors of a module. They are no buffers: whoever averages the buffers of models must not average them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Indexed(nn.Module):
    """A module whose index tensors follow it to its device, are copied with it, and are in nothing that it saves."""

    def __init__(self) -> None:
        super().__init__()
        self._indices: list[str] = []

    def keep_index(self, name: str, index: Tensor) -> None:
        """Make an index tensor an attribute of this name."""
        self._indices.append(name)
        setattr(self, name, index)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name in self._indices:
            setattr(self, name, fn(getattr(self, name)))
        return self
