"""The size of a run: trained numbers of the network and its ends, and the memory that they take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.build import assembly
from dist_hdnn.config import Config, LiftConfig, execution_of
from dist_hdnn.data import Dataset, Views
from dist_hdnn.dynamics.architectures import architecture
from dist_hdnn.network.layout import Layout
from dist_hdnn.sweep.execution import Kept
from dist_hdnn.topology import CommunicationGraph

ITEM_BYTES = {"bfloat16": 2, "float32": 4, "float64": 8}


class Ends(NamedTuple):
    """What is before and after the network.

    observers: the agents that see something, with sensors one entry per sensor. lift: its trained numbers. pixels:
    samples of the network that one image makes.
    """

    observers: list[int]
    lift: int
    pixels: int = 1


def ends_of(config: Config, graph: CommunicationGraph, widths: NDArray[np.int64], data: Dataset) -> Ends:
    """Return the ends of the network of a config. widths: neurons of every agent, (agents,)."""
    if config.lift.kind == "sensors":
        sensors = assembly.build_sensors(config, graph, widths, data).sensors
        return Ends([sensor.agent for sensor in sensors], 0)
    if config.lift.kind == "channels":
        height, width, depth = assembly.image_of(config, data)
        numbers = int(widths.sum()) * (depth * config.lift.kernel**2 + 1)
        return Ends(list(range(graph.agents)), numbers, height * width)
    views = assembly.build_views(config, graph, data)
    return Ends(np.flatnonzero(views.sizes).tolist(), lift_parameters(config.lift, views, widths))


def parameters(config: Config, layout: Layout, ends: Ends, outputs: int) -> dict[str, int]:
    """Count the trained numbers of each part of the network and its readout. outputs: scores of a sample."""
    chosen, network, widths = layout.architecture, config.network, layout.ownership.all_widths
    stages = range(len(layout.graphs))
    sets = {"free": network.layers, "shared": 1}.get(str(network.time)) or int(network.time)
    count = {"K": 0, "b": sets * len(chosen.biases) * int(layout.sizes.sum()), "X": 0, "readout": 0, "initial_state": 0}
    count["lift"] = ends.lift
    trained = [chosen.interconnection] if trains_interconnection(config, layout) else []
    shards = layout.shards([f"{matrix}.{stage}" for matrix in ("K", *trained) for stage in stages])
    for stage in stages:
        uses = len(range(stage, network.layers, len(stages)))
        count["K"] += len(chosen.matrices) * (uses if network.time == "free" else sets) * shards[f"K.{stage}"].length
        for matrix in trained:
            count["X"] += (stage == 0 if network.shared_x else uses) * shards[f"{matrix}.{stage}"].length
    read = widths
    if config.readout.kind == "agents":
        read = widths[np.unique([layout.graphs[0].index_of(agent) for agent in config.readout.agents])]
    biases = 1 if config.readout.kind == "sum" else len(read)
    count["readout"] = outputs * (ends.pixels * int(read.sum()) + biases)
    if config.initial_state == "learned":
        count["initial_state"] = int(widths.sum()) - len(ends.observers)  # neurons without a sensor
    return {**count, "total": sum(count.values())}


def lift_parameters(options: LiftConfig, views: Views, widths: NDArray[np.int64]) -> int:
    """Count the trained numbers of a learned lift."""
    if options.kind == "linear":
        return int(widths @ (views.sizes + 1))
    assert views.patch is not None, "assembly asks for images"
    high, wide, depth = views.patch
    filters = len(widths) * options.channels * (depth * options.kernel**2 + 1)
    pooled = -(-high // options.pool) * -(-wide // options.pool) * options.channels
    return filters + int(widths.sum()) * (pooled + 1)


def trains_interconnection(config: Config, layout: Layout) -> bool:
    """Whether X or J has trained numbers."""
    name = layout.architecture.interconnection
    return bool(name) and name not in layout.fixed(config.network.J == "trained")


def memory(config: Config, layout: Layout, parameters: int) -> dict[str, int]:
    """Estimate bytes in one process: weights with gradient and two optimizer moments, and the states of a sweep."""
    item = ITEM_BYTES[config.dtype]
    chosen = layout.architecture
    per_step = 2 + (config.network.activation != "tanh") + bool(chosen.interconnection)  # state, z, u, force
    per_layer = per_step * len(chosen.integrator.steps) // len(chosen.parts)
    numbers = int(layout.ownership.all_widths.sum()) * config.train.batch_size
    (mode, every, dtype), layers = kept(config, len(layout.graphs)), config.network.layers
    kept_item = ITEM_BYTES[dtype or config.dtype]
    working, states = {
        "store": (0, layers * per_layer),
        "recompute": (min(every, layers) * per_layer, -(-layers // max(every, 1))),
        "reversible": (1, (layers - 1) // every if every else 0),
    }[mode]
    sweep = numbers * (working * item + states * kept_item)
    patterns = [*layout.K_patterns, *(layout.X_patterns or [])]
    index = sum(16 * pattern.entries for pattern in patterns)
    index += 16 * layout.graphs[0].agents * len(layout.graphs) * (layout.X_patterns is None)  # the blocks of X = 1
    weights = 4 * parameters * item
    return {
        "weights_bytes": weights,
        "sweep_bytes": sweep,
        "index_bytes": index,
        "total_bytes": weights + sweep + index,
    }


def kept(config: Config, graphs: int) -> Kept:
    """Return the states that a training sweep of a config keeps."""
    network = config.network
    chosen = architecture(network.architecture, network.integrator)
    return execution_of(config).kept(chosen, network.layers, graphs, config.dtype)
