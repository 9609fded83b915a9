"""Complain in one line about the first options of a config that cannot work together.

Imports neither torch nor numpy. What depends on the graph or the data is checked where these are read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

from dist_hdnn.config import AGENT_TASKS, PUBLISHED, TABLES, Config, DataConfig, execution_of, interval
from dist_hdnn.dynamics.architectures import architecture, check_options

Bounds = Mapping[int, str]
LEAST: Bounds = {
    0: (
        "seed network.initial_scale data.noise data.seed data.ahead readout.rounds restarts train.weight_decay "
        "train.smoothness data.augment.shift data.augment.rotate data.augment.scale"
    ),
    1: (
        "network.layers data.window workers checkpoint.keep train.epochs train.batch_size train.threads train.patience "
        "lift.rows lift.columns lift.channels lift.kernel lift.pool"
    ),
    2: "data.classes",
    4: "data.samples",
}
"""Least value -> the keys that it bounds; below, of every graph, pattern and sensor."""
GRAPH: Bounds = {0: "height dimension neighbours degree seed", 1: "agents rows columns branching attachments"}
PATTERN: Bounds = {0: "hops seed"}
SENSOR: Bounds = {0: "feature slot agent"}
POSITIVE = ("network.step", "timeout", "train.learning_rate", "train.network_rate")
ONLY_OF = {
    **dict.fromkeys(("file", "ignore", "time", "missing.fill", "images", "ahead", "targets", "agent"), ("file",)),
    **dict.fromkeys(("features", "sensors"), ("file", *TABLES)),
    "distance": ("ring_transfer",),
    "folder": ("idx", *PUBLISHED),
    "download": PUBLISHED,
}
"""Option of data -> the data.name that it goes with."""


def validate(config: Config) -> None:
    """Raise ValueError, one line, for the first option whose value cannot work whatever the graph and the data are."""
    for complaint in _complaints(config):
        raise ValueError(complaint)


def _complaints(config: Config) -> Iterator[str]:
    """Yield a line for each unusable value: key, expected, got, what to do."""
    yield from _numbers(config)
    yield from _paths(config)
    yield from _widths(config.network.width)
    yield from _network(config)
    yield from _parts(config)
    yield from _data(config.data)
    yield from _sensors_and_lift(config)


def _below(part: Any, least: Bounds, prefix: str = "") -> Iterator[str]:
    """Complain about numbers that are not finite or below their least value; None and names have none."""
    for bound, keys in least.items():
        for key in keys.split():
            value = attrgetter(key)(part)
            if isinstance(value, int | float) and not (math.isfinite(value) and value >= bound):
                yield f"{prefix}{key}: expected a number >= {bound}, got {value:g}; raise it"


def _numbers(config: Config) -> Iterator[str]:
    yield from _below(config, LEAST)
    for key in POSITIVE:
        value = attrgetter(key)(config)
        if value is not None and not (math.isfinite(value) and value > 0):
            yield f"{key}: expected a number > 0, got {value:g}; make it positive"
    data = config.data
    if not 0 < data.test_fraction < 1:
        yield f"data.test_fraction: expected a number between 0 and 1, got {data.test_fraction:g}"
    if not 0 <= data.validation_fraction < 1:
        yield f"data.validation_fraction: expected a number of at least 0 and below 1, got {data.validation_fraction:g}"
    if data.augment.scale >= 1:
        yield f"data.augment.scale: expected a share below 1, got {data.augment.scale:g}; 0.1 zooms by up to 10 %"


def _paths(config: Config) -> Iterator[str]:
    empty = {
        "resume": "auto or the path of a run or a checkpoint",
        "warm_start": "the path or the name of a run",
        "output": "the path of a run directory",
    }
    for key, expected in empty.items():
        if (path := attrgetter(key)(config)) is not None and not path.strip():
            yield f"{key}: expected {expected}, got an empty text; leave it out"
    if not config.name or config.name in (".", "..") or re.search(r"[/\\\0]", config.name):
        yield f"name: expected the name of a folder, got {config.name!r}; use --output for a path"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", config.device):
        yield f"device: expected cpu, cuda or cuda:<number>, got {config.device!r}"


def _widths(width: int | dict[str, int]) -> Iterator[str]:
    if width == {}:
        yield "network.width: expected an even number or a mapping agent -> even number, got an empty mapping"
    each = {f".{agent}": n for agent, n in width.items()} if isinstance(width, dict) else {"": width}
    for agent, n in each.items():
        if n < 2 or n % 2:
            remedy = f"use {max(2, n + 1)}" if n % 2 else "use 2 or more"
            yield (
                f"network.width{agent}: expected an even number >= 2 (half of the neurons are p, half are q), got {n}; "
                f"{remedy}"
            )


def _network(config: Config) -> Iterator[str]:
    network, levels = config.network, config.train.levels
    time = network.time
    if not isinstance(time, str) and not 2 <= time <= network.layers:
        yield (
            f"network.time: expected free, shared, or a number of knots from 2 to the {network.layers} layers, got "
            f"{time}; choose one of these"
        )
    try:
        interval(config.checkpoint.every)
        chosen = architecture(network.architecture, network.integrator)
        options = {"shared_x": network.shared_x, "gamma": network.gamma, "J": network.J}
        check_options(chosen, x=network.X.kind, **options)  # type: ignore[arg-type]
        execution_of(config).kept(chosen, network.layers, 1, config.dtype)
    except ValueError as error:
        yield str(error)
    graphs, layers = 1 + len(config.more_graphs), min([network.layers, *levels])
    if graphs > max(layers, 1):
        which = "the shallowest of train.levels" if levels else "network.layers"
        yield (
            f"more_graphs: expected at most {layers - 1} beside graph, one graph for each of the {layers} layers of "
            f"{which}, got {graphs - 1}; drop {graphs - layers}, or raise {which}"
        )
    if config.warm_start is not None and levels:
        yield (
            f"train.levels: expected none with warm_start, whose weights are of the whole depth, got {levels}; leave "
            "one of the two out"
        )
    if config.deterministic and config.plan == "tiles":
        yield "plan: expected auto or torch with deterministic, whose sums keep their order, got tiles. Choose auto."


def _parts(config: Config) -> Iterator[str]:
    """Complain about graphs, patterns, and the lists that belong to one kind of readout or partition."""
    graphs = {"graph": config.graph} | {f"more_graphs[{i}]": graph for i, graph in enumerate(config.more_graphs)}
    for key, graph in graphs.items():
        yield from _below(graph, GRAPH, f"{key}.")
        if graph.file is not None and not graph.file.strip():
            yield f"{key}.file: expected the path of a graph file, got an empty text"
        if not 0 <= graph.probability <= 1:
            yield f"{key}.probability: expected a number from 0 to 1, got {graph.probability:g}"
    for key, pattern in {"network.K": config.network.K, "network.X": config.network.X}.items():
        yield from _below(pattern, PATTERN, f"{key}.")
        if not 0 <= pattern.keep <= 1:
            yield f"{key}.keep: expected a number from 0 to 1, got {pattern.keep:g}"
        if pattern.kind == "matrix" and not pattern.file:
            yield f"{key}.file: expected the path of a 0/1 matrix (.csv or .npy) with {key}.kind=matrix, got nothing"
    if config.network.K.kind == "identity":
        yield "network.K.kind: identity is for network.X only; use block_diagonal for weights inside each agent"
    readout, partition = config.readout, config.partition
    if (readout.kind == "agents") != bool(readout.agents):
        got = f"kind={readout.kind}, agents {readout.agents}"
        yield f"readout: expected a list of agents with kind=agents and only there, got {got}; give both or neither"
    if (partition.method == "given") != (partition.owners is not None):
        got = f"method={partition.method}, owners {'given' if partition.owners else 'not given'}"
        yield f"partition: expected owners with method=given and only there, got {got}; give both or neither"


def _data(data: DataConfig) -> Iterator[str]:
    if data.name == "file" and not data.file:
        yield "data.file: expected the path of a .csv or .npz file because data.name is file, got none; set data.file"
    if data.name == "idx" and not data.folder:
        yield "data.folder: expected the folder of four IDX files because data.name is idx, got none; set data.folder"
    for key, names in ONLY_OF.items():
        if attrgetter(key)(data) != attrgetter(key)(DataConfig()) and data.name not in names:
            remedy = f"leave it out, or set data.name to {' or '.join(names)}"
            yield f"data.{key}: expected none, because data.name={data.name} does not use it; {remedy}"
    if data.window > 1 and data.name != "file":
        yield f"data.window: expected 1, because data.name={data.name} is no time series; leave it out"
    task = "regression" if data.name in ("diabetes", *AGENT_TASKS) else "classification"
    if data.name != "file" and data.task != task:
        yield f"data.task: expected {task} with data.name={data.name}, got {data.task}; correct it"
    ordered = "data.time" if data.time else "data.window" if data.window > 1 else "data.ahead" if data.ahead else None
    if ordered and data.split in ("random", "alternate"):
        yield (
            f"data.split: expected last with {ordered}, got {data.split}, which puts neighbors in time into training "
            "and test; set data.split=last"
        )
    if data.targets is not None and data.target != DataConfig.target:
        yield f"data.target: expected none beside data.targets, got {data.target}; leave one of them out"
    if data.payload != 1 and data.name != "ring_transfer":
        yield f"data.payload: expected none, because data.name={data.name} does not use it; leave it out"
    if data.noise and data.name in AGENT_TASKS:
        yield f"data.noise: expected none, because data.name={data.name} does not use it; leave it out"
    if data.targets is not None and data.agent is not None:
        yield "data.targets: expected none beside data.agent, whose rows name their agents, got both; drop one of them"
    if data.targets is not None and not data.targets:
        yield "data.targets: expected columns with their agents, got none; add one, or leave it out"
    yield from _columns(data)
    if data.features is not None and data.sensors is not None:
        yield "data.sensors: expected none beside data.features, which means the same, got both; drop one of them"


def _columns(data: DataConfig) -> Iterator[str]:
    """Complain about a column of two uses. The targets of a forecast are features as well."""
    seen, seen_key = set(data.observers or ()), "data.sensors" if data.features is None else "data.features"
    answers: dict[str, list[str]] = (
        {"data.target": [data.target]} if data.targets is None else {"data.targets": list(data.targets)}
    )
    timed = {"data.time": [data.time] if data.time else []}
    for key, names in (answers | timed | {"data.ignore": data.ignore}).items():
        if data.agent is not None or (key == "data.targets" and data.ahead):
            continue
        for name in (name for name in names if name in seen):
            what = "a feature and a target" if key in answers else "two"
            remedy = ", or set data.ahead to predict it" if key == "data.targets" else ""
            yield (
                f"{key}: expected one use of the column {name!r}, got {what}: {key} and {seen_key}; drop it from one"
                f"{remedy}"
            )


def _sensors_and_lift(config: Config) -> Iterator[str]:
    lift, sensors = config.lift, config.sensors
    for i, sensor in enumerate(sensors):
        yield from _below(sensor, SENSOR, f"sensors[{i}].")
    if config.data.observers is not None and sensors:
        key = "data.sensors" if config.data.features is None else "data.features"
        yield f"sensors: expected none beside {key}, which places every column, got both; drop one of them"
    if lift.kernel % 2 == 0:
        yield f"lift.kernel: expected an odd number, got {lift.kernel}; use {lift.kernel + 1}"
    if (lift.rows is None) != (lift.columns is None):
        yield "lift: expected both rows and columns, or neither, got one of them; give the other"
    if lift.kind != "sensors" and sensors:
        yield f"sensors: expected none with lift.kind={lift.kind}, got {len(sensors)}; set lift.kind=sensors"
    if lift.kind != "sensors" and config.initial_state == "learned":
        yield f"initial_state: expected zero with lift.kind={lift.kind}, whose biases are learned; leave it out"
