"""Memory of a sweep: the same tensors in every sweep, and without gradients none that grows with depth."""

from typing import Any

import pytest
import torch
from networks import FAMILY, network, quiet_graph

import dist_hdnn
from dist_hdnn.operators.exchange import Exchange


class Spy:
    """An exchange that remembers which tensors it was given, as one between workers has to."""

    ordered, moves = False, True

    def __init__(self, inner: Exchange) -> None:
        self.inner, self.seen = inner, dict[int, torch.Tensor]()

    def gather(self, slices: torch.Tensor, phase: str, meanwhile: Any = None) -> None:
        self.seen[id(slices)] = slices  # held, so its id stays its own
        self.inner.gather(slices, phase, *([meanwhile] if meanwhile else []))

    def scatter_add(self, slices: torch.Tensor, phase: str, *more: Any) -> None:
        self.seen[id(slices)] = slices
        self.inner.scatter_add(slices, phase, *more)


def spied(net: dist_hdnn.HDNN) -> list[Spy]:
    stages, spies = net.sweep.model.stages, []
    for s, stage in enumerate(stages):
        changed = {name: Spy(getattr(stage, name)) for name in ("K_exchange", "X_exchange") if getattr(stage, name)}
        stages[s] = stage._replace(**changed)
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
