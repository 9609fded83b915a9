"""Gossip against Metropolis weights worked out by hand: the larger degree of a link's ends counts."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

import dist_hdnn
from dist_hdnn.ends.gossip import MetropolisAverage
from dist_hdnn.network.ownership import Ownership
from dist_hdnn.transport import Transport, run_threads

# Degrees of the path 0 - 1 - 2 - 3 with a leaf 4 on agent 1: 1, 3, 2, 1, 1. A link weighs 1 / (1 + the larger degree).
GRAPH = dist_hdnn.as_graph(nx.Graph([(0, 1), (1, 2), (2, 3), (1, 4)]))
WEIGHTS = torch.tensor(
    [
        [3 / 4, 1 / 4, 0, 0, 0],
        [1 / 4, 1 / 4, 1 / 4, 0, 1 / 4],
        [0, 1 / 4, 5 / 12, 1 / 3, 0],
        [0, 0, 1 / 3, 2 / 3, 0],
        [0, 1 / 4, 0, 0, 3 / 4],
    ],
    dtype=torch.float64,
)


@pytest.mark.parametrize("rounds", [0, 1, 2, 5])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_rounds_multiply_by_the_metropolis_weights(workers: int, rounds: int) -> None:
    values = torch.randn(3, 5, 2, dtype=torch.float64)
    expected = torch.einsum("ij,bjv->biv", torch.linalg.matrix_power(WEIGHTS, rounds), values)

    def work(transport: Transport) -> None:
        ownership = Ownership(GRAPH, np.full(5, 2), transport, [agent % workers for agent in range(5)])
        average = MetropolisAverage(ownership, rounds)
        mine = values[:, torch.from_numpy(ownership.agents)].requires_grad_()
        averaged = average(mine)
        torch.testing.assert_close(averaged, expected[:, torch.from_numpy(ownership.agents)], rtol=1e-13, atol=1e-13)
        averaged.sum().backward()  # rows and columns sum to one
        torch.testing.assert_close(mine.grad, torch.ones_like(mine), rtol=1e-13, atol=1e-13)

    run_threads(workers, work, timeout=30)


def test_the_weights_keep_the_mean() -> None:
    assert torch.allclose(WEIGHTS.sum(0), torch.ones(5, dtype=torch.float64)) and torch.equal(WEIGHTS, WEIGHTS.T)
