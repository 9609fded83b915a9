"""How large a run would be: trained numbers of the network and its ends, and the memory that they take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.build import assembly
from dist_hdnn.config import Config, LiftConfig
from dist_hdnn.data import Dataset, Views
from dist_hdnn.dynamics.architectures import Architecture, architecture
from dist_hdnn.inspection.stages import Stage, layers_of_stages
from dist_hdnn.sweep.kept import layers_between
from dist_hdnn.topology import BlockPattern, CommunicationGraph

ITEM_BYTES = {"bfloat16": 2, "float32": 4, "float64": 8}


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


def ends_of(config: Config, graph: CommunicationGraph, widths: NDArray[np.int64], data: Dataset) -> Ends:
    """The ends of the network of a config. widths: neurons of every agent, (agents,)."""
    if config.lift.kind == "sensors":
        sensors = assembly.build_sensors(config, graph, widths, data).sensors
        return Ends([sensor.agent for sensor in sensors], 0, data.outputs)
    if config.lift.kind == "channels":
        height, width, depth = assembly.image_of(config, data)
        numbers = int(widths.sum()) * (depth * config.lift.kernel**2 + 1)
        return Ends(list(range(graph.agents)), numbers, data.outputs, height * width)
    views = assembly.build_views(config, graph, data)
    return Ends(np.flatnonzero(views.sizes).tolist(), lift_parameters(config.lift, views, widths), data.outputs)


def parameters(config: Config, stages: list[Stage], widths: NDArray[np.int64], ends: Ends) -> dict[str, int]:
    """Trained numbers of each part of the network and its readout."""
    found, network = stages[0].architecture, config.network
    sizes = widths // len(found.parts)
    sets = {"free": network.layers, "shared": 1}.get(str(network.time)) or int(network.time)
    count = {"K": 0, "b": sets * len(found.biases) * int(sizes.sum()), "X": 0, "readout": 0, "initial_state": 0}
    count["lift"] = ends.lift
    for stage, uses in zip(stages, layers_of_stages(network.layers, len(stages)), strict=True):
        own = uses if network.time == "free" else sets
        count["K"] += len(found.matrices) * own * _block_numbers(stage.stored_K, sizes, found.skew)
        if trained(config, found) and not network.shared_x:
            count["X"] += uses * _block_numbers(stage.X, sizes)
    if trained(config, found) and network.shared_x:
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


def trained(config: Config, found: Architecture) -> bool:
    """Whether X or J has trained numbers."""
    return found.interconnection == "X" or (found.interconnection == "J" and config.network.J == "trained")


def _block_numbers(pattern: BlockPattern, sizes: NDArray[np.int64], skew: bool = False) -> int:
    """Scalar entries; of a skew matrix's diagonal blocks those above the diagonal."""
    rows = pattern.rows()
    below = sizes[rows[rows == pattern.columns]] if skew else np.zeros(0, dtype=np.int64)
    return int(sizes[rows] @ sizes[pattern.columns] - (below * (below + 1) // 2).sum())


def memory(config: Config, stages: list[Stage], widths: NDArray[np.int64], parameters: int) -> dict[str, int]:
    """Estimate in bytes, one process: weights with gradient and two optimizer moments, and what a sweep stores."""
    item = ITEM_BYTES[config.dtype]
    found = stages[0].architecture
    kept = 2 + (config.network.activation != "tanh") + bool(found.interconnection)  # state, z, u, force
    per_layer = kept * len(found.integrator.steps) // len(found.parts)
    numbers = int(widths.sum()) * config.train.batch_size
    every, layers = kept_every(config, len(stages)), config.network.layers
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


def kept_every(config: Config, stages: int) -> int:
    """Layers from one kept state to the next; 0 for none between the ends."""
    network = config.network
    found = architecture(network.architecture, network.integrator)
    return layers_between(network.memory, network.keep_every, found, network.layers, stages)
