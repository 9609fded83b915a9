"""PyTorch's clipping, loss scaling and optimizer state, for a training loop of one's own on any number of workers.

The state of an optimizer goes by the names of parameters, in global tensors:

{"state": {"net.Kp.0": {"exp_avg": (layers, entries of the whole pattern), "step": ()}, ...},
 "param_groups": [{"lr": 0.02, ..., "params": ["net.Kp.0", ...]}]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dist_hdnn.network.ownership import Ownership, Shard
from dist_hdnn.network.sharing import held, own_part, shards_of, whole

Modules = nn.Module | Mapping[str, nn.Module]


def _ownership(parameters: Iterable[Tensor]) -> Ownership | None:
    """Return the ownership of the parameters that are split over several workers, None without one."""
    parts = held()
    return next((parts[id(parameter)].ownership for parameter in parameters if id(parameter) in parts), None)


@torch.no_grad()
def clip_grad_norm_(
    parameters: nn.Module | Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale gradients so that the norm of all of them together is at most max_norm, and return the norm before.

    Replaces torch.nn.utils.clip_grad_norm_: the norm is that of all workers' gradients, a scalar that is the same
    everywhere. Collective: one global sum, booked as `optimizer`; in a deterministic network every gradient is
    gathered, so that the norm has the same bits on any number of workers.
    parameters: a module, or parameters of networks, readouts and lifts. A parameter that is no agent's counts once on
    each worker, as an agent's own would. norm_type: positive, or infinity. foreach: accepted and ignored.
    Raises ValueError for another norm_type, RuntimeError with error_if_nonfinite for a norm that is not finite.
    """
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm_: expected a positive norm_type, got {norm_type}. Use 2.0 or math.inf.")
    if isinstance(parameters, nn.Module):
        parameters = parameters.parameters()
    clipped = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    ownership = _ownership(clipped)
    if ownership is not None and ownership.deterministic:
        norm = _norm_in_order(clipped, ownership, norm_type)
    else:
        norm = torch.nn.utils.get_total_norm([p.grad for p in clipped if p.grad is not None], norm_type)
        if ownership is not None:  # from the sum of the powers of all workers' norms
            infinite, total = math.isinf(norm_type), norm.double().reshape(1)
            total = total if infinite else total**norm_type
            ownership.all_reduce(total, "optimizer", "max" if infinite else "sum")
            norm = (total if infinite else total ** (1.0 / norm_type))[0].to(norm.dtype)
    if error_if_nonfinite and not norm.isfinite():
        raise RuntimeError(f"clip_grad_norm_: expected a finite norm of the gradients, got {float(norm)}.")
    torch.nn.utils.clip_grads_with_norm_(clipped, max_norm, norm)
    return norm


def _norm_in_order(clipped: Sequence[Tensor], ownership: Ownership, norm_type: float) -> Tensor:
    """Return the norm of whole gradients, as one process computes it. A worker without a share gives an empty part."""
    parts = held()
    present = torch.tensor([float(p.grad is not None) for p in clipped], dtype=torch.float64)
    ownership.all_reduce(present, "optimizer", "max")
    gradients = []
    for parameter, there in zip(clipped, present.tolist(), strict=True):
        if there:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            part = parts.get(id(parameter))
            gradients.append(gradient if part is None else whole(gradient, part.shard, ownership, "optimizer"))
    return torch.nn.utils.get_total_norm(gradients, norm_type)


class GradScaler(torch.amp.GradScaler):
    """torch.amp.GradScaler, with the same arguments, on any number of workers: all skip a step together.

    `unscale_` and `step` are collective there: one global maximum of one number, booked as `optimizer`. So the scale is
    the same on all workers.
    """

    def _unscale_grads_(self, optimizer: Optimizer, *args: Any, **options: Any) -> dict[Any, Tensor]:
        overflows: dict[Any, Tensor] = super()._unscale_grads_(optimizer, *args, **options)
        ownership = _ownership(parameter for group in optimizer.param_groups for parameter in group["params"])
        if ownership is not None:
            largest = torch.tensor([max((float(value) for value in overflows.values()), default=0.0)])
            ownership.all_reduce(largest, "optimizer", "max")
            for value in overflows.values():
                value.fill_(float(largest))
        return overflows


def optimizer_state_dict(optimizer: Optimizer, modules: Modules) -> dict[str, Any]:
    """Return the optimizer's state for `load_optimizer_state_dict`, the same on any number of workers. Collective.

    modules: what holds the parameters, one module or names of several: {"net": net, "readout": readout}. On several
    workers all of them call this, after the modules have run; one of them saves what it returns.
    Raises ValueError for a parameter that is in none of the modules.
    """
    names, shards = _named(optimizer, modules)
    parameters = {names[id(p)]: p for group in optimizer.param_groups for p in group["params"]}
    ownership = _ownership(parameters.values())
    states = {name: optimizer.state.get(p, {}) for name, p in parameters.items()}
    moments: dict[str, dict[str, Any]] = {}
    for name, moment, scalar in _entries(states, parameters, shards, ownership):
        value = states[name].get(moment)
        if ownership is not None and scalar is None and name in shards:
            value = torch.zeros_like(parameters[name]) if value is None else value
            value = whole(value.detach(), shards[name], ownership)
        elif value is None:
            value = scalar  # a worker without a share of this parameter
        moments.setdefault(name, {})[moment] = value.detach().clone() if isinstance(value, Tensor) else value
    groups = [group | {"params": [names[id(p)] for p in group["params"]]} for group in optimizer.param_groups]
    return {"state": moments, "param_groups": groups}


def load_optimizer_state_dict(optimizer: Optimizer, state: Mapping[str, Any], modules: Modules) -> None:
    """Put an optimizer to a state of `optimizer_state_dict`, on this or another number of workers.

    optimizer: with the same parameters in the same groups. modules: as there, with the same names.
    Raises ValueError for other names or groups, or shapes that do not fit.
    """
    names, shards = _named(optimizer, modules)
    groups = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    saved = [list(group["params"]) for group in state["param_groups"]]
    if groups != saved:
        odd = sorted(set(sum(groups, [])) ^ set(sum(saved, []))) or ["order or groups"]
        raise ValueError(
            f"optimizer state: expected this optimizer's {len(groups)} groups, got {len(saved)} groups that differ in "
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
    """Return this worker's part of a moment. One of another shape than the parameter is the same for all elements."""
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
    """Return the names of the modules' parameters by id, and their shards by name."""
    model = modules if isinstance(modules, nn.Module) else nn.ModuleDict(modules)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    strangers = [p for group in optimizer.param_groups for p in group["params"] if id(p) not in names]
    if strangers:
        raise ValueError(
            f"optimizer state: expected all parameters in the modules, got {len(strangers)} others, first of shape "
            f'{tuple(strangers[0].shape)}. Name the modules that hold them: {{"net": net, "readout": readout}}.'
        )
    return names, shards_of(model)


def _entries(
    states: dict[str, Any], parameters: dict[str, Tensor], shards: dict[str, Shard], ownership: Ownership | None
) -> list[tuple[str, str, Tensor | None]]:
    """Return (parameter, moment, its value if scalar) of all workers: some have no share of a readout's bias."""
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
