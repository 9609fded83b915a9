"""Build what options describe: graphs, block patterns, layouts and the whole model.

Every function raises ValueError, one line that names the option, when the parts do not fit together.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch

from dist_hdnn.build.inputs import (
    agent_number,
    answering_numbers,
    build_augmentation,
    build_dataset,
    build_lift,
    build_sensors,
    build_views,
    image_of,
)
from dist_hdnn.build.links import build_links
from dist_hdnn.config import FAMILY_OPTIONS, Config, GraphConfig, PatternConfig, execution_of, seed_of
from dist_hdnn.config.paths import user_path
from dist_hdnn.data import Dataset
from dist_hdnn.dynamics.architectures import architecture
from dist_hdnn.ends.image_lift import ChannelLift, of_pixels
from dist_hdnn.ends.initial_state import InitialState
from dist_hdnn.ends.readout import Readout, make_readout
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.network.layout import Layout
from dist_hdnn.network.ownership import Ownership
from dist_hdnn.sweep.execution import Execution
from dist_hdnn.topology import FAMILIES, CommunicationGraph, read_graph
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.transport import Transport

__all__ = [
    "answering_numbers",
    "build_augmentation",
    "build_classifier",
    "build_dataset",
    "build_device",
    "build_graph",
    "build_graphs",
    "build_layout",
    "build_network",
    "build_readout",
    "build_sensors",
    "build_views",
    "image_of",
    "pattern_spec",
]


def build_graphs(config: Config) -> list[CommunicationGraph]:
    """Build the communication graphs that the layers cycle through, all on the same agents."""
    graphs = [build_graph(config.graph, seed_of(config.graph, config))]
    for i, options in enumerate(config.more_graphs):
        graph = build_graph(options, seed_of(options, config), f"more_graphs[{i}]")
        if graph.agents != graphs[0].agents:
            raise ValueError(
                f"more_graphs[{i}]: expected {graphs[0].agents} agents as in graph, got {graph.agents}; "
                "all layers live on the same agents"
            )
        if options.file is not None and config.graph.file is not None and graph.names != graphs[0].names:
            here = next(name for name, other in zip(graph.names, graphs[0].names, strict=True) if name != other)
            raise ValueError(
                f"more_graphs[{i}]: expected the agents of graph, which have the same names in every file, got "
                f"{here!r}; rename the agents of one of the files"
            )
        graphs.append(graph)
    return graphs


def build_graph(options: GraphConfig, seed: int, key: str = "graph") -> CommunicationGraph:
    """Build one communication graph. seed: of a random family; key: of its options, for messages."""
    if options.file is not None:
        try:
            return read_graph(user_path(options.file, f"{key}.file"), options.format)
        except OSError as error:
            raise ValueError(
                f"{key}.file: expected a readable graph file, got {options.file!r}: {error.strerror}; correct the path"
            ) from error
    _warn_unused(options, key)
    return FAMILIES[options.family](*_family_arguments(options, seed, key))


def _warn_unused(options: GraphConfig, key: str) -> None:
    for name in ("rows", "columns", "height", "dimension"):
        if getattr(options, name) is not None and name not in FAMILY_OPTIONS.get(options.family, ()):
            warnings.warn(f"{key}.{name} is not used by the family {options.family}", UserWarning, stacklevel=3)


def _family_arguments(options: GraphConfig, seed: int, key: str) -> tuple[int | float, ...]:
    if options.family in ("grid", "torus"):
        return _rectangle(options, key)
    if options.family == "balanced_tree":
        return _tree(options, key)
    if options.family == "hypercube":
        return (_dimension(options, key),)
    names = FAMILY_OPTIONS.get(options.family, ())
    return (options.agents, *(seed if name == "seed" else getattr(options, name) for name in names))


def _rectangle(options: GraphConfig, key: str) -> tuple[int, int]:
    """Return rows and columns, by default as square as the number of agents allows."""
    rows, columns, agents = options.rows, options.columns, options.agents
    if rows is None and columns is None:
        rows = max(n for n in range(1, math.isqrt(agents) + 1) if agents % n == 0)
        if rows == 1 and agents > 3:
            raise ValueError(
                f"{key}.agents: expected a number that makes a {options.family} of several rows, got the prime "
                f"{agents}; choose another number, or give {key}.rows and {key}.columns"
            )
        return rows, agents // rows
    if rows is not None and columns is not None:
        if agents not in (GraphConfig.agents, rows * columns):
            raise ValueError(
                f"{key}.agents: expected {rows} rows x {columns} columns = {rows * columns}, got {agents}; "
                "leave agents out, or correct one of the three"
            )
        return rows, columns
    known = rows if rows is not None else columns
    assert known is not None
    if agents % known:
        one, missing = ("rows", "columns") if rows is not None else ("columns", "rows")
        raise ValueError(
            f"{key}.{one}: expected a divisor of the {agents} agents, got {known}; give {key}.{missing} too"
        )
    return (known, agents // known) if rows is not None else (agents // known, known)


def _tree(options: GraphConfig, key: str) -> tuple[int, int]:
    """Return branching and height, by default the height that gives the number of agents."""
    if options.height is not None:
        return options.branching, options.height
    height, size, smaller = 0, 1, 1
    while size < options.agents:
        height, smaller, size = height + 1, size, size + options.branching ** (height + 1)
    if size != options.agents:
        raise ValueError(
            f"{key}.agents: expected the size of a balanced tree with branching {options.branching}, such as {smaller} "
            f"or {size}, got {options.agents}; choose one of these, or give {key}.height"
        )
    return options.branching, height


def _dimension(options: GraphConfig, key: str) -> int:
    dimension = options.agents.bit_length() - 1
    if options.dimension is not None:
        return options.dimension
    if 2**dimension != options.agents:
        raise ValueError(
            f"{key}.agents: expected a power of two for the family hypercube, got {options.agents}; choose "
            f"{2**dimension} or {2 ** (dimension + 1)}, or give {key}.dimension"
        )
    return dimension


def pattern_spec(options: PatternConfig) -> str | dict[str, object]:
    """Return the options of a pattern as `HDNN` takes them for K and X, and, except identity, `build_pattern`."""
    extras: dict[str, dict[str, object]] = {
        "hops": {"hops": options.hops},
        "thinned": {"keep": options.keep, "seed": options.seed, "spanning_forest": options.spanning_forest},
        "matrix": {"file": options.file and str(user_path(options.file, "network: file of a pattern"))},
    }
    return {"kind": options.kind, **extras[options.kind]} if options.kind in extras else options.kind


def build_layout(config: Config) -> Layout:
    """Build the layout of a config in one process, without a weight."""
    options, graphs = config.network, build_graphs(config)
    return Layout(
        architecture(options.architecture, options.integrator),
        graphs,
        options.width,
        pattern_spec(options.K),
        pattern_spec(options.X),
        workers=None,
        partition="contiguous",
        execution=Execution(memory=options.memory),
        seed=config.seed,
        links=build_links(config, graphs[0]),
    )


def build_network(config: Config, transport: Transport | None = None) -> HDNN:
    """Build this worker's part of the network of a config, with its initial weights, not yet on its device."""
    options = config.network
    if config.overlap:
        warnings.warn("overlap has no effect any more: tiles always compute while slices travel", stacklevel=2)
    graphs = build_graphs(config)
    return HDNN(
        graphs,
        width=options.width,
        layers=options.layers,
        step=options.step,
        activation=options.activation,
        K=pattern_spec(options.K),
        X=pattern_spec(options.X),
        shared_x=options.shared_x,
        architecture=options.architecture,
        integrator=options.integrator,
        gamma=options.gamma,
        J=options.J,
        time=options.time,
        seed=config.seed,
        initial=options.initial,
        initial_scale=options.initial_scale,
        dtype=getattr(torch, config.dtype),
        workers=transport,
        partition=config.partition.owners or config.partition.method,
        execution=execution_of(config),
        links=build_links(config, graphs[0]),
    )


def build_readout(
    config: Config, ownership: Ownership, outputs: int, regression: bool, answering: Sequence[int] = ()
) -> Readout:
    """Build the readout of a config. outputs: scores of a sample. answering: agents with targets of their own."""
    options, own, graph = config.readout, bool(answering), ownership.graph
    agents = list(answering) or [agent_number(graph, agent, "readout.agents") for agent in options.agents]
    twice = [agent for agent in agents if agents.count(agent) > 1]
    if twice:
        said = [repr(agent) for agent in options.agents if graph.index_of(agent) == twice[0]]
        raise ValueError(
            f"readout.agents: expected every agent once, got {' and '.join(said)}, which are agent "
            f"{graph.names[twice[0]]!r} of the graph; keep one of them"
        )
    return make_readout(options.kind, ownership, outputs, config.seed, options.rounds, agents, regression, own)


def build_classifier(config: Config, data: Dataset, transport: Transport | None = None) -> AgentClassifier:
    """Build this worker's part of lift, network and readout of a config, on its device, with initial values."""
    dtype, device = getattr(torch, config.dtype), build_device(config)
    network = build_network(config, transport)
    ownership = network.ownership
    lift = build_lift(config, ownership, data).to(dtype) if config.lift.kind != "sensors" else None
    scored = of_pixels(ownership, lift.pixels) if isinstance(lift, ChannelLift) else ownership
    agents, everyone = data.preparation.agents, network.graph.agents
    if agents not in (0, everyone):
        raise ValueError(
            f"readout.targets: expected y of (samples, {everyone}), a column for every agent of the graph, got "
            f"{agents}; give gaps for agents that do not answer"
        )
    answering = answering_numbers(network.graph, data.preparation)
    readout = build_readout(config, scored, data.outputs, data.regression, answering).to(dtype)
    if lift is not None:
        return AgentClassifier(None, network, readout, learned_lift=lift).to(device)
    sensors = build_sensors(config, network.graph, ownership.all_widths, data)
    start = InitialState(sensors, ownership, dtype) if config.initial_state == "learned" else None
    return AgentClassifier(sensors.restricted(network.owned), network, readout, start).to(device)


def build_device(config: Config) -> torch.device:
    """Return the device of state and weights. Raises ValueError if this machine does not have it."""
    device = torch.device(config.device)
    if device.type == "cuda" and (device.index or 0) >= (gpus := torch.cuda.device_count()):
        remedy = "use device=cpu" if gpus == 0 else f"use cuda:0 .. cuda:{gpus - 1}"
        raise ValueError(f"device: expected one that PyTorch sees, got {config.device} with {gpus} GPUs; {remedy}")
    return device
