"""A recording of what a piece of a sweep does, and its replay: kernels by one compiled loop, the rest from Python.

A sweep over leased memory is a fixed list of kernel calls on fixed memory, so the CPU can have what a CUDA graph is on
a GPU: addresses and arguments in a table. Between them may stand operations of PyTorch, which are called again on the
same tensors, and exchanges with other workers.
Sources: torch.utils._python_dispatch.TorchDispatchMode; CUDA graphs, docs.pytorch.org/docs/stable/notes/cuda.html.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dist_hdnn.operators.tiles.elementwise import translated
from dist_hdnn.operators.tiles.machine import Code, Compiled, Value, compile_function, ir, once

ARGUMENTS = 15  # of a kernel, at most; one that takes fewer never reads the rest
READ_BY_THE_HOST = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2")
_active = threading.local()


def recording() -> Recording | None:
    """Return the recording of the work that this thread does."""
    return getattr(_active, "recording", None)


def do(function: Callable[[], object]) -> None:
    """Do something that is neither a kernel nor an operation of PyTorch, now and in every replay."""
    current = recording()
    if current is not None:
        current.step(function)
    function()


class Recording(TorchDispatchMode):
    """What the block of the `with` does. refused: why it cannot be done again, if so. kernels: how many it calls."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refused, self.kernels = "", 0
        self._calls: list[tuple[int, ...]] = []  # kernels since the last other step
        self._steps: list[Callable[[], object]] = []
        self._keep: list[Any] = []  # tables, and tensors whose addresses kernels have

    def __enter__(self) -> Recording:
        _active.recording = self
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        _active.recording = None
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._close()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Tell PyTorch not to import its compiler, which takes a second, because a mode is used."""
        return False

    def kernel(self, kernel: Compiled, arguments: tuple[int, ...]) -> None:
        """Add a call of a kernel, which the caller makes."""
        self.kernels += 1
        self._add(kernel, arguments)

    def _add(self, kernel: Compiled, arguments: tuple[int, ...]) -> None:
        assert len(arguments) <= ARGUMENTS, "the table has room for more arguments than any kernel takes"
        self._calls.append((kernel.address, *arguments, *[0] * (ARGUMENTS - len(arguments))))

    def step(self, function: Callable[[], object]) -> None:
        """Add anything else."""
        self._close()
        self._steps.append(function)

    def play(self) -> None:
        """Do everything again, in order."""
        for step in self._steps:
            step()

    def _close(self) -> None:
        """Make one step of the kernels so far."""
        if self._calls:
            table = np.array(self._calls, dtype=np.int64)
            self._keep.append(table)
            self._steps.append(functools.partial(_calls().call, table.ctypes.data, len(table)))
            self._calls = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = named or {}
        result = function(*arguments, **named)
        name = function._schema.name.removeprefix("aten::")
        if name in READ_BY_THE_HOST:
            self.refused = f"the host reads a number ({name})"
        self._keep.append(result)
        if function.is_view or name.startswith(("empty", "new_empty")):
            return result
        if function._schema.is_mutable:
            known = translated(function, arguments, named)
            if known is None:
                self.step(functools.partial(function, *arguments, **named))
            else:
                kernel, given = known
                self._keep.append(given)
                self._add(kernel, tuple(each.data_ptr() if isinstance(each, Tensor) else each for each in given))
            return result
        into = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]

        def again() -> None:
            fresh = tree_leaves(function(*arguments, **named))
            torch._foreach_copy_(into, [leaf for leaf in fresh if isinstance(leaf, Tensor)])

        self.step(again)
        return result


@once
def _calls() -> Compiled:
    """Compile f(table, count), which calls table[i][0] with the other entries of row i, i = 0 .. count - 1."""

    def write(code: Code, given: list[Value]) -> None:
        b, word = code.builder, code.integer
        table, count = given
        kernel = ir.FunctionType(ir.VoidType(), [word] * ARGUMENTS).as_pointer()
        with code.loop(code.number(0), count) as row:
            first = b.mul(row, code.number(ARGUMENTS + 1))

            def entry(place: int, type: Any = word, first: Value = first) -> Value:
                return b.load(b.gep(table, [b.add(first, code.number(place))], source_etype=word), typ=type)

            b.call(entry(0, kernel), [entry(1 + place) for place in range(ARGUMENTS)])

    return compile_function("calls", 1, 1, write)
