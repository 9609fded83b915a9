"""Train every cell of the papers' tables, arXiv:2104.13166 Tables 1 and 2, and compare with the printed accuracy.

    python benchmarks/published.py --results docs/published.jsonl --page docs/published.md
    python benchmarks/published.py --tables swiss_roll --seeds 5 --minutes 30

The figures to reach are those that the paper prints, not those that its published code reaches when we run it
(accuracy.py has these). Swiss roll and double moons: 4 neurons, which the paper calls nf = 4, 4000 points train and
4000 test. MNIST: 8 channels after a 3 x 3 convolution, as in configs/mnist_channels.yaml. H1 and H2 are the paper's
names of our architecture H1 with J1 and with J2.

One recipe per data set for all its cells, chosen by --validate: train on four fifths of the training points and score
on the rest. Results are one line of JSON per cell and seed. A line that is there is not trained again, so the script
may be killed at any moment; MNIST resumes within a cell, from the checkpoint in --runs. --minutes stops it in time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import textwrap
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accuracy import Recipe, SideBySide
from measure import header, machine, table
from rich.progress import Progress
from run_all import insert

from dist_hdnn.config.files import read_config
from dist_hdnn.data import TOYS
from dist_hdnn.experiment import tasks
from dist_hdnn.run.files import versions
from dist_hdnn.training.checkpoints.schedule import Stopped

ROOT = Path(__file__).resolve().parents[1]
TOY_NETWORKS: dict[str, dict[str, Any]] = {
    "MS1": {"architecture": "MS1"},
    "MS2": {"architecture": "MS2"},
    "MS3": {"architecture": "MS3"},
    "H1": {"architecture": "H1", "J": "J1"},
    "H2": {"architecture": "H1", "J": "J2"},
}
MNIST_NETWORKS = {
    "MS1": ["--network.architecture=MS1", "--network.step=0.4"],
    "H2": ["--network.architecture=H1", "--network.J=J2", "--network.X.kind=neighbours", "--network.step=0.05"],
}
NO_LAYERS = ["--network.layers=1", "--network.step=1e-30"]  # y + 1e-30 f(y) is y, bit by bit
PAPER = {
    "swiss_roll": """
        layers   MS1   MS2   MS3    H1    H2
             4  77.1  79.7  90.1  93.6  98.9
             8  91.5  90.7  87.0  99.0  99.4
            16  97.7  99.7  97.1  99.8  99.8
            32   100   100  98.4  99.8  99.2
            64   100   100   100  99.8   100
        """,
    "double_moons": """
        layers   MS1   MS2   MS3    H1    H2
             1  92.5  91.3  97.6   100  99.9
             2  98.2  94.9  99.8   100   100
             4  99.5   100   100   100   100
        """,
    "mnist": """
        layers    MS1     H2
             0  92.47  92.41
             2  97.72  97.83
             4  98.03  98.02
             8  98.05  98.22
            16  98.14  98.21
        """,
}
"""Test accuracy in % as the paper prints it: Table 1 (nf = 4) and Table 2 of arXiv:2104.13166."""
DIGITS = {"swiss_roll": 1, "double_moons": 1, "mnist": 2}
SEEDS = {"swiss_roll": 5, "double_moons": 5, "mnist": 2}


@dataclass(frozen=True)
class Deep(Recipe):
    """A recipe of all depths: step time / layers, and epochs / layers epochs, but at least `least_epochs`.

    restarts: networks per seed, of which the one with the highest training accuracy counts.
    time_J2: the time of H2 instead, for J2 of 4 neurons has norm 2.4, J1 norm 1. (The paper's Table 2 has h = 0.05 for
    J2 and 0.4 for MS1.)
    """

    least_epochs: int = 128
    restarts: int = 1
    time: float = 2.4
    time_J2: float = 0.4

    def at(self, layers: int) -> Deep:
        """Return the recipe of this many layers."""
        return replace(self, epochs=max(self.least_epochs, round(self.epochs / layers)))

    def depth(self, cell: Cell) -> tuple[int, float]:
        """Return layers and step of a cell."""
        return cell.layers, (self.time_J2 if cell.network == "H2" else self.time) / cell.layers


RECIPES: dict[str, Deep] = {
    "swiss_roll": Deep(initial_scale=2.0, learning_rate=0.1, epochs=3200, restarts=4),
    "double_moons": Deep(
        initial_scale=2.0, learning_rate=0.2, epochs=240, least_epochs=60, restarts=16, time=1.6, time_J2=0.8
    ),
}
MNIST_RECIPE = {
    "train.epochs": 20,
    "train.learning_rate": 0.004,
    "train.weight_decay": 0.03,
    "data.augment.shift": 1.0,
    "network.initial_scale": 4.0,
}


@dataclass(frozen=True, order=True)
class Cell:
    """A cell of the paper's tables. Cells sort by cost."""

    layers: int
    network: str
    table: str
    printed: str


def paper_cells(name: str) -> list[Cell]:
    """Return the cells of a table, the cheapest first."""
    (_, *networks), *rows = (line.split() for line in PAPER[name].strip().splitlines())
    return sorted(
        Cell(int(row[0]), network, name, printed)
        for row in rows
        for network, printed in zip(networks, row[1:], strict=True)
    )


class Results:
    """Lines of JSON, one per (cell, seed): those of these recipes, by cell and seed."""

    def __init__(self, path: Path, recipes: dict[str, dict[str, Any]], part: str) -> None:
        self.path, self.recipes, self.part = path, recipes, part
        lines = path.read_text().splitlines() if path.exists() else []
        self.lines = [line for text in lines if (line := _parsed(text))]

    def of(self, cell: Cell) -> dict[int, dict[str, Any]]:
        """Return the cell's lines by seed."""
        wanted = (cell.table, cell.network, cell.layers, self.part, self.recipes[cell.table])
        names = ("table", "network", "layers", "part", "recipe")
        return {line["seed"]: line for line in self.lines if tuple(line[name] for name in names) == wanted}

    def add(self, cell: Cell, seed: int, **figures: Any) -> None:
        """Append a line in one write."""
        line = {"table": cell.table, "network": cell.network, "layers": cell.layers, "seed": seed, "part": self.part}
        line |= {**figures, "recipe": self.recipes[cell.table], "torch": versions()["torch"], "machine": machine()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        before = self.path.read_text() if self.path.exists() else ""
        with self.path.open("a") as file:
            file.write(("\n" if before and not before.endswith("\n") else "") + json.dumps(line) + "\n")
        self.lines.append(line)


def _parsed(text: str) -> dict[str, Any] | None:
    """Return a line's object, None for a line that a kill has cut."""
    try:
        value: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return value


def train_toy(cell: Cell, seeds: list[int], recipe: Deep, part: str, on_epoch: Callable[[int], None]) -> list[float]:
    """Train seeds 0 to the last side by side and return the accuracies in % of those asked for."""
    data = TOYS[cell.table](validation_fraction=0.2 if part == "validation" else 0.0)
    count, network = max(seeds) + 1, TOY_NETWORKS[cell.network]
    networks = SideBySide(network, recipe.depth(cell), [data], recipe.at(cell.layers), count * recipe.restarts)
    networks.train(on_epoch)
    best = networks.accuracies("train").view(count, recipe.restarts).argmax(dim=1, keepdim=True)
    accuracies = networks.accuracies(part).view(count, recipe.restarts).gather(1, best)[:, 0].tolist()
    return [accuracies[seed] for seed in seeds]


def train_mnist(cell: Cell, seed: int, recipe: dict[str, Any], part: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train one network as a run, or resume it, and return its summary. Raises Stopped once it is late."""
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:8]
    run = args.runs / f"{part}-{cell.network}-{cell.layers}-s{seed}-{digest}"
    options = [*MNIST_NETWORKS[cell.network], f"--network.layers={cell.layers}"]
    options += NO_LAYERS if cell.layers == 0 else []
    options += [f"--{key}={value}" for key, value in recipe.items()]
    options += [f"--data.validation_fraction={1 / 6 if part == 'validation' else 0.0}", "--data.seed=0"]
    options += [f"--data.folder={args.mnist}"] if args.mnist else []
    options += [f"--seed={seed}", f"--output={run}", "--resume=auto", "--plots=false", "--checkpoint.every=1 epochs"]
    config = read_config(ROOT / "configs" / "mnist_channels.yaml", options)
    directory = tasks.train(config, stop=lambda: "--minutes" if time.monotonic() > args.end else None)
    assert directory is not None, "one process writes its run"
    summary: dict[str, Any] = json.loads((directory / "summary.json").read_text())
    return summary


def train_cell(cell: Cell, seeds: list[int], results: Results, args: argparse.Namespace, bar: Progress) -> None:
    """Train the seeds of a cell and write their lines. Raises Stopped on MNIST once the time is up."""
    recipe, part = results.recipes[cell.table], results.part
    if cell.table == "mnist":
        for seed in seeds:
            summary = train_mnist(cell, seed, recipe, part, args)
            accuracy, train = (100.0 * summary[f"{which}_accuracy"] for which in (part, "train"))
            seconds = summary["seconds_per_step"] * summary["steps"]  # of all starts of the run
            results.add(cell, seed, accuracy=accuracy, train=train, wall_seconds=seconds)
        return
    deep = Deep(**recipe)
    shown = bar.add_task(f"{cell.table} {cell.network} {cell.layers} layers", total=deep.at(cell.layers).epochs)
    began = time.process_time()
    accuracies = train_toy(cell, seeds, deep, part, lambda epoch: bar.update(shown, completed=epoch))
    bar.remove_task(shown)
    seconds = (time.process_time() - began) / len(seeds)
    for seed, accuracy in zip(seeds, accuracies, strict=True):
        results.add(cell, seed, accuracy=accuracy, cpu_seconds=seconds)


def reached(cell: Cell, lines: dict[int, dict[str, Any]]) -> bool:
    """Whether the mean over seeds is at least the printed figure, rounded to the digits of its table."""
    mean = statistics.mean(line["accuracy"] for line in lines.values())
    return round(mean, DIGITS[cell.table]) >= float(cell.printed)


def cell_text(cell: Cell, lines: dict[int, dict[str, Any]]) -> str:
    """Format ours mean±sd, sd of the population; of a missed cell in bold."""
    values = [line["accuracy"] for line in lines.values()]
    if not values:
        return "-"
    digits = DIGITS[cell.table]
    text = f"{statistics.mean(values):.{digits}f}±{statistics.pstdev(values):.{digits}f}"
    return text if reached(cell, lines) else f"**{text}**"


def report(name: str, results: Results) -> list[str]:
    """Return the lines of a table in Markdown: the paper's figure, ours, and the verdict on all cells."""
    cells = paper_cells(name)
    done = {cell: results.of(cell) for cell in cells}
    networks = PAPER[name].split("\n")[1].split()[1:]
    rows = []
    for layers in sorted({cell.layers for cell in cells}):
        row = {
            cell.network: f"{cell.printed} / {cell_text(cell, done[cell])}" for cell in cells if cell.layers == layers
        }
        rows.append([str(layers), *(row[network] for network in networks)])
    trained = [cell for cell in cells if done[cell]]
    missed = [f"{cell.network} with {cell.layers} layers" for cell in trained if not reached(cell, done[cell])]
    seeds = sorted({len(done[cell]) for cell in trained})
    verdict = f"{len(trained) - len(missed)} of {len(cells)} cells reach the printed figure"
    verdict += f"; missed: {', '.join(missed)}" if missed else ""
    verdict += f"; not trained: {len(cells) - len(trained)}" if len(trained) < len(cells) else ""
    clock = "wall" if name == "mnist" else "cpu"
    minutes = sum(line[f"{clock}_seconds"] for lines in done.values() for line in lines.values()) / 60
    verdict += (
        f". Seeds per cell: {' or '.join(map(str, seeds)) or 'none'}; {minutes:.0f} minutes ({clock} time) in all."
    )
    lines = table(["layers", *(f"{network}: paper / ours" for network in networks)], rows)
    used = ", ".join(f"{key} {value}" for key, value in results.recipes[name].items())
    return [*lines, "", *textwrap.wrap(verdict, 120), "", *textwrap.wrap(f"Recipe: {used}.", 120)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--tables", nargs="+", choices=list(PAPER), default=list(PAPER), help="data sets (default: all three)")
    add("--cells", nargs="+", metavar="NET-LAYERS", help="only these cells, such as MS1-8 H2-16")
    add("--seeds", type=int, help="networks per cell (default: 5, of MNIST 2)")
    add("--minutes", type=float, default=float("inf"), help="start no cell later than this; MNIST saves and stops")
    add("--results", type=Path, default=Path("runs/published/results.jsonl"), help="lines to read and to append to")
    add("--runs", type=Path, default=Path("runs/published"), help="folder of the MNIST runs and their checkpoints")
    add("--mnist", type=Path, help="folder of the four IDX files of MNIST (default: data/mnist, the cache)")
    add("--validate", action="store_true", help="train on a part of the training points and score on the rest")
    add("--recipe", type=json.loads, default={}, metavar="JSON", help='such as {"epochs": 9, "train.epochs": 9}')
    add("--page", type=Path, help="also write the tables into this document")
    args = parser.parse_args()
    args.end = time.monotonic() + 60.0 * args.minutes
    torch.set_num_threads(1)
    toys, dotted = ({key: value for key, value in args.recipe.items() if ("." in key) == dots} for dots in (0, 1))
    recipes = {name: asdict(recipe) | toys for name, recipe in RECIPES.items()} | {"mnist": MNIST_RECIPE | dotted}
    results = Results(args.results, recipes, "validation" if args.validate else "test")
    print(header(), flush=True)
    train_missing(args, results)
    for name in args.tables:
        lines = report(name, results)
        print(f"\n{name}, accuracy in %, mean±sd of ours; bold: below the paper\n", *lines, sep="\n")
        if args.page:
            args.page.write_text(insert(args.page.read_text(), name, lines))


def train_missing(args: argparse.Namespace, results: Results) -> None:
    """Train every cell and seed that has no line yet, until all are there or the time is up."""
    for name in args.tables:
        seeds = range(SEEDS[name] if args.seeds is None else args.seeds)
        for cell in _chosen(paper_cells(name), args.cells):
            missing = [seed for seed in seeds if seed not in results.of(cell)]
            if not missing or time.monotonic() > args.end:
                continue
            try:
                with Progress(transient=True, disable=name == "mnist") as bar:
                    train_cell(cell, missing, results, args, bar)
            except Stopped as stopped:
                print(f"{stopped}; the same command goes on")
                return
            print(f"{name:12} {cell.network:3} {cell.layers:2} layers: paper {cell.printed:5}  ours", end=" ")
            print(cell_text(cell, results.of(cell)), flush=True)


def _chosen(cells: Iterable[Cell], names: list[str] | None) -> list[Cell]:
    return [cell for cell in cells if names is None or f"{cell.network}-{cell.layers}" in names]


if __name__ == "__main__":
    main()
