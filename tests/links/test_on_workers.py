"""Impaired links on several workers: the numbers of one process, and its bits where sums are ordered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from links.oracle import over
from networks import GRAPHS, uneven_widths
from on_workers import columns_of, random_owners
from torch import Tensor

from dist_hdnn.transport import Transport, run_threads

BATCH = 6
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "zero": ({"seed": 0, "loss": (0.0, 0.6), "bits": 4, "bits_back": 6}, {"pair": "exchange", "stochastic": True}),
    "lost": (
        {"seed": 4, "loss": (0.0, 0.6), "burst": (1.0, 3.0), "outage": 0.1},
        {"pair": "answer", "failout": 0.5, "agent_outage": np.full(12, 0.1), "dead": (2,)},
    ),
    "own": (
        {"seed": 1, "loss": (0.0, 0.6), "burst": (1.0, 3.0), "outage": 0.1},
        {"fill": "own", "failout": 0.5, "agent_outage": np.full(12, 0.1), "dead": (2,)},
    ),
    "predict": ({"seed": 2, "loss": (0.0, 0.6), "delay_most": (0, 2), "bits": 6}, {"fill": "predict"}),
    "independent": ({"seed": 3, "loss": (0.0, 0.6), "bits_back": 5}, {"backward": "independent", "ramp": "uniform"}),
}


def sweeps(net: Any, y: Tensor, cotangent: Tensor) -> dict[str, Tensor]:
    """Outputs and gradients of two training steps and an evaluation."""
    results = {}
    for step in range(2):
        start = y.clone().requires_grad_()
        net.at(step=step)
        output = net(start)
        (output * cotangent).sum().backward()
        assert start.grad is not None
        results |= {f"output {step}": output.detach(), f"input {step}": start.grad}
    with torch.no_grad():
        net.at(step=0, first=1000)
        results["evaluation"] = net(y)
    return results


def largest_difference(case: str, workers: int, partition: Any, **options: Any) -> float:
    """Largest difference between one process and several workers, 0 where all bits are equal."""
    columns, links = CASES[case]
    graph, options = GRAPHS["grid"], {"layers": 3} | options
    whole = over(graph, columns, links, **options)
    generator, state = torch.Generator().manual_seed(3), whole.state_dict()
    y, cotangent = torch.randn(2, BATCH, whole.neurons, generator=generator, dtype=torch.float64)
    expected, parameters = sweeps(whole, y, cotangent), dict(whole.named_parameters())

    def work(transport: Transport) -> float:
        net = over(graph, columns, links, workers=transport, partition=partition, **options)
        net.load_state_dict(state)
        mine = columns_of(net.owned, whole.widths)
        pairs = [(a, expected[key][:, mine]) for key, a in sweeps(net, y[:, mine], cotangent[:, mine]).items()]
        for name, parameter in net.named_parameters():
            gradient, shard = parameters[name].grad, net.shards[name]
            assert parameter.grad is not None and gradient is not None
            pairs.append((parameter.grad, gradient.index_select(shard.dimension, torch.from_numpy(shard.index))))
        if not options.get("deterministic"):
            return max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in pairs if b.numel())
        return 0.0 if all(torch.equal(a, b) for a, b in pairs) else 1.0

    return max(run_threads(workers, work, timeout=60))


@pytest.mark.parametrize("deterministic", [False, True], ids=["numbers", "bits"])
@pytest.mark.parametrize("owners", ["contiguous", "random"])
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("case", CASES)
def test_all_workers_and_owners_give_the_numbers_of_one_process(
    case: str, workers: int, owners: str, deterministic: bool
) -> None:
    partition = "contiguous" if owners == "contiguous" else random_owners(12, workers)
    assert largest_difference(case, workers, partition, deterministic=deterministic) <= 1e-12


@pytest.mark.parametrize("deterministic", [False, True], ids=["numbers", "bits"])
@pytest.mark.parametrize("case", ["zero", "predict"])
def test_so_they_do_with_agents_of_unequal_widths(case: str, deterministic: bool) -> None:
    owners, options = random_owners(12, 4, seed=5), {"deterministic": deterministic, "width": uneven_widths(12)}
    assert largest_difference(case, 4, owners, **options) <= 1e-12


@pytest.mark.parametrize("memory", [{"memory": "recompute", "keep_every": 2}, {"memory": "reversible"}])
@pytest.mark.parametrize("deterministic", [False, True], ids=["numbers", "bits"])
def test_so_they_do_where_states_are_rebuilt(memory: dict[str, Any], deterministic: bool) -> None:
    assert largest_difference("own", 3, random_owners(12, 3), deterministic=deterministic, **memory) <= 1e-12
