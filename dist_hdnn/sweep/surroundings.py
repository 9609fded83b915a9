"""PyTorch around a sweep: torch.compile and autocast leave it as it is, and transforms are refused.

A sweep talks to other workers and writes into memory that it leased, so nothing may trace, batch or copy it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.parallel import DistributedDataParallel

from dist_hdnn.topology.ragged import IntArray

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


def under_autocast(tensor: Tensor) -> bool:
    """Tell whether operations on this tensor are under autocast, which "meta" devices, for example, do not have."""
    kind = tensor.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


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


def check_columns(y: Tensor, neurons: int, everywhere: IntArray, who: str, remedy: str = "") -> None:
    """Raise ValueError unless y is a state (batch, neurons) of this worker; everywhere: neurons of all agents."""
    if y.ndim != 2 or y.shape[1] != neurons:
        remedy = remedy or "Lift the features to the agents' neurons first (see SensorMap)."
        if y.ndim == 2 and y.shape[1] == everywhere.sum():
            remedy = "This is the state of all workers' agents; local(state) takes this worker's columns of it."
        raise ValueError(f"{who}: expected a state of shape (batch, {neurons}), got {tuple(y.shape)}. {remedy}")


def check_kind(y: Tensor, like: Tensor, who: str = "HDNN", what: str = "a state") -> None:
    """Raise ValueError unless a tensor has the dtype and the device of the weights."""
    if y.dtype != like.dtype or y.device != like.device:
        raise ValueError(
            f"{who}: expected {what} of {like.dtype} on {like.device}, got {y.dtype} on {y.device}. "
            "Convert one of them with .to(...)."
        )
