"""Measure the speed-up of 2 workers over 1, and over a dense tensor-parallel layer of the same width on both.

    python benchmarks/scaling.py --json scaling.json        # starts these two jobs, one after the other:
    mpiexec -n 2 python -m mpi4py benchmarks/scaling.py --transport mpi
    torchrun --standalone --nproc-per-node=2 benchmarks/scaling.py --transport gloo

A step is forward and backward of 16 layers on a ring of 64 agents, batch 128, float32, one thread per worker. Width 64
means 32 p and 32 q; width 128 is 64 of each. The dense layer is y + h W2 tanh(W1 y + b) on DTensor, W1 by columns and
W2 by rows, over gloo; its input needs a gradient, as inside a stack. "2 halves apart" are a ring of 32 agents on each
worker without exchange, the most that this machine allows. All take turns in one job, and the idle worker of
"1 worker" sleeps. Times are the slower worker's, p10 and median over blocks. CPU time includes spinning while
waiting; "queue" is the share of the wall time in which other processes kept it from a core (Linux only).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exchange import header, join_group, run_jobs, slowest
from measure import p10_and_median
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from dist_hdnn import HDNN, ring
from dist_hdnn.transport import Transport

AGENTS, LAYERS, BATCH, STEP = 64, 16, 128, 0.1
ONE, TWO, HALVES, DENSE = "1 worker", "2 workers", "2 halves apart", "DTensor, 1 layer"
SPEED_UP, OVER_DENSE = 1.7, 10.0

Step = Callable[[], Tensor]


class DenseLayer(nn.Module):
    """y + h W2 tanh(W1 y + b), (batch, width) -> (batch, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width, bias=False))

    def forward(self, y: Tensor) -> Tensor:
        change: Tensor = self.inner(y)
        return y + STEP * change


def steps(transport: Transport, width: int) -> dict[str, Step | None]:
    """Return one forward and backward sweep of each method; None where this worker has no part in it."""
    torch.manual_seed(0)
    y, dy = torch.randn(BATCH, AGENTS * width), torch.randn(BATCH, AGENTS * width)
    net = HDNN(ring(AGENTS), width, LAYERS, STEP, workers=transport)
    shard = net.ownership.shard_of_agents(net.ownership.all_widths, dimension=1)
    mine = torch.from_numpy(shard.index)
    y_mine, dy_mine = y[:, mine].contiguous(), dy[:, mine].contiguous()
    two = stepper(net, y_mine, dy_mine)
    one = None
    if transport.rank == 0:
        one = stepper(HDNN(ring(AGENTS), width, LAYERS, STEP), y, dy)
        expected = one()[:, mine]
    output = two()
    if transport.rank == 0 and not torch.allclose(output, expected, rtol=1e-4, atol=1e-4):
        raise RuntimeError(f"2 workers differ from 1 by up to {float((output - expected).abs().max()):.1e}")
    half = HDNN(ring(AGENTS // 2), width, LAYERS, STEP)
    mesh = init_device_mesh("cpu", (transport.size,))
    dense = DenseLayer(AGENTS * width)
    parallelize_module(dense, mesh, {"inner.0": ColwiseParallel(), "inner.2": RowwiseParallel()})
    halves = stepper(half, *(tensor[:, : half.neurons].contiguous() for tensor in (y, dy)))
    return {ONE: one, TWO: two, HALVES: halves, DENSE: stepper(dense, y, dy)}


def stepper(net: nn.Module, y: Tensor, dy: Tensor) -> Step:
    y = y.detach().requires_grad_()

    def step() -> Tensor:
        net.zero_grad(set_to_none=True)
        y.grad = None
        output: Tensor = net(y)
        output.backward(dy)
        return output.detach()

    return step


def measure(transport: Transport, width: int, blocks: int) -> dict[str, dict[str, list[float]]]:
    """Measure seconds per step of every method and block, by `clocks`, the larger of both workers."""
    calls = steps(transport, width)
    times: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": [], "queue": []} for name in calls}
    for block in range(-2, blocks):  # two to warm up
        for name, call in calls.items():
            transport.barrier()
            before = clocks()
            if call is not None:
                call()
            if block >= 0:
                for kind, now in clocks().items():
                    times[name][kind].append(now - before[kind])
            transport.barrier()
    return {name: {kind: slowest(transport, mine) for kind, mine in kinds.items()} for name, kinds in times.items()}


def clocks() -> dict[str, float]:
    """Return seconds of wall and CPU time, and those in which this process was ready but had no core."""
    queue = Path("/proc/self/schedstat")
    waited = int(queue.read_text().split()[1]) if queue.exists() else 0
    return {"wall": time.perf_counter(), "cpu": time.process_time(), "queue": 1e-9 * waited}


def table(width: int, times: dict[str, dict[str, list[float]]]) -> list[str]:
    lines = []
    for name, kinds in times.items():
        numbers = [1e3 * value for kind in ("wall", "cpu") for value in p10_and_median(kinds[kind])]
        per_layer = [value / (1 if name == DENSE else LAYERS) for value in numbers[:2]]
        queue = f" {np.median(np.divide(kinds['queue'], kinds['wall'])):7.0%}"
        lines.append(f"{width:5} {name:20} " + " ".join(f"{value:9.2f}" for value in (*numbers, *per_layer)) + queue)
    lines.append(verdict(f"{width:5} 1 worker / 2 workers", times[ONE], times[TWO], 1.0, SPEED_UP))
    lines.append(verdict(f"{width:5} 1 worker / 2 halves apart", times[ONE], times[HALVES], 1.0))
    lines.append(verdict(f"{width:5} DTensor / 2 workers, a layer", times[DENSE], times[TWO], LAYERS, OVER_DENSE))
    return lines


def verdict(
    text: str, slow: dict[str, list[float]], fast: dict[str, list[float]], factor: float, target: float | None = None
) -> str:
    """Return the speed-up by p10, by median, by the median over blocks of the ratio, and by CPU time."""
    (slow_low, slow_middle), (fast_low, fast_middle) = p10_and_median(slow["wall"]), p10_and_median(fast["wall"])
    by_block = np.median(np.divide(slow["wall"], fast["wall"]))
    by_cpu = p10_and_median(slow["cpu"])[1] / p10_and_median(fast["cpu"])[1]
    ratios = [factor * value for value in (slow_low / fast_low, slow_middle / fast_middle, by_block, by_cpu)]
    names = ("p10", "median", "block by block", "CPU")
    numbers = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, ratios, strict=True))
    if target is None:
        return f"{text}: {numbers}"
    return f"{text}: {numbers}; target {target:g} {'reached' if min(ratios[:2]) >= target else 'missed'}"


def work(transport: Transport, widths: list[int], blocks: int) -> dict[str, Any]:
    """Do one worker's part of a job; return the job's results."""
    join_group(transport)
    result: dict[str, Any] = {"header": header(transport), "blocks": blocks, "seconds": {}}
    if transport.rank == 0:
        print(result["header"])
        names = ("wall p10", "wall med", "CPU p10", "CPU med", "layer p10", "layer med")
        print(f"{'width':5} {'ms':20} " + " ".join(f"{name:>9}" for name in names) + "   queue")
    for width in widths:
        result["seconds"][width] = measure(transport, width, blocks)
        if transport.rank == 0:
            print("\n".join(table(width, result["seconds"][width])), flush=True)
    result["load at the end"] = os.getloadavg()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transport", choices=["mpi", "gloo"], help="only this one; needed under a launcher")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128], help="neurons per agent (default 64 128)")
    parser.add_argument("--blocks", type=int, default=20, help="steps per method (default 20)")
    parser.add_argument("--json", type=Path, help="also write the time of every step here")
    args = parser.parse_args()
    arguments = ["--blocks", str(args.blocks), "--widths", *map(str, args.widths)]
    run_jobs(__file__, args, arguments, lambda transport: work(transport, args.widths, args.blocks))


if __name__ == "__main__":
    main()
