"""Check the options of a config against each other, and complain about the first that cannot work, in one line.

Imports neither torch nor numpy. What depends on the graph or the data is checked where these are read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from operator import attrgetter

from dist_hdnn.config import (
    AGENT_TASKS,
    PUBLISHED,
    TABLES,
    Config,
    DataConfig,
    GraphConfig,
    PatternConfig,
    SensorConfig,
    execution_of,
    interval,
)
from dist_hdnn.dynamics.architectures import architecture, check_options

LEAST = {
    0: (
        "seed network.initial_scale data.noise data.seed data.ahead readout.rounds restarts train.weight_decay "
        "train.smoothness data.augment.shift data.augment.rotate data.augment.scale"
    ),
    1: (
        "network.layers data.window workers checkpoint.keep train.epochs train.batch_size train.threads train.patience"
    ),
    2: "data.classes",
    4: "data.samples",
}
"""Least value -> the keys that it bounds."""
POSITIVE = ("network.step", "timeout", "train.learning_rate")
"""Keys of numbers above zero."""


def validate(config: Config) -> None:
    """Raise ValueError, one line, for the first option whose value cannot work whatever the graph and the data are."""
    for complaint in _complaints(config):
        raise ValueError(complaint)


def _complaints(config: Config) -> Iterator[str]:
    """One line for each unusable value: key, expected, got, what to do."""
    yield from _numbers(config)
    yield from _checkpoints(config)
    yield from _widths(config.network.width)
    yield from _architecture(config)
    yield from _graphs(config)
    yield from _words(config)
    for i, graph in enumerate([config.graph, *config.more_graphs]):
        yield from _graph("graph" if i == 0 else f"more_graphs[{i - 1}]", graph)
    for key, pattern in (("network.K", config.network.K), ("network.X", config.network.X)):
        yield from _pattern(key, pattern)
    yield from _sensors(config.sensors)
    yield from _lift(config)
    if config.deterministic and config.plan == "tiles":
        yield "plan: expected auto or torch with deterministic, whose sums keep their order, got tiles. Choose auto."


def _at_least(key: str, value: float | None, least: int) -> Iterator[str]:
    """Complain unless value is absent or a finite number >= least."""
    if value is not None and not (math.isfinite(value) and value >= least):
        yield f"{key}: expected a number >= {least}, got {value:g}; raise it"


def _positive(key: str, value: float) -> Iterator[str]:
    if not (math.isfinite(value) and value > 0):
        yield f"{key}: expected a number > 0, got {value:g}; make it positive"


def _numbers(config: Config) -> Iterator[str]:
    for least, keys in LEAST.items():
        for key in keys.split():
            yield from _at_least(key, attrgetter(key)(config), least)
    for key in POSITIVE:
        yield from _positive(key, attrgetter(key)(config))
    data = config.data
    if not 0 < data.test_fraction < 1:
        yield f"data.test_fraction: expected a number between 0 and 1, got {data.test_fraction:g}"
    if not 0 <= data.validation_fraction < 1:
        yield f"data.validation_fraction: expected a number of at least 0 and below 1, got {data.validation_fraction:g}"
    if data.augment.scale >= 1:
        yield f"data.augment.scale: expected a share below 1, got {data.augment.scale:g}; 0.1 zooms by up to 10 %"


def _checkpoints(config: Config) -> Iterator[str]:
    try:
        interval(config.checkpoint.every)
    except ValueError as error:
        yield str(error)
    if config.resume is not None and not config.resume.strip():
        yield "resume: expected auto or the path of a run or a checkpoint, got an empty text; leave it out"

    if config.warm_start is not None and not config.warm_start.strip():
        yield "warm_start: expected the path or the name of a run, got an empty text; leave it out"
    if config.warm_start is not None and config.train.levels:
        yield (
            f"train.levels: expected none with warm_start, whose weights are of the whole depth, got "
            f"{config.train.levels}; leave one of the two out"
        )


def _widths(width: int | dict[str, int]) -> Iterator[str]:
    named = {f"network.width.{agent}": n for agent, n in width.items()} if isinstance(width, dict) else {}
    if isinstance(width, dict) and not width:
        yield "network.width: expected an even number or a mapping agent -> even number, got an empty mapping"
    for key, n in named.items() if isinstance(width, dict) else [("network.width", width)]:
        if n < 2 or n % 2:
            remedy = f"use {max(2, n + 1)}" if n % 2 else "use 2 or more"
            yield f"{key}: expected an even number >= 2 (half of the neurons are p, half are q), got {n}; {remedy}"


def _architecture(config: Config) -> Iterator[str]:
    network = config.network
    time = network.time
    if not isinstance(time, str) and not 2 <= time <= network.layers:
        yield (
            f"network.time: expected free, shared, or a number of knots from 2 to the {network.layers} layers, got "
            f"{time}; choose one of these"
        )
    try:
        found = architecture(network.architecture, network.integrator)
        options = {"shared_x": network.shared_x, "gamma": network.gamma, "J": network.J}
        check_options(found, x=network.X.kind, **options)  # type: ignore[arg-type]
        execution_of(config).kept(found, network.layers, 1, config.dtype)
    except ValueError as error:
        yield str(error)


def _graphs(config: Config) -> Iterator[str]:
    graphs, layers = 1 + len(config.more_graphs), min([config.network.layers, *config.train.levels])
    if graphs > max(layers, 1):
        which = "the shallowest of train.levels" if config.train.levels else "network.layers"
        yield (
            f"more_graphs: expected at most {layers - 1} beside graph, one graph for each of the {layers} layers of "
            f"{which}, got {graphs - 1}; drop {graphs - layers}, or raise {which}"
        )


def _words(config: Config) -> Iterator[str]:
    if not config.name or config.name in (".", "..") or re.search(r"[/\\\0]", config.name):
        yield f"name: expected the name of a folder, got {config.name!r}; use --output for a path"
    if config.output is not None and not config.output.strip():
        yield "output: expected the path of a run directory, got an empty text; leave it out for runs/<name>/<time>"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", config.device):
        yield f"device: expected cpu, cuda or cuda:<number>, got {config.device!r}"
    if (config.readout.kind == "agents") != bool(config.readout.agents):
        got = f"kind={config.readout.kind}, agents {config.readout.agents}"
        yield f"readout: expected a list of agents with kind=agents and only there, got {got}; give both or neither"
    if (config.partition.method == "given") != (config.partition.owners is not None):
        got = f"method={config.partition.method}, owners {'given' if config.partition.owners else 'not given'}"
        yield f"partition: expected owners with method=given and only there, got {got}; give both or neither"
    if config.data.name == "file" and not config.data.file:
        yield "data.file: expected the path of a .csv or .npz file because data.name is file, got none; set data.file"
    wanted = "regression" if config.data.name in ("diabetes", *AGENT_TASKS) else "classification"
    if config.data.name != "file" and config.data.task != wanted:
        yield f"data.task: expected {wanted} with data.name={config.data.name}, got {config.data.task}; correct it"
    if (config.data.window > 1 or config.data.ahead) and config.data.name != "file":
        yield f"data.window: expected 1, and data.ahead 0, because data.name={config.data.name} is no time series"
    yield from _table(config.data)
    if config.data.images and config.data.name != "file":
        yield f"data.images: expected false, because data.name={config.data.name} reads no arrays; leave it out"
    if config.data.features is not None and config.data.sensors is not None:
        yield "data.sensors: expected none beside data.features, which means the same, got both; drop one of them"
    key = "data.sensors" if config.data.features is None else "data.features"
    if config.data.observers is not None and config.sensors:
        yield f"sensors: expected none beside {key}, which places every column, got both; drop one of them"
    if config.data.observers is not None and config.data.name not in (*TABLES, "file"):
        yield f"{key}: expected none, because data.name={config.data.name} has no named columns; leave it out"
    yield from _own_targets(config.data)
    if config.data.name == "idx" and not config.data.folder:
        yield "data.folder: expected the folder of four IDX files because data.name is idx, got none; set data.folder"
    if config.data.folder and config.data.name not in (*PUBLISHED, "idx"):
        yield f"data.folder: expected none, because data.name={config.data.name} reads no IDX files; set data.name=idx"
    if config.data.download and config.data.name not in PUBLISHED:
        yield f"data.download: expected false for data.name={config.data.name}; leave it out"
    if config.data.file and config.data.name != "file":
        yield f"data.name: expected file because data.file is given, got {config.data.name}; set data.name=file"


def _own_targets(data: DataConfig) -> Iterator[str]:
    """Complain about targets of each agent's own that are asked for twice, or of columns that are features."""
    if data.targets is not None and data.agent is not None:
        yield "data.targets: expected none beside data.agent, whose rows name their agents, got both; drop one of them"
    if data.targets is not None and not data.targets:
        yield "data.targets: expected columns with their agents, got none; add one, or leave it out"
    twice = sorted(set(data.targets or ()) & set(data.observers or ()))
    if twice and not data.ahead:
        yield (
            f"data.targets: expected one use of the column {twice[0]!r}, got a feature and a target; drop one of them, "
            "or set data.ahead to predict it"
        )
    if data.name != "ring_transfer" and (data.distance is not None or data.payload != 1):
        yield f"data.distance: expected none, nor data.payload, with data.name={data.name}; leave them out"


def _table(data: DataConfig) -> Iterator[str]:
    """Complain about options that only tables have, and about splits that rows in order of time rule out."""
    given = dict[str, object](ignore=data.ignore, time=data.time, missing=data.missing.fill)
    given |= {"targets": data.targets, "agent": data.agent}
    for key in [key for key, value in given.items() if value and data.name != "file"]:
        yield f"data.{key}: expected none, because data.name={data.name} is no file of yours; leave it out"
    ordered = "data.time" if data.time else "data.window" if data.window > 1 else "data.ahead" if data.ahead else None
    if ordered and data.split in ("random", "alternate"):
        yield (
            f"data.split: expected last with {ordered}, got {data.split}, which puts neighbors in time into training "
            "and test; set data.split=last"
        )


def _graph(key: str, graph: GraphConfig) -> Iterator[str]:
    for name, least in (("agents", 1), ("rows", 1), ("columns", 1), ("branching", 1), ("height", 0), ("dimension", 0)):
        yield from _at_least(f"{key}.{name}", getattr(graph, name), least)
    for name, least in (("neighbours", 0), ("attachments", 1), ("degree", 0), ("seed", 0)):
        yield from _at_least(f"{key}.{name}", getattr(graph, name), least)
    if not 0 <= graph.probability <= 1:
        yield f"{key}.probability: expected a number from 0 to 1, got {graph.probability:g}"
    if graph.file is not None and not graph.file.strip():
        yield f"{key}.file: expected the path of a graph file, got an empty text"


def _pattern(key: str, pattern: PatternConfig) -> Iterator[str]:
    yield from _at_least(f"{key}.hops", pattern.hops, 0)
    yield from _at_least(f"{key}.seed", pattern.seed, 0)
    if not 0 <= pattern.keep <= 1:
        yield f"{key}.keep: expected a number from 0 to 1, got {pattern.keep:g}"
    if pattern.kind == "identity" and key.endswith("K"):
        yield f"{key}.kind: identity is for network.X only; use block_diagonal for weights that stay inside each agent"
    if pattern.kind == "matrix" and not pattern.file:
        yield f"{key}.file: expected the path of a 0/1 matrix (.csv or .npy) because {key}.kind is matrix, got nothing"


def _sensors(sensors: list[SensorConfig]) -> Iterator[str]:
    for i, sensor in enumerate(sensors):
        yield from _at_least(f"sensors[{i}].feature", sensor.feature, 0)
        yield from _at_least(f"sensors[{i}].slot", sensor.slot, 0)
        if isinstance(sensor.agent, int):
            yield from _at_least(f"sensors[{i}].agent", sensor.agent, 0)


def _lift(config: Config) -> Iterator[str]:
    lift = config.lift
    for name in ("rows", "columns", "channels", "kernel", "pool"):
        yield from _at_least(f"lift.{name}", getattr(lift, name), 1)
    if lift.kernel % 2 == 0:
        yield f"lift.kernel: expected an odd number, got {lift.kernel}; use {lift.kernel + 1}"
    if lift.kind != "sensors" and config.sensors:
        yield f"sensors: expected none with lift.kind={lift.kind}, got {len(config.sensors)}; set lift.kind=sensors"
    if lift.kind != "sensors" and config.initial_state == "learned":
        yield f"initial_state: expected zero with lift.kind={lift.kind}, whose biases are learned; leave it out"
    if (lift.rows is None) != (lift.columns is None):
        yield "lift: expected both rows and columns, or neither, got one of them; give the other"
