"""Rounds of a network in order, for the time of an answer and of a training step on its agents.

A layer's rounds follow from its terms: `gather` before a product K v, `scatter_add` after a product Kᵀ z. The backward
sweep has the transposed rounds in reverse order, with two products each: for the cotangent, and for the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dist_hdnn.config import Config
from dist_hdnn.dynamics.interconnection import interconnection_exchanges
from dist_hdnn.dynamics.terms import TERMS, Gradient
from dist_hdnn.inspection.sizes import ITEM_BYTES, kept
from dist_hdnn.links.cost import Agents, Coupling, Round, Timeline, Work, timeline
from dist_hdnn.network.layout import Layout
from dist_hdnn.sweep.execution import Kept
from dist_hdnn.topology import neighbours

TRANSPOSED = {"gather": "scatter_add", "scatter_add": "gather"}


class Step(NamedTuple):
    """A round of a layer by its coupling and kind. products: of its block rows. slices: in one message."""

    coupling: int
    kind: str
    products: int = 1
    slices: int = 1
    backward: bool = False


def couplings_of(layout: Layout) -> list[Coupling]:
    """Return the couplings of a layout: for each graph that of K and, where there is one, of X."""
    return [
        Coupling(layout.stored[which][s], layout.sizes)
        for s in range(len(layout.graphs))
        for which in "KX"
        if layout.stored[which]
    ]


def answer(layout: Layout, layers: int, gossip: tuple[int, int] = (0, 0)) -> Work:
    """Return the rounds of a forward sweep. gossip: rounds and numbers of the readout."""
    couplings, steps = couplings_of(layout), list[Step]()
    for layer in range(layers):
        steps += _forward(layout, layer)
    rounds, outputs = gossip
    if rounds:
        graph = layout.graphs[0]
        couplings.append(Coupling(neighbours(graph), np.full(graph.agents, outputs)))
        steps += [Step(len(couplings) - 1, "gather", 0)] * rounds
    return _work(couplings, steps)


def training_step(layout: Layout, layers: int, states: Kept) -> Work:
    """Return the rounds of a forward and a backward sweep, without the readout's. states: that it keeps."""
    again, steps = set(states.again(layers)), list[Step]()
    for layer in range(layers):
        steps += _forward(layout, layer)
    for layer in reversed(range(layers)):
        joint = states.memory == "reversible"
        if layer in again and not joint:
            steps += _forward(layout, layer)
        steps += _backward(layout, layer, joint)
    return _work(couplings_of(layout), steps)


def timelines(
    config: Config, layout: Layout, outputs: int, pixels: int = 1, agents: Agents | None = None
) -> tuple[Timeline, Timeline] | None:
    """Return the timelines of an answer and of a training step; None where the links state no time.

    config: with the batch that the network sees. outputs: scores of a sample. pixels: samples of the network per
    sample. Raises ValueError where slices travel between agents without a link.
    """
    links = layout.stated_links
    if links is None or not (links.table.latency.any() or np.isfinite(links.table.bandwidth).any()):
        return None
    gossip = (config.readout.rounds, outputs) if config.readout.kind == "gossip" else (0, 0)
    layers, item = config.network.layers, ITEM_BYTES[config.dtype]
    states = kept(config, len(layout.graphs))
    one = timeline(answer(layout, layers, gossip), links.table, agents, pixels, item)
    return one, timeline(training_step(layout, layers, states), links.table, agents, config.train.batch_size, item)


def times_on_links(
    config: Config, layout: Layout, outputs: int, pixels: int = 1, agents: Agents | None = None
) -> dict[str, Any]:
    """Return what `timelines` says as figures, JSON-ready; empty where the links state no time."""
    agents = agents or Agents()
    try:
        lines = timelines(config, layout, outputs, pixels, agents)
    except ValueError as error:
        return {"unknown": str(error)}
    if lines is None:
        return {}
    names, ports = layout.graphs[0].names, "one sending port" if agents.serial else "a port per link"
    one, step = (_in_figures(line, names, agents) for line in lines)
    assumed = f"{np.mean(agents.rate) / 1e9:g} GFLOP/s per agent, {ports}"
    return {"assumed": assumed, "answer": one, "training_step": step}


def _in_figures(line: Timeline, names: Sequence[str], agents: Agents) -> dict[str, Any]:
    """Return a timeline as figures, JSON-ready. names: of the agents."""
    critical = line.critical_link()
    figures: dict[str, Any] = {"milliseconds": 1e3 * line.seconds, "share_of_waiting": line.waiting}
    if critical is not None:
        sender, receiver, share = critical
        figures["critical_link"] = f"{names[sender]} -> {names[receiver]} ({share:.0%} of the time)"
    figures |= {"messages": int(line.messages.sum()), "bytes": int(line.wire_bytes.sum())}
    powers = agents.joules_per_bit, agents.joules_per_message, agents.watts
    return figures | ({"joules": line.joules} if any(powers) else {})


def _forward(layout: Layout, layer: int) -> list[Step]:
    """Return the rounds of a layer forward."""
    return [each for update in _updates(layout, layer) for each in update]


def _backward(layout: Layout, layer: int, joint: bool) -> list[Step]:
    """Return the rounds of a layer backward. joint: the sweep rebuilds the state, in the same rounds where it can."""
    steps, forces = list[Step](), layout.architecture.forces
    silent = layout.links is None and not layout.ownership.deterministic  # else value and adjoint follow each other
    parts = [part for part, _ in layout.architecture.integrator.steps]
    for part, update in reversed(list(zip(parts, _updates(layout, layer), strict=True))):
        adjoint = [
            each._replace(kind=TRANSPOSED[each.kind], products=2 * each.products, backward=True)
            for each in reversed(update)
        ]
        if not joint:
            steps += adjoint
        elif silent and TERMS[forces[part].kind] is Gradient:
            own = len(Gradient.exchanges)
            steps += adjoint[:-own]
            steps += [each._replace(products=each.products + 1, slices=2) for each in adjoint[-own:]]
            steps += update[own:]
        else:
            steps += update + adjoint
    return steps


def _updates(layout: Layout, layer: int) -> Iterable[list[Step]]:
    """Return the rounds of every update of a layer, forward."""
    stage = layer % len(layout.graphs)
    per_graph = 1 + bool(layout.stored["X"])
    by_k, by_x = stage * per_graph, stage * per_graph + 1
    for part, _ in layout.architecture.integrator.steps:
        force = layout.architecture.forces[part]
        own = [Step(by_k, kind) for kind in TERMS[force.kind].exchanges]
        yield own + [Step(by_x, kind) for kind in interconnection_exchanges(force)]


def _work(couplings: list[Coupling], steps: list[Step]) -> Work:
    """Return rounds with what agents compute before each: products follow a gather and precede a scatter-add."""
    rounds, pending = list[Round](), [0] * len(couplings)
    for each in steps:
        reply = each.kind == "scatter_add"
        pending[each.coupling] += each.products * reply
        rounds.append(Round(each.coupling, reply, tuple(pending), each.slices, each.backward))
        pending = [0] * len(couplings)
        pending[each.coupling] += each.products * (not reply)
    return Work(couplings, rounds, tuple(pending))
