"""Clipping by the norm of the gradient of a whole network, of which every worker holds a part."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dist_hdnn.network.ownership import Ownership
from dist_hdnn.network.sharing import Part, held, whole


@torch.no_grad()
def clip_grad_norm_(
    parameters: nn.Module | Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale gradients so that the norm of all of them together is at most max_norm; return the norm before.

    As torch.nn.utils.clip_grad_norm_, whose place it takes: on several workers the norm is that of all workers'
    gradients, a scalar that is the same everywhere. Collective there: one global sum, booked as `optimizer`; in a
    deterministic network every gradient is gathered, so that the norm has the same bits on any number of workers.
    parameters: a module, or parameters of networks, readouts and lifts. A parameter that is no agent's counts once on
    each worker, as an agent's own would. norm_type: positive, or infinity. foreach: taken
    for its place and not looked at.
    Raises ValueError for another norm_type, RuntimeError with error_if_nonfinite for a norm that is not finite.
    """
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm_: expected a positive norm_type, got {norm_type}. Use 2.0 or math.inf.")
    if isinstance(parameters, nn.Module):
        parameters = parameters.parameters()
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    parts = held()
    ownership = next((parts[id(p)].ownership for p in given if id(p) in parts), None)
    if ownership is None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in given if p.grad is not None], norm_type)
    elif ownership.deterministic:
        norm = _norm_in_order(given, parts, ownership, norm_type)
    else:
        norm = _norm(given, ownership, norm_type)
    if error_if_nonfinite and not norm.isfinite():
        raise RuntimeError(f"clip_grad_norm_: expected a finite norm of the gradients, got {float(norm)}.")
    torch.nn.utils.clip_grads_with_norm_(given, max_norm, norm)
    return norm


def _norm(given: Sequence[Tensor], ownership: Ownership, norm_type: float) -> Tensor:
    """From the sum of the powers of all workers' norms."""
    gradients = [p.grad for p in given if p.grad is not None]
    own = torch.nn.utils.get_total_norm(gradients, norm_type)
    if math.isinf(norm_type):
        total = own.double().reshape(1)
        ownership.all_reduce(total, "optimizer", "max")
    else:
        total = own.double().reshape(1) ** norm_type
        ownership.all_reduce(total, "optimizer")
        total = total ** (1.0 / norm_type)
    return total[0].to(own.dtype)


def _norm_in_order(given: Sequence[Tensor], parts: dict[int, Part], ownership: Ownership, norm_type: float) -> Tensor:
    """From whole gradients, as one process computes it; a worker without a share of one gives an empty part."""
    present = torch.tensor([float(p.grad is not None) for p in given], dtype=torch.float64)
    ownership.all_reduce(present, "optimizer", "max")
    gradients = []
    for parameter, there in zip(given, present.tolist(), strict=True):
        if not there:
            continue
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        part = parts.get(id(parameter))
        gradients.append(gradient if part is None else whole(gradient, part.shard, ownership, "optimizer"))
    return torch.nn.utils.get_total_norm(gradients, norm_type)
