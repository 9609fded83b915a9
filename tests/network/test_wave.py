"""Initial values "wave": stable on every graph, alike on any workers, and a signal crosses the graph."""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from on_workers import random_owners

import dist_hdnn
from dist_hdnn.network.arguments import WAVE_SHARE
from dist_hdnn.transport import run_threads

GRAPHS = {
    "ring": dist_hdnn.ring(12),
    "star": dist_hdnn.star(9),
    "tree": dist_hdnn.balanced_tree(2, 3),
    "scale-free": dist_hdnn.barabasi_albert(20, 2, seed=0),
    "one agent": dist_hdnn.ring(1),
    "grid": nx.grid_2d_graph(3, 5),
}


def wave(graph: Any, **options: Any) -> dist_hdnn.HDNN:
    return dist_hdnn.HDNN(graph, initial="wave", dtype=torch.float64, **{"width": 4, "layers": 3, **options})


def dense(net: dist_hdnn.HDNN, name: str, layer: int) -> np.ndarray:
    matrix = np.zeros((net.neurons // 2, net.neurons // 2))
    matrix[tuple(index.numpy() for index in net.scalar_positions(name, layer))] = net.layer_weights(
        name, layer
    ).detach()
    return matrix


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("architecture", ["hamiltonian", "MS3", "leapfrog"])
def test_a_wave_is_at_the_same_share_of_the_stability_limit_on_every_graph(name: str, architecture: str) -> None:
    net = wave(GRAPHS[name], architecture=architecture, step=0.3)
    for layer in range(3):
        norms = [np.linalg.norm(dense(net, each, layer), 2) for each in net.architecture.matrices]
        product = 0.3**2 * (norms[0] ** 2 * norms[-1] ** 2 if len(norms) == 2 else norms[0] ** 2)
        assert product == pytest.approx(4.0 * WAVE_SHARE, rel=1e-9)  # the limit is 4
    assert not any(getattr(net, bias).any() for bias in net.architecture.biases)


def test_a_wave_is_the_same_on_any_workers() -> None:
    whole = wave(dist_hdnn.ring(9)).state_dict()
    for workers in (2, 3, 4, 8):

        def drawn(transport: Any, workers: int = workers) -> dict[str, torch.Tensor]:
            return wave(dist_hdnn.ring(9), workers=transport, partition=random_owners(9, workers)).state_dict()

        for state in run_threads(workers, drawn, timeout=60):
            assert all(torch.equal(state[name], value) for name, value in whole.items())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_signal_crosses_64_hops_where_a_random_start_lets_none_through(seed: int) -> None:
    def reached(initial: str) -> float:
        """The share of a unit signal at agent 64 of a ring of 128 that agent 0 has after 24 layers."""
        net = dist_hdnn.HDNN(dist_hdnn.ring(128), width=2, layers=24, initial=initial, seed=seed, dtype=torch.float64)
        with net.linearize(torch.zeros(1, net.neurons, dtype=torch.float64)) as at_rest:
            tangent = torch.zeros(1, net.neurons, dtype=torch.float64)
            tangent[0, 2 * 64 + 1] = 1.0
            return float(at_rest.push(tangent, 0, 24)[0, :2].norm())

    assert reached("wave") > 0.1
    assert reached("random") < 1e-20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "MS1"}, "expected the architecture hamiltonian without X, MS3 or leapfrog for wave, got MS1"),
        ({"X": "neighbours"}, "got hamiltonian with X"),
        ({"initial_scale": 0.5}, "expected nothing with initial=wave, whose scale is the limit of stability, got 0.5"),
        ({"width": {0: 2, 1: 4, 2: 2, 3: 2}}, "expected agents of one width for wave, got several"),
    ],
)
def test_what_has_no_wave_is_refused_in_one_line(options: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        wave(dist_hdnn.ring(4), **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"network\.initial: expected random or wave, got 'waves'"):
        dist_hdnn.HDNN(dist_hdnn.ring(4), initial="waves")


def test_own_blocks_let_odd_distances_of_an_even_ring_through() -> None:
    net = wave(dist_hdnn.ring(8), width=2, layers=4)
    diagonal = np.diag(dense(net, "Kp", 0))
    assert (np.abs(diagonal) > 0.01 * math.sqrt(2 / net.step)).all()
