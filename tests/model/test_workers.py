"""The network on several workers: the numbers of one process, and nothing on the wire but what neighbours need."""

from typing import Any

import numpy as np
import pytest
import torch
from networks import GRAPHS, PLACEMENTS, network, quiet_graph, uneven_widths

import dist_hdnn
from dist_hdnn.layers.operators import offsets, ragged_ranges
from dist_hdnn.transport import Transport, run_threads

WORKERS = (1, 2, 3, 4, 8)
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
    state = whole.state_dict()
    generator = torch.Generator().manual_seed(3)
    y, cotangent = torch.randn(2, BATCH, whole.neurons, generator=generator, dtype=torch.float64)
    y.requires_grad_()
    output = whole(y)
    (output * cotangent).sum().backward()
    whole.smoothness().backward()
    assert y.grad is not None

    def work(transport: Transport) -> list[tuple[torch.Tensor, torch.Tensor]]:
        net = network(graph, workers=transport, partition=partition, **options)
        drawn = [p.detach().clone() for p in dist_hdnn_without_noise(graph, transport, partition, options).parameters()]
        assert [p.shape for p in net.parameters()] == [p.shape for p in drawn]
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
        inverse = net.inverse(result.detach())
        return [*pairs, (inverse, mine.detach())]

    results = run_threads(workers, work, timeout=60)
    return max(
        float((a - b).abs().max() / b.abs().max().clamp(min=1)) for part in results for a, b in part if b.numel()
    )


def dist_hdnn_without_noise(graph: Any, transport: Transport | None, partition: Any, options: Any) -> dist_hdnn.HDNN:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dist_hdnn.HDNN(graph, dtype=torch.float64, workers=transport, partition=partition, **options)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", GRAPHS)
def test_parity_with_one_process(name: str, placement: str, workers: int) -> None:
    graph = quiet_graph(name)
    if workers > graph.agents:
        pytest.skip("more workers than agents")
    options = {"width": uneven_widths(graph.agents), "layers": 3, "step": 0.4, **PLACEMENTS[placement]}
    owners = random_owners(graph.agents, workers)
    assert largest_difference(graph, workers, owners, **options) <= 1e-12
