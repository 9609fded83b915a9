"""Measure one case with whatever dist_hdnn is on the path, block by block, for `trees.py`.

    python benchmarks/served.py '{"kind": "layer", "cell": "8x2", "layers": 16, "batch": 125}'

prints a line of JSON, then for every line that it reads the CPU seconds of a block. Kinds of cases:

    layer    a sweep of cells.py, forward and backward                                 seconds per layer
    step     a training step: sweep, linear readout, cross-entropy, backward, Adam     seconds per step
             code: "ours", "dense" (K times its mask in plain PyTorch), "compiled" (torch.compile of that)
    agents   a training step of a torus with 4 neurons per agent, as in agents.py      seconds per step

It uses only what older source trees have too.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import graph_of
from torch import Tensor, nn

import dist_hdnn
from dist_hdnn import HDNN

Step = Callable[[], object]
SECONDS, CLASSES, RATE, STEP = 0.25, 2, 1e-3, 0.1
SIDES = {1000: (25, 40), 10_000: (100, 100), 100_000: (250, 400)}


def one_median(step: Step) -> float:
    """Return the median CPU seconds of calls for SECONDS, at least one."""
    times, end = [], time.perf_counter() + SECONDS
    while not times or time.perf_counter() < end:
        began = time.process_time()
        step()
        times.append(time.process_time() - began)
    return float(np.median(times))


def network(cell: str, layers: int) -> HDNN:
    """Return the network of a cell."""
    graph, width = graph_of(cell)
    return HDNN(graph, width, layers, step=STEP, dtype=torch.float32)


def layer(cell: str, layers: int, batch: int) -> tuple[dict[str, Any], Step, int]:
    """Return digests of output and states on one and on two threads, a sweep, and the layers that share its time."""
    net = network(cell, layers)
    y, dy = torch.randn(batch, net.neurons).requires_grad_(), torch.randn(batch, net.neurons)
    inputs, digests = [y, *net.parameters()], []
    for threads in (2, 1):
        torch.set_num_threads(threads)
        outputs = [net(y).detach(), net.states(y.detach())]
        digests.append(hashlib.sha256(b"".join(each.contiguous().numpy().tobytes() for each in outputs)).hexdigest())
    return {"bits": digests}, lambda: torch.autograd.grad(net(y), inputs, dy), layers


def step(cell: str, layers: int, batch: int, code: str) -> tuple[dict[str, Any], Step, int]:
    """Return a training step on random samples."""
    net = network(cell, layers)
    model: nn.Module = net if code == "ours" else Dense(net)
    parameters = [*model.parameters(), *(readout := nn.Linear(net.neurons, CLASSES)).parameters()]
    adam = torch.optim.Adam(parameters, lr=RATE, fused=True)
    y, labels = torch.randn(batch, net.neurons), torch.randint(CLASSES, (batch,))

    def loss() -> Tensor:
        return nn.functional.cross_entropy(readout(model(y)), labels)

    forward = torch.compile(loss) if code == "compiled" else loss

    def work() -> None:
        adam.zero_grad(set_to_none=True)
        forward().backward()
        adam.step()

    return {"loss": float(loss())}, work, 1


def agents(agents: int, layers: int, batch: int, memory: str) -> tuple[dict[str, Any], Step, int]:
    """Return a training step of a torus."""
    from dist_hdnn.topology import torus

    if hasattr(dist_hdnn, "Execution"):
        options: dict[str, Any] = {"execution": dist_hdnn.Execution(memory=memory)}
    else:
        options = {"memory": memory}
    net = HDNN(torus(*SIDES[agents]), 4, layers, STEP, **options)
    adam = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
    y = torch.randn(batch, net.neurons)

    def work() -> None:
        adam.zero_grad(set_to_none=True)
        net(y).square().mean().backward()
        adam.step()

    return {}, work, 1


class Dense(nn.Module):
    """The layers of a network as one writes them in plain PyTorch: every K a dense matrix times its mask."""

    def __init__(self, net: HDNN) -> None:
        super().__init__()
        self.step, self.layers = net.step, net.layers
        half = int(net.halves.sum())
        rows, columns = net.scalar_positions("Kp", 0)
        mask = torch.zeros(half, half)
        mask[rows, columns] = 1.0
        self.register_buffer("mask", mask)
        for name in ("Kp", "Kq"):
            values = getattr(net, name)
            values = values if isinstance(values, Tensor) else values[0]
            dense = torch.zeros(net.layers, half, half)
            dense[:, rows, columns] = values.detach()
            setattr(self, name, nn.Parameter(dense))
        for name in ("bp", "bq"):
            setattr(self, name, nn.Parameter(getattr(net, name).detach().clone()))
        self.columns = [torch.from_numpy(index) for index in net.columns]

    def forward(self, y: Tensor) -> Tensor:
        """Return yN (batch, neurons) of y0."""
        p, q = (y[:, columns] for columns in self.columns)
        for layer in range(self.layers):
            K = self.Kq[layer] * self.mask
            p = p - self.step * torch.tanh(q @ K.T + self.bq[layer]) @ K
            K = self.Kp[layer] * self.mask
            q = q + self.step * torch.tanh(p @ K.T + self.bp[layer]) @ K
        return torch.cat([p, q], dim=1)[:, torch.argsort(torch.cat(self.columns))]


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    case = json.loads(sys.argv[1])
    hello, work, parts = {"layer": layer, "step": step, "agents": agents}[case.pop("kind")](**case)
    for _ in range(3):
        work()
    print(json.dumps({"package": str(Path(dist_hdnn.__file__).resolve().parent), **hello}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(one_median(work) / parts), flush=True)


if __name__ == "__main__":
    main()
