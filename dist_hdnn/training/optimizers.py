"""Adam and AdamW that leave torch.compile alone: PyTorch's own, without the wrappers that import torch._dynamo.

Those wrappers keep methods out of what torch.compile traces. Nothing is compiled here, and the import takes more than a
second of a core in every worker. In a PyTorch that wraps nothing these are the same classes by another name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch.optim import Adam, AdamW, Optimizer

WRAPPED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def _unwrapped(kind: type[Optimizer]) -> type[Optimizer]:
    """Return the optimizer class with its methods unwrapped. Its step keeps no graph, as wrapped."""
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in WRAPPED}
    return type(kind.__name__, (kind,), methods | {"step": torch.no_grad()(inspect.unwrap(kind.step))})


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": _unwrapped(Adam), "adamw": _unwrapped(AdamW)}
"""By the names that configs use."""
