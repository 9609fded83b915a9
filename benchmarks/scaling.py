"""Measure the speed-up of 2 workers over 1, and steps of a small ring on 4, over shared memory, MPI and gloo.

    python benchmarks/scaling.py --json scaling.json        # starts these two jobs, one after the other:
    mpiexec -n 2 python -m mpi4py benchmarks/scaling.py
    mpiexec -n 4 python -m mpi4py benchmarks/scaling.py
    torchrun --standalone --nproc-per-node=2 benchmarks/scaling.py   # such jobs without mpi4py, and without MPI

On 2 workers a step is forward and backward of 16 layers on a ring of 64 agents, batch 128, float32, one thread per
worker; width 64 means 32 p and 32 q. "2 halves apart" are a ring of 32 agents on each worker without exchange, the most
that this machine allows. The dense layer is y + h W2 tanh(W1 y + b) on DTensor over gloo, W1 by columns and W2 by rows;
its input needs a gradient, as inside a stack. On 4 workers it is the ring of 8 agents with 2 neurons each, batch 125.
All take turns in one job, worker 0 waits before each step until the machine is idle, and workers without a part sleep.
Times are the slowest worker's, p10 and median over steps in which no worker was ready but without a core for more than
3 % of the time ("queue", Linux only), or over all steps where fewer than 5 are such. CPU time includes spinning.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exchange import add_options, all_transports, header, join_group, run_jobs, slowest
from measure import Quiet, p10_and_median
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from dist_hdnn import HDNN, ring
from dist_hdnn.transport import Transport

AGENTS, LAYERS, BATCH, STEP = 64, 16, 128, 0.1
SMALL_AGENTS, SMALL_WIDTH, SMALL_BATCH = 8, 2, 125
ONE, HALVES, DENSE = "1 worker", "2 halves apart", "DTensor, 1 layer"
QUIET = 0.03  # of a step's wall time without a core
SPEED_UP, OVER_DENSE, OVER_GLOO = 1.8, 10.0, 0.2

Step = Callable[[], Tensor]
Times = dict[str, dict[str, list[float]]]  # row -> wall, cpu, queue -> seconds of every step


class DenseLayer(nn.Module):
    """y + h W2 tanh(W1 y + b), (batch, width) -> (batch, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width, bias=False))

    def forward(self, y: Tensor) -> Tensor:
        change: Tensor = self.inner(y)
        return y + STEP * change


def steps(transports: Mapping[str, Transport], agents: int, width: int, batch: int) -> dict[str, Step | None]:
    """Return one forward and backward sweep in one process and over each transport; None where this worker rests."""
    torch.manual_seed(0)
    y, dy = torch.randn(2, batch, agents * width)
    rank = next(iter(transports.values())).rank
    one = stepper(HDNN(ring(agents), width, LAYERS, STEP), y, dy) if rank == 0 else None
    expected = one() if one is not None else y
    found: dict[str, Step | None] = {ONE: one}
    for name, transport in transports.items():
        net = HDNN(ring(agents), width, LAYERS, STEP, workers=transport)
        shard = net.ownership.shard_of_agents(net.ownership.all_widths, dimension=1)
        mine = torch.from_numpy(shard.index)
        step = found[over(transport.size, name)] = stepper(net, y[:, mine].contiguous(), dy[:, mine].contiguous())
        output = step()
        if rank == 0 and not torch.allclose(output, expected[:, mine], rtol=1e-4, atol=1e-4):
            difference = float((output - expected[:, mine]).abs().max())
            raise RuntimeError(f"{transport.size} workers over {name} differ from 1 by up to {difference:.1e}")
    return found


def over(workers: int, transport: str) -> str:
    """Return the name of a row."""
    return f"{workers} workers, {transport}"


def baselines(transport: Transport, width: int) -> dict[str, Step | None]:
    """Return what two workers are compared with, besides one."""
    y, dy = torch.randn(2, BATCH, AGENTS * width)
    half = HDNN(ring(AGENTS // 2), width, LAYERS, STEP)
    mesh = init_device_mesh("cpu", (transport.size,))
    dense = DenseLayer(AGENTS * width)
    parallelize_module(dense, mesh, {"inner.0": ColwiseParallel(), "inner.2": RowwiseParallel()})
    halves = stepper(half, *(tensor[:, : half.neurons].contiguous() for tensor in (y, dy)))
    return {HALVES: halves, DENSE: stepper(dense, y, dy)}


def stepper(net: nn.Module, y: Tensor, dy: Tensor) -> Step:
    y = y.detach().requires_grad_()

    def step() -> Tensor:
        net.zero_grad(set_to_none=True)
        y.grad = None
        output: Tensor = net(y)
        output.backward(dy)
        return output.detach()

    return step


def measure(first: Transport, calls: Mapping[str, Step | None], blocks: int, inner: int, quiet: Quiet) -> Times:
    """Measure seconds per step of every row and block, `inner` steps each, by `clocks`, the largest of all workers."""
    times: Times = {name: {"wall": [], "cpu": [], "queue": []} for name in calls}
    for block in range(-2, blocks):  # two to warm up
        for name, call in calls.items():
            if first.rank == 0:
                quiet.wait()
            first.barrier()
            before = clocks()
            if call is not None:
                for _ in range(inner):
                    call()
            if block >= 0:
                for kind, now in clocks().items():
                    times[name][kind].append((now - before[kind]) / inner)
            first.barrier()
    return {name: {kind: slowest(first, mine) for kind, mine in kinds.items()} for name, kinds in times.items()}


def clocks() -> dict[str, float]:
    """Return seconds of wall and CPU time, and those in which this process was ready but had no core."""
    queue = Path("/proc/self/schedstat")
    waited = int(queue.read_text().split()[1]) if queue.exists() else 0
    return {"wall": time.perf_counter(), "cpu": time.process_time(), "queue": 1e-9 * waited}


def undisturbed(kinds: Mapping[str, list[float]], crowded: bool) -> dict[str, list[float]]:
    """Return the times of the steps that waited for no core, unless they are too few or workers outnumber cores."""
    good = [place for place, queue in enumerate(kinds["queue"]) if queue <= QUIET * kinds["wall"][place]]
    if crowded or len(good) < 5:
        return dict(kinds)
    return {kind: [values[place] for place in good] for kind, values in kinds.items()}


def table(times: Times) -> list[str]:
    """Return a line per row: wall and CPU milliseconds of a step, p10 and median, the queue, and the steps kept."""
    lines = []
    for name, kinds in times.items():
        numbers = [1e3 * value for kind in ("wall", "cpu") for value in p10_and_median(kinds[kind])]
        queue = f" {np.median(np.divide(kinds['queue'], kinds['wall'])):7.0%} {len(kinds['wall']):6}"
        lines.append(f"{name:20} " + " ".join(f"{value:9.2f}" for value in numbers) + queue)
    return lines


def ratio(times: Times, row: str, under: str, factor: float = 1.0, least: float = 0.0, most: float = 0.0) -> list[str]:
    """Return the line of a ratio of two rows, by p10 and by median, or none if one was not measured."""
    if row not in times or under not in times:
        return []
    numbers = [p10_and_median(times[name]["wall"]) for name in (row, under)]
    by_low, by_middle = (factor * numbers[0][k] / numbers[1][k] for k in (0, 1))
    reached = by_middle >= least if least else by_middle <= most
    target = f"; target {least or most:g} {'reached' if reached else 'missed'}" if least or most else ""
    return [f"{row} / {under}: p10 {by_low:.2f}, median {by_middle:.2f}{target}"]


def on_two(first: Transport, transports: Mapping[str, Transport], args: argparse.Namespace) -> dict[str, Any]:
    """Measure two workers against one on a large ring, for every width."""
    found: dict[str, Any] = {}
    for width in args.widths:
        quiet = Quiet(args.patience)
        calls = steps(transports, AGENTS, width, BATCH) | baselines(first, width)
        found[str(width)] = everything = measure(first, calls, args.blocks, 1, quiet)
        times = {name: undisturbed(kinds, crowded=False) for name, kinds in everything.items()}
        lines = table(times)
        for name in transports:
            lines += ratio(times, ONE, over(2, name), least=SPEED_UP if name == "shm" else 0.0)
        lines += ratio(times, ONE, HALVES)
        for name in transports:
            lines += ratio(times, DENSE, over(2, name), LAYERS, least=OVER_DENSE if name != "gloo" else 0.0)
        show(first, [f"ring of {AGENTS}, width {width}", *lines, str(quiet)])
    return found


def on_four(first: Transport, transports: Mapping[str, Transport], args: argparse.Namespace) -> dict[str, Any]:
    """Measure the steps of a small ring on more workers than it deserves."""
    quiet, workers = Quiet(args.patience), first.size
    times = measure(first, steps(transports, SMALL_AGENTS, SMALL_WIDTH, SMALL_BATCH), args.blocks, 5, quiet)
    lines = table(times)
    lines += ratio(times, over(workers, "shm"), over(workers, "gloo"), most=OVER_GLOO)
    lines += ratio(times, over(workers, "shm"), over(workers, "mpi"))
    show(first, [f"ring of {SMALL_AGENTS}, width {SMALL_WIDTH}", *lines, str(quiet)])
    return {str(SMALL_WIDTH): times}


def show(transport: Transport, lines: list[str]) -> None:
    if transport.rank == 0:
        names = ("wall p10", "wall med", "CPU p10", "CPU med")
        print(f"{'ms':20} " + " ".join(f"{name:>9}" for name in names) + "   queue  steps")
        print("\n".join(lines), flush=True)


def work(first: Transport, args: argparse.Namespace) -> dict[str, Any]:
    """Do one worker's part of a job; return the job's results."""
    join_group(first)
    transports = all_transports(first, args.transports)
    result: dict[str, Any] = {"header": header(transports), "blocks": args.blocks}
    if first.rank == 0:
        print(result["header"])
    result["seconds"] = (on_two if first.size == 2 else on_four)(first, transports, args)
    result["load at the end"] = os.getloadavg()
    for transport in transports.values():
        if transport is not first:
            transport.barrier()
            transport.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128], help="neurons per agent (default 64 128)")
    parser.add_argument("--blocks", type=int, default=20, help="steps per method (default 20)")
    add_options(parser, [2, 4])
    args = parser.parse_args()
    arguments = ["--blocks", str(args.blocks), "--widths", *map(str, args.widths)]
    run_jobs(__file__, args, arguments, lambda transport: work(transport, args))


if __name__ == "__main__":
    main()
