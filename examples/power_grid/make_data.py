"""Write the data of the power grid: IEEE 118 under varying load, one line open or none, by AC power flow.

    python examples/power_grid/make_data.py

Needs pypower (`pip install -e ".[grid]"`). Writes into data/power_grid:

    grid.graphml   118 buses, 179 links; parallel lines are one link
    full.npz       every bus measures, exactly
    noisy.npz      every bus measures, with normal errors of 0.001 p.u., 0.05 degrees, 0.01 p.u. of power
    sparse.npz     35 buses measure, exactly: every bus, or a neighbor of it, is among them; the others see zeros
    lines.npz      which link is open

Arrays of full, noisy and sparse, with train, validation or test for PART: PART_x (samples, 118, 4), the own changes of
a bus against the base case: voltage magnitude in p.u., angle in degrees, active and reactive injection in p.u.; PART_y
(samples, 118), 1 where a line of the bus is open, else 0. Arrays of lines: links (179, 2), the buses at both ends,
numbered from 0; train, validation, test (samples,), the row of the open link in links, -1 for none; measuring (35,),
the buses that measure in sparse.npz.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from pypower.api import case118, ext2int, fdpf, makeB, makeYbus, ppoption, runpf
from pypower.idx_brch import BR_STATUS, F_BUS, T_BUS
from pypower.idx_bus import BUS_TYPE, PD, QD
from pypower.idx_gen import GEN_BUS, PG

PARTS = {"train": 0.75, "validation": 0.125, "test": 0.125}
NOTHING_OUT = 0.1  # share of the samples without an open line
NOISE = 0.1  # standard deviation of each load's own factor
VALLEY = 0.3  # by how much the load of all buses falls from the peak of a day to its valley
MEASURING = 35  # buses of sparse.npz
ERRORS = (0.001, 0.05, 0.01, 0.01)  # standard deviations in noisy.npz: p.u., degrees, p.u., p.u.
OPTIONS = ppoption(VERBOSE=0, OUT_ALL=0)


class Grid:
    """IEEE 118 with its base case solved. branches: (186, 2) buses. graph: links between buses, in order."""

    def __init__(self) -> None:
        solved, converged = runpf(case118(), OPTIONS)
        assert converged
        self.case = ext2int(solved)
        bus, gen = self.case["bus"], self.case["gen"]
        self.base = solved["bus"][:, 7] * np.exp(1j * np.deg2rad(solved["bus"][:, 8]))  # (118,) voltages
        self.branches = self.case["branch"][:, [F_BUS, T_BUS]].astype(int)
        self.reference, self.regulated, self.free = (np.flatnonzero(bus[:, BUS_TYPE] == kind) for kind in (3, 2, 1))
        self.load = (bus[:, PD] + 1j * bus[:, QD]) / self.case["baseMVA"]
        self.power = np.zeros(len(bus))
        np.add.at(self.power, gen[:, GEN_BUS].astype(int), gen[:, PG] / self.case["baseMVA"])
        self.graph = nx.Graph()
        self.graph.add_nodes_from(range(len(bus)))
        self.graph.add_edges_from(self.branches.tolist())
        self.links = [tuple(sorted(link)) for link in self.graph.edges]
        number = {link: k for k, link in enumerate(self.links)}
        self.link_of_branch = np.array([number[tuple(sorted(ends))] for ends in self.branches.tolist()])
        bridges = {tuple(sorted(ends)) for ends in nx.bridges(nx.MultiGraph(self.branches.tolist()))}
        self.openable = [k for k, ends in enumerate(self.branches.tolist()) if tuple(sorted(ends)) not in bridges]
        self.matrices = {opened: self._matrices(opened) for opened in (-1, *self.openable)}
        self.before = self.readings(self.base, -1)

    def _matrices(self, opened: int) -> tuple[Any, ...]:
        """Return the admittances (118, 118) with a branch open, and the two matrices of the fast decoupled method."""
        branch = self.case["branch"].copy()
        if opened >= 0:
            branch[opened, BR_STATUS] = 0
        grid = self.case["baseMVA"], self.case["bus"], branch
        return makeYbus(*grid)[0], *makeB(*grid, alg=2)

    def readings(self, voltage: np.ndarray, opened: int) -> np.ndarray:
        """Return (118, 4): voltage magnitude, angle in degrees, active and reactive injection of every bus."""
        injected = voltage * np.conj(self.matrices[opened][0] @ voltage)
        return np.stack([np.abs(voltage), np.rad2deg(np.angle(voltage)), injected.real, injected.imag], axis=1)

    def sample(self, opened: int, random: np.random.Generator) -> np.ndarray | None:
        """Return the changes (118, 4) with one branch open, or None where the power flow does not converge."""
        hour = random.uniform(0, 24)
        common = 1 - VALLEY * (1 + np.cos(2 * np.pi * (hour - 4) / 24)) / 2  # valley at 4, peak at 16 o'clock
        load = self.load * common * (1 + NOISE * random.standard_normal(len(self.load)))
        power = self.power * load.real.sum() / self.load.real.sum()  # generators share the change of the load
        admittance, *decoupled = self.matrices[opened]
        buses = self.reference, self.regulated, self.free
        voltage, converged, _ = fdpf(admittance, power - load, self.base, *decoupled, *buses, OPTIONS)
        return self.readings(voltage, opened) - self.before if converged else None


def measuring_buses(graph: nx.Graph, count: int) -> np.ndarray:
    """Choose buses greedily, each the one that brings most buses in reach of a measurement (its own, or a neighbor's).

    Once all are in reach, those with most links follow.
    """
    chosen: list[int] = []
    reached: set[int] = set()
    while len(chosen) < count:
        left = [bus for bus in graph if bus not in chosen]
        best = max(left, key=lambda bus: (len({bus, *graph[bus]} - reached), graph.degree[bus], -bus))
        chosen.append(best)
        reached |= {best, *graph[best]}
    return np.array(sorted(chosen))


def draw(grid: Grid, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x (samples, 118, 4), y (samples, 118) and the open link of each sample."""
    random = np.random.default_rng(seed)
    x, line = [], []
    while len(x) < samples:
        opened = -1 if random.random() < NOTHING_OUT else int(random.choice(grid.openable))
        if (changes := grid.sample(opened, random)) is not None:
            x.append(changes)
            line.append(grid.link_of_branch[opened] if opened >= 0 else -1)
    y = np.zeros((samples, len(grid.load)), dtype=np.int64)
    for row, link in enumerate(line):
        if link >= 0:
            y[row, list(grid.links[link])] = 1
    return np.array(x, dtype=np.float32), y, np.array(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=16000, help="samples of all three parts together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("data/power_grid"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    grid = Grid()
    names = nx.relabel_nodes(grid.graph, {bus: str(bus + 1) for bus in grid.graph})
    nx.write_graphml(names, options.output / "grid.graphml")
    x, y, line = draw(grid, options.samples, options.seed)
    measuring = measuring_buses(grid.graph, MEASURING)
    unseen = np.setdiff1d(np.arange(len(grid.load)), measuring)
    ends = np.cumsum([round(share * len(x)) for share in PARTS.values()])[:-1]
    rows = dict(zip(PARTS, np.split(np.arange(len(x)), ends), strict=True))
    answers = {f"{part}_y": y[index] for part, index in rows.items()}
    np.savez_compressed(options.output / "full.npz", **answers, **{f"{part}_x": x[rows[part]] for part in PARTS})
    errors = np.random.default_rng(options.seed + 1).standard_normal(x.shape) * ERRORS
    noisy = (x + errors).astype(x.dtype)
    np.savez_compressed(options.output / "noisy.npz", **answers, **{f"{part}_x": noisy[rows[part]] for part in PARTS})
    x[:, unseen] = 0
    np.savez_compressed(options.output / "sparse.npz", **answers, **{f"{part}_x": x[rows[part]] for part in PARTS})
    open_links = {part: line[index] for part, index in rows.items()}
    np.savez_compressed(options.output / "lines.npz", links=grid.links, measuring=measuring, **open_links)
    print(f"{len(x)} samples, {(line < 0).sum()} without an open line, in {options.output}")


if __name__ == "__main__":
    main()
