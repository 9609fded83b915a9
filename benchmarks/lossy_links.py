"""Train networks for links that lose and delay slices, and measure what they keep over which links.

    python benchmarks/lossy_links.py --results docs/lossy_links.jsonl [--minutes 30] [--only loss delay]

A cell is a way of training and a seed, which also draws the data; a cell that the file holds is not run again, so the
script may be stopped at any time. All cells are configs/ring8_lossy.yaml with the changes below; seeds begin at 1,
because seed 0 chose the recipe. Prints the mean and the worst over seeds of the accuracy on test points, as Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from measure import header, machine, table

from dist_hdnn.config.files import read_config
from dist_hdnn.experiment.robustness import robustness_of_run
from dist_hdnn.experiment.tasks import train

CONFIG = Path(__file__).parents[1] / "configs" / "ring8_lossy.yaml"
PERFECT = ["--links.loss=0", "--links.failout=0", "--train.epochs=50"]
TRAININGS = {
    "perfect links": PERFECT,
    "loss": [],
    "loss, local readout": ["--readout.kind=local"],
    "delay": [*PERFECT, "--links.delay=[0,2]"],
}
VALUES = {"loss": "0.1,0.3,0.6", "delay": "0,1,2,0-2", "bits": "4,3,2", "dead": "each"}
REPETITIONS = 3


def run_cell(training: str, seed: int) -> dict[str, Any]:
    """Train one network and measure it: {impairment: {value: worst accuracy over repetitions, in %}}."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an architecture without impairments, for example
        options = [*TRAININGS[training], f"--seed={seed}", f"--output={folder}/run", "--plots=false"]
        directory = train(read_config(CONFIG, [*options, "--train.threads=1"]))
        assert directory is not None, "one process writes its run"
        result = robustness_of_run(directory, VALUES, REPETITIONS)
    worst: dict[str, dict[str, float]] = {}
    for kind, points in result["curves"].items():
        worst[kind] = {str(point["value"]): 100.0 * point["worst"] for point in points}
    perfect = 100.0 * result["unimpaired"]["mean"]
    seconds = time.process_time() - began
    return {"training": training, "seed": seed, "perfect": perfect, **worst, "cpu_seconds": seconds}


def report(lines: list[dict[str, Any]]) -> list[str]:
    """Return a Markdown table: a row for each training, mean (worst) over seeds of the worst repetition."""
    rows = []
    for training in TRAININGS:
        mine = [line for line in lines if line["training"] == training]
        if not mine:
            continue
        row = [training, str(len(mine)), _text([line["perfect"] for line in mine])]
        for kind in ("loss", "delay", "bits"):
            for value in mine[0][kind]:
                row.append(_text([line[kind][value] for line in mine]))
        row.append(_text([min(line["dead"].values()) for line in mine]))
        names = [f"{kind} {value}" for kind in ("loss", "delay", "bits") for value in mine[0][kind]]
        rows.append(row)
    return table(["trained with", "seeds", "perfect", *names, "worst agent down"], rows) if rows else []


def _text(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ({min(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("runs/lossy_links.jsonl"), help="lines to read and add to")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no cell later than this")
    parser.add_argument("--only", nargs="+", choices=list(TRAININGS), default=list(TRAININGS), help="trainings")
    parser.add_argument("--seeds", type=int, default=5, help="networks of each training")
    args = parser.parse_args()
    print(header(), flush=True)
    lines = [json.loads(line) for line in args.results.read_text().splitlines()] if args.results.exists() else []
    done = {(line["training"], line["seed"]) for line in lines}
    end = time.monotonic() + 60.0 * args.minutes
    for seed in range(1, args.seeds + 1):
        for training in args.only:
            if (training, seed) in done or time.monotonic() > end:
                continue
            lines.append(run_cell(training, seed) | {"machine": machine()})
            args.results.parent.mkdir(parents=True, exist_ok=True)
            with args.results.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
            print(json.dumps(lines[-1]), flush=True)
    print("", *report(lines), sep="\n")


if __name__ == "__main__":
    main()
