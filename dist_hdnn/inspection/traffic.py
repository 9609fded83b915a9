"""Traffic of a run: reach, rounds, messages and bytes of a layer and of a step, between agents or workers.

Counts are for one agent per worker: the smallest messages and the most of them. A round (gather or scatter-add) sends
one slice, n_j x batch numbers (n_j of one part of the state), over every directed off-diagonal entry (i, j) of a
pattern. Layer l uses graph l mod the number of graphs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.build import assembly
from dist_hdnn.config import Config
from dist_hdnn.data import Dataset
from dist_hdnn.dynamics.interconnection import rounds, rounds_reversed
from dist_hdnn.inspection.sizes import ITEM_BYTES, kept
from dist_hdnn.network.layout import Layout
from dist_hdnn.topology import (
    BlockPattern,
    describe_partition,
    exchange_graph,
    from_mapping,
    make_partition,
)

IntArray = NDArray[np.int64]


class Rounds(NamedTuple):
    """The rounds of a layer over one pattern that couples agents.

    forward: of the forward sweep, as many of the backward sweep; reversed: of a backward sweep that rebuilds the state.
    """

    pattern: BlockPattern
    forward: int
    reversed: int

    def sent(self, sizes: IntArray) -> tuple[IntArray, IntArray]:
        """Return, per off-diagonal entry (i, j), a number for the unordered pair and the n_j of the slice."""
        rows, columns = self.pattern.rows(), self.pattern.columns
        off = rows != columns
        i, j = rows[off], columns[off]
        return np.minimum(i, j) * self.pattern.agents + np.maximum(i, j), sizes[j]


def rounds_of(layout: Layout, stage: int) -> list[Rounds]:
    """Return the rounds of a layer on one of the graphs, by K and by X."""
    chosen, coupling = layout.architecture, list[Rounds]()
    for which, by in (("K", (True, False)), ("X", (False, True))):
        pattern = layout.stored[which][stage] if layout.stored[which] else None
        if pattern is not None and not pattern.is_block_diagonal:
            coupling.append(Rounds(pattern, rounds(chosen, *by), rounds_reversed(chosen, *by)))
    return coupling


def reach_of(config: Config, layout: Layout) -> dict[str, Any]:
    """Return the hops that information travels in all layers, beside diameter and components of the exchanging pairs.

    The diameter, of the largest component, is a lower bound unless diameter_exact.
    """
    stages = [rounds_of(layout, stage) for stage in range(len(layout.graphs))]
    exchange = exchange_graph(layout.graphs[0], [each.pattern for stage in stages for each in stage])
    per_layer = sum(each.forward for each in stages[0])  # a round is a hop
    diameter, exact = exchange.diameter()
    return {
        "hops": config.network.layers * per_layer,
        "hops_per_layer": per_layer,
        "diameter": diameter,
        "diameter_exact": exact,
        "components": len(exchange.component_sizes()),
        "links_used": len(exchange.links),
    }


def communication(config: Config, layout: Layout) -> dict[str, Any]:
    """Return rounds, messages and bytes of a layer (mean over all layers) and of a training step, agent to agent.

    A layer's are those of its forward sweep; a step has both sweeps and the layers that the memory mode computes again.
    """
    layers, number_bytes = config.network.layers, config.train.batch_size * ITEM_BYTES[config.dtype]
    stages = len(layout.graphs)
    again = kept(config, stages).again(layers)
    by_stage, messages, step_rounds, step_messages = [0] * stages, 0, 0, 0
    links, link_bytes, step_link_bytes = [], [], []
    for stage in range(stages):
        uses = _layers_of_stage(layers, layout, stage)
        for each in rounds_of(layout, stage):
            pairs, slices = each.sent(layout.sizes)  # (entries,) each
            in_step = (2 * uses + len(again[stage::stages])) * each.forward  # both sweeps, and layers computed again
            link_bytes.append(uses * each.forward * slices * number_bytes)
            step_link_bytes.append(in_step * slices * number_bytes)
            if config.network.memory == "reversible":  # the same slices in joint messages
                in_step = uses * (each.forward + each.reversed)
            by_stage[stage] += each.forward
            messages += uses * each.forward * len(pairs)
            step_rounds += in_step
            step_messages += in_step * len(pairs)
            links.append(pairs)
    per_link, per_link_and_step = _sum_by_link(links, link_bytes), _sum_by_link(links, step_link_bytes)
    return {
        "state_bytes": int(layout.ownership.all_widths.sum()) * number_bytes,
        "rounds_per_layer": by_stage[0] if len(set(by_stage)) == 1 else by_stage,
        "messages_per_layer": messages / layers,
        "bytes_per_layer": sum(int(each.sum()) for each in link_bytes) / layers,
        "bytes_per_link_and_layer": {"mean": float(per_link.mean()) / layers, "max": float(per_link.max()) / layers},
        "rounds_per_step": step_rounds,
        "messages_per_step": step_messages,
        "bytes_per_step": sum(int(each.sum()) for each in step_link_bytes),
        "bytes_per_link_and_step": {"mean": float(per_link_and_step.mean()), "max": int(per_link_and_step.max())},
    }


def per_prediction(config: Config, layout: Layout, data: Dataset) -> dict[str, int]:
    """Return messages and bytes of one prediction, agent to agent: a sample's forward sweep, and gossip's rounds.

    Equal on any number of workers. The sum of a `sum` readout is no message between neighbors and not counted.
    """
    messages = numbers = 0
    for stage in range(len(layout.graphs)):
        for each in rounds_of(layout, stage):
            pairs, slices = each.sent(layout.sizes)
            times = _layers_of_stage(config.network.layers, layout, stage) * each.forward
            messages, numbers = messages + times * len(pairs), numbers + times * int(slices.sum())
    if config.lift.kind == "channels":  # every pixel is a sample of the network
        height, width, _ = assembly.image_of(config, data)
        numbers *= height * width
    if config.readout.kind == "gossip":
        sent = 2 * config.readout.rounds * len(layout.graphs[0].links)  # both ways over each link
        messages, numbers = messages + sent, numbers + sent * data.outputs
    return {"messages_per_prediction": messages, "bytes_per_prediction": numbers * ITEM_BYTES[config.dtype]}


def _layers_of_stage(layers: int, layout: Layout, stage: int) -> int:
    """Count the layers that use one of the graphs."""
    return len(range(stage, layers, len(layout.graphs)))


def _sum_by_link(links: list[IntArray], link_bytes: list[IntArray]) -> NDArray[np.float64]:
    """Sum bytes over every pair of agents that exchanges any; one zero when none does."""
    if not links:
        return np.zeros(1)
    _, which = np.unique(np.concatenate(links), return_inverse=True)  # (entries,) number of the pair
    return np.bincount(which, weights=np.concatenate(link_bytes)).astype(np.float64)


def partition(config: Config, layout: Layout) -> dict[str, Any]:
    """Return the owners of the agents on the config's workers, and the traffic of a round of each pattern."""
    graph, widths = layout.graphs[0], layout.ownership.all_widths
    patterns = [each.pattern for each in rounds_of(layout, 0)] or [layout.stored["K"][0]]
    if config.partition.owners is not None:
        owners = from_mapping(graph, config.partition.owners, config.workers)
    else:
        owners = make_partition(graph, config.workers or 1, config.partition.method, widths, patterns[-1])
    batch, item, parts = config.train.batch_size, ITEM_BYTES[config.dtype], len(layout.architecture.parts)
    return describe_partition(owners, graph, patterns, layout.sizes, batch, item, parts)
