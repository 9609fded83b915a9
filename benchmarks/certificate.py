"""Measure what 1000 agents keep over lossy links: determinants, symplecticity, and norms of sensitivities.

    python benchmarks/certificate.py --agents 1000 --workers 1 4 --json certificate.json

A torus of agents of width 2 is trained a few steps on the swiss roll over links that lose 30 % of all slices. Then the
whole Jacobian of every layer at one test point is formed, neuron by neuron, and worker 0 takes it apart.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from measure import header, table, write_report

from dist_hdnn.analysis.measurements import interconnections, layer_matrices
from dist_hdnn.analysis.sensitivity import spectral_norm
from dist_hdnn.analysis.symplecticity import log_determinants
from dist_hdnn.analysis.vectors import Space
from dist_hdnn.build import assembly
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment.tasks import split_tensors, train_model
from dist_hdnn.transport import Transport, run_threads

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "swiss_roll_ring8.yaml"
LINKS = {
    "loss, zero, exchange": ["--links.loss=0.3", "--links.pair=exchange"],
    "loss, zero, answer": ["--links.loss=0.3"],
    "loss in bursts, own": ["--links.loss=0.3", "--links.burst=3", "--links.fill=own"],
    "outages, dead agents": ["--links.outage=0.2", "--links.agent_outage=0.05", "--links.dead=[7]"],
}


def measured(links: list[str], agents: int, layers: int, transport: Transport | None) -> dict[str, float]:
    """Train a network, and return the figures of its layers on worker 0."""
    rows = next(number for number in range(int(agents**0.5), 0, -1) if agents % number == 0)
    graph = ["--graph.family=torus", f"--graph.rows={rows}", f"--graph.columns={agents // rows}"]
    few = ["--data.samples=200", "--train.epochs=2", "--train.batch_size=50", f"--network.layers={layers}"]
    sensors = [f"--sensors=[{{feature: 0, agent: 0, half: q}}, {{feature: 1, agent: {agents // 2}, half: p}}]"]
    config = read_config(CONFIG, [*graph, *few, *sensors, *links, "--dtype=float64"])
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data, transport)
    train_model(config, model, data, split_tensors(config, data, "train"), transport=transport)
    network, points = model.network, split_tensors(config, data, "test")[0][:1]
    space = Space(network.ownership)
    with torch.no_grad():
        matrices = layer_matrices(network, model.lift(points), space)[:, 0]
        (J,) = interconnections(network, space)
    if network.ownership.rank:
        return {}
    logs, _ = log_determinants(matrices[:, None])
    residuals, norms, product = [], [], torch.eye(len(J), dtype=J.dtype)
    for M in reversed(matrices):
        residuals.append(float(torch.linalg.matrix_norm(M @ J @ M.mT - J) / spectral_norm(M) ** 2))
        product = product @ M
        norms.append(float(spectral_norm(product)))
    return {
        "determinant": float(logs.exp().sub(1).abs().max()),
        "symplectic": max(residuals),
        "smallest": min(norms),
        "largest": max(norms),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    lines, results = [header()], []
    print(lines[0])
    for name, links in LINKS.items():
        for workers in options.workers:
            began = time.perf_counter()

            def work(transport: Transport | None, links: list[str] = links) -> dict[str, float]:
                return measured(links, options.agents, options.layers, transport)

            figures: dict[str, Any] = work(None) if workers == 1 else run_threads(workers, work, timeout=3600)[0]
            results.append({"links": name, "workers": workers, "seconds": time.perf_counter() - began, **figures})
            print(results[-1], flush=True)
    titles = ("links", "workers", "largest abs(det - 1)", "largest residual", "norms of sensitivities")
    rows = [
        (
            each["links"],
            each["workers"],
            f"{each['determinant']:.1e}",
            f"{each['symplectic']:.1e}",
            f"{each['smallest']:.3f} to {each['largest']:.3f}",
        )
        for each in results
    ]
    lines += table(titles, rows)
    print("\n".join(lines[1:]))
    write_report(options.json, lines, results)


if __name__ == "__main__":
    main()
