"""Compare networks of 1 to 16 layers with networks that see less or more, and draw the answers.

    python examples/water/compare.py                 # trains what is missing below runs/water; see docs/water.md
    python examples/water/compare.py --seeds=1

Needs data/water of generate.py. Writes examples/water/results.csv (means over seeds) and the pictures of docs/water.md.
All figures are of the test days; epochs are chosen on the validation days, and so is the best sensor.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import networkx as nx
import numpy as np
import torch
from evaluate import JUNCTIONS, distances, hop_table, worst_junction

import dist_hdnn

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

HERE, DATA, RUNS = Path(__file__).parent, Path("data/water"), Path("runs/water")
NETWORKS = {f"{layers} layer{'s'[: layers > 1]}": [f"--network.layers={layers}"] for layers in (1, 2, 4, 8, 16)}
NETWORKS |= {
    "agents without links, 8 layers": ["--network.K.kind=block_diagonal"],
    "dense, width 2, 5 layers": ["--network.K.kind=dense", "--network.width=2", "--network.layers=5"],
}
CHOSEN = "8 layers"
Arrays = dict[str, np.ndarray]


def trained(name: str, options: list[str], seed: int) -> Path:
    """Return the run of a network, trained now unless it is there."""
    run = RUNS / f"{name.replace(', ', '_').replace(' ', '_')}_s{seed}"
    if not (run / "summary.json").exists():
        command = [sys.executable, "-m", "dist_hdnn", "train", str(HERE / "net3.yaml"), *options]
        subprocess.run([*command, f"--seed={seed}", f"--output={run}", "--plots=false", "--resume=auto"], check=True)
    return run


def mlp(arrays: Arrays, columns: np.ndarray, seed: int) -> tuple[dict[str, np.ndarray], int]:
    """Train an MLP with two hidden layers of 200 that sees all `columns` at once.

    Return its answers by part, of the epoch with the least validation error, and its number of weights.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    mean, deviation = arrays["train_x"][:, columns].mean(axis=0), arrays["train_x"][:, columns].std(axis=0)
    x = {part: torch.from_numpy((arrays[f"{part}_x"][:, columns] - mean) / deviation) for part in PARTS}
    center, spread = arrays["train_y"].mean(axis=0), arrays["train_y"].std(axis=0)
    y = {part: torch.from_numpy((arrays[f"{part}_y"] - center) / spread) for part in PARTS}
    sizes = [len(columns), 200, 200, y["train"].shape[1]]
    layers = [torch.nn.Linear(*pair) for pair in zip(sizes, sizes[1:], strict=False)]
    net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    epochs, batch, best = 40, 100, np.inf
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    answers: dict[str, np.ndarray] = {}
    for _ in range(epochs):
        for index in torch.randperm(len(x["train"])).split(batch):
            optimizer.zero_grad()
            (net(x["train"][index]) - y["train"][index]).square().mean().backward()
            optimizer.step()
        schedule.step()
        with torch.no_grad():
            error = float((net(x["validation"]) - y["validation"]).square().mean())
            if error < best:
                best = error
                answers = {part: net(x[part]).numpy() * spread + center for part in PARTS[1:]}
    return answers, sum(p.numel() for p in net.parameters())


PARTS = ("train", "validation", "test")


def figures(answers: dict[str, np.ndarray], arrays: Arrays, hops: np.ndarray) -> dict[str, float]:
    """Return the figures of one trained network. answers: by part, (samples, agents)."""
    errors, leaks = distances(answers["test"], arrays["test_y"], hops)
    validation = distances(answers["validation"], arrays["validation_y"], hops)[0].mean()
    return {
        "mean_hops": errors.mean(),
        "exact": (errors == 0).mean(),
        "within_2_hops": (errors <= 2).mean(),
        "worst_junction": worst_junction(errors, leaks),
        "validation_mean_hops": validation,
    }


def of_run(run: Path, arrays: Arrays, hops: np.ndarray) -> dict[str, float]:
    """Return the figures of a trained run. Messages between agents that are no neighbors count once per hop."""
    loaded, summary = dist_hdnn.load_run(run), json.loads((run / "summary.json").read_text(encoding="utf-8"))
    answers = {part: loaded.predict(arrays[f"{part}_x"]) for part in PARTS[1:]}
    detour = hops[hops > 0].mean() if summary["density"] == 1 else 1.0
    traffic = {"bytes_per_sample": summary["bytes_per_prediction"] * detour, "parameters": summary["parameters"]}
    return figures(answers, arrays, hops) | traffic


def of_center(arrays: Arrays, hops: np.ndarray, seed: int) -> dict[str, float]:
    """Return the figures of an MLP at the agent that is nearest to all sensors, to which the readings travel."""
    columns = np.flatnonzero(arrays["train_x"].std(axis=0))
    answers, weights = mlp(arrays, columns, seed)
    way = hops[columns // readings(arrays)].sum(axis=0).min()  # of every reading
    return figures(answers, arrays, hops) | {"bytes_per_sample": 4 * way, "parameters": weights}


def of_one_sensor(arrays: Arrays, hops: np.ndarray, seed: int) -> dict[str, float]:
    """Return the figures of an MLP on the readings of one sensor, the best one by validation."""
    columns = np.flatnonzero(arrays["train_x"].std(axis=0))
    sensors = columns // readings(arrays)
    found = []
    for sensor in np.unique(sensors):
        answers, weights = mlp(arrays, columns[sensors == sensor], seed)
        found.append(figures(answers, arrays, hops) | {"bytes_per_sample": 0, "parameters": weights})
    return min(found, key=lambda row: row["validation_mean_hops"])


def readings(arrays: Arrays) -> int:
    """Return the features per agent."""
    return arrays["train_x"].shape[1] // arrays["train_y"].shape[1]


def averaged(name: str, rows: list[dict[str, float]]) -> dict[str, str]:
    """Return a line of the table: means over seeds, and the spread of the mean distance."""
    mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    spread = float(np.std([row["mean_hops"] for row in rows], ddof=1)) if len(rows) > 1 else 0.0
    counts = ("bytes_per_sample", "parameters")
    line = {key: f"{value:.0f}" if key in counts else f"{value:.3f}" for key, value in mean.items()}
    return {"network": name, "seeds": str(len(rows)), "mean_hops_deviation": f"{spread:.3f}"} | line


def draw_layers(table: list[dict[str, str]], file: Path) -> None:
    """Draw the mean distance over the number of layers, with the baselines as lines."""
    lines = {row["network"]: row for row in table}
    layers = [name for name in lines if name.endswith(("layer", "layers")) and name[0].isdigit()]
    numbers = [int(name.split()[0]) for name in layers]
    means = [float(lines[name]["mean_hops"]) for name in layers]
    spreads = [float(lines[name]["mean_hops_deviation"]) for name in layers]
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    axes.errorbar(numbers, means, yerr=spreads, marker="o", capsize=3, label="agents on the pipes, width 8")
    styles = zip((name for name in lines if name not in layers), (":", "--", "-.", (0, (1, 3))), strict=False)
    for name, style in styles:
        axes.axhline(float(lines[name]["mean_hops"]), color="0.4", linestyle=style, label=name)
    axes.set(xscale="log", xlabel="layers", ylabel="mean hops from leak named to leak", ylim=(0, None))
    axes.set_xticks(numbers, map(str, numbers))
    axes.minorticks_off()
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=110)


def draw_answers(run: Path, arrays: Arrays, hops: np.ndarray, file: Path) -> None:
    """Draw the answers to one leak, and the mean distance of the leaks at every junction."""
    graph = nx.relabel_nodes(nx.read_graphml(DATA / "graph.graphml"), int)
    places = {node: (values["x"], values["y"]) for node, values in graph.nodes(data=True)}
    answers = dist_hdnn.load_run(run).predict(arrays["test_x"])
    errors, leaks = distances(answers, arrays["test_y"], hops)
    sensors = np.unique(np.flatnonzero(arrays["train_x"].std(axis=0)) // readings(arrays))
    shown = int(np.flatnonzero((errors == 1) & ~np.isin(leaks, sensors))[0])
    each = [errors[leaks == junction].mean() if (leaks == junction).any() else np.nan for junction in range(JUNCTIONS)]
    figure, both = plt.subplots(1, 2, figsize=(11, 5.2), layout="constrained")
    titles = ("one leak: predicted nearness", "mean hops from leak named to leak, by junction of the leak")
    values = (answers[shown, :JUNCTIONS], np.array(each))
    for axes, title, value, colors in zip(both, titles, values, ("viridis", "magma_r"), strict=True):
        nx.draw_networkx_edges(graph, places, ax=axes, edge_color="0.7")
        points = [places[junction] for junction in range(JUNCTIONS)]
        marks = axes.scatter(*zip(*points, strict=True), c=value, cmap=colors, s=34, zorder=3, edgecolors="0.4", lw=0.4)
        measuring = [places[sensor] for sensor in sensors]
        axes.scatter(
            *zip(*measuring, strict=True), s=110, marker="s", facecolors="none", edgecolors="k", label="sensor"
        )
        axes.set_title(title, fontsize="medium")
        axes.axis("off")
        figure.colorbar(marks, ax=axes, shrink=0.7)
    both[0].scatter(*places[leaks[shown]], s=170, marker="o", facecolors="none", edgecolors="r", lw=2, label="leak")
    named = int(answers[shown, :JUNCTIONS].argmax())
    both[0].scatter(*places[named], s=120, marker="x", color="r", lw=2, zorder=4, label="leak named")
    both[0].legend(loc="lower left", fontsize="small")
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare networks and baselines on the leaks of Net3.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--table", type=Path, default=HERE / "results.csv")
    options = parser.parse_args()
    hops, seeds = hop_table(DATA / "graph.graphml"), range(options.seeds)
    with np.load(DATA / "leaks.npz") as file:
        arrays = {key: values.reshape(len(values), -1) for key, values in file.items()}
    runs = {(name, s): trained(name, more, s) for s in seeds for name, more in NETWORKS.items()}
    table = [averaged(name, [of_run(runs[name, s], arrays, hops) for s in seeds]) for name in NETWORKS]
    table.append(averaged("best sensor alone", [of_one_sensor(arrays, hops, s) for s in seeds]))
    table.append(averaged("MLP of all readings", [of_center(arrays, hops, s) for s in seeds]))
    with options.table.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    for row in table:
        print(*(f"{key} {value}" for key, value in row.items()), sep="  ")
    draw_layers(table, options.pictures / "water_layers.png")
    draw_answers(runs[CHOSEN, 0], arrays, hops, options.pictures / "water_leaks.png")


if __name__ == "__main__":
    main()
