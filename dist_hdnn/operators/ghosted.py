"""Tensors with ghost rows, and the interface of the exchanges that fill and empty them.

Shapes: (owned + ghost neurons, batch); rows are neurons, so a slice is contiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

Work = Callable[[], None]


class GhostedTensor:
    """A tensor in column space: owned rows first, ghost rows last, with the channels that an exchange bound to it.

    tensor: (owned + ghost neurons, B). owned: its owned rows, a view. chunks: its views for batched GEMMs, where
    products need no copy of it. Channels live as long as this object; they are made by the first exchange, by all
    workers in the same order, because all sweep in step.
    """

    __slots__ = ("__weakref__", "chunks", "gathering", "owned", "scattering", "tensor")

    def __init__(self, tensor: Tensor, owned: int) -> None:
        self.tensor, self.owned = tensor, tensor[:owned]
        self.gathering: Any = None
        self.scattering: Any = None
        self.chunks: list[Any] = []

    @classmethod
    def without_ghosts(cls, owned: Tensor) -> GhostedTensor:
        """Wrap owned rows that no exchange touches."""
        return cls(owned, len(owned))


class Exchange(Protocol):
    """An exchange as products see it.

    moves: whether slices travel; where not, rounds are only counted.
    links: sums contributions link by link where bits must not depend on the partition, see `deterministic`; else None.
    wires: the links, where these are impaired, see `wires`; else None.
    """

    moves: bool
    links: Links | None
    wires: Any

    def ghosted(self, tensor: Tensor) -> GhostedTensor:
        """Bind (owned + ghost neurons, B) to this exchange."""

    def memory(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return a new tensor like `like`, not filled, whose ghost rows messages reach best."""

    def gather(self, x: GhostedTensor, meanwhile: Work | None = None) -> None:
        """Fill the ghost rows with their owners' rows. X forward, Xᵀ backward.

        meanwhile: work that touches no ghost row, done while slices travel.
        """

    def scatter_add(
        self, x: GhostedTensor, meanwhile: Work | None = None, owned: Tensor | None = None, share: float = 1.0
    ) -> None:
        """Add the ghost rows to their owners' rows. Xᵀ forward, X backward.

        owned: where the owned rows are, if not before the ghosts. share: factor of what other workers contribute.
        """


class Links(Protocol):
    """The sum of contributions in ascending order of the contributing agents, whatever worker they come from."""

    def sum(self, contributions: Tensor, out: Tensor) -> None:
        """Sum contributions (gathered, B), one run of rows per block, into owned rows (neurons, B)."""
