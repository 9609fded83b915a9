"""What does one hamiltonian layer cost, forward and backward, against its batched GEMMs alone and against other codes?

    python benchmarks/layer.py --json layer.json                 # one thread
    python benchmarks/layer.py --threads 2 --cells 1024x16 --only ours

Cells are agents x neurons of p or q each: a ring up to 256 agents, two neighbours on each side at 1024, a power-law
graph (barabasi_albert, 2 links a new agent), and a ring of unequal agents of 4 to 28. K sparse, X the identity, batch
128, float32, a sweep of LAYERS layers with everything stored; times are of one layer: CPU time of the process, or wall
time with several threads. The methods take turns; a time is the best of 5 medians, and all ratios are of one run.
"floor" and the others: see `baselines.py`.
The roofline is what the machine could do at best: the layer's multiply-adds at the rate of a GEMM of 1024 x 1024, and
the bytes that must move (states, weights and gradients once a product) at the bandwidth of a copy.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import baselines
import networkx as nx
import numpy as np
import torch

from dist_hdnn import HDNN
from dist_hdnn.report.run_files import versions

LAYERS, BATCH, MEDIANS = 16, 128, 5
SECONDS = 0.25  # a method's share of one round
LARGEST_DENSE, LARGEST_PUBLISHED = 1 << 13, 1 << 12  # neurons of p or q, of the whole state
Step = Callable[[], object]


def graph_of(cell: str) -> tuple[nx.Graph, int | dict[int, int]]:
    """Graph and width (of p and q together) of a cell such as 256x16, 256x16-power-law or 256x4..28."""
    size, _, kind = cell.partition("-")
    agents, neurons = size.split("x")
    count = int(agents)
    if kind == "power-law":
        return nx.barabasi_albert_graph(count, 2, seed=0), 2 * int(neurons)
    ring = nx.circulant_graph(count, [1] if count <= 256 else [1, 2])
    if ".." in neurons:
        low, high = map(int, neurons.split(".."))
        widths = np.random.default_rng(0).integers(low, high + 1, count)
        return ring, {agent: 2 * int(width) for agent, width in enumerate(widths)}
    return ring, 2 * int(neurons)


CELLS = ("8x2", "64x16", "64x64", "256x16", "1024x16", "256x16-power-law", "256x4..28")


def ours(cell: str, plan: str) -> tuple[HDNN, Step]:
    """A network, and a forward and backward sweep of its layers."""
    graph, width = graph_of(cell)
    torch.manual_seed(0)
    net = HDNN(graph, width, LAYERS, step=0.1, plan=plan, dtype=torch.float32)
    y, dy = torch.randn(BATCH, net.neurons).requires_grad_(), torch.randn(BATCH, net.neurons)
    inputs = [y, *net.parameters()]
    return net, lambda: torch.autograd.grad(net(y), inputs, dy)


def methods(cell: str, only: str) -> tuple[HDNN, dict[str, Step]]:
    """Every way to compute a cell, as far as memory and patience allow."""
    net, torch_plan = ours(cell, "torch")
    steps: dict[str, Step] = {"floor": baselines.floor(net, BATCH), "torch plan": torch_plan}
    try:
        steps["tile plan"] = ours(cell, "tiles")[1]
    except ValueError as error:
        print(error)
    if only == "ours":
        return net, steps
    if net.neurons // 2 <= LARGEST_DENSE:
        steps["dense masked"] = baselines.dense(net, BATCH)
    steps["torch CSR"] = baselines.sparse(net, BATCH, blocked=False)
    if (net.halves == net.halves[0]).all():
        steps["torch BSR"] = baselines.sparse(net, BATCH, blocked=True)
    if net.neurons <= LARGEST_PUBLISHED and only != "no-published":
        steps["published"] = baselines.published(net, BATCH)
    return net, steps


def best_medians(steps: dict[str, Step]) -> dict[str, float]:
    """Milliseconds a layer: medians of short blocks that take turns, the best of MEDIANS."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter  # others use this machine as well
    found: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    slow = set()
    for turn in range(MEDIANS):
        for name, step in steps.items():
            if name in slow and turn:
                continue
            times, end = [], time.perf_counter() + SECONDS
            while not times or time.perf_counter() < end:
                began = clock()
                step()
                times.append(clock() - began)
            if len(times) == 1:
                slow.add(name)  # one call is long enough, and no reason to wait for four more
            found[name].append(float(np.median(times)) / LAYERS * 1e3)
    return {name: min(values) for name, values in found.items()}


def machine() -> dict[str, float]:
    """GFlop/s of a GEMM of 1024 x 1024, GB/s of a copy of 64 MB (read and written)."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    source, target = torch.randn(1 << 24), torch.empty(1 << 24)
    gemm, copy = best(lambda: torch.mm(a, b)), best(lambda: target.copy_(source))
    return {"gemm_gflops": 2 * 1024**3 / gemm / 1e9, "copy_gbytes": 2 * source.numel() * 4 / copy / 1e9}


def best(step: Step, calls: int = 10) -> float:
    """Seconds of the fastest call."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return min(times)


def roofline(net: HDNN, rates: dict[str, float]) -> float:
    """Milliseconds that a layer takes at least: arithmetic or memory, whichever is more."""
    weights = sum(p.numel() for name, p in net.named_parameters() if name.startswith("K")) / net.layers
    states = net.neurons * BATCH
    flops = 6 * 2 * weights * BATCH
    bytes_moved = 4 * (5 * weights + 14 * states)  # x -> z -> v -> x⁺; δ -> w -> δx -> δ⁺, z x v w for the gradient
    return max(flops / rates["gemm_gflops"], bytes_moved / rates["copy_gbytes"]) / 1e6


def table(cells: dict[str, dict[str, float]]) -> list[str]:
    """Lines for a document: milliseconds of the floor and the plans, the others over the fastest plan."""
    others = ["dense masked", "torch CSR", "torch BSR", "published"]
    heads = ["agents x neurons", "floor, ms", "torch plan / floor", "tile plan / floor", *others, "roofline, ms"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for cell, times in cells.items():
        mine = min(times[name] for name in ("torch plan", "tile plan") if name in times)
        plans = [f"{times[name] / times['floor']:.2f}" if name in times else "" for name in ("torch plan", "tile plan")]
        rest = [f"{times[name] / mine:.1f}x" if name in times else "" for name in others]
        ends = [f"{times[name]:.3g}" for name in ("floor", "roofline")]
        lines.append(f"| {' | '.join([cell, ends[0], *plans, *rest, ends[1]])} |")
    return lines


def main() -> None:
    warnings.filterwarnings("ignore", "graph: information travels")  # these networks are too shallow on purpose
    warnings.filterwarnings("ignore", "Sparse")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cells", nargs="+", default=CELLS, help="such as 256x16, 256x16-power-law or 256x4..28")
    parser.add_argument("--only", choices=["all", "no-published", "ours"], default="all", help="leave others out")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    packages = ", ".join(f"{name} {versions()[name]}" for name in ("python", "torch", "numpy"))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{' '.join(sys.argv)}   {packages}; {given.threads} threads, {os.cpu_count()} cores, load {load}")
    rates = machine()
    print(f"GEMM {rates['gemm_gflops']:.0f} GFlop/s, copy {rates['copy_gbytes']:.1f} GB/s\n")
    print(f"{'cell':18} {'method':14} {'ms a layer':>10} {'/ floor':>8} {'/ tile or torch plan':>20}")
    report: dict[str, Any] = {
        "versions": versions(),
        "command": " ".join(["python", *sys.argv]),
        "rates": rates,
        "cells": {},
    }
    for cell in given.cells:
        net, steps = methods(cell, given.only)
        times = best_medians(steps)
        times["roofline"] = roofline(net, rates)
        mine = times.get("tile plan", times["torch plan"])
        for name, value in times.items():
            print(f"{cell:18} {name:14} {value:10.3f} {value / times['floor']:8.2f} {value / mine:20.2f}", flush=True)
        report["cells"][cell] = times
    report |= {"threads": given.threads, "table": table(report["cells"])}
    if given.json:
        given.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
