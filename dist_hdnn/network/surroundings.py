"""What PyTorch puts around a network or runs it in; what cannot be right there is refused with what to do instead."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.parallel import DistributedDataParallel

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
