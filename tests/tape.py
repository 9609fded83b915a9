"""A recorder without a GPU: the tensor operations of a piece of work, done again on the very tensors that they had.

As with a CUDA graph no line of the work's Python runs when it is replayed. So it finds memory that is not fixed, steps
that depend on what Python remembers, and operations that a host would have to wait for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

T = TypeVar("T")
READING = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "masked_select", "unique", "_unique2")
"""Operations whose result the host reads, or whose shape depends on numbers."""


class Tape(TorchDispatchMode):
    """Lists every operation inside: the function, its arguments, its results."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = named or {}
        result = function(*arguments, **named)
        self.operations.append((function, arguments, named, result))
        return result

    def names(self) -> set[str]:
        return {function._schema.name.removeprefix("aten::") for function, *_ in self.operations}

    def play(self) -> None:
        """Every operation once more; a new result goes to where the first one lies. Views are still there."""
        with torch.no_grad():
            for function, arguments, named, result in self.operations:
                if function.is_view:
                    continue
                again = function(*arguments, **named)
                for new, first in zip(tree_leaves(again), tree_leaves(result), strict=True):
                    if isinstance(first, torch.Tensor) and new is not first:
                        first.copy_(new)


class TapeRecorder:
    """A `captured.Recorder` for any device. `replays`: how often something was done again; `fails`: none can be."""

    replays = 0
    fails = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def warm_up(self, work: Callable[[], object]) -> None:
        work()

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        with Tape() as tape:
            result = work()
        if type(self).fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        assert not tape.names() & set(READING), "the host would wait for the device"

        def replay() -> None:
            type(self).replays += 1
            tape.play()

        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                leaf.fill_(torch.nan)  # a recording computes nothing
        return result, replay
