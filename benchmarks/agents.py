"""Measure how time and memory of a training step grow with the number of agents, from a hundred to 100 000.

    python benchmarks/agents.py --json agents.json
    python benchmarks/agents.py --agents 100000 --layers 64 --memory reversible          # the large one
    python benchmarks/agents.py --layers 16 --memory reversible --before /tmp/before     # new / before, in turns

A torus of agents of 4 neurons each, one thread. A step is forward, backward and fused Adam (which makes no
temporary copies) for the mean square of the last state. Every size runs in its own process. Seconds are medians
over steps, CPU and wall; the exponent is that of CPU time against agents, fitted from 1000 agents on. Set-up runs from
the graph to the optimizer. Memory: "peak" is the resident memory of the whole process during the steps, "sweep" its
growth since before the first step minus gradients and moments, i.e. the sweep's states, products and panels.
--before: a step of the largest size by the package of another source tree too, see `trees.py`.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import header, in_new_process, memory, peak_memory, reset_peak_memory, table, write_report
from trees import OWN, in_turns, ratios

from dist_hdnn import HDNN, Execution
from dist_hdnn.topology import torus

SIDES = {100: (10, 10), 1000: (25, 40), 10_000: (100, 100), 100_000: (250, 400)}
STEP, LEARNING_RATE, FITTED_FROM, TARGET = 0.1, 1e-3, 1000, 1.05
BLOCKS = 5  # of each source tree
MODES = ("store", "recompute", "reversible")
MIB = 2**20


def measured(agents: int, layers: int, batch: int, mode: str, seconds: float) -> dict[str, Any]:
    """Measure one size: steps for `seconds` of CPU time, at least one, after one to warm up."""
    torch.set_num_threads(1)
    began = time.process_time()
    warnings.simplefilter("ignore", UserWarning)  # fewer layers than the torus has hops are intended
    network = HDNN(torus(*SIDES[agents]), 4, layers, STEP, execution=Execution(memory=mode))
    adam = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)
    set_up = time.process_time() - began
    y = torch.randn(batch, network.neurons, generator=torch.Generator().manual_seed(0))
    before = memory()
    reset_peak_memory()

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        network(y).square().mean().backward()
        adam.step()

    cpu, wall = both_clocks(step, seconds)
    parameters = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    return {
        "agents": agents,
        "set_up_seconds": set_up,
        "steps": len(cpu),
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "parameter_bytes": parameters,
        "peak_bytes": peak_memory(),
        "sweep_bytes": peak_memory() - before - 3 * parameters,
    }


def both_clocks(step: Callable[[], None], seconds: float) -> tuple[list[float], list[float]]:
    """Return CPU and wall seconds of every step after the first, until `seconds` of CPU time have passed."""
    times: list[tuple[float, float]] = []
    while sum(cpu for cpu, _ in times[1:]) < seconds or len(times) < 2:
        cpu, wall = time.process_time(), time.perf_counter()
        step()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return [cpu for cpu, _ in times[1:]], [wall for _, wall in times[1:]]


def exponent(results: list[dict[str, Any]]) -> float | None:
    """Fit the power of agents in the time of a step, by least squares of the logarithms; None below two sizes."""
    fitted = [found for found in results if found["agents"] >= FITTED_FROM]
    if len(fitted) < 2:
        return None
    agents, seconds = zip(*((found["agents"], np.median(found["cpu_seconds"])) for found in fitted), strict=True)
    return float(np.polyfit(np.log(agents), np.log(seconds), 1)[0])


def lines_of(results: list[dict[str, Any]], args: argparse.Namespace) -> list[str]:
    """Return the table and, below it, the exponent."""
    names = ("agents", "set-up, CPU s", "step, CPU ms", "wall ms", "us per agent", "parameters, MiB", "sweep", "peak")
    rows = [
        (
            found["agents"],
            round(found["set_up_seconds"], 2),
            1e3 * np.median(found["cpu_seconds"]),
            1e3 * np.median(found["wall_seconds"]),
            1e6 * np.median(found["cpu_seconds"]) / found["agents"],
            *(round(found[f"{name}_bytes"] / MIB) for name in ("parameter", "sweep", "peak")),
        )
        for found in results
    ]
    power = exponent(results)
    text = f"{args.layers} layers, batch {args.batch}, memory {args.memory}"
    if power is not None:
        reached = "reached" if power <= TARGET else "missed"
        text += f"; time of a step grows with agents to the power of {power:.3f} (target {TARGET}: {reached})"
    return [*table(names, rows), "", text]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--layers", type=int, default=4, help="(default 4)")
    parser.add_argument("--batch", type=int, default=32, help="(default 32)")
    parser.add_argument("--memory", choices=MODES, default="store", help="of the sweep (default store)")
    parser.add_argument("--seconds", type=float, default=4.0, help="CPU time of the steps of a size (default 4)")
    parser.add_argument("--before", type=Path, metavar="PATH", help="root of another source tree, to compare with")
    parser.add_argument("--json", type=Path, help="also write every time here")
    parser.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell is not None:
        print(json.dumps(measured(**args.cell)))
        return
    torch.set_num_threads(1)
    print(header(), flush=True)
    options = {"layers": args.layers, "batch": args.batch, "mode": args.memory, "seconds": args.seconds}
    results = []
    for agents in args.agents:
        results.append(in_new_process(__file__, {"agents": agents, **options}))
        print(f"{agents} agents done", flush=True)
    lines, compared = lines_of(results, args), None
    if args.before is not None:
        sizes = {"agents": max(args.agents), "layers": args.layers, "batch": args.batch, "memory": args.memory}
        case = {"kind": "agents", **sizes}
        compared = in_turns({"new": (OWN, case), "before": (args.before, case)}, BLOCKS)
        median, least = ratios(compared["new"], compared["before"])
        new, before = (each.milliseconds for each in compared.values())
        text = (
            f"{max(args.agents)} agents: {new:.0f} ms, before {before:.0f} ms; ratio of medians {median:.3f}, of least"
        )
        lines += ["", f"{text} {least:.3f}"]
    print("\n".join(lines))
    results_of = {"options": options, "exponent": exponent(results), "sizes": results, "compared": compared}
    write_report(args.json, lines, results_of)


if __name__ == "__main__":
    main()
