"""Measure what the memory modes keep and cost, from 8 to 512 layers, against PyTorch's checkpointing.

    python benchmarks/depth_memory.py --json depth_memory.json

A step is forward and backward on a ring of 64 agents of 8 p and 8 q, batch 128, float32, one thread, over time 8.
`plain` is the same layer in ordinary autograd (gather, batched GEMM, index_add); `checkpoint` runs it in segments of
about sqrt(layers) under torch.utils.checkpoint; outputs and gradients are compared with ours before anything is timed.
Memory is exact: the peak of PyTorch's allocator during a first step, less the gradients that the step returns.
"bfloat16" rounds what is kept. Times are CPU times of the process, the median of
rounds in which all modes take turns. Gradients and rebuilt states are compared after some steps of Adam. Draws
docs/pictures/depth_memory.png.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import header, table, take_turns, write_report
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from dist_hdnn import HDNN, Execution, ring
from dist_hdnn.plots.figures import BLUE, GREEN, INK, ORANGE, SKY, VERMILION, new_figure, quiet, save

AGENTS, HALF, BATCH, TIME = 64, 8, 128, 8.0
OURS: dict[str, dict[str, Any]] = {
    "store": {},
    "store, bfloat16": {"keep_dtype": torch.bfloat16},
    "recompute": {"memory": "recompute"},
    "recompute, bfloat16": {"memory": "recompute", "keep_dtype": torch.bfloat16},
    "reversible": {"memory": "reversible"},
}
LINES = {
    "store": (BLUE, "-"),
    "store, bfloat16": (BLUE, ":"),
    "recompute": (GREEN, "-"),
    "recompute, bfloat16": (GREEN, ":"),
    "reversible": (VERMILION, "-"),
    "plain": (SKY, "-"),
    "checkpoint": (ORANGE, "-"),
}
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "depth_memory.png"
HEADINGS = ("layers", "mode", "MiB", "ms", "over store", "gradients apart", "states apart")
GROWTH, SLOWER = 1.05, 1.6  # bounds of reversible: memory from the least to the most layers, time over store

Run = Callable[[Tensor], Tensor]


def plain(net: HDNN, every: int | None) -> Run:
    """Return the network of a ring in ordinary autograd, on the weights of `net`.

    every: layers of a checkpointed segment; None checkpoints nothing.
    """
    neighbors = torch.tensor([sorted({i, (i - 1) % AGENTS, (i + 1) % AGENTS}) for i in range(AGENTS)])
    rows = (neighbors[:, :, None] * HALF + torch.arange(HALF)).flatten()

    def force(x: Tensor, K: Tensor, b: Tensor) -> Tensor:
        """Return Kᵀ tanh(K x + b) for x (neurons of a part, batch), K (agents, n, 3 n)."""
        columns = x.index_select(0, rows).view(AGENTS, 3 * HALF, -1)
        z = torch.tanh(torch.baddbmm(b.view(AGENTS, HALF, 1), K, columns))
        return torch.zeros_like(x).index_add(0, rows, torch.bmm(K.transpose(1, 2), z).flatten(0, 1))

    def segment(p: Tensor, q: Tensor, weights: list[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
        for Kp, Kq, bp, bq in weights:
            p = p - net.step * force(q, Kq, bq)
            q = q + net.step * force(p, Kp, bp)
        return p, q

    def run(y: Tensor) -> Tensor:
        p, q = y.view(-1, AGENTS, 2, HALF).permute(2, 1, 3, 0).reshape(2, AGENTS * HALF, -1)
        matrices = (K[0].view(-1, AGENTS, HALF, 3 * HALF).unbind(0) for K in (net.Kp, net.Kq))
        weights = list(zip(*matrices, net.bp.unbind(0), net.bq.unbind(0), strict=True))
        for first in range(0, net.layers, every or net.layers):
            part = weights[first : first + (every or net.layers)]
            p, q = checkpoint(segment, p, q, part, use_reentrant=False) if every else segment(p, q, part)
        return torch.stack([p, q]).view(2, AGENTS, HALF, -1).permute(3, 1, 0, 2).reshape(y.shape)

    return run


def build(layers: int, mode: dict[str, Any]) -> HDNN:
    """Build the network of one mode; all modes draw the same weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return HDNN(ring(AGENTS), width=2 * HALF, layers=layers, step=TIME / layers, execution=Execution(**mode))


def gradients(run: Run, net: HDNN, y: Tensor) -> list[Tensor]:
    """Return the gradients of all weights; the loss asks the state to move by one agent."""
    target = y.roll(2 * HALF, dims=1)
    return list(torch.autograd.grad((run(y) - target).square().mean(), list(net.parameters())))


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest difference, each tensor relative to its largest value."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the peak of bytes allocated by `work`."""
    os.environ["KINETO_LOG_LEVEL"] = "9"  # nothing of the profiler's own on the screen
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    assert recorded.profiler is not None and recorded.profiler.kineto_results is not None
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def measured(layers: int, rounds: int, training: int) -> dict[str, dict[str, float]]:
    """Measure memory, time and precision of every mode at one depth."""
    nets = {name: build(layers, mode) for name, mode in OURS.items()}
    runs: dict[str, tuple[Run, HDNN]] = {mode: (net, net) for mode, net in nets.items()}
    store = nets["store"]
    runs["plain"] = plain(store, None), store
    runs["checkpoint"] = plain(store, round(math.sqrt(layers))), store
    y = torch.randn(BATCH, store.neurons, generator=torch.Generator().manual_seed(0))
    handed_out = sum(parameter.nbytes for parameter in store.parameters())
    found: dict[str, dict[str, float]] = {name: {} for name in runs}
    for name, (run, net) in runs.items():
        found[name]["bytes"] = peak_bytes(lambda run=run, net=net: gradients(run, net, y)) - handed_out  # type: ignore[misc]
    expected = gradients(store, store, y)
    for name, (run, net) in runs.items():
        assert difference(gradients(run, net, y), expected) < 1e-2, f"{name} computes something else"
    methods = {name: lambda run=run, net=net: gradients(run, net, y) for name, (run, net) in runs.items()}  # type: ignore[misc]
    seconds = take_turns(methods, rounds, warm_up=0)
    for name, times in seconds.items():
        found[name]["seconds"] = statistics.median(times)
        pairs = zip(times, seconds["store"], strict=True)
        found[name]["over_store"] = statistics.median(ours / theirs for ours, theirs in pairs)
    adam = torch.optim.Adam(store.parameters(), lr=0.01)
    for _ in range(training):
        for parameter, gradient in zip(store.parameters(), gradients(store, store, y), strict=True):
            parameter.grad = gradient
        adam.step()
    expected = gradients(store, store, y)
    for net in nets.values():
        net.load_state_dict(store.state_dict())
    nets["reversible"].sweep.reconstruction.reset()
    for name, (run, net) in runs.items():
        found[name]["gradient_difference"] = difference(gradients(run, net, y), expected)
    found["reversible"]["reconstruction_error"] = nets["reversible"].reconstruction_error() or 0.0
    return found


def draw(results: dict[int, dict[str, dict[str, float]]], path: Path) -> Path:
    """Memory and time against depth, a line for each mode."""
    figure = new_figure(9.6, 3.9)
    left, right = figure.subplots(1, 2)
    depths = list(results)
    for name, (color, line) in LINES.items():
        found = [results[depth][name] for depth in depths]
        look = {"color": color, "linestyle": line, "marker": "o", "markersize": 4}
        left.plot(depths, [each["bytes"] / 2**20 for each in found], label=name, **look)
        right.plot(depths, [each["over_store"] for each in found], **look)
    left.set(
        xscale="log",
        yscale="log",
        xlabel="layers",
        ylabel="MiB",
        title="Memory of a training step\nbeside weights and gradients",
    )
    right.set(xscale="log", xlabel="layers", ylabel="times store", title="CPU time of a training step\n")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xticks(depths, [str(depth) for depth in depths])
        axes.minorticks_off()
        quiet(axes)
    left.legend(fontsize=9, frameon=False)
    figure.suptitle(f"Ring of {AGENTS} agents, {2 * HALF} neurons each, batch {BATCH}", fontsize=11, color=INK)
    return save(figure, path)


def rows(results: dict[int, dict[str, dict[str, float]]]) -> list[list[str]]:
    """One row of the table for each depth and mode."""
    found = []
    for depth, modes in results.items():
        for name, each in modes.items():
            rebuilt = f"{each['reconstruction_error']:.0e}" if "reconstruction_error" in each else ""
            memory, milliseconds = f"{each['bytes'] / 2**20:.1f}", f"{1e3 * each['seconds']:.0f}"
            over, apart = f"{each['over_store']:.2f}", f"{each['gradient_difference']:.0e}"
            found.append([str(depth), name, memory, milliseconds, over, apart, rebuilt])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 32, 128, 512], help="layers (default 8 to 512)")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each mode (default 5)")
    parser.add_argument("--training", type=int, default=10, help="steps of Adam before gradients are compared")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--json", type=Path, help="also write every figure here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(header(), flush=True)
    results = {}
    for depth in args.depths:
        results[depth] = measured(depth, args.rounds, args.training)
        print("\n".join(table(HEADINGS, rows({depth: results[depth]}))), flush=True)
    first, last = results[args.depths[0]]["reversible"], results[args.depths[-1]]["reversible"]
    growth = last["bytes"] / first["bytes"]
    slower = max(found["reversible"]["over_store"] for found in results.values())
    print(f"reversible: memory x {growth:.3f} from {args.depths[0]} to {args.depths[-1]} layers (at most {GROWTH})")
    print(f"reversible: time at most {slower:.2f} x store (at most {SLOWER})")
    bounds = {"growth": growth, "slower": slower, "growth_at_most": GROWTH, "slower_at_most": SLOWER}
    write_report(args.json, table(HEADINGS, rows(results)), {"depths": results, "reversible": bounds})
    if len(args.depths) > 1:
        print(f"picture {draw(results, args.picture)}")


if __name__ == "__main__":
    main()
