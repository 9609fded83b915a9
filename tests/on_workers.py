"""A network on several workers against the same network in one process."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from networks import hdnn, network

import dist_hdnn
from dist_hdnn.topology.ragged import offsets, ragged_ranges
from dist_hdnn.transport import Transport, run_threads

BATCH = 3


def columns_of(agents: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Columns of the whole state that belong to these agents."""
    return ragged_ranges(offsets(widths)[agents], widths[agents])


def random_owners(agents: int, workers: int, seed: int = 0) -> list[int]:
    """A worker for every agent, none without agents."""
    rng = np.random.default_rng(seed)
    owners = np.concatenate([np.arange(workers), rng.integers(0, workers, agents - workers)])
    return [int(worker) for worker in rng.permutation(owners)]


def largest_difference(graph: Any, workers: int, partition: Any, **options: Any) -> float:
    """Largest difference between one process and several workers: output, input gradient, weights, their gradients."""
    whole = network(graph, **options)
    state, initial = whole.state_dict(), as_drawn(graph, None, "contiguous", options).state_dict()
    generator = torch.Generator().manual_seed(3)
    y, cotangent = torch.randn(2, BATCH, whole.neurons, generator=generator, dtype=torch.float64)
    y.requires_grad_()
    output = whole(y)
    (output * cotangent).sum().backward()
    whole.smoothness().backward()
    assert y.grad is not None

    def work(transport: Transport) -> list[tuple[torch.Tensor, torch.Tensor]]:
        net = network(graph, workers=transport, partition=partition, **options)
        drawn = as_drawn(graph, transport, partition, options).state_dict()
        assert all(torch.equal(drawn[key], value) for key, value in initial.items())
        net.load_state_dict(state)
        columns = columns_of(net.owned, whole.widths)
        mine = y.detach()[:, columns].requires_grad_()
        result = net(mine)
        (result * cotangent[:, columns]).sum().backward()
        net.smoothness().backward()
        assert mine.grad is not None
        pairs = [(result.detach(), output.detach()[:, columns]), (mine.grad, y.grad[:, columns])]
        ours, theirs = dict(net.named_parameters()), dict(whole.named_parameters())
        for name, shard in net.shards.items():
            gradient = theirs[name].grad
            assert gradient is not None
            pairs.append((ours[name].grad, gradient.index_select(shard.dimension, torch.from_numpy(shard.index))))
        exported = net.state_dict()
        assert exported.keys() == state.keys()
        pairs += [(exported[name], state[name]) for name in state]
        if net.architecture.invertible:
            pairs.append((net.inverse(result.detach()), mine.detach()))
        return pairs

    results = run_threads(workers, work, timeout=60)
    return max(
        float((a - b).abs().max() / b.abs().max().clamp(min=1)) for part in results for a, b in part if b.numel()
    )


def as_drawn(graph: Any, transport: Transport | None, partition: Any, options: Any) -> dist_hdnn.HDNN:
    """The network with its initial weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hdnn(graph, dtype=torch.float64, workers=transport, partition=partition, **options)


def same_bits(graph: Any, workers: int, options: dict[str, Any]) -> bool:
    """Whether outputs and gradients of all weights equal those of one process bit by bit."""
    whole = network(graph, **options)
    state = whole.state_dict()
    y = torch.randn(37, whole.neurons, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    output = whole(y)
    output.square().sum().backward()
    theirs = dict(whole.named_parameters())

    def work(transport: Transport) -> bool:
        net = network(graph, workers=transport, partition=random_owners(graph.agents, workers), **options)
        net.load_state_dict(state)
        columns = columns_of(net.owned, whole.widths)
        result = net(y[:, columns])
        result.square().sum().backward()
        same = [torch.equal(result, output[:, columns])]
        for name, parameter in net.named_parameters():
            gradient, shard = theirs[name].grad, net.shards[name]
            assert gradient is not None and parameter.grad is not None
            same.append(
                torch.equal(parameter.grad, gradient.index_select(shard.dimension, torch.from_numpy(shard.index)))
            )
        return all(same)

    return all(run_threads(workers, work, timeout=60))
