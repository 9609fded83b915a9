"""Gather and scatter-add are each other's adjoint over all workers, whatever the graph, the owners and the widths."""

import numpy as np
import pytest
import torch
from networks import GRAPHS, quiet_graph, uneven_widths

from dist_hdnn.network.ownership import Ownership
from dist_hdnn.topology import BlockPattern, neighbours
from dist_hdnn.topology.ragged import offsets, ragged_ranges
from dist_hdnn.transport import Transport, run_threads

CASES = [(name, workers) for name in GRAPHS for workers in (1, 2, 3, 4, 8) if workers <= quiet_graph(name).agents]


def directed(agents: int, seed: int) -> BlockPattern:
    """A random pattern that is not symmetric, with empty rows and columns."""
    dense = np.random.default_rng(seed).random((agents, agents)) < 0.3
    rows, columns = np.nonzero(dense)
    return BlockPattern(np.concatenate([[0], np.cumsum(dense.sum(axis=1))]), columns, f"random {len(rows)}")


def products(name: str, workers: int, is_directed: bool) -> tuple[float, float, float]:
    """<gather x, v>, <x, scatter_add v> and the largest error of a gathered ghost, over all workers."""
    graph = quiet_graph(name)
    pattern = directed(graph.agents, workers) if is_directed else neighbours(graph)
    widths = np.array(list(uneven_widths(graph.agents, seed=4).values()))
    rng = np.random.default_rng(workers)
    extra = rng.integers(0, workers, graph.agents - workers)
    owners = rng.permutation(np.concatenate([np.arange(workers), extra])).tolist()
    whole = torch.randn(int(widths.sum()) // 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    starts = offsets(widths // 2)

    def work(transport: Transport) -> tuple[float, float, float]:
        ownership = Ownership(graph, widths, transport, owners)
        operator, exchange, agents = ownership.operator(pattern, "test")
        rows = ragged_ranges(starts[agents], widths[agents] // 2)
        owned = operator.rows
        x = torch.full((operator.column_neurons, 3), torch.nan, dtype=torch.float64)
        x[:owned] = whole[rows[:owned]]
        v = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(transport.rank))
        summed = v.clone()
        exchange.gather(exchange.ghosted(x))
        exchange.scatter_add(exchange.ghosted(summed))
        error = (x - whole[rows]).abs().max() if len(rows) else torch.zeros(())
        return float((x * v).sum()), float((x[:owned] * summed[:owned]).sum()), float(error)

    results = np.array(run_threads(workers, work, timeout=30))
    return float(results[:, 0].sum()), float(results[:, 1].sum()), float(results[:, 2].max())


@pytest.mark.parametrize("is_directed", [False, True], ids=["undirected", "directed"])
@pytest.mark.parametrize(("name", "workers"), CASES)
def test_gather_and_scatter_add_are_adjoint(name: str, workers: int, is_directed: bool) -> None:
    forward, backward, error = products(name, workers, is_directed)
    assert error == 0.0
    assert abs(forward - backward) <= 1e-12 * max(1.0, abs(forward))
