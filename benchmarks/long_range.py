"""Measure how far and how well answers cross a graph: the barbell, and the ring transfer of a real payload.

    python benchmarks/long_range.py --json docs/long_range.jsonl [--minutes 30] [--only barbell]

A cell is a task of one size, a network and a seed; a cell that the file holds is not run again, so the script may be
stopped at any time. Recipes are configs/barbell.yaml and configs/ring_transfer.yaml with the changes below, chosen on
validation data; the epoch of every run is chosen on validation data too. Without --minutes every cell is run.
Prints the mean and the standard deviation over seeds of the squared error on test points, as Markdown.
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

import numpy as np
from measure import machine
from sklearn.neural_network import MLPRegressor

from dist_hdnn.build.assembly import build_dataset
from dist_hdnn.config import Config
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment.tasks import train

CONFIGS = Path(__file__).parents[1] / "configs"
SHALLOW = ["--train.learning_rate=0.005"]  # large cliques: 0.01 fails on one seed of five
BARBELLS = {10: [], 20: [], 50: SHALLOW}  # agents of a clique
NETWORKS = {"neighbors": [], "no links": ["--network.K.kind=block_diagonal"], "MLP on all inputs": None}
FEW = ["--data.samples=3000", "--train.epochs=9"]  # 500 steps
RINGS: dict[int, list[str]] = {  # hops; layers of about 0.6 hops and a few more, as a wave travels two hops per layer
    16: ["--network.layers=12", "--train.network_rate=0.00003"],
    64: ["--network.layers=40"],
    256: ["--network.layers=155", "--network.memory=reversible", "--train.network_rate=0.000004", *FEW],
}
SEEDS = {"barbell": 5, "ring_transfer": 3}
HIDDEN = 64  # neurons of each of the two hidden layers of the MLP


def cells(only: str | None) -> list[dict[str, Any]]:
    """List the cells, cheap ones first."""
    barbells = [
        {"task": "barbell", "size": size, "network": network, "seed": seed}
        for size in BARBELLS
        for network in NETWORKS
        for seed in range(SEEDS["barbell"])
    ]
    rings = [
        {"task": "ring_transfer", "size": hops, "network": "wave", "seed": seed}
        for hops in RINGS
        for seed in range(SEEDS["ring_transfer"])
    ]
    return [cell for cell in [*barbells, *rings] if only in (None, cell["task"])]


def config_of(cell: dict[str, Any]) -> Config:
    """Return the config of a cell."""
    size, seed = cell["size"], f"--seed={cell['seed']}"
    if cell["task"] == "barbell":
        more = [f"--graph.agents={2 * size}", *BARBELLS[size], *(NETWORKS[cell["network"]] or [])]
    else:
        more = [f"--graph.agents={2 * size}", *RINGS[size]]
    return read_config(CONFIGS / f"{cell['task']}.yaml", [*more, seed, "--plots=false"])


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Train a cell and return its figures."""
    config, began = config_of(cell), time.perf_counter()
    if NETWORKS.get(cell["network"], []) is None:
        return cell | perceptron(config) | {"seconds": time.perf_counter() - began}
    with tempfile.TemporaryDirectory() as folder:
        config.output = str(Path(folder) / "run")
        directory = train(config)
        assert directory is not None, "one process writes"
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    of_a_link = summary["bytes_per_prediction"] / summary["links"]  # both directions; every link carries the same
    per_sample = of_a_link if cell["task"] == "barbell" else None
    figures = {key: summary[key] for key in ("test_mse", "parameters", "layers", "seconds", "bytes_per_prediction")}
    return cell | figures | {"bridge_bytes_per_sample": per_sample}


def perceptron(config: Config) -> dict[str, Any]:
    """Train a multilayer perceptron of scikit-learn that sees all inputs and answers for all agents."""
    data = build_dataset(config)
    model = MLPRegressor(
        hidden_layer_sizes=(HIDDEN, HIDDEN), early_stopping=True, max_iter=100, random_state=config.seed
    )
    model.fit(data.train_x, data.train_y[..., 0])
    errors = (model.predict(data.test_x) - data.test_y[..., 0]) * np.array(data.preparation.target_deviation)
    parameters = sum(weights.size for weights in [*model.coefs_, *model.intercepts_])
    return {"test_mse": float((errors**2).mean()), "parameters": parameters}


def table(results: list[dict[str, Any]]) -> str:
    """Return the figures as a Markdown table, a row per task, size and network."""
    lines = [
        "| task | size | network | squared error x 1000 | seeds | layers | parameters | bridge bytes per sample |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for result in results:
        rows.setdefault((result["task"], result["size"], result["network"]), []).append(result)
    for (task, size, network), runs in rows.items():
        errors = [1000 * each["test_mse"] for each in runs]
        spread = f" ± {statistics.stdev(errors):.3g}" if len(errors) > 1 else ""
        bridge = runs[0].get("bridge_bytes_per_sample")
        cells = [statistics.mean(errors), spread, len(runs), runs[0].get("layers", "-"), runs[0]["parameters"]]
        lines.append(
            f"| {task} | {size} | {network} | {cells[0]:.3g}{cells[1]} | {cells[2]} | {cells[3]} | {cells[4]} | "
            f"{'-' if bridge is None else round(bridge)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="lines of results, extended")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no cell after this time")
    parser.add_argument("--only", choices=SEEDS, help="one of the tasks")
    parser.add_argument("--largest", type=int, default=10**9, help="leave larger sizes out")
    options = parser.parse_args()
    lines = options.json.read_text(encoding="utf-8").splitlines() if options.json.exists() else []
    results = [json.loads(line) for line in lines]
    done = {tuple(result[key] for key in ("task", "size", "network", "seed")) for result in results}
    wanted = [cell for cell in cells(options.only) if cell["size"] <= options.largest]
    end = time.monotonic() + 60 * options.minutes
    for number, cell in enumerate(wanted, start=1):
        if tuple(cell.values()) in done or time.monotonic() > end:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = run(cell) | {"machine": machine()}
        results.append(result)
        with options.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        print(f"[{number}/{len(wanted)}] {result['test_mse']:.3g} {cell}", flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
