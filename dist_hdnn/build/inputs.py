"""From options to what the agents see: data sets, sensors, views and learned lifts.

Each function raises ValueError, one line that names the option, for parts that do not fit together.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.config import Config, DataConfig, seed_of
from dist_hdnn.config.data import AGENT_TASKS, PUBLISHED, TABLES
from dist_hdnn.config.paths import user_path
from dist_hdnn.data import (
    TOYS,
    Augmentation,
    Cut,
    Dataset,
    Sensor,
    SensorMap,
    Views,
    barbell,
    column_views,
    columns_named_like,
    default_sensors,
    digits,
    even_views,
    idx_folder,
    patches,
    published,
    read_dataset,
    ring_transfer,
    shape_of_grid,
    shipped_table,
    standardised,
)
from dist_hdnn.data.checks import Image, some
from dist_hdnn.data.preparation import Preparation
from dist_hdnn.ends.image_lift import ChannelLift
from dist_hdnn.ends.lift import ConvLift, LinearLift
from dist_hdnn.network.ownership import Ownership
from dist_hdnn.topology import CommunicationGraph


def build_dataset(config: Config) -> Dataset:
    """Read or make the data of a config, standardized if wanted, under data.seed or else the seed of the run."""
    options, seed = config.data, seed_of(config.data, config)
    if options.classes is not None and options.name not in ("file", "idx"):
        warnings.warn(f"data.classes is not used by the data set {options.name}", UserWarning, stacklevel=2)
    if options.name in TOYS:
        cut = options.split or "alternate", options.test_fraction, seed, options.validation_fraction
        data = TOYS[options.name](options.samples, options.noise, *cut)
    elif options.name in AGENT_TASKS:
        data = _agent_task(config, seed)
    else:
        stated = Cut(options.split, options.test_fraction, seed, options.validation_fraction)
        data = _read_data(options, stated, config.readout.targets == "own")
    _check_targets(config, data)
    _note_features(options, data)
    return standardised(data) if options.standardise and options.name not in TOYS else data


def _agent_task(config: Config, seed: int) -> Dataset:
    """Make a generated task for the agents of a graph that has their number in `graph.agents`."""
    options, graph = config.data, config.graph
    if graph.file is not None or graph.rows or graph.columns or graph.height or graph.dimension:
        raise ValueError(
            f"data.name={options.name}: expected a graph by graph.family and graph.agents, got graph.file or "
            "graph.rows, columns, height or dimension; leave these out"
        )
    family = "barbell" if options.name == "barbell" else "ring"
    if graph.family != family:
        raise ValueError(f"data.name={options.name}: expected graph.family={family}, got {graph.family}; set it so")
    cut = Cut(options.split or "random", options.test_fraction, seed, options.validation_fraction)
    if options.name == "barbell":
        return barbell(graph.agents, options.samples, cut)
    return ring_transfer(graph.agents, options.samples, cut, options.distance, options.payload)


def _check_targets(config: Config, data: Dataset) -> None:
    """Refuse a readout of shared targets for data with targets of each agent's own, and the reverse."""
    kind, asked = config.readout.kind, config.readout.targets
    if data.own and asked == "shared":
        raise ValueError(
            f"readout.targets: expected own for the data set {data.name}, in which agents have targets of their own, "
            "got shared; leave it out"
        )
    if data.own and kind != "local":
        raise ValueError(
            f"readout.kind: expected local for targets of each agent's own, got {kind}; set readout.kind=local"
        )
    if asked == "own" and not data.own:
        raise ValueError(
            f"readout.targets: expected shared for the data set {data.name}, whose samples have one target, got own; "
            "give data.targets, data.agent or arrays y of (samples, agents)"
        )


def _note_features(options: DataConfig, data: Dataset) -> None:
    """Warn of columns that become features because no option names them, beside targets of each agent's own."""
    unnamed = [name for name in data.preparation.columns if name not in (options.targets or ())]
    if options.targets and options.observers is None and unnamed:
        warnings.warn(
            f"data.features: none listed, so every column that data.targets does not name is a feature: "
            f"{some(unnamed)}; add those that agents answer to data.targets, and others that are none to data.ignore",
            UserWarning,
            stacklevel=3,
        )


def _read_data(options: DataConfig, cut: Cut, own: bool) -> Dataset:
    folder = None if options.folder is None else user_path(options.folder, "data.folder")
    if options.name in PUBLISHED:
        return published(options.name, folder, options.download, cut)
    if options.name == "idx":
        assert folder is not None, "validate() asks for data.folder"
        return idx_folder(folder, options.classes, cut)
    if options.name in TABLES:
        return shipped_table(options.name, cut)
    if options.name == "digits":
        return digits(cut)
    assert options.file is not None, "validate() asks for data.file"
    return read_dataset(
        user_path(options.file, "data.file"),
        options.classes,
        cut.split,
        cut.test_fraction,
        cut.seed,
        options.target,
        options.task == "regression",
        validation_fraction=cut.validation_fraction,
        window=options.window,
        ahead=options.ahead,
        images=options.images,
        ignore=options.ignore,
        time=options.time,
        missing=options.missing.fill,
        indicator=options.missing.indicator,
        targets=options.targets,
        agent=options.agent,
        own=own,
    )


def build_augmentation(config: Config, data: Dataset) -> Augmentation | None:
    """Return the random changes of training images, None for none. Raises ValueError for data that are no images."""
    options = config.data.augment
    if options.shift == options.rotate == options.scale == 0.0:
        return None
    image = _image(data, "data.augment", "leave data.augment out")
    background = float(data.train_x.min())
    return Augmentation(image, background, options.shift, options.rotate, options.scale, config.seed)


def build_sensors(config: Config, graph: CommunicationGraph, widths: NDArray[np.int64], data: Dataset) -> SensorMap:
    """Return the sensors that `sensors` lists, else those of the columns' agents, else the published places."""
    owners = None if config.sensors else feature_owners(config.data, graph, data)
    if owners is not None:
        return SensorMap(_column_sensors(owners, graph, data), widths, data.features)
    if not config.sensors:
        return SensorMap(default_sensors(data.features, widths), widths, data.features)
    sensors = []
    for i, options in enumerate(config.sensors):
        agent = agent_number(graph, options.agent, f"sensors[{i}].agent")
        sensors.append(Sensor(options.feature, agent, options.half, options.slot))
    return SensorMap(sensors, widths, data.features)


def _column_sensors(owners: dict[str, int], graph: CommunicationGraph, data: Dataset) -> list[Sensor]:
    """Place one sensor per column in the next free place of its agent: q slot 0, p slot 0, q slot 1, ..."""
    views = column_views(data.feature_names, owners, graph.agents)
    places = np.arange(views.features) - views.starts[views.agents]  # of each column inside its agent
    rows = zip(views.columns.tolist(), views.agents.tolist(), places.tolist(), strict=True)
    return [Sensor(feature, agent, "qp"[place % 2], place // 2) for feature, agent, place in rows]


def feature_owners(options: DataConfig, graph: CommunicationGraph, data: Dataset) -> dict[str, int] | None:
    """Feature of a table -> number of the agent that sees it, or None where the default places decide.

    A column goes to the agent that data.features names, else to the one that the data name, else to the agent of its
    own name. All features of a column (the rows of its window, the mark of its gaps) go to the same agent.
    """
    columns, sources, fitted = data.preparation.columns, data.preparation.sources, data.preparation
    seen = {name: agent for name, agent in {**fitted.targets, **fitted.observers}.items() if name in columns}
    owners = {name: agent_number(graph, agent, agent_key(fitted, name)) for name, agent in seen.items()}
    if options.observers is not None:
        owners |= {
            name: agent_number(graph, agent, f"data.features.{name}") for name, agent in options.observers.items()
        }
    elif owners:
        owners |= columns_named_like([name for name in columns if name not in owners], graph.names) or {}
    elif options.name not in (*TABLES, "file") or not columns:
        return None
    else:
        named = columns_named_like(columns, graph.names)
        if named is None and len(sources) == len(columns):
            return None
        spread = even_views(len(columns), graph.agents).agents.tolist()
        owners = dict(zip(columns, spread, strict=True)) if named is None else named
    unknown = {name: agent for name, agent in owners.items() if name not in columns}
    of_features = zip(data.feature_names, sources, strict=True)
    return unknown | {name: owners[source] for name, source in of_features if source in owners}


def column_agents(
    config: Config, graph: CommunicationGraph, widths: NDArray[np.int64], data: Dataset
) -> dict[str, list[str]]:
    """Column -> names of the agents that see it, empty for images."""
    if data.image is not None or not data.preparation.columns:
        return {}
    if config.lift.kind == "sensors":
        pairs = [(sensor.feature, sensor.agent) for sensor in build_sensors(config, graph, widths, data).sensors]
    else:
        views = build_views(config, graph, data)
        pairs = list(zip(views.columns.tolist(), views.agents.tolist(), strict=True))
    sources = data.preparation.sources
    return {
        column: [graph.names[agent] for agent in sorted({agent for f, agent in pairs if sources[f] == column})]
        for column in data.preparation.columns
    }


def build_views(config: Config, graph: CommunicationGraph, data: Dataset) -> Views:
    """Return the views of agents that learn their own lift: columns, patches of an image, or even shares."""
    lift = config.lift
    owners = feature_owners(config.data, graph, data)
    if owners is not None:
        return column_views(data.feature_names, owners, graph.agents)
    if data.image is None:
        return even_views(data.features, graph.agents)
    if lift.rows is not None and lift.columns is not None:
        rows, columns = lift.rows, lift.columns
    elif config.graph.file is None and (config.graph.rows or config.graph.columns):
        rows = config.graph.rows or graph.agents // (config.graph.columns or 1)
        columns = graph.agents // rows
    else:
        rows, columns = shape_of_grid(graph.agents, data.image)
    if rows * columns != graph.agents:
        raise ValueError(
            f"lift: expected one patch for each of the {graph.agents} agents, got {rows} rows x {columns} columns; "
            "choose lift.rows and lift.columns whose product is the number of agents"
        )
    return patches(data.image, rows, columns)


def _image(data: Dataset, option: str, remedy: str) -> Image:
    """Return the sizes of the images. Raises ValueError for other data, which the option does not fit."""
    if data.image is None:
        raise ValueError(
            f"{option}: expected images, got the data set {data.name} without rows and columns of pixels; {remedy}, or "
            "give images, (samples, height, width), with data.images=true"
        )
    return data.image


def image_of(config: Config, data: Dataset) -> Image:
    """Return the sizes of the images of a lift that needs images."""
    return _image(data, f"lift.kind={config.lift.kind}", "use lift.kind=linear")


def build_lift(config: Config, ownership: Ownership, data: Dataset) -> LinearLift | ConvLift | ChannelLift:
    """Make the learned lift of this worker's agents."""
    options = config.lift
    if options.kind == "channels":
        return ChannelLift(ownership, image_of(config, data), options.kernel, config.seed)
    if options.kind == "conv":
        image_of(config, data)
    views = build_views(config, ownership.graph, data)
    if options.kind == "linear":
        return LinearLift(ownership, views.features, views.starts, views.columns, config.seed)
    assert views.patch is not None, "images have patches"
    sizes = options.channels, options.kernel, options.pool
    return ConvLift(ownership, views.features, views.starts, views.columns, views.patch, *sizes, config.seed)


def agent_key(fitted: Preparation, column: str) -> str:
    """Return where the user wrote the agent of a column, for messages."""
    if fitted.agent is not None:
        return f"data.agent: column {fitted.agent!r}"
    return f"data.targets.{column}" if column in fitted.targets else f"data: column {column!r}"


def answering_numbers(graph: CommunicationGraph, fitted: Preparation) -> list[int]:
    """Return the numbers of the agents with targets of their own. ValueError where one has two names."""
    names: dict[int, int | str] = {}
    for column, agent in {**fitted.targets, **(fitted.observers if fitted.agent is not None else {})}.items():
        number = agent_number(graph, agent, agent_key(fitted, column))
        if names.setdefault(number, agent) != agent:
            key = "data.targets" if fitted.agent is None else f"data.agent: column {fitted.agent!r}"
            raise ValueError(
                f"{key}: expected one name for each agent, got {names[number]!r} and {agent!r}, which both are agent "
                f"{graph.names[number]!r} of the graph; write one of them"
            )
    return [graph.index_of(agent) for agent in fitted.answering]


def agent_number(graph: CommunicationGraph, agent: int | str, key: str) -> int:
    """Return the number of an agent given by number or name. key: the option that gives it."""
    try:
        return graph.index_of(agent)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
