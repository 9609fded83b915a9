"""What a run would do, counted before anything is trained: graph, patterns, rounds, bytes per link, memory, warnings.

Counts are for one agent per worker: the smallest messages and the most of them. A round (gather or scatter-add) sends
one slice, n_j x batch numbers (n_j of one part of the state), over every directed off-diagonal entry (i, j) of a
pattern.
Everything is computed on whole arrays, because a graph may have 100 000 agents.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dist_hdnn import assembly
from dist_hdnn.config import Config, LiftConfig, PatternConfig
from dist_hdnn.data import Dataset, Views
from dist_hdnn.layers.activations import activation
from dist_hdnn.layers.architectures import Architecture, architecture
from dist_hdnn.layers.memory_plan import layers_again, layers_between
from dist_hdnn.layers.plans import chosen_plan
from dist_hdnn.stages import Stage, layers_of_stages, stages_of
from dist_hdnn.topology import (
    BlockPattern,
    CommunicationGraph,
    describe_partition,
    from_mapping,
    information_reach,
    is_locally_computable,
    make_partition,
    non_links,
    reach_in_layers,
)

ITEM_BYTES = {"bfloat16": 2, "float32": 4, "float64": 8}


def inspect(config: Config) -> dict[str, Any]:
    """Everything `dist-hdnn inspect` shows, JSON-ready; nothing is trained and no weight is made.

    config: validated. Raises ValueError as `assembly` does. Warnings go into the result, not to the terminal.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        activation(config.network.activation)
        assembly.build_device(config)
        stages = stages_of(config)
        graph = stages[0].graph
        widths = assembly.build_widths(config, graph)
        data = assembly.build_dataset(config.data)
        ends = _ends(config, graph, widths, data)
        if ends.pixels > 1:  # every pixel is a sample of the network
            config = replace(config, train=replace(config.train, batch_size=ends.pixels * config.train.batch_size))
        notes = [line for stage in stages for line in _stage_warnings(config, stage)]
        result: dict[str, Any] = {
            "name": config.name,
            **_stage_summary(stages[0]),
            "more_graphs": [_stage_summary(stage) for stage in stages[1:]],
            "network": _network(config, stages, widths, ends),
            "reach": _reach(config, stages[0]),
            "communication": _communication(config, stages, widths),
            "memory": {},
            "data": {
                "name": data.name,
                "train": len(data.train_x),
                "test": len(data.test_x),
                "features": data.features,
                "classes": data.classes,
                "sensor_agents": [graph.names[agent] for agent in ends.observers],
            },
        }
        if (config.workers or 1) > 1:
            result["partition"] = _partition(config, stages, widths)
        result["memory"] = _memory(config, stages, widths, result["network"]["parameters"]["total"])
    lines = [" ".join(str(warning.message).split()) for warning in caught]
    result["warnings"] = list(dict.fromkeys(lines + notes))
    return result


def coupling(config: Config) -> dict[str, Any]:
    """How far and how densely agents are coupled, by K or X of any layer.

    links_used: pairs of agents that exchange; density: their share of all pairs, 0 for block-diagonal, 1 for dense;
    reach: hops that information travels; diameter of the graph, a lower bound unless diameter_exact.
    """
    stages = stages_of(config)
    agents = stages[0].graph.agents
    pairs = [np.zeros(0, dtype=np.int64)]
    pairs += [
        _off_diagonal(pattern, np.zeros_like(stage.graph.degrees()))[0]
        for stage in stages
        for pattern, _ in stage.rounds
    ]
    used, possible = len(np.unique(np.concatenate(pairs))), agents * (agents - 1) // 2
    reach = _reach(config, stages[0])
    return {
        "links_used": used,
        "density": used / max(possible, 1),
        "reach": reach["hops"],
        "diameter": reach["diameter"],
        "diameter_exact": reach["diameter_exact"],
    }


def _stage_summary(stage: Stage) -> dict[str, Any]:
    graph, degrees, sizes = stage.graph, stage.graph.degrees(), stage.graph.component_sizes()
    diameter, exact = graph.diameter()
    return {
        "graph": {
            "name": graph.name,
            "agents": graph.agents,
            "links": len(graph.links),
            "components": len(sizes),
            "component_sizes": sizes[:10],
            "diameter": diameter,
            "diameter_exact": exact,
            "degree": {"min": int(degrees.min()), "mean": float(degrees.mean()), "max": int(degrees.max())},
        },
        "K": _pattern_summary(stage.K, graph),
        "X": _pattern_summary(stage.X, graph),
        "locally_computable": is_locally_computable(stage.X, stage.K, graph),
    }


def _pattern_summary(pattern: BlockPattern, graph: CommunicationGraph) -> dict[str, Any]:
    return {
        "kind": pattern.kind,
        "entries": pattern.entries,
        "density": pattern.density,
        "links_used": pattern.links_used,
        "links": len(graph.links),
        "entries_on_non_links": len(non_links(pattern, graph)),
    }


@dataclass(frozen=True)
class Ends:
    """What is before and after the network.

    observers: the agents that see something, with sensors one entry a sensor. lift: its trained numbers. outputs:
    scores of a sample. pixels: samples of the network that one image makes.
    """

    observers: list[int]
    lift: int
    outputs: int
    pixels: int = 1


def _ends(config: Config, graph: CommunicationGraph, widths: NDArray[np.int64], data: Dataset) -> Ends:
    if config.lift.kind == "sensors":
        sensors = assembly.build_sensors(config, graph, widths, data).sensors
        return Ends([sensor.agent for sensor in sensors], 0, data.outputs)
    if config.lift.kind == "channels":
        height, width, depth = assembly.image_of(config, data)
        numbers = int(widths.sum()) * (depth * config.lift.kernel**2 + 1)
        return Ends(list(range(graph.agents)), numbers, data.outputs, height * width)
    views = assembly.build_views(config, graph, data)
    return Ends(np.flatnonzero(views.sizes).tolist(), lift_parameters(config.lift, views, widths), data.outputs)


def _network(config: Config, stages: list[Stage], widths: NDArray[np.int64], ends: Ends) -> dict[str, Any]:
    network = config.network
    return {
        "architecture": network.architecture,
        "integrator": stages[0].architecture.integrator.name,
        "neurons": int(widths.sum()),
        "width": {"min": int(widths.min()), "mean": float(widths.mean()), "max": int(widths.max())},
        "layers": network.layers,
        "step": network.step,
        "activation": network.activation,
        "X_trained": _trained(config, stages[0].architecture),
        "placement": [stage.placement for stage in stages] if len(stages) > 1 else stages[0].placement,
        "plan": chosen_plan(
            config.plan, config.deterministic, getattr(torch, config.dtype), assembly.build_device(config)
        ),
        "parameters": _parameters(config, stages, widths, ends),
    }


def _parameters(config: Config, stages: list[Stage], widths: NDArray[np.int64], ends: Ends) -> dict[str, int]:
    """Trained numbers of each part of the network and its readout."""
    found, network = stages[0].architecture, config.network
    sizes = widths // len(found.parts)
    sets = {"free": network.layers, "shared": 1}.get(str(network.time)) or int(network.time)
    count = {"K": 0, "b": sets * len(found.biases) * int(sizes.sum()), "X": 0, "readout": 0, "initial_state": 0}
    count["lift"] = ends.lift
    for stage, uses in zip(stages, layers_of_stages(network.layers, len(stages)), strict=True):
        own = uses if network.time == "free" else sets
        count["K"] += len(found.matrices) * own * _block_numbers(stage.stored_K, sizes, found.skew)
        if _trained(config, found) and not network.shared_x:
            count["X"] += uses * _block_numbers(stage.X, sizes)
    if _trained(config, found) and network.shared_x:
        count["X"] = _block_numbers(stages[0].stored_X, sizes, found.interconnection == "J")
    neurons = int(widths.sum())
    outputs = widths
    if config.readout.kind == "agents":
        outputs = widths[np.unique([stages[0].graph.index_of(agent) for agent in config.readout.agents])]
    biases = 1 if config.readout.kind == "sum" else len(outputs)
    count["readout"] = ends.outputs * (ends.pixels * int(outputs.sum()) + biases)
    if config.initial_state == "learned":
        count["initial_state"] = neurons - len(ends.observers)
    return {**count, "total": sum(count.values())}


def lift_parameters(options: LiftConfig, views: Views, widths: NDArray[np.int64]) -> int:
    """Trained numbers of a learned lift."""
    if options.kind == "linear":
        return int(widths @ (views.sizes + 1))
    assert views.patch is not None, "assembly asks for images"
    high, wide, depth = views.patch
    filters = len(widths) * options.channels * (depth * options.kernel**2 + 1)
    pooled = -(-high // options.pool) * -(-wide // options.pool) * options.channels
    return filters + int(widths.sum()) * (pooled + 1)


def _trained(config: Config, found: Architecture) -> bool:
    """Whether X or J has trained numbers."""
    return found.interconnection == "X" or (found.interconnection == "J" and config.network.J == "trained")


def _block_numbers(pattern: BlockPattern, sizes: NDArray[np.int64], skew: bool = False) -> int:
    """Scalar entries; of a skew matrix's diagonal blocks those above the diagonal."""
    rows = pattern.rows()
    below = sizes[rows[rows == pattern.columns]] if skew else np.zeros(0, dtype=np.int64)
    return int(sizes[rows] @ sizes[pattern.columns] - (below * (below + 1) // 2).sum())


def _hops(options: PatternConfig) -> int:
    return max(options.hops, 1) if options.kind == "hops" else 1


def _hops_per_layer(config: Config, stage: Stage) -> int:
    network, rounds_of = config.network, stage.architecture.rounds
    patterns = ((stage.K, network.K, rounds_of(True, False)), (stage.X, network.X, rounds_of(False, True)))
    return sum(0 if pattern.is_block_diagonal else rounds * _hops(options) for pattern, options, rounds in patterns)


def _reach(config: Config, stage: Stage) -> dict[str, Any]:
    per_layer = _hops_per_layer(config, stage)
    hops, diameter, exact = reach_in_layers(stage.graph, config.network.layers, per_layer)
    return {"hops": hops, "hops_per_layer": per_layer, "diameter": diameter, "diameter_exact": exact}


def _stage_warnings(config: Config, stage: Stage) -> list[str]:
    lines = []
    if "dense" not in (config.network.K.kind, config.network.X.kind) and stage.graph.agents > 1:
        reach = information_reach(stage.graph, config.network.layers, _hops_per_layer(config, stage))
        lines += [reach] if reach else []
    for name, pattern in (("K", stage.K), ("X", stage.X)):
        beyond = len(non_links(pattern, stage.graph))
        if beyond:
            lines.append(
                f"network.{name}: {beyond} blocks of pattern {pattern.kind} join agents that are not linked in "
                f"{stage.graph.name}; their messages go past neighbours"
            )
    if config.network.X.kind != "identity" and not config.network.shared_x:
        lines.append("network.shared_x=false: each layer keeps the bound on gradients, the whole network does not")
    return lines


def _communication(config: Config, stages: list[Stage], widths: NDArray[np.int64]) -> dict[str, Any]:
    """Rounds, messages and bytes of a layer (mean over the stages' layers) and of a training step, agent to agent.

    A layer's are those of its forward sweep; a step has both sweeps and what the memory mode computes once more.
    """
    layers = config.network.layers
    number_bytes = config.train.batch_size * ITEM_BYTES[config.dtype]
    messages = total = step_rounds = step_messages = 0
    rounds, links, link_bytes, step_link_bytes = [], [], [], []
    again = _layers_again(config, len(stages))
    for stage, uses, more in zip(stages, layers_of_stages(layers, len(stages)), again, strict=True):
        rounds.append(sum(count for _, count in stage.rounds))
        for (pattern, count), reversed_count in zip(stage.rounds, stage.rounds_reversed, strict=True):
            pairs, slices = _off_diagonal(pattern, widths // len(stage.architecture.parts))
            messages += uses * count * len(pairs)
            total += uses * count * int(slices.sum()) * number_bytes
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
        "bytes_per_layer": total / layers,
        "bytes_per_link_and_layer": {"mean": float(per_link.mean()) / layers, "max": float(per_link.max()) / layers},
        "rounds_per_step": step_rounds,
        "messages_per_step": step_messages,
        "bytes_per_step": sum(int(each.sum()) for each in step_link_bytes),
        "bytes_per_link_and_step": {"mean": float(per_link_and_step.mean()), "max": int(per_link_and_step.max())},
    }


def _kept_every(config: Config, stages: int) -> int:
    """Layers from one kept state to the next; 0 for none between the ends."""
    network = config.network
    found = architecture(network.architecture, network.integrator)
    return layers_between(network.memory, network.keep_every, found, network.layers, stages)


def _layers_again(config: Config, stages: int) -> list[int]:
    """Of every stage, the layers whose updates the backward sweep computes once more."""
    network = config.network
    again = layers_again(network.memory, _kept_every(config, stages), network.layers)
    return [len(again[stage::stages]) for stage in range(stages)]


def _partition(config: Config, stages: list[Stage], widths: NDArray[np.int64]) -> dict[str, Any]:
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


def _off_diagonal(pattern: BlockPattern, half: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of every off-diagonal entry (i, j): a number for the unordered pair, and the n_j of the slice that travels."""
    rows, columns = pattern.rows(), pattern.columns
    off = rows != columns
    i, j = rows[off], columns[off]
    return np.minimum(i, j) * pattern.agents + np.maximum(i, j), half[j]


def _sum_by_link(links: list[NDArray[np.int64]], link_bytes: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Bytes of the forward sweep over every pair of agents that exchanges any; one zero when none does."""
    if not links:  # a pattern that couples agents has entries off the diagonal, so no list here is empty
        return np.zeros(1)
    _, which = np.unique(np.concatenate(links), return_inverse=True)
    return np.bincount(which, weights=np.concatenate(link_bytes)).astype(np.float64)


def _memory(config: Config, stages: list[Stage], widths: NDArray[np.int64], parameters: int) -> dict[str, int]:
    """Estimate in bytes, one process: weights with gradient and two optimizer moments, and what a sweep stores."""
    item = ITEM_BYTES[config.dtype]
    found = stages[0].architecture
    kept = 2 + (config.network.activation != "tanh") + bool(found.interconnection)  # state, z, u, force
    per_layer = kept * len(found.integrator.steps) // len(found.parts)
    numbers = int(widths.sum()) * config.train.batch_size
    every, layers = _kept_every(config, len(stages)), config.network.layers
    kept_item = ITEM_BYTES[config.network.keep_dtype or config.dtype]
    working, states = {
        "store": (0, layers * per_layer),
        "recompute": (min(every, layers) * per_layer, -(-layers // max(every, 1))),
        "reversible": (1, (layers - 1) // every if every else 0),
    }[config.network.memory]
    sweep = numbers * (working * item + states * kept_item)
    index = sum(16 * (stage.K.entries + stage.X.entries) for stage in stages)
    weights = 4 * parameters * item
    return {
        "weights_bytes": weights,
        "sweep_bytes": sweep,
        "index_bytes": index,
        "total_bytes": weights + sweep + index,
    }
