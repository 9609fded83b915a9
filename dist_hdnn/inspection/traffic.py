"""What a run would send: rounds, messages and bytes of a layer and of a step, agent to agent or worker to worker.

Counts are for one agent per worker: the smallest messages and the most of them. A round (gather or scatter-add) sends
one slice, n_j x batch numbers (n_j of one part of the state), over every directed off-diagonal entry (i, j) of a
pattern.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.config import Config
from dist_hdnn.inspection.reach import off_diagonal
from dist_hdnn.inspection.sizes import ITEM_BYTES, kept_every
from dist_hdnn.inspection.stages import Stage, layers_of_stages
from dist_hdnn.sweep.kept import layers_again
from dist_hdnn.topology import describe_partition, from_mapping, make_partition


def communication(config: Config, stages: list[Stage], widths: NDArray[np.int64]) -> dict[str, Any]:
    """Rounds, messages and bytes of a layer (mean over the stages' layers) and of a training step, agent to agent.

    A layer's are those of its forward sweep; a step has both sweeps and what the memory mode computes once more.
    """
    layers = config.network.layers
    number_bytes = config.train.batch_size * ITEM_BYTES[config.dtype]
    messages, numbers = _forward(layers, stages, widths)
    step_rounds = step_messages = 0
    rounds, links, link_bytes, step_link_bytes = [], [], [], []
    again = _layers_again(config, len(stages))
    for stage, uses, more in zip(stages, layers_of_stages(layers, len(stages)), again, strict=True):
        rounds.append(sum(count for _, count in stage.rounds))
        for (pattern, count), reversed_count in zip(stage.rounds, stage.rounds_reversed, strict=True):
            pairs, slices = off_diagonal(pattern, widths // len(stage.architecture.parts))
            in_step = (2 * uses + more) * count
            link_bytes.append(uses * count * slices * number_bytes)
            step_link_bytes.append(in_step * slices * number_bytes)
            if config.network.memory == "reversible":
                in_step = uses * (count + reversed_count)
            step_rounds += in_step
            step_messages += in_step * len(pairs)
            links.append(pairs)
    per_link, per_link_and_step = _sum_by_link(links, link_bytes), _sum_by_link(links, step_link_bytes)
    return {
        "state_bytes": int(widths.sum()) * number_bytes,
        "rounds_per_layer": rounds[0] if len(set(rounds)) == 1 else rounds,
        "messages_per_layer": messages / layers,
        "bytes_per_layer": numbers * number_bytes / layers,
        "bytes_per_link_and_layer": {"mean": float(per_link.mean()) / layers, "max": float(per_link.max()) / layers},
        "rounds_per_step": step_rounds,
        "messages_per_step": step_messages,
        "bytes_per_step": sum(int(each.sum()) for each in step_link_bytes),
        "bytes_per_link_and_step": {"mean": float(per_link_and_step.mean()), "max": int(per_link_and_step.max())},
    }


def prediction(
    config: Config, stages: list[Stage], widths: NDArray[np.int64], outputs: int, pixels: int = 1
) -> dict[str, int]:
    """Messages and bytes of one prediction, agent to agent: the forward sweep of one sample, and gossip's rounds.

    outputs: scores of a sample. pixels: samples of the network that it makes. Equal on any number of workers. The sum
    of a `sum` readout is no message between neighbors and not counted.
    """
    messages, numbers = _forward(config.network.layers, stages, widths)
    numbers *= pixels
    if config.readout.kind == "gossip":
        sent = 2 * config.readout.rounds * len(stages[0].graph.links)
        messages, numbers = messages + sent, numbers + sent * outputs
    return {"messages_per_prediction": messages, "bytes_per_prediction": numbers * ITEM_BYTES[config.dtype]}


def _forward(layers: int, stages: list[Stage], widths: NDArray[np.int64]) -> tuple[int, int]:
    """Messages between agents of a forward sweep, and the numbers in them for one sample."""
    messages = numbers = 0
    for stage, uses in zip(stages, layers_of_stages(layers, len(stages)), strict=True):
        for pattern, count in stage.rounds:
            pairs, slices = off_diagonal(pattern, widths // len(stage.architecture.parts))
            messages += uses * count * len(pairs)
            numbers += uses * count * int(slices.sum())
    return messages, numbers


def _layers_again(config: Config, stages: int) -> list[int]:
    """Of every stage, the layers whose updates the backward sweep computes once more."""
    network = config.network
    again = layers_again(network.memory, kept_every(config, stages), network.layers)
    return [len(again[stage::stages]) for stage in range(stages)]


def _sum_by_link(links: list[NDArray[np.int64]], link_bytes: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Bytes of the forward sweep over every pair of agents that exchanges any; one zero when none does."""
    if not links:  # a pattern that couples agents has entries off the diagonal, so no list here is empty
        return np.zeros(1)
    _, which = np.unique(np.concatenate(links), return_inverse=True)
    return np.bincount(which, weights=np.concatenate(link_bytes)).astype(np.float64)


def partition(config: Config, stages: list[Stage], widths: NDArray[np.int64]) -> dict[str, Any]:
    """Who owns what with so many workers, and what they send in a round of each pattern that couples agents."""
    first = stages[0]
    patterns = [pattern for pattern, _ in first.rounds] or [first.stored_K]
    if config.partition.owners is not None:
        partition = from_mapping(first.graph, config.partition.owners, config.workers)
    else:
        method, coupling = config.partition.method, patterns[-1]
        partition = make_partition(first.graph, config.workers or 1, method, widths, coupling)
    batch, item = config.train.batch_size, ITEM_BYTES[config.dtype]
    parts = len(first.architecture.parts)
    return describe_partition(partition, first.graph, patterns, widths // parts, batch, item, parts)
