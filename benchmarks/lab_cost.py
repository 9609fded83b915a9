"""Measure what impaired links cost: a training step over links that lose slices, and over perfect ones, in turns.

    python benchmarks/lab_cost.py --json lab_cost.json

A grid of 10 000 agents, 16 layers, one thread. A step is the sweep forward and backward and Adam; CPU time, medians of
steps that take turns. "perfect": links of a table that impairs nothing, whose path is that without links. "lost": 30 %
of all slices, drawn anew for every message and sample. "lost, down": the same with links and agents that are down and
one agent of a sample stopped. "rounded": slices of 8 bits, whose products are batched GEMMs, one agent a panel.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import header, table, take_turns, write_report

from dist_hdnn import HDNN, grid
from dist_hdnn.links.model import Links
from dist_hdnn.links.table import LinkTable

CASES: dict[str, dict[str, Any] | None] = {
    "no links": None,
    "perfect": {},
    "lost": {"loss": 0.3},
    "lost, down": {"loss": 0.3, "outage": 0.05, "agent_outage": 0.02, "failout": 0.3},
    "rounded": {"bits": 8},
}


class Step:
    """A training step of a network over links of these properties. side: agents of a side of the grid."""

    def __init__(self, side: int, width: int, layers: int, batch: int, impaired: dict[str, Any] | None) -> None:
        graph = grid(side, side)
        links = None
        if impaired is not None:
            links_table, options = LinkTable.perfect(graph), dict(impaired)
            for name in ("loss", "outage", "bits"):
                getattr(links_table, name)[:] = options.pop(name, 0)
            down = options.pop("agent_outage", None)
            links = Links(
                links_table, graph.agents, agent_outage=None if down is None else np.full(graph.agents, down), **options
            )
        self.network = HDNN(graph, width=width, layers=layers, step=0.1, links=links)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4, fused=True)
        self.state = torch.randn(batch, self.network.neurons, generator=torch.Generator().manual_seed(0))

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.network(self.state).square().mean().backward()
        self.optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--side", type=int, default=100, help="agents of a side of the grid")
    add("--widths", type=int, nargs="+", default=[4, 8, 16], help="neurons of an agent")
    add("--batches", type=int, nargs="+", default=[32], help="samples of a step")
    add("--layers", type=int, default=16, help="layers")
    add("--repeats", type=int, default=9, help="steps of each case")
    add("--json", type=Path, help="also write the report here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*information travels at most")
    first, rows, results = header(), [], []
    for width in args.widths:
        for batch in args.batches:
            sizes = args.side, width, args.layers, batch
            steps = {name: Step(*sizes, impaired) for name, impaired in CASES.items()}
            times = take_turns(steps, args.repeats)
            median = {name: statistics.median(values) for name, values in times.items()}
            ratios = {name: value / median["no links"] for name, value in median.items()}
            results.append({"width": width, "batch": batch, "seconds": median, "ratios": ratios})
            cells = [f"{ratios[name]:.3f}" for name in list(CASES)[1:]]
            rows.append((width, batch, f"{median['no links']:.3f}", *cells))
    lines = [first, "", *table(("neurons", "batch", "s without links", *list(CASES)[1:]), rows)]
    print("\n".join(lines))
    if args.json:
        write_report(args.json, lines, results)


if __name__ == "__main__":
    main()
