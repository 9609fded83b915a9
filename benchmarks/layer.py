"""Measure one Hamiltonian layer, forward and backward, against its batched GEMMs alone and against other codes.

    python benchmarks/layer.py --json layer.json                 # all cells, one thread, then two: about 5 minutes
    python benchmarks/layer.py --cells 256x16 --only ours        # the floor and our plans
    python benchmarks/layer.py --before /tmp/before              # new / before, in turns: about 10 minutes

Cells are agents x neurons of p or q each: a ring up to 256 agents, two neighbors on each side at 1024, a power-law
graph (barabasi_albert, 2 links per new agent), a ring of unequal agents of 4 to 28, a hub linked to all others, a
ring with as many weights as the hub, a torus of 100 x 100, and a random geometric graph (4.8 neighbors in the mean),
its agents in reverse Cuthill-McKee order or with labels at random.
K sparse, X the identity, batch 128, float32, a sweep of LAYERS layers with everything stored; large cells and slow
methods compute fewer layers. Times are CPU times of the process per layer. The methods take turns; a time is the best
of 5 medians, or one call where that takes seconds, and all ratios are of one run. "floor" and the others: see
`baselines.py`.
The roofline is the best that the machine could do: the layer's multiply-adds at the rate of registers, or the bytes
that must move at the rate of a copy, see `rates.py`.
Threads: the wall time of our plans with one thread over that with two, which also take turns.
--before: the same sweeps by the package of another source tree, see `trees.py`, and whether output and states have the
same bits on one and on two threads.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import baselines
import numpy as np
import torch
from cells import graph_of
from measure import header, table, take_turns, write_report
from rates import machine_rates, roofline
from served import one_median
from trees import OWN, in_turns, ratios

from dist_hdnn import HDNN, Execution

LAYERS, FEW, BATCH, MEDIANS = 8, 3, 128, 5
SLOW = 2.0  # calls longer than this are not repeated
DENSE_BYTES = 16  # per weight of a dense layer: K twice, mask, masked K and gradients, some at a time
LARGEST_PUBLISHED = 1 << 12  # neurons of the whole state: a matrix product of that size cubed in every half step
Step = Callable[[], object]
OURS = ("torch plan", "tile plan")
OTHERS = ("dense masked", "torch CSR", "torch BSR", "published")
CELLS = (
    "8x2",
    "32x2",
    "64x4",
    "64x16",
    "64x64",
    "128x16",
    "256x16",
    "1024x16",
    "256x16-power-law",
    "256x4..28",
    "10001x4-hub",
    "10000x4-ring",
    "10000x4-torus",
    "10000x4-geometric",
    "10000x4-shuffled",
)
COMPARED = (  # cell, layers, batch, and the ratio of new to before that was asked for
    ("8x2", 16, 125, 0.28),
    ("64x4", 16, 125, None),
    ("10000x4-ring", 3, BATCH, 0.4),
    ("10000x4-ring", 8, BATCH, 0.4),
    ("10000x4-torus", 3, BATCH, 0.5),
    ("10001x4-hub", 3, BATCH, 0.5),
    ("10000x4-shuffled", 3, BATCH, None),
    *((cell, 8, BATCH, 1.02) for cell in ("64x16", "64x64", "128x16", "256x16", "256x16-power-law", "256x4..28")),
    ("1024x16", 3, BATCH, 1.02),
)
ORDERED, SHUFFLED, SHUFFLED_TARGET = "10000x4-geometric", "10000x4-shuffled", 1.2
TORCH_TARGET, TILE_TARGET = ("256x16", "64x64", "1024x16"), ("256x16", "1024x16")
SCALED = "1024x16"


class Method(NamedTuple):
    """One way to compute a cell: a forward and backward of `layers` layers."""

    step: Step
    layers: int


def ours(cell: str, plan: str, layers: int, batch: int = BATCH) -> tuple[HDNN, Method]:
    """Return a network, and a forward and backward sweep of its layers."""
    graph, width = graph_of(cell)
    torch.manual_seed(0)
    net = HDNN(graph, width, layers, step=0.1, execution=Execution(products=plan), dtype=torch.float32)
    y, dy = torch.randn(batch, net.neurons).requires_grad_(), torch.randn(batch, net.neurons)
    inputs = [y, *net.parameters()]
    return net, Method(lambda: torch.autograd.grad(net(y), inputs, dy), layers)


def our_plans(cell: str, layers: int) -> tuple[HDNN, dict[str, Method]]:
    """Return a network and both plans, or one plan without llvmlite."""
    net, torch_plan = ours(cell, "torch", layers)
    methods = {"torch plan": torch_plan}
    try:
        methods["tile plan"] = ours(cell, "tiles", layers)[1]
    except ValueError as error:
        print(error)
    return net, methods


def methods_of(cell: str, only: str) -> tuple[HDNN, dict[str, Method]]:
    """Return every way to compute a cell that memory and time allow."""
    many = FEW if int(cell.split("x")[0]) > 256 else LAYERS
    net, methods = our_plans(cell, many)
    methods["floor"] = Method(baselines.floor(net, BATCH, many), many)
    if only == "ours" or cell.startswith("1000"):
        return net, methods
    half = net.neurons // 2
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    layers = LAYERS if half <= 128 else FEW if half <= 2048 else 1
    if 2 * layers * DENSE_BYTES * half**2 < free:
        methods["dense masked"] = Method(baselines.dense(net, BATCH, layers), layers)
    else:
        print(f"{cell}: no memory for a dense layer of {half} neurons")
    methods["torch CSR"] = Method(baselines.sparse(net, BATCH, many, blocked=False), many)
    if (net.halves == net.halves[0]).all():
        methods["torch BSR"] = Method(baselines.sparse(net, BATCH, many, blocked=True), many)
    if net.neurons <= LARGEST_PUBLISHED and only != "no-published":
        layers = LAYERS if half <= 128 else 1
        methods["published"] = Method(baselines.published(net, BATCH, layers), layers)
    return net, methods


def best_medians(methods: dict[str, Method]) -> dict[str, float]:
    """Measure CPU milliseconds per layer: the best of MEDIANS medians of short blocks that take turns."""
    found: dict[str, list[float]] = {name: [] for name in methods}
    first: dict[str, float] = {}
    for name, (step, _) in methods.items():
        began = time.process_time()
        step()
        first[name] = time.process_time() - began
    for _ in range(MEDIANS):
        for name, (step, _) in methods.items():
            if first[name] > SLOW:
                continue
            found[name].append(one_median(step))
    return {name: min(found[name] or [first[name]]) / layers * 1e3 for name, (_, layers) in methods.items()}


def compare(before: Path, cells: Sequence[str] | None, blocks: int, rates: dict[str, float]) -> dict[str, Any]:
    """Print and return new / before for the compared cells, and shuffled labels over ordered ones."""
    found: dict[str, Any] = {}
    print(
        f"{'cell':18} {'layers':>6} {'batch':>5} {'new, ms':>8} {'before':>8} {'median':>7} {'least':>6} {'asked':>6}",
        end="",
    )
    print(f" {'new / roofline':>14}  bits")
    for cell, layers, batch, asked in COMPARED:
        if cells and cell not in cells:
            continue
        case = {"kind": "layer", "cell": cell, "layers": layers, "batch": batch}
        both = in_turns({"new": (OWN, case), "before": (before, case)}, blocks)
        new, old = both["new"], both["before"]
        best = roofline(ours(cell, "torch", 1, batch)[0], batch, layers, rates)["roofline"]
        found[f"{cell}, {layers} layers"] = {name: measured.seconds for name, measured in both.items()}
        median, least = ratios(new, old)
        bits = "equal" if new.hello["bits"] == old.hello["bits"] and len({*new.hello["bits"]}) == 1 else "DIFFER"
        print(
            f"{cell:18} {layers:6} {batch:5} {new.milliseconds:8.3f} {old.milliseconds:8.3f} {median:7.3f} {least:6.3f}"
            f" {asked or '':>6} {new.milliseconds / best:14.2f}  {bits}",
            flush=True,
        )
    if not cells or SHUFFLED in cells:
        case = {"kind": "layer", "layers": FEW, "batch": BATCH}
        labels = in_turns({cell: (OWN, case | {"cell": cell}) for cell in (SHUFFLED, ORDERED)}, blocks)
        median, least = ratios(labels[SHUFFLED], labels[ORDERED])
        print(f"{SHUFFLED} / {ORDERED}: median {median:.3f}, least {least:.3f} (target <= {SHUFFLED_TARGET})")
        found["shuffled / ordered"] = {cell: measured.seconds for cell, measured in labels.items()}
    return found


def two_threads(cell: str) -> dict[str, float]:
    """Measure per plan the wall time with one thread over that with two: best medians of blocks that take turns."""
    found = {}
    for name, method in our_plans(cell, FEW)[1].items():

        def on(threads: int, step: Step = method.step) -> None:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            step()

        both = {str(threads): lambda threads=threads, on=on: on(threads) for threads in (1, 2)}
        times = take_turns(both, repeats=3 * MEDIANS, clock=time.perf_counter)
        one, two = (min(np.median(np.reshape(times[threads], (MEDIANS, 3)), axis=1)) for threads in both)
        found[name] = float(one / two)
    torch.set_num_threads(1)
    return found


def verdicts(cells: dict[str, dict[str, float]], threads: dict[str, float]) -> list[str]:
    """Return every target of the measured cells with its figure: met or missed."""
    asked: list[tuple[str, float, bool, str]] = []

    def ratio(cell: str, name: str, over: str, at_most: float) -> None:
        times = cells.get(cell, {})
        if name in times and over in times:
            value = times[name] / times[over]
            asked.append((f"{cell}: {name} / {over}", value, value <= at_most, f"<= {at_most}"))

    for cell in TORCH_TARGET:
        ratio(cell, "torch plan", "floor", 1.5)
    for cell in TILE_TARGET:
        ratio(cell, "tile plan", "floor", 1.0)
    for name in OURS:
        ratio("8x2", name, "dense masked", 1.5)
    for cell, times in cells.items():
        mine = fastest(times)
        if "published" in times and cell == "64x16":
            asked.append(
                (f"{cell}: published / ours", times["published"] / mine, times["published"] >= 60 * mine, ">= 60")
            )
        others = [times[name] for name in OTHERS[:3] if name in times]
        if others and int(cell.split("x")[0]) >= 64:
            asked.append((f"{cell}: fastest other / ours", min(others) / mine, min(others) > mine, "> 1"))
    for name in OURS:
        if name in cells.get("10001x4-hub", {}) and name in cells.get("10000x4-ring", {}):
            value = cells["10001x4-hub"][name] / cells["10000x4-ring"][name]
            asked.append((f"{name}: hub / ring of as many weights", value, value <= 2, "<= 2"))
    asked += [(f"{SCALED}: {name}, 2 threads", value, value >= 1.6, ">= 1.6") for name, value in threads.items()]
    return [f"- {what}: {value:.2f} (target {t}: {'met' if met else 'missed'})" for what, value, met, t in asked]


def fastest(times: dict[str, float]) -> float:
    """Return the time of the fastest of our plans."""
    return min(times[name] for name in OURS if name in times)


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 100 else f"{ratio:.3g}x"


def lines_of(cells: dict[str, dict[str, float]], threads: dict[str, float]) -> list[str]:
    """Return the document's table: floor in ms, plans over it, others over the fastest plan, and the targets."""
    heads = ["agents x neurons", "floor, ms", *(f"{name} / floor" for name in OURS), *OTHERS, "roofline, ms"]
    heads += ["bound by", "ours / roofline"]
    rows = []
    for cell, times in cells.items():
        plans = [f"{times[name] / times['floor']:.2f}" if name in times else "" for name in OURS]
        rest = [_times(times[name] / fastest(times)) if name in times else "" for name in OTHERS]
        bound = "arithmetic" if times["arithmetic"] >= times["memory"] else "memory"
        best = times["roofline"]
        rows.append([cell, times["floor"], *plans, *rest, best, bound, f"{fastest(times) / best:.2f}"])
    return [*table(heads, rows), "", "Others: times over the fastest of our plans.", "", *verdicts(cells, threads)]


def main() -> None:
    warnings.filterwarnings("ignore", "graph: information travels")  # these networks are too shallow on purpose
    warnings.filterwarnings("ignore", "graph: the graph is disconnected")  # a few points of a random geometric graph
    warnings.filterwarnings("ignore", "Sparse")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="*", help="such as 256x16, 256x16-power-law or 256x4..28")
    parser.add_argument("--only", choices=["all", "no-published", "ours"], default="all", help="leave others out")
    parser.add_argument("--threads", type=int, choices=(1, 2), default=2, help="1 leaves out the part on two threads")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--before", type=Path, metavar="PATH", help="root of another source tree, to compare with")
    parser.add_argument("--blocks", type=int, default=9, help="blocks of each tree with --before (default 9)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(header(), flush=True)
    rates, began = machine_rates(), time.perf_counter()
    print(
        f"registers {rates['peak_gflops']:.0f} GFlop/s, GEMM {rates['gemm_gflops']:.0f} GFlop/s, copy of 64 MiB "
        f"{rates['copy_gbytes']:.1f} GB/s\n"
    )
    if args.before is not None:
        results = {"rates": rates, "compared": compare(args.before, args.cells, args.blocks, rates)}
        write_report(args.json, [], results)
        return
    print(f"{'cell':18} {'method':14} {'ms a layer':>10} {'/ floor':>8} {'/ fastest plan':>15}")
    cells: dict[str, dict[str, float]] = {}
    for cell in args.cells or CELLS:
        net, methods = methods_of(cell, args.only)
        times = cells[cell] = best_medians(methods) | roofline(net, BATCH, methods["torch plan"].layers, rates)
        for name, value in times.items():
            over = value / times["floor"], value / fastest(times)
            print(f"{cell:18} {name:14} {value:10.3f} {over[0]:8.2f} {over[1]:15.2f}", flush=True)
        del net, methods
    threads = two_threads(SCALED) if args.threads == 2 else {}
    lines = lines_of(cells, threads)
    print("", *lines, f"\n{time.perf_counter() - began:.0f} s", sep="\n")
    write_report(args.json, lines, {"rates": rates, "cells": cells, "two_threads": threads})


if __name__ == "__main__":
    main()
