"""Compare a sweep over thin agents with that of another checkout, such as the commit before a change, in one run.

    git worktree add /tmp/before COMMIT
    python benchmarks/thin.py --before /tmp/before                       # all cells: about 8 minutes
    python benchmarks/thin.py --before /tmp/before --cells 10000x4-ring

A cell is agents x neurons of p or q each, a graph, layers and batch; K sparse, X the identity, float32, everything
stored, one thread. Each checkout sweeps forward and backward in a process of its own, by turns. A time is CPU
milliseconds per layer: the least and the median of the medians of short blocks. States are the same if the bits of the
outputs of the same network agree between the checkouts, and with two threads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import torch

HERE = Path(__file__).resolve()
SECONDS = 0.4  # of one block


class Cell(NamedTuple):
    """A graph, neurons of p or q per agent, layers and batch."""

    graph: str
    agents: int
    neurons: int
    layers: int
    batch: int = 128


CELLS = {
    "10000x4-ring": Cell("ring", 10_000, 4, 3),
    "10000x4-ring-8-layers": Cell("ring", 10_000, 4, 8),
    "100x100x4-torus": Cell("torus", 10_000, 4, 3),
    "10001x4-hub": Cell("hub", 10_001, 4, 3),
    "100000x2-ring-16-layers": Cell("ring", 100_000, 2, 16, 32),
    "5000x8-ring": Cell("ring", 5000, 8, 3),
    "8x2": Cell("ring", 8, 2, 16, 125),
    "64x4": Cell("ring", 64, 4, 16, 125),
    "64x16": Cell("ring", 64, 16, 8),
    "256x16": Cell("ring", 256, 16, 8),
    "64x64": Cell("ring", 64, 64, 8),
}


def graph_of(cell: Cell) -> nx.Graph:
    """Return the graph of a cell."""
    if cell.graph == "torus":
        side = round(cell.agents**0.5)
        return nx.convert_node_labels_to_integers(nx.grid_2d_graph(side, side, periodic=True))
    return nx.star_graph(cell.agents - 1) if cell.graph == "hub" else nx.cycle_graph(cell.agents)


def serve(cell: Cell) -> None:
    """Print digests of the output with one thread and with two, then a time for every line of stdin."""
    import dist_hdnn  # of the checkout that PYTHONPATH names

    warnings.filterwarnings("ignore")
    options: dict[str, Any] = {"plan": "tiles"}
    if hasattr(dist_hdnn, "Execution"):
        options = {"execution": dist_hdnn.Execution(products="tiles")}
    net = dist_hdnn.HDNN(graph_of(cell), 2 * cell.neurons, cell.layers, step=0.1, dtype=torch.float32, **options)
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(cell.batch, net.neurons, generator=generator).requires_grad_()
    dy = torch.randn(cell.batch, net.neurons, generator=generator)
    inputs = [y, *net.parameters()]
    digests = []
    for threads in (2, 1):
        torch.set_num_threads(threads)
        digests.append(hashlib.sha256(net(y).detach().numpy().tobytes()).hexdigest())
    print(json.dumps(digests), flush=True)
    for _ in sys.stdin:
        times, end = [], time.perf_counter() + SECONDS
        while len(times) < 2 or time.perf_counter() < end:
            began = time.process_time()
            torch.autograd.grad(net(y), inputs, dy)
            times.append(time.process_time() - began)
        print(float(np.median(times)) / cell.layers * 1e3, flush=True)


def compare(name: str, checkouts: list[Path], blocks: int) -> tuple[list[list[float]], bool]:
    """Return the times of every checkout, block by block in turns, and whether all outputs are equal."""
    processes: list[subprocess.Popen[str]] = []
    for place in checkouts:
        environment = os.environ | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(HERE), "--serve", name]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        processes.append(subprocess.Popen(command, text=True, env=environment, **pipes))  # type: ignore[call-overload]

    def line(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None, "stdout is a pipe"
        found = process.stdout.readline()
        if not found:
            raise RuntimeError(f"{name}: expected a line of {process.args}, got none; run it to see its error")
        return found

    digests = {digest for process in processes for digest in json.loads(line(process))}
    times: list[list[float]] = [[] for _ in processes]
    for block in range(blocks + 1):
        for process, found in zip(processes, times, strict=True):
            assert process.stdin is not None, "stdin is a pipe"
            print(file=process.stdin, flush=True)
            value = float(line(process))
            if block:  # the first one warms up
                found.append(value)
    for process in processes:
        process.communicate()
    return times, len(digests) == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="root of another checkout; left out, only times are printed")
    parser.add_argument("--cells", nargs="*", default=list(CELLS), choices=list(CELLS), metavar="CELL")
    parser.add_argument("--blocks", type=int, default=10, help="blocks of each checkout")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--serve", choices=list(CELLS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(CELLS[args.serve])
        return
    from measure import header, table, write_report  # needs the package of this checkout, which `serve` may not have

    print(header(), flush=True)
    checkouts = [*([args.before.resolve()] if args.before else []), HERE.parents[1]]
    rows, results = [], {}
    for name in args.cells:
        times, equal = compare(name, checkouts, args.blocks)
        least, median = ([float(of(found)) for found in times] for of in (np.min, np.median))
        ratios = [f"{values[-1] / values[0]:.2f}" for values in (least, median)]
        rows.append([name, *(f"{a:.3f}, {b:.3f}" for a, b in zip(least, median, strict=True)), *ratios, equal])
        results[name] = {"least": least, "median": median, "equal": equal}
        print(*rows[-1], sep="   ", flush=True)
    times_of = ["before, ms", "now, ms"] if args.before else ["now, ms"]
    lines = table(["cell", *times_of, "least: now / before", "median: now / before", "same states"], rows)
    print("", *lines, sep="\n")
    write_report(args.json, lines, results)


if __name__ == "__main__":
    main()
