"""Memory of a sweep: the same tensors in every sweep, and without gradients none that grows with depth."""

from typing import Any

import pytest
import torch
from networks import FAMILY, network, quiet_graph

import dist_hdnn
from dist_hdnn.operators.exchange import Silent
from dist_hdnn.operators.ghosted import GhostedTensor, Work


class Spy(Silent):
    """An exchange that remembers which tensors it was given, as one between workers has to."""

    moves = True

    def __init__(self) -> None:
        super().__init__()
        self.seen = dict[int, GhostedTensor]()

    def gather(self, x: GhostedTensor, meanwhile: Work | None = None) -> None:
        self.seen[id(x)] = x  # held, so its id stays its own
        super().gather(x, meanwhile)

    def scatter_add(
        self, x: GhostedTensor, meanwhile: Work | None = None, owned: torch.Tensor | None = None, share: float = 1.0
    ) -> None:
        self.gather(x, meanwhile)


def spied(net: dist_hdnn.HDNN) -> list[Spy]:
    couplings, spies = net.sweep.spec.graphs, []
    for s, coupling in enumerate(couplings):
        changed = {name: Spy() for name in ("K_exchange", "X_exchange") if getattr(coupling, name)}
        couplings[s] = coupling._replace(**changed)
        spies += changed.values()
    return spies


@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_every_sweep_exchanges_the_very_same_tensors(options: dict[str, Any]) -> None:
    net = network(quiet_graph("ring"), layers=4, **options)
    spies = spied(net)
    y = torch.randn(3, net.neurons, dtype=torch.float64)

    def everything() -> int:
        net(y).sum().backward()
        with torch.no_grad():
            net(y)
        with net.linearize(y) as at:
            at.pull(at.push(y, 0, 4), 4, 0)
        if net.architecture.invertible:
            net.inverse(y)
        return sum(len(spy.seen) for spy in spies)

    first = everything()
    assert first > 0
    assert everything() == everything() == first


@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_without_gradients_memory_does_not_grow_with_depth(options: dict[str, Any]) -> None:
    def gathered(layers: int) -> int:
        net = network(quiet_graph("ring"), layers=layers, time="shared", **options)
        spies = spied(net)
        with torch.no_grad():
            net(torch.randn(3, net.neurons, dtype=torch.float64))
        return sum(len(spy.seen) for spy in spies)

    assert gathered(3) == gathered(12)
