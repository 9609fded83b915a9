"""Measure the accuracy of the ring of 8 agents over seeds, at 16 and 64 layers, with the sum and the local readout.

    python benchmarks/ring8_accuracy.py --seeds 5 --json ring8.json

Each case is one of configs/*_ring8.yaml with a few options changed, all seeds on the points of data.seed 0. The
published code reaches, with the same network and 10 seeds, 97.5 ± 3.6 % (worst 88.6) on the swiss roll and 99.4 ± 0.6 %
(98.2) on the double circles at 16 layers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import command

from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import tasks
from dist_hdnn.run.files import versions

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
CASES: dict[str, tuple[str, list[str]]] = {
    "swiss roll, 16 layers": ("swiss_roll_ring8", []),
    "double circles, 16 layers": ("double_circles_ring8", []),
    "double moons, 16 layers": ("double_moons_ring8", []),
    "swiss roll, 16 layers, local": ("swiss_roll_ring8", ["--readout.kind=local"]),
    "double circles, 16 layers, local": ("double_circles_ring8", ["--readout.kind=local"]),
    "swiss roll, 64 layers": ("swiss_roll_ring8", ["--network.layers=64", "--network.step=0.125"]),
    "double circles, 64 layers": ("double_circles_ring8", ["--network.layers=64", "--network.step=0.125"]),
}


def run(config: str, options: list[str], seed: int) -> dict[str, Any]:
    """Train one run and return its summary with its CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        args = [*options, f"--seed={seed}", "--data.seed=0", f"--output={folder}/run"]
        directory = tasks.train(read_config(CONFIGS / f"{config}.yaml", args))
        summary = json.loads((directory / "summary.json").read_text())
        return {**summary, "cpu_seconds": time.process_time() - started}


def row(name: str, runs: list[dict[str, Any]]) -> str:
    """Return a table line: mean and worst test accuracy, that of agents which predict, wall and CPU time per run."""
    accuracy = [100 * summary["test_accuracy"] for summary in runs]
    text = f"{name:34} {statistics.mean(accuracy):7.3f} {min(accuracy):7.3f}"
    agents = [100 * summary["mean_agent_accuracy"] for summary in runs if "mean_agent_accuracy" in summary]
    text += f" {statistics.mean(agents):7.3f}" if agents else " " * 8
    wall, cpu = (max(summary[key] for summary in runs) for key in ("seconds", "cpu_seconds"))
    return f"{text} {wall:8.1f} {cpu:8.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 .. SEEDS - 1 (default 5)")
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="only this case; may be repeated")
    parser.add_argument("--json", type=Path, help="also write every summary here")
    args = parser.parse_args()
    print(f"{command()}   torch {versions()['torch']}, {os.cpu_count()} cores")
    print(f"{'case':34} {'mean %':>7} {'worst %':>7} {'agents':>7} {'wall s':>8} {'CPU s':>8}   (slowest run)")
    results = {}
    for name in args.case or CASES:
        results[name] = [run(*CASES[name], seed) for seed in range(args.seeds)]
        print(row(name, results[name]), flush=True)
        if args.json:
            args.json.write_text(json.dumps({"versions": versions(), "cases": results}, indent=2))


if __name__ == "__main__":
    main()
