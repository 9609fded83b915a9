"""Simulate leaks in the water network Net3, and write what its pressure sensors and junctions shall train on.

    pip install -e ".[water]"
    python examples/water/generate.py                      # 7000 days into data/water, about a minute of one core

Net3 ships with EPANET and WNTR: 92 junctions, 3 tanks and 2 reservoirs are the agents; pipes and pumps are the links.
Every day one junction leaks from hour 0 on: an emitter of 30 to 60 gpm per square root of psi, 15 to 30 L/s at 60 psi,
2 to 4 % of the mean demand. Demands follow a season of one year; each junction's departs from it by a drift (5 %,
memory of 30 days) and by a deviation of the day (5 %). Sensors read every hour, with a standard error of 0.02 m.
A sensor's readings are residuals: the pressure minus that of a simulation of the same day with seasonal demands and
without leak. Ten junctions measure: a k-center of the graph, farthest first.

    graph.graphml   agents 0..96 with their EPANET names and places
    leaks.npz       train_, validation_ and test_x (days, agents, 7): at a sensor the mean residuals in m of hours 1-4,
                    5-8, ... 21-24, and a 1; elsewhere 0
                    train_, validation_ and test_y (days, agents): nearness exp(-hops to the leak / 2)

The first 64 % of the days train, the next 16 % validate and the last 20 % test.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import networkx as nx
import numpy as np
import wntr
from wntr.epanet.toolkit import ENepanet

SENSORS = 10
BLOCK = 4  # hours that a feature is the mean of
DAY = 24 * 3600
PARTS = ("train", "validation", "test")
METERS = 0.70307  # of water per psi
BASE_DEMAND, EMITTER, PRESSURE = 1, 3, 11  # properties of a node in EPANET's toolkit


class Net3:
    """The network in EPANET's toolkit, which simulates one day from the same initial tank levels in milliseconds."""

    def __init__(self, folder: str) -> None:
        model = wntr.network.WaterNetworkModel("Net3")
        wntr.network.io.write_inpfile(model, f"{folder}/net3.inp")
        self.junctions: list[str] = model.junction_name_list
        self.names = [*self.junctions, *model.tank_name_list, *model.reservoir_name_list]
        self.places = [model.get_node(name).coordinates for name in self.names]
        number = {name: i for i, name in enumerate(self.names)}
        self.links = [(number[link.start_node_name], number[link.end_node_name]) for _, link in model.links()]
        self.epanet = ENepanet()
        self.epanet.ENopen(f"{folder}/net3.inp", f"{folder}/net3.rpt", f"{folder}/net3.bin")
        self.epanet.ENopenH()
        self.nodes = [self.epanet.ENgetnodeindex(name) for name in self.junctions]
        self.demands = np.array([self.epanet.ENgetnodevalue(node, BASE_DEMAND) for node in self.nodes])

    def graph(self) -> nx.Graph:
        """Return the graph of all nodes, numbered as in `names`."""
        graph = nx.Graph(self.links)
        for i, (name, (x, y)) in enumerate(zip(self.names, self.places, strict=True)):
            graph.add_node(i, label=name, x=float(x), y=float(y))
        return graph

    def day(self, demands: np.ndarray, leak: int | None = None, coefficient: float = 0.0) -> np.ndarray:
        """Return the pressures of a day in m, (25 hours, junctions). leak: number of a junction."""
        for node, demand in zip(self.nodes, demands, strict=True):
            if demand:
                self.epanet.ENsetnodevalue(node, BASE_DEMAND, float(demand))
        if leak is not None:
            self.epanet.ENsetnodevalue(self.nodes[leak], EMITTER, coefficient)
        self.epanet.ENinitH(0)
        hours = []
        while True:
            now = self.epanet.ENrunH()
            if now % 3600 == 0:
                hours.append([self.epanet.ENgetnodevalue(node, PRESSURE) for node in self.nodes])
            if now >= DAY or self.epanet.ENnextH() <= 0:
                break
        if leak is not None:
            self.epanet.ENsetnodevalue(self.nodes[leak], EMITTER, 0.0)
        return METERS * np.array(hours)


def sensor_junctions(hops: np.ndarray, count: int) -> list[int]:
    """Return a k-center by hops: a center of the graph, then again and again the junction farthest from all chosen."""
    chosen = [int(hops.max(axis=1).argmin())]
    while len(chosen) < count:
        chosen.append(int(hops[:, chosen].min(axis=1).argmax()))
    return sorted(chosen)


def simulate(net: Net3, days: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the residuals (days, blocks of hours, junctions) in m and the leaking junctions (days,)."""
    rng = np.random.default_rng(seed)
    keep, junctions = np.exp(-1 / 30), len(net.junctions)
    drift = 0.05 * rng.standard_normal(junctions)
    leaks = rng.integers(0, junctions, days)
    residuals = np.zeros((days, 24 // BLOCK, junctions), np.float32)
    for day, leak in enumerate(leaks):
        season = 1 + 0.15 * np.sin(2 * np.pi * day / 365)
        drift = keep * drift + np.sqrt(1 - keep**2) * 0.05 * rng.standard_normal(junctions)
        expected = net.demands * season
        demands = expected * (1 + drift) * (1 + 0.05 * rng.standard_normal(junctions))
        difference = net.day(demands, leak, rng.uniform(30, 60)) - net.day(expected)
        difference += 0.02 * rng.standard_normal(difference.shape)
        residuals[day] = difference[1:].reshape(-1, BLOCK, junctions).mean(axis=1)
    return residuals, leaks


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate leaks in Net3; write graph.graphml and leaks.npz.")
    parser.add_argument("--output", type=Path, default=Path("data/water"), help="folder (default: data/water)")
    parser.add_argument("--days", type=int, default=7000, help="days, one leak each (default: 7000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        net = Net3(folder)
        graph, junctions = net.graph(), len(net.junctions)
        hops = np.array(nx.floyd_warshall_numpy(graph, nodelist=range(len(graph))))
        sensors = sensor_junctions(hops[:junctions, :junctions], SENSORS)
        residuals, leaks = simulate(net, options.days, options.seed)
    x = np.zeros((options.days, len(graph), 24 // BLOCK + 1), np.float32)
    x[:, sensors, :-1] = residuals[:, :, sensors].transpose(0, 2, 1)
    x[:, sensors, -1] = 1
    options.output.mkdir(parents=True, exist_ok=True)
    nx.write_graphml(graph, options.output / "graph.graphml")
    y = np.exp(-hops[leaks] / 2).astype(np.float32)
    cuts = [int(0.64 * options.days), int(0.8 * options.days)]
    arrays = {}
    for part, part_x, part_y in zip(PARTS, np.split(x, cuts), np.split(y, cuts), strict=True):
        arrays |= {f"{part}_x": part_x, f"{part}_y": part_y}
    np.savez_compressed(options.output / "leaks.npz", **arrays)
    print(f"{len(graph)} agents, {graph.number_of_edges()} links, diameter {nx.diameter(graph)}")
    print("sensors at junctions", *(net.junctions[i] for i in sensors))
    print(f"{options.days} days in {options.output}")


if __name__ == "__main__":
    main()
