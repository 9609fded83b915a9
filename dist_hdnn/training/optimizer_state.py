"""The state of an optimizer by the names of parameters, in global tensors: saved on some workers, loaded on others.

{"state": {"net.Kp.0": {"exp_avg": (layers, entries of the whole pattern), "step": ()}, ...},
 "param_groups": [{"lr": 0.02, ..., "params": ["net.Kp.0", ...]}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dist_hdnn.network.ownership import Ownership, Shard
from dist_hdnn.network.sharing import held, own_part, shards_of, whole

Modules = nn.Module | Mapping[str, nn.Module]


def optimizer_state_dict(optimizer: Optimizer, modules: Modules) -> dict[str, Any]:
    """Return the optimizer's state for `load_optimizer_state_dict`, the same on any number of workers; collective.

    modules: what holds the parameters, one module or names of several: {"net": net, "readout": readout}. On several
    workers all of them call this, after the modules have run; one of them saves what it returns.
    Raises ValueError for a parameter that is in none of the modules.
    """
    names, shards = _named(optimizer, modules)
    ownership = _ownership(optimizer)
    parameters = {names[id(p)]: p for group in optimizer.param_groups for p in group["params"]}
    states = {name: optimizer.state.get(p, {}) for name, p in parameters.items()}
    found: dict[str, dict[str, Any]] = {}
    for name, moment, scalar in _entries(states, parameters, shards, ownership):
        value = states[name].get(moment)
        if ownership is not None and scalar is None and name in shards:
            value = torch.zeros_like(parameters[name]) if value is None else value
            value = whole(value.detach(), shards[name], ownership)
        elif value is None:
            value = scalar  # a worker without a share of this parameter
        found.setdefault(name, {})[moment] = value.detach().clone() if isinstance(value, Tensor) else value
    groups = [group | {"params": [names[id(p)] for p in group["params"]]} for group in optimizer.param_groups]
    return {"state": found, "param_groups": groups}


def load_optimizer_state_dict(optimizer: Optimizer, state: Mapping[str, Any], modules: Modules) -> None:
    """Put an optimizer to a state of `optimizer_state_dict`, on this or another number of workers.

    optimizer: with the same parameters in the same groups. modules: as there, with the same names.
    Raises ValueError for other names or groups, or shapes that do not fit.
    """
    names, shards = _named(optimizer, modules)
    groups = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    given = [list(group["params"]) for group in state["param_groups"]]
    if groups != given:
        odd = sorted(set(sum(groups, [])) ^ set(sum(given, []))) or ["order or groups"]
        raise ValueError(
            f"optimizer state: expected this optimizer's {len(groups)} groups, got {len(given)} groups that differ in "
            f"{odd[0]}. Give the optimizer the same parameters in the same groups, and modules the same names."
        )
    parameters = {names[id(p)]: p for group in optimizer.param_groups for p in group["params"]}
    numbers = {name: number for number, name in enumerate(sum(groups, []))}
    own = {}
    for name, moments in state["state"].items():
        own[numbers[name]] = {key: _part(name, key, value, parameters, shards) for key, value in moments.items()}
    indexed = [group | {"params": [numbers[name] for name in group["params"]]} for group in state["param_groups"]]
    optimizer.load_state_dict({"state": own, "param_groups": indexed})


def _part(name: str, key: str, value: Any, parameters: dict[str, Tensor], shards: dict[str, Shard]) -> Any:
    """This worker's part of a moment; what has not the shape of the parameter is the same for all its elements."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value.clone() if isinstance(value, Tensor) else value  # PyTorch counts steps in what it was given
    shard, shape = shards.get(name), list(parameters[name].shape)
    if shard is not None:
        shape[shard.dimension] = shard.length
    if list(value.shape) != shape:
        raise ValueError(
            f"optimizer state: expected {key} of {name} of shape {tuple(shape)}, got {tuple(value.shape)}. "
            "Load the state of the same network."
        )
    return value if shard is None else own_part(value, shard)


def _named(optimizer: Optimizer, modules: Modules) -> tuple[dict[int, str], dict[str, Shard]]:
    """The names of the modules' parameters by id, and which part each is by name."""
    model = modules if isinstance(modules, nn.Module) else nn.ModuleDict(modules)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    strangers = [p for group in optimizer.param_groups for p in group["params"] if id(p) not in names]
    if strangers:
        raise ValueError(
            f"optimizer state: expected all parameters in the modules, got {len(strangers)} others, first of shape "
            f'{tuple(strangers[0].shape)}. Name the modules that hold them: {{"net": net, "readout": readout}}.'
        )
    return names, shards_of(model)


def _ownership(optimizer: Optimizer) -> Ownership | None:
    """That of the parameters that are parts of those of several workers."""
    parts = held()
    found = (parts[id(p)].ownership for group in optimizer.param_groups for p in group["params"] if id(p) in parts)
    return next(found, None)


def _entries(
    states: dict[str, Any], parameters: dict[str, Tensor], shards: dict[str, Shard], ownership: Ownership | None
) -> list[tuple[str, str, Tensor | None]]:
    """(parameter, moment, its value if that is one number) of all workers: some have no share of a readout's bias."""
    own = []
    for name, moments in states.items():
        for moment, value in moments.items():
            split = isinstance(value, Tensor) and value.shape == parameters[name].shape
            own.append((name, moment, None if split or not isinstance(value, Tensor) else float(value)))
    if ownership is not None:
        transport = ownership.transport
        assert transport is not None, "several workers have a transport"
        text = json.dumps(own).encode()
        length = torch.tensor([len(text)])
        transport.all_reduce(length, "max")
        everyone = transport.all_gather_bytes(text.ljust(int(length)))
        own = sorted({(n, m, s) for data in everyone for n, m, s in json.loads(data)}, key=lambda entry: entry[:2])
    return [(name, moment, None if scalar is None else torch.tensor(scalar)) for name, moment, scalar in own]
