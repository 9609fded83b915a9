"""Refuse what PyTorch puts around a network that cannot be right, and say what to do instead.

optimizers      whose step looks across a whole parameter, of which a worker has only its part
surroundings    transforms, tracers and wrappers that a sweep cannot run in

Optimizers are checked by a hook that PyTorch calls before every step, registered with the first network on several
workers. It also counts steps, see `agreement`.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.parallel import DistributedDataParallel
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
    """Look at every optimizer before its steps, from now on."""
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
    """Raises ValueError for an optimizer that cannot be right; None: it has nothing of a network on several workers."""
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


OWNED = "every weight has one owner and its whole gradient there"


def check_surroundings(net: nn.Module, alone: bool, shards: Iterable[str]) -> None:
    """Raise ValueError where a sweep would give wrong numbers, or end in an error that says nothing.

    alone: whether this worker has the whole network, which DistributedDataParallel may then hold copies of. shards:
    names of the parameters that workers share out.
    """
    if torch._C._is_tracing():
        raise ValueError(
            "HDNN: expected to run, got torch.jit.trace, which cannot record a sweep. Use dist_hdnn.export, whose "
            "network.pt2 needs no dist_hdnn."
        )
    if torch.compiler.is_exporting():
        raise ValueError(
            "HDNN: expected to run, got torch.export, which cannot record a sweep. Use dist_hdnn.export, which exports "
            "the same formula in plain operations."
        )
    if torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0:
        raise ValueError(
            "HDNN: expected plain tensors, got those of torch.func (grad, vmap, jvp, ...) or forward_ad. Use "
            "torch.autograd.grad for gradients, a batch for vmap, and net.linearize for products with Jacobians."
        )
    if "_is_fsdp_managed_module" in net.__dict__:
        raise ValueError(
            f"HDNN: expected no FSDP around it, got fully_shard or FullyShardedDataParallel. Pass workers= instead: "
            f"{OWNED}."
        )
    if "_is_replica" in net.__dict__:
        raise ValueError(
            "HDNN: expected no DataParallel around it, got a replica. Use one process per GPU, with workers= or each "
            "with a network of its own in DistributedDataParallel."
        )
    if not alone and getattr(DistributedDataParallel, "_active_ddp_module", None) is not None:
        raise ValueError(
            f"HDNN: expected no DistributedDataParallel around a network with workers=, got one. Train the network as "
            f"it is: {OWNED}, so nothing is left to average."
        )
    if not alone and not {name for name, _ in net.named_parameters()}.issuperset(shards):
        raise ValueError(
            "HDNN: expected its own parameters on several workers, got some that a parametrization, weight_norm, "
            "spectral_norm or pruning replaced, which see this worker's part alone. Use them on one worker."
        )
