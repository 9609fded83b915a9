"""Graphs and networks that many tests run over, and the comparison of a network with its dense twin."""

from __future__ import annotations

import warnings
from dataclasses import fields
from typing import Any

import networkx as nx
import numpy as np
import torch

import dist_hdnn
from dist_hdnn.network.dense import DenseTwin
from dist_hdnn.topology import BlockPattern, as_graph

GRAPHS: dict[str, Any] = {
    "one agent": nx.empty_graph(1),
    "two agents": nx.path_graph(2),
    "two strangers": nx.empty_graph(2),
    "path": nx.path_graph(5),
    "ring": nx.cycle_graph(8),
    "star": nx.star_graph(6),
    "complete": nx.complete_graph(5),
    "grid": nx.grid_2d_graph(3, 4),
    "torus": nx.grid_2d_graph(4, 5, periodic=True),
    "random": nx.gnp_random_graph(17, 0.25, seed=1),
    "hubs": nx.barabasi_albert_graph(40, 2, seed=0),
    "disconnected": nx.disjoint_union(nx.cycle_graph(4), nx.path_graph(3)),
    "isolated agents": nx.disjoint_union(nx.cycle_graph(5), nx.empty_graph(2)),
    "tree": nx.balanced_tree(2, 3),
}

PLACEMENTS: dict[str, dict[str, str]] = {
    "K": {"K": "neighbours", "X": "identity"},
    "K, X trained within agents": {"K": "neighbours", "X": "block_diagonal"},
    "X": {"K": "block_diagonal", "X": "neighbours"},
    "K and X": {"K": "neighbours", "X": "neighbours"},
}

_TWO = ("semi_implicit", "stormer_verlet", "yoshida4")
FAMILY: list[dict[str, Any]] = [
    *(
        {"architecture": "hamiltonian", "integrator": name, **placement}
        for name in _TWO
        for placement in (
            PLACEMENTS["K"],
            PLACEMENTS["X"],
            PLACEMENTS["K and X"],
        )
    ),
    *({"architecture": "MS3", "integrator": name} for name in _TWO[:1]),
    *({"architecture": name, "integrator": step} for name in ("MS1", "verlet", "leapfrog") for step in _TWO),
    *({"architecture": "H1", "J": J} for J in ("J1", "J2", "trained")),
    *({"architecture": "H1", "J": J, "X": "neighbours"} for J in ("J2", "trained")),
    *({"architecture": "antisymmetric", "gamma": gamma} for gamma in (0.0, 0.3)),
    *({"architecture": name} for name in ("MS2", "near_identity", "resnet", "mlp")),
]
"""Every architecture with every integrator, and the places of what couples agents."""


def uneven_widths(agents: int, seed: int = 0, widest: int = 3) -> dict[int, int]:
    """An even width between 2 and 2 * widest for every agent."""
    halves = np.random.default_rng(seed).integers(1, widest + 1, agents)
    return {agent: 2 * int(half) for agent, half in enumerate(halves)}


def quiet_graph(name: str) -> dist_hdnn.CommunicationGraph:
    """One of GRAPHS, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return as_graph(GRAPHS[name])


def hdnn(graph: Any, **options: Any) -> dist_hdnn.HDNN:
    """An HDNN whose `Execution` is among the options; its products by the name "plan"."""
    names = {"plan": "products"} | {field.name: field.name for field in fields(dist_hdnn.Execution)}
    execution = {names[name]: options.pop(name) for name in list(options) if name in names}
    return dist_hdnn.HDNN(graph, **options, execution=dist_hdnn.Execution(**execution))


def network(graph: Any, **options: Any) -> dist_hdnn.HDNN:
    """A float64 network whose weights and biases are all away from zero, without warnings about reach."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = hdnn(graph, dtype=torch.float64, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return net


def largest_difference_to_twin(net: dist_hdnn.HDNN, batch: int = 5) -> float:
    """Largest difference between a network and its dense twin: output, input gradient, every weight's gradient.

    Each tensor's difference is taken relative to its largest value where that exceeds 1.
    """
    twin = DenseTwin(net)
    generator = torch.Generator().manual_seed(2)
    y, cotangent = torch.randn(2, batch, net.neurons, generator=generator, dtype=torch.float64)
    ours, theirs = (y.clone().requires_grad_() for _ in range(2))
    output, expected = net(ours), twin(theirs)
    (output * cotangent).sum().backward()
    (expected * cotangent).sum().backward()
    assert ours.grad is not None and theirs.grad is not None
    pairs = [(output.detach(), expected.detach()), (ours.grad, theirs.grad)]
    parameters = dict(net.named_parameters())
    assert list(parameters) == [name for name, w in twin.weights.items() if w.requires_grad]
    pairs += [(parameter.grad, twin.weights[name].grad) for name, parameter in parameters.items()]
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in pairs if b.numel())


def minimum_bytes(net: dist_hdnn.HDNN, pattern: BlockPattern, batch: int, item_bytes: int = 8) -> int:
    """Return the bytes that all workers together must send in a round of this pattern; none can send fewer."""
    ownership = net.ownership
    _, agents = ownership.partition.crossings(pattern)
    return int(ownership.all_halves[agents].sum()) * batch * item_bytes
