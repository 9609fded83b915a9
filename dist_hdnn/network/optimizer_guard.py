"""Refuse optimizers that cannot be right on several workers: a step must change each number by its own gradient alone.

PyTorch calls the hook before every step of any optimizer; it is registered with the first network on several workers.
The hook also counts steps, see `agreement`.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from typing import Any, NamedTuple

from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from dist_hdnn.network.agreement import Agreement
from dist_hdnn.network.sharing import held, holders

ELEMENTWISE = frozenset(
    "ASGD Adadelta Adagrad Adam AdamW Adamax NAdam RAdam RMSprop Rprop SGD SparseAdam Lion AdEMAMix Adan".split()
)
"""Optimizers that change every number by its own gradients alone."""
ACROSS = frozenset(
    "adafactor adahessian adalomo adammini adamp adashift came dadaptadam dadaptsgd dion fusedlamb galoreadamw gsam "
    "kfac kron lamb larc lars lbfgs lomo muon novograd postlocalsgdoptimizer prodigy psgd sam sgdp shampoo "
    "singledevicemuon sm3 soap zeroredundancyoptimizer".split()
)
"""Optimizers that take norms, factors or products over a parameter or all, or that copy; in lower case."""


class _Checked(NamedTuple):
    """The verdict on an optimizer with this many parameters and modules that have run.

    parts: ids of its parameters that are parts. agreements: of the networks whose parameters it changes.
    """

    size: tuple[int, int]
    parts: frozenset[int]
    agreements: list[Agreement]


_checked: weakref.WeakKeyDictionary[Optimizer, _Checked] = weakref.WeakKeyDictionary()
_lock = threading.Lock()
_handles: list[Any] = []


def watch_optimizers() -> None:
    """Check every optimizer before its steps, from now on."""
    with _lock:
        if not _handles:
            _handles.append(register_optimizer_step_pre_hook(_before_step))


def _before_step(optimizer: Optimizer, args: Any, options: Any) -> None:
    size = sum(len(group["params"]) for group in optimizer.param_groups), holders()
    known = _checked.get(optimizer)
    if known is None or known.size != size:
        known = _check(optimizer, size)
        if known is None:
            return
        with _lock:
            _checked[optimizer] = known
    groups = [group for group in optimizer.param_groups if not known.parts.isdisjoint(map(id, group["params"]))]
    if known.agreements:
        chosen = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        for agreement in known.agreements:
            agreement.step([parameter for group in groups for parameter in group["params"]], repr(chosen))


def _check(optimizer: Optimizer, size: tuple[int, int]) -> _Checked | None:
    """Check an optimizer; None if it has no parameter of a network on several workers.

    Raises ValueError for one that cannot be right.
    """
    parts = held()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    owners = {id(parts[id(p)].ownership): parts[id(p)].ownership for p in parameters if id(p) in parts}
    if not owners:
        return None
    names = [kind.__name__ for kind in type(optimizer).__mro__]
    across = [name for name in names if name.lower().replace("_", "") in ACROSS]
    if across:
        raise ValueError(
            f"optimizer: expected one that changes each number by its own gradient, got {across[0]}, which looks "
            "across a parameter, of which every worker has its part, or at other workers. Use Adam, AdamW, "
            "SGD, RMSprop, ..., or one worker."
        )
    if not ELEMENTWISE.intersection(names):
        warnings.warn(
            f"optimizer: {names[0]} is not known. On several workers it is right only if it changes each number by its "
            "own gradients alone, without norms or factors of a whole parameter.",
            UserWarning,
            stacklevel=4,
        )
    others = [p for p in parameters if id(p) not in parts and p.numel()]
    if others:
        warnings.warn(
            f"optimizer: {len(others)} of {len(parameters)} parameters, first of shape {tuple(others[0].shape)}, "
            "belong to no part of a network on several workers: each worker trains its own from its own loss. That is "
            "right for an agent's own; use a lift or a readout for what all agents share.",
            UserWarning,
            stacklevel=4,
        )
    found = frozenset(id(p) for p in parameters if id(p) in parts)
    return _Checked(size, found, [o.agreement for o in owners.values() if o.agreement is not None])
