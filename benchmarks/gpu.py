"""Measure a training step on a GPU, with and without CUDA graphs, against batched GEMMs alone.

    python benchmarks/gpu.py --json gpu.json

Forward and backward of some layers, K sparse, float32: a ring of 256 agents with 16 p and 16 q, 1024 agents with two
neighbors on each side, and a torus of 100 000 agents with 2 p and 2 q. The floor is the six batched GEMMs of every half
step, the forward's two and the backward's four, on panels already gathered. Methods take turns; times are wall
times between two points at which the host waits for the device, medians over rounds. Before timing, the output and the
gradients with graphs are compared with those without. Without a GPU that PyTorch sees, it says so and ends.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import torch
from measure import header, table, take_turns, write_report
from torch import Tensor

from dist_hdnn import HDNN, Execution, ring, torus
from dist_hdnn.operators.choice import panels

CELLS: dict[str, tuple[Callable[[], Any], int, int, int]] = {  # graph, neurons of p or q, layers, calls of a block
    "256 x 16": (lambda: ring(256), 16, 16, 20),
    "1024 x 16, 5 blocks a row": (lambda: nx.circulant_graph(1024, [1, 2]), 16, 16, 10),
    "100 000 x 2": (lambda: torus(250, 400), 2, 4, 3),
}
HEADINGS = ("agents x neurons", "floor, ms", "kernel by kernel", "over floor", "CUDA graphs", "over floor")


def build(graph: Any, half: int, layers: int, captures: bool) -> HDNN:
    """Build a network on the GPU; both draw the same weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        execution = Execution(cuda_graphs=captures)
        return HDNN(graph, width=2 * half, layers=layers, step=8.0 / layers, device="cuda", execution=execution)


def floor(net: HDNN, batch: int) -> Callable[[], None]:
    """Return the batched GEMMs of all layers, on random panels of the shapes of the first matrix's plan."""
    calls = []
    for count, rows, columns in panels(net.sweep.spec.graphs[0].K, torch.device("cuda")).shapes:
        K = torch.randn(count, rows, columns, device="cuda")
        x, z = torch.randn(count, columns, batch, device="cuda"), torch.randn(count, rows, batch, device="cuda")
        calls.append((K, x, z, torch.empty_like(x), torch.empty_like(z), torch.empty_like(K)))
    half_steps = 2 * net.layers

    def run() -> None:
        for _ in range(half_steps):
            for K, x, z, columns, rows, weights in calls:
                for _ in range(2):
                    torch.bmm(K, x, out=rows)
                    torch.bmm(K.mT, z, out=columns)
                    torch.bmm(z, x.mT, out=weights)
        torch.cuda.synchronize()

    return run


def gradients(net: HDNN, y: Tensor) -> list[Tensor]:
    """Return the output and the gradients of all weights."""
    output = net(y)
    return [output.detach(), *torch.autograd.grad(output.square().mean(), list(net.parameters()))]


def step(net: HDNN, y: Tensor) -> Callable[[], None]:
    """Return a function that runs forward and backward and waits for them."""

    def run() -> None:
        gradients(net, y)
        torch.cuda.synchronize()

    return run


def measured(name: str, batch: int, rounds: int) -> dict[str, float]:
    """Measure milliseconds of every method in one cell."""
    graph, half, layers, calls = CELLS[name]
    on = graph()
    eager, captured = (build(on, half, layers, captures) for captures in (False, True))
    y = torch.randn(batch, eager.neurons, generator=torch.Generator().manual_seed(0)).cuda()
    for _ in range(3):
        expected, found = gradients(eager, y), gradients(captured, y)
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).abs().max()) <= 1e-3 * float(b.abs().max()), "replayed sweeps differ from kernel by kernel"
    methods = {"floor": floor(eager, batch), "eager": step(eager, y), "captured": step(captured, y)}
    seconds = take_turns(methods, rounds, calls, clock=time.perf_counter)
    return {method: 1e3 * statistics.median(times) for method, times in seconds.items()}


def row(name: str, found: dict[str, float]) -> list[str]:
    """Return a line of the table."""
    each = [(f"{found[method]:.2f}", f"{found[method] / found['floor']:.2f}") for method in ("eager", "captured")]
    return [name, f"{found['floor']:.2f}", *each[0], *each[1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7, help="blocks per method (default 7)")
    parser.add_argument("--json", type=Path, help="also write every figure here")
    args = parser.parse_args()
    print(header(), flush=True)
    if not torch.cuda.is_available():
        print("gpu: PyTorch sees no GPU here, nothing measured")
        return
    print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, batch {args.batch}", flush=True)
    results = {}
    for name in args.cells:
        results[name] = measured(name, args.batch, args.rounds)
        print(f"{name}: {results[name]}", flush=True)
    lines = table(HEADINGS, [row(name, found) for name, found in results.items()])
    print("\n".join(lines))
    write_report(args.json, lines, {"device": torch.cuda.get_device_name(), "batch": args.batch, "cells": results})


if __name__ == "__main__":
    main()
