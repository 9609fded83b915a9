"""Train the networks of the comparison and the baselines; write the table and the picture over layers.

    python examples/power_grid/compare.py

Needs the data of make_data.py. Runs that are finished are not repeated. Writes examples/power_grid/results_full.md
and results_sparse.md, row by row, and docs/pictures/power_grid_layers.png. Links carry float32, 4 bytes per number.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from pathlib import Path

import networkx as nx
import numpy as np
from matplotlib.figure import Figure
from name_line import of_run
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
LAYERS = (1, 2, 4, 8)
NETWORKS = {f"this network, {layers} layer{'s' * (layers > 1)}": [f"--network.layers={layers}"] for layers in LAYERS}
NETWORKS |= {
    "agents without links": ["--network.K.kind=block_diagonal"],
    "dense, about equal parameters": ["--network.K.kind=dense", "--network.width=2", "--network.layers=2"],
}
WIDE = ["--network.K.kind=dense", "--train.learning_rate=0.003"]  # at 0.01 it learns worse
DATA = {"full": "118", "sparse": "35"}
NEIGHBORS = (5, 25)
Row = dict[str, float]


def trained(data: Path, options: list[str], output: Path) -> Row:
    """Train a network, unless its run is done, and return its figures."""
    summary = output / "summary.json"
    if not summary.is_file() or json.loads(summary.read_text())["status"] != "done":
        given = [f"--data.file={data}", f"--graph.file={data.parent / 'grid.graphml'}", f"--output={output}", *options]
        command = [sys.executable, "-m", "dist_hdnn", "train", str(HERE / "power_grid.yaml"), *given]
        subprocess.run([*command, "--resume=auto"], check=True)
    return of_run(output)


def parts_of(data: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return readings (samples, buses, 4), scaled over the training part, and open links, by part."""
    lines = dict(np.load(data.with_name("lines.npz")))
    readings = {part: np.load(data)[f"{part}_x"] for part in ("train", "validation", "test")}
    scale = StandardScaler().fit(readings["train"].reshape(len(readings["train"]), -1))
    return {part: scale.transform(x.reshape(len(x), -1)).reshape(x.shape) for part, x in readings.items()}, lines


def right(model: KNeighborsClassifier | MLPClassifier, x: np.ndarray, line: np.ndarray) -> Row:
    """Return the shares of right lines (the likeliest one, where one is open) and right answers; x: (samples, any)."""
    shares = model.predict_proba(x)
    lines = model.classes_ >= 0
    named, answer = model.classes_[lines][shares[:, lines].argmax(axis=1)], model.classes_[shares.argmax(axis=1)]
    return {"right_line": float((named == line)[line >= 0].mean()), "right_answer": float((answer == line).mean())}


def best_single_bus(data: Path) -> tuple[str, Row]:
    """Name the line from the four readings of one bus by its nearest neighbors in training; validation chooses both."""
    x, line = parts_of(data)
    best = (0.0, 0, 0)
    buses = np.flatnonzero(np.ptp(x["train"], axis=(0, 2)) > 0)
    for bus in buses.tolist():
        for count in NEIGHBORS:
            model = KNeighborsClassifier(count).fit(x["train"][:, bus], line["train"])
            best = max(best, (model.score(x["validation"][:, bus], line["validation"]), bus, count))
    _, bus, count = best
    model = KNeighborsClassifier(count).fit(x["train"][:, bus], line["train"])
    row = right(model, x["test"][:, bus], line["test"])
    return f"best single bus ({bus + 1}, {count} neighbors)", row | {"bytes_per_prediction": 0}


def central(data: Path) -> tuple[str, Row]:
    """Name the line by an MLP on all readings at the most central bus, where they arrive over shortest paths."""
    x, line = parts_of(data)
    model = MLPClassifier((256, 256), batch_size=64, max_iter=40, early_stopping=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x["train"].reshape(len(x["train"]), -1), line["train"])
    row = right(model, x["test"].reshape(len(x["test"]), -1), line["test"])
    graph = nx.Graph(line["links"].tolist())
    senders = np.flatnonzero(np.ptp(x["train"], axis=(0, 2)) > 0).tolist()
    hops = min(sum(nx.shortest_path_length(graph, bus)[each] for each in senders) for bus in graph)
    weights = sum(each.size for each in (*model.coefs_, *model.intercepts_))
    return "central MLP, 2 x 256", row | {"bytes_per_prediction": 4 * 4 * hops, "parameters": weights}


def line_of(measured: str, name: str, row: Row) -> str:
    """Return a line of the table."""
    shares = (f"{100 * row[key]:.1f}" if key in row else "-" for key in ("right_line", "right_answer"))
    agents = (f"{100 * row[key]:.2f}" if key in row else "-" for key in ("mean_agent_accuracy", "worst_agent_accuracy"))
    sizes = (f"{row[key]:,.0f}" if key in row else "-" for key in ("bytes_per_prediction", "parameters"))
    return f"| {' | '.join((measured, name, *shares, *agents, *sizes))} |"


def write(rows: dict[str, Row], measured: str, file: Path) -> None:
    """Write the table of the rows that are done."""
    columns = ("buses that measure", "network", "right line (%)", "right answer (%)", "mean agent (%)")
    columns += ("worst agent (%)", "bytes per sample", "parameters")
    lines = [f"| {' | '.join(columns)} |", "|---|---|" + "---:|" * 6]
    lines += [line_of(DATA[measured], name, row) for name, row in rows.items()]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw(table: dict[str, dict[str, Row]], file: Path) -> None:
    """Draw right lines over layers; dashed: agents without links; dotted: the dense network of equal parameters."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for number, (measured, rows) in enumerate(table.items()):
        values = [100 * row["right_line"] for name, row in rows.items() if name.startswith("this network")]
        axes.plot(LAYERS, values, "o-", color=f"C{number}", label=f"{DATA[measured]} buses measure")
        for name, style in (("agents without links", "--"), ("dense, about equal parameters", ":")):
            axes.axhline(100 * rows[name]["right_line"], color=f"C{number}", linestyle=style, label=name)
    axes.set(xscale="log", xticks=LAYERS, xticklabels=LAYERS, xlabel="layers", ylabel="right line in test (%)")
    axes.minorticks_off()
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data/power_grid"))
    parser.add_argument("--runs", type=Path, default=Path("runs/power_grid"))
    parser.add_argument("--measured", nargs="+", default=tuple(DATA), choices=DATA)
    options = parser.parse_args()
    table: dict[str, dict[str, Row]] = {}
    for measured in options.measured:
        data, rows = options.data / f"{measured}.npz", table.setdefault(measured, {})
        runs, file = options.runs / measured, HERE / f"results_{measured}.md"
        for name, given in NETWORKS.items():
            rows[name] = trained(data, given, runs / name.replace(",", "").replace(" ", "-"))
            write(rows, measured, file)
        for baseline in (best_single_bus, central):
            rows |= dict([baseline(data)])
            write(rows, measured, file)
        if len(table) == len(DATA):
            draw(table, HERE.parents[1] / "docs/pictures/power_grid_layers.png")
        rows["dense, equal width and layers"] = trained(data, WIDE, runs / "dense-equal-width-and-layers")
        write(rows, measured, file)


if __name__ == "__main__":
    main()
