"""A training loop of one's own on some workers, and the same on one: what a habit of PyTorch has to leave equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from networks import hdnn
from torch import Tensor, nn

import dist_hdnn
from dist_hdnn.ends.readout import Readout, make_readout
from dist_hdnn.transport import Transport, run_threads

CLASSES, BATCH = 3, 10


class Loop(NamedTuple):
    """What one worker has: its part of the modules, and all samples. states: (batch, all neurons)."""

    net: dist_hdnn.HDNN
    readout: Readout
    states: Tensor
    labels: Tensor
    workers: Transport | None

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [*self.net.parameters(), *self.readout.parameters()]

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"net": self.net, "readout": self.readout}

    def loss(self) -> Tensor:
        """The share of this worker's agents, or the whole loss where the readout is global."""
        return self.readout.loss(self.readout(self.net(self.net.local(self.states))), self.labels).sum()

    def backward(self) -> None:
        """Fresh gradients."""
        for parameter in self.parameters:
            parameter.grad = None
        self.loss().backward()

    def train(self, optimizer: torch.optim.Optimizer, steps: int = 2) -> None:
        for _ in range(steps):
            self.backward()
            optimizer.step()

    def weights(self) -> dict[str, Tensor]:
        """Of the whole network and readout; collective."""
        found = {
            f"{name}.{key}": value for name, part in self.modules.items() for key, value in part.state_dict().items()
        }
        return {key: value.detach().clone() for key, value in found.items()}


Habit = Callable[[Loop], dict[str, Tensor]]


def loop_on(transport: Transport | None, readout: str = "local", **options: object) -> Loop:
    """A ring of 6 agents whose classes have little to do with their states; the same numbers on any workers."""
    net = hdnn(
        dist_hdnn.ring(6),
        **{"width": 4, "layers": 3, "dtype": torch.float64, "workers": transport} | options,  # type: ignore[arg-type]
    )
    made = make_readout(readout, net.ownership, CLASSES).double()
    generator = torch.Generator().manual_seed(4)
    states = torch.randn(BATCH, 24, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    return Loop(net, made, states, labels, transport)


def run(workers: int, habit: Habit, readout: str = "local", **options: object) -> dict[str, Tensor]:
    """What the habit leaves, the same on all workers."""
    if workers == 1:
        return habit(loop_on(None, readout, **options))
    results = run_threads(workers, lambda transport: habit(loop_on(transport, readout, **options)), timeout=30)
    for other in results[1:]:
        assert difference(results[0], other) == 0.0
    return results[0]


def difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Largest difference of tensors of the same names."""
    assert first.keys() == second.keys()
    gaps: Iterable[float] = (float((first[k].double() - second[k].double()).abs().max()) for k in first)
    return max(gaps)
