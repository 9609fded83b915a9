"""Gradient norms of every layer over training: those of autograd, for every architecture, time course and worker."""

from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from networks import network

import dist_hdnn
from dist_hdnn.topology.ragged import offsets, ragged_ranges
from dist_hdnn.training.metrics import GradientLog
from dist_hdnn.transport import Transport, run_threads

CASES: dict[str, dict[str, Any]] = {
    "hamiltonian": {"X": "neighbours"},
    "H1": {"architecture": "H1"},
    "MS1": {"architecture": "MS1"},
    "MS2": {"architecture": "MS2"},
    "mlp": {"architecture": "mlp"},
    "shared in time": {"time": "shared"},
    "knots": {"time": 3},
}


def backward(net: dist_hdnn.HDNN, y: torch.Tensor, cotangent: torch.Tensor) -> None:
    net.zero_grad()
    (net(y) * cotangent).sum().backward()


def batches(neurons: int) -> torch.Tensor:
    return torch.randn(2, 2, 5, neurons, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("case", CASES)
def test_norms_are_the_root_mean_squares_of_the_layers_gradients(case: str) -> None:
    net = network(nx.cycle_graph(5), layers=4, **CASES[case])
    log, squares = GradientLog(net), []
    for y, cotangent in batches(net.neurons):
        backward(net, y, cotangent)
        log.add()
        rows = [p.grad for name, p in net.named_parameters() if not name.startswith(("X", "J"))]
        squares.append(torch.stack([(row**2).sum(dim=1) for row in rows if row is not None]).sum(dim=0))
    expected = torch.stack(squares).mean(dim=0).sqrt()
    assert len(expected) == {"shared in time": 1, "knots": 3}.get(case, 4)
    assert torch.allclose(torch.tensor(log.take(), dtype=torch.float64), expected, rtol=1e-13)
    backward(net, *batches(net.neurons)[0])
    log.add()
    assert np.allclose(log.take(), squares[0].sqrt(), rtol=1e-13), "take() starts anew"


def test_layers_of_several_graphs_are_counted_in_their_order() -> None:
    graphs = [nx.cycle_graph(5), nx.path_graph(5)]
    net = network(graphs, layers=5)
    with torch.no_grad():
        net.Kp[1][1] = 0.0  # the second matrix of the second graph is that of layer 3
        net.bp[3] = 0.0
    backward(net, *batches(net.neurons)[0])
    log = GradientLog(net)
    log.add()
    expected = [net.bp.grad[j].square().sum() + net.bq.grad[j].square().sum() for j in range(5)]
    for j in range(5):
        expected[j] += sum(getattr(net, name)[j % 2].grad[j // 2].square().sum() for name in ("Kp", "Kq"))
    assert np.allclose(log.take(), [float(value.sqrt()) for value in expected], rtol=1e-13)


def test_several_workers_log_the_same() -> None:
    def norms(transport: Transport | None) -> list[float]:
        net = dist_hdnn.HDNN(nx.cycle_graph(5), layers=4, dtype=torch.float64, workers=transport)
        log = GradientLog(net)
        for y, cotangent in batches(10):
            columns = ragged_ranges(offsets(np.full(5, 2))[net.owned], np.full(len(net.owned), 2))
            backward(net, y[:, columns], cotangent[:, columns])
            log.add()
        return log.take()

    alone = norms(None)
    for result in run_threads(3, norms, timeout=30):
        assert np.allclose(result, alone, rtol=1e-12)
