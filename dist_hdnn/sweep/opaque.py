"""What torch.compile and autocast leave as it is: a sweep talks to other workers and writes into memory it leased."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def opaque(function: Function) -> Function:
    """Break the graph of torch.compile at this function, which then runs as written.

    As torch.compiler.disable, which imports the compiler at once: that takes more than a second of every process.
    """
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        if "torch._dynamo" not in sys.modules:  # then nothing is compiled
            return function(*args, **options)
        if not disabled:
            disabled.append(torch.compiler.disable(function))
        return disabled[0](*args, **options)

    called._torchdynamo_disable = True  # type: ignore[attr-defined]
    called._torchdynamo_disable_msg = (  # type: ignore[attr-defined]
        "a sweep of dist_hdnn is one operation; compile with fullgraph=False, or compile what lies around it"
    )
    return called  # type: ignore[return-value]


def under_autocast(tensor: torch.Tensor) -> bool:
    """Whether operations on this tensor are under autocast, which not every device has: "meta" has none."""
    kind = tensor.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
