"""Measure how gradients reach the first of 64 layers on the paper's ring of 8, Hamiltonian against plain networks.

    python benchmarks/gradients.py --epochs 20 --json gradients.json

Draws docs/pictures/gradients.png: norms of the sensitivities ∂y_N/∂y_{N-j} over the depth j, at points of the test
set, before and after training on the swiss roll. Every network starts from its usual weights: hamiltonian and MS1 from
our defaults, resnet and mlp from the scale 1/sqrt(3 n) of torch.nn.Linear.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import command

from dist_hdnn.analysis.measurements import measure
from dist_hdnn.analysis.vectors import Space
from dist_hdnn.build import assembly
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment.tasks import split_tensors, train_model
from dist_hdnn.plots.figures import BLUE, GREEN, INK, ORANGE, VERMILION, new_figure, quiet, save, whole_numbers
from dist_hdnn.run.files import versions
from dist_hdnn.training.evaluation import evaluate

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "gradients.png"
LAYERS, STEP, POINTS = 64, 0.125, 16
LINEAR = f"--network.initial_scale={1 / math.sqrt(3):.4f}"
SMALLEST, LOWEST = 1e-300, 1e-20  # least value that a logarithmic axis can show, and that ours shows
COLORS, STYLES = (BLUE, VERMILION, GREEN, ORANGE), ("-", "--", "-.", ":")
NETWORKS = {
    "hamiltonian (H2)": ["--network.architecture=hamiltonian"],
    "MS1": ["--network.architecture=MS1"],
    "resnet": ["--network.architecture=resnet", LINEAR],
    "mlp": ["--network.architecture=mlp", LINEAR],
}


def measured(options: list[str], epochs: int) -> dict[str, Any]:
    """Measure norms over depth, (layers, points), before and after training, with accuracy and CPU time."""
    started = time.process_time()
    size = [f"--network.layers={LAYERS}", f"--network.step={STEP}", "--dtype=float64"]
    config = read_config(ROOT / "configs" / "swiss_roll_ring8.yaml", [*size, f"--train.epochs={epochs}", *options])
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data)
    training, test = (split_tensors(config, data, which) for which in ("train", "test"))
    chosen = test[0][torch.from_numpy(np.linspace(0, len(test[0]) - 1, POINTS).astype(int))]

    def norms() -> list[list[float]]:
        with torch.no_grad():
            y = model.lift(chosen)
        return measure(model.network, y, Space(model.network.ownership), config.seed).norms.tolist()

    found: dict[str, Any] = {"before": norms()}
    train_model(config, model, data, training)
    found |= {"after": norms(), "test_accuracy": evaluate(model, *test).accuracy}
    return found | {"cpu_seconds": time.process_time() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20, help="epochs of training (default 20)")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--json", type=Path, help="also write every norm here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{command()}   torch {versions()['torch']}, {os.cpu_count()} cores, {LAYERS} layers")
    print(f"{'network':18} {'when':7} {'smallest':>10} {'largest':>10}   |∂y_N/∂y_0| over {POINTS} test points")
    results = {}
    for name, options in NETWORKS.items():
        found = results[name] = measured(options, args.epochs)
        for when in ("before", "after"):
            last = found[when][-1]
            text = f"  test accuracy {100 * found['test_accuracy']:.2f} %" if when == "after" else ""
            print(f"{name:18} {when:7} {min(last):10.3g} {max(last):10.3g}{text}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"versions": versions(), "networks": results}, indent=2))
    headings = {"before": "before training", "after": f"after {args.epochs} epochs"}
    curves = {
        heading: {name: _range(found[when]) for name, found in results.items()} for when, heading in headings.items()
    }
    plot(curves, args.picture, f"{LAYERS} layers on a ring of 8 agents, {POINTS} test points")
    print(f"picture {args.picture}")


def plot(panels: dict[str, dict[str, np.ndarray]], path: Path, title: str) -> None:
    """Draw |∂y_N/∂y_{N-j}| of several networks in panels with one logarithmic axis.

    panels: title such as "before training" -> name of a network -> (2, N), smallest and largest of the points. Curves
    leave the picture below 1e-20.
    """
    figure = new_figure(4.9 * len(panels) + 0.6, 4.8)
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (heading, curves) in zip(row, panels.items(), strict=True):
        for (name, values), color, style in zip(curves.items(), COLORS, STYLES, strict=False):
            depth = np.arange(1, values.shape[1] + 1)
            shown = np.maximum(values, SMALLEST)
            axes.fill_between(depth, *shown, color=color, alpha=0.2, linewidth=0)
            axes.plot(depth, np.sqrt(shown[0] * shown[1]), color=color, linestyle=style, linewidth=1.8, label=name)
        axes.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(LOWEST, axes.get_ylim()[0]))
        axes.set_title(heading, fontsize=10, color=INK)
        axes.set_xlabel("layers back from the output, j")
        whole_numbers(axes.xaxis)
        quiet(axes)
    row[0].set_ylabel("|∂y$_N$/∂y$_{N-j}$|  (spectral norm, range of the points)")
    row[0].legend(fontsize=9, frameon=False, loc="lower left")
    figure.suptitle(title, fontsize=11, color=INK)
    save(figure, path)


def _range(norms: list[list[float]]) -> np.ndarray:
    """Return the smallest and largest over the points, (2, layers)."""
    values = np.array(norms)
    return np.stack([values.min(axis=1), values.max(axis=1)])


if __name__ == "__main__":
    main()
