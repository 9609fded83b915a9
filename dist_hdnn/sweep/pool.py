"""Memory of sweeps that is not in use: a sweep leases some and returns it, so two sweeps at once never share memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Leased(Protocol):
    """key: what it serves, such as batch, dtype and device. ticket: how often it was leased."""

    key: Hashable
    ticket: int


T = TypeVar("T", bound=Leased)


class Pool(Generic[T]):
    """Keeps what it is given back, up to `KEPT` of them."""

    KEPT = 4  # shapes kept for the next sweep: a training batch, a short last batch, and two for evaluation

    def __init__(self) -> None:
        self._idle: dict[Hashable, T] = {}

    def lease(self, key: Hashable, make: Callable[[], T]) -> T:
        """An idle one of this key, or a new one."""
        found = self._idle.pop(key, None) or make()
        found.ticket += 1
        return found

    def give_back(self, lent: T) -> None:
        """Keep it for the next sweep; beyond `KEPT` the oldest goes."""
        self._idle[lent.key] = lent
        while len(self._idle) > self.KEPT:
            del self._idle[next(iter(self._idle))]

    def __deepcopy__(self, memo: dict[int, object]) -> Pool[T]:
        return Pool()

    def __reduce__(self) -> tuple[type[Pool[T]], tuple[()]]:
        return type(self), ()
