"""Tell how far from the leak the junction is that a trained network names, in hops.

    python examples/water/evaluate.py runs/water_net3/<run>     # several runs: a line for each

The leak named is at the junction with the highest predicted nearness; every figure is of the test part, the last days.
Bytes are those of one sample over all links, forward. The worst agent is the junction whose leaks are named worst.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import networkx as nx
import numpy as np

import dist_hdnn

JUNCTIONS = 92  # agents 0..91; tanks and reservoirs do not leak


def hop_table(graph_file: Path) -> np.ndarray:
    """Return the hops between all agents."""
    graph = nx.relabel_nodes(nx.read_graphml(graph_file), int)
    return np.array(nx.floyd_warshall_numpy(graph, nodelist=range(len(graph))))


def distances(nearness: np.ndarray, truth: np.ndarray, hops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hops from the leak named to the true one, and the true one. nearness, truth: (samples, agents)."""
    named, leaks = nearness[:, :JUNCTIONS].argmax(axis=1), truth[:, :JUNCTIONS].argmax(axis=1)
    return hops[named, leaks], leaks


def worst_junction(errors: np.ndarray, leaks: np.ndarray) -> float:
    """Return the mean error of the junction whose leaks are named worst."""
    return max(float(errors[leaks == junction].mean()) for junction in np.unique(leaks))


def main() -> None:
    parser = argparse.ArgumentParser(description="Mean hops from the leak named to the true leak.")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data/water"), help="folder (default: data/water)")
    parser.add_argument("--part", choices=("validation", "test"), default="test")
    options = parser.parse_args()
    hops = hop_table(options.data / "graph.graphml")
    with np.load(options.data / "leaks.npz") as arrays:
        x, y = arrays[f"{options.part}_x"], arrays[f"{options.part}_y"]
    x = x.reshape(len(x), -1)
    for run in options.runs:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        errors, leaks = distances(dist_hdnn.load_run(run).predict(x), y, hops)
        print(
            f"{options.part} mean hops {errors.mean():.2f}  exact {(errors == 0).mean():.0%}  "
            f"within 2 hops {(errors <= 2).mean():.0%}  worst junction {worst_junction(errors, leaks):.1f}  "
            f"bytes per sample {summary['bytes_per_prediction']:,}  parameters {summary['parameters']:,}  {run}"
        )


if __name__ == "__main__":
    main()
