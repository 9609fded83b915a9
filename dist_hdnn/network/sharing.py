"""Parameters that exist nowhere as a whole: `state_dict` speaks of them in global tensors, and `held` finds the owner.

share_state        called by a module that holds a worker's part of its parameters
register_holder    called by its forward
held               id of a parameter -> the part that this worker holds, for optimizers, clipping and scalers
"""

from __future__ import annotations

import threading
import weakref
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dist_hdnn.network.agreement import fingerprint
from dist_hdnn.network.ownership import Ownership, Shard
from dist_hdnn.sweep.surroundings import opaque


class Part(NamedTuple):
    """The part of a global parameter that a worker holds."""

    ownership: Ownership
    shard: Shard


# modules of several workers that have run; a copy of one is found when it runs, and none is kept alive
_holders: weakref.WeakKeyDictionary[nn.Module, Ownership] = weakref.WeakKeyDictionary()
_lock = threading.Lock()  # workers may be threads


def share_state(module: nn.Module, ownership: Ownership, shards: dict[str, Shard], seed: int | None = None) -> None:
    """Let `state_dict` and `load_state_dict` of a module, which all workers call, speak of global tensors.

    shards: for each parameter of which this worker holds a part, which part. seed: what they were drawn from. The
    module calls `register_holder` in its forward.
    """
    if ownership.alone:
        return
    module.register_state_dict_post_hook(partial(_export, ownership, shards))
    module.register_load_state_dict_pre_hook(partial(_slice_up, ownership, shards))
    if ownership.agreement is not None and seed is not None:
        ownership.agreement.weights[type(module).__name__] = seed


def holders() -> int:
    """Count the modules of several workers that have run."""
    return len(_holders)


def held() -> dict[int, Part]:
    """Return by id the parameters of all modules of several workers that have run."""
    with _lock:
        holders = list(_holders.items())
    found = {}
    for module, ownership in holders:
        for name, parameter in module.named_parameters():
            shard = getattr(module, "shards", {}).get(name)
            if shard is not None:
                found[id(parameter)] = Part(ownership, shard)
    return found


def shards_of(model: nn.Module) -> dict[str, Shard]:
    """Return this worker's part of every parameter that is split over the workers."""
    return {
        f"{prefix}.{name}" if prefix else name: shard
        for prefix, module in model.named_modules()
        for name, shard in getattr(module, "shards", {}).items()
    }


def whole(part: Tensor, shard: Shard, ownership: Ownership, phase: str | None = None) -> Tensor:
    """Return the global tensor of which every worker gives its part. Collective. phase: to book it under, if any."""
    if ownership.alone:
        return part
    assert ownership.transport is not None, "several workers have a transport"
    shape = list(part.shape)
    shape[shard.dimension] = shard.length
    everything = part.new_zeros(shape)
    everything.index_copy_(shard.dimension, torch.from_numpy(shard.index).to(part.device), part)
    if phase is None:
        ownership.transport.all_reduce(everything)
    else:
        ownership.all_reduce(everything, phase)
    return everything


def own_part(everything: Tensor, shard: Shard) -> Tensor:
    """Return this worker's part of a global tensor."""
    return everything.index_select(shard.dimension, torch.from_numpy(shard.index).to(everything.device))


def _export(
    ownership: Ownership, shards: dict[str, Shard], _: nn.Module, state: dict[str, Tensor], prefix: str, __: object
) -> None:
    for name, shard in shards.items():
        state[prefix + name] = whole(state[prefix + name], shard, ownership)


def _slice_up(
    ownership: Ownership, shards: dict[str, Shard], module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object
) -> None:
    if ownership.agreement is not None:
        given = tuple(fingerprint(state[prefix + name]) for name in shards if prefix + name in state)
        ownership.agreement.weights[type(module).__name__] = given
    for name, shard in shards.items():
        everything = state.get(prefix + name)
        if everything is not None and everything.shape[shard.dimension] == shard.length:
            state[prefix + name] = own_part(everything, shard)


@opaque
def register_holder(module: nn.Module, ownership: Ownership) -> None:
    """Let `held` find the parameters of a module, whose forward calls this, so that a copy is found too."""
    if ownership.alone:
        return
    if module not in _holders:
        with _lock:
            _holders[module] = ownership
    if ownership.agreement is not None:
        shards = getattr(module, "shards", {})
        for name, parameter in module.named_parameters():
            if name in shards:
                ownership.agreement.watch(f"{type(module).__name__}.{name}", parameter)
