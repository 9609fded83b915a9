"""Answers of each agent's own: in tables a column per agent, or a row per time and agent, and in arrays.

Every error is one line that names the file, what was expected, what was found and what to do.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.checks import MISSING, Floats, some
from dist_hdnn.data.preparation import Preparation
from dist_hdnn.data.readers.cells import Column
from dist_hdnn.data.readers.frames import plain
from dist_hdnn.data.readers.long import wide
from dist_hdnn.data.readers.tables import Block


def of_long_table(blocks: Iterable[Block], blank: Preparation, who: str) -> tuple[Block, Preparation]:
    """Return a long table as a wide block, with the agents of its columns."""
    assert blank.agent is not None and blank.target is not None, "a long table names its agents"
    if blank.time is None:
        raise ValueError(
            f"{who}: expected data.time beside data.agent, for the column with the time of a row, got none"
        )
    parts = list(blocks)
    unknown = [name for name in blank.ignored if parts and name not in parts[0].columns]
    if unknown:
        raise ValueError(
            f"{who}: expected a column of the file for data.ignore, got {unknown[0]!r}; the columns are "
            f"{some(list(parts[0].columns))}"
        )
    block, owners = wide(parts, blank.agent, blank.time, blank.ignored, who, blank.window > 1 or blank.ahead > 0)
    targets = {name: owner for name, owner in owners.items() if name == f"{owner}.{blank.target}"}
    if not targets:
        held = sorted({name.removeprefix(f"{owner}.") for name, owner in owners.items()})
        raise ValueError(
            f"{who}: expected a column {blank.target!r} for data.target, got {some(held)}; correct its name"
        )
    observers = {name: owner for name, owner in owners.items() if name not in targets or blank.ahead}
    return block, replace(blank, targets=targets, observers=observers, ignored=())


def check_names(names: Sequence[str] | None, classes: int | None, who: str) -> None:
    """Refuse more classes than names: a network could answer with one that has none."""
    if names and classes is not None and classes > len(names):
        raise ValueError(
            f"{who}: expected data.classes={len(names)}, the number of the names {some(list(names))}, got {classes}; "
            "leave it out"
        )


def own_answers(read: list[Column], blank: Preparation, regression: bool, who: str) -> tuple[Column, Preparation]:
    """Return every agent's answers, (rows, agents) or (rows, agents, targets), agents in order of first mention.

    read: the columns of `blank.targets`.
    """
    columns = dict(zip(blank.targets, read, strict=True))
    of_agent = {agent: [name for name, owner in blank.targets.items() if owner == agent] for agent in blank.answering}
    counts = {len(names) for names in of_agent.values()}
    if len(counts) > 1 or (not regression and counts != {1}):
        most = max(of_agent, key=lambda agent: len(of_agent[agent]))
        raise ValueError(
            f"{who}: expected {'as many targets' if regression else 'one target'} of every agent, got "
            f"{len(of_agent[most])} of agent {most} ({some(of_agent[most])}); correct data.targets"
        )
    blank = replace(blank, targets={name: agent for agent, names in of_agent.items() for name in names})
    named = [name for name, column in columns.items() if column.dtype.kind == "U" and (column != "").any()]
    if regression or not named:
        y = np.stack(
            [np.stack([_real(columns[name]) for name in names], axis=1) for names in of_agent.values()], axis=1
        )
        return y if regression else y[..., 0], blank
    names = sorted({cell for column in columns.values() for cell in np.unique(column.astype(str)) if cell != ""})
    numbers = {name: number for number, name in enumerate(names)} | {"": MISSING, "nan": MISSING}
    y = np.stack([[numbers[cell] for cell in columns[name].astype(str)] for name in blank.targets], axis=1)
    return y, replace(blank, class_names=tuple(names))


def _real(column: Column) -> Floats:
    """Return answers as numbers: a column of gaps alone was read as empty text."""
    return np.where(column == "", "nan", column).astype(np.float64) if column.dtype.kind == "U" else column


def of_agents(
    values: Mapping[str, npt.ArrayLike],
    blank: Preparation,
    names: Sequence[str] | None,
    regression: bool,
    images: bool,
    who: str,
) -> tuple[dict[str, Column], Preparation, Sequence[str] | None]:
    """Return x (samples, agents, features) as columns with their agents, and the agents of the columns of y.

    names: of the features of x, or of every agent's, agent by agent.
    """
    arrays: dict[str, Column] = {key: plain(value) for key, value in values.items()}
    first, y = (arrays.get(key, arrays.get(f"train_{key}")) for key in "xy")
    assert first is not None and y is not None, "x and y are there"
    by_agent = first.ndim == 3 and not images
    _check_shapes(arrays, by_agent, regression, images, who)
    if by_agent:
        agents, features = first.shape[1:]
        names = _of_features(agents, features, names, who)
        blank = replace(blank, observers={name: number // features for number, name in enumerate(names)})
        arrays |= {key: x.reshape(len(x), -1) for key, x in arrays.items() if key.endswith("x")}
    if not blank.targets and y.ndim > 1:
        agents, several = y.shape[1], math.prod(y.shape[2:])
        pairs = [
            (agent, f"{agent}.{k}" if several > 1 else str(agent)) for agent in range(agents) for k in range(several)
        ]
        blank = replace(blank, targets={name: agent for agent, name in pairs}, agents=agents)
    if blank.agents or blank.agent is not None:
        arrays, blank = _without_silent(arrays, blank, regression, who)
    return arrays, blank, names


def _check_shapes(arrays: Mapping[str, Column], by_agent: bool, regression: bool, images: bool, who: str) -> None:
    """Refuse arrays without numbers, of another number of axes, and parts or answers of other agents than the first x.

    by_agent: the first x is (samples, agents, features).
    """
    of_x = "(samples, agents, features)" if by_agent else "(samples, features)"
    of_y = "(samples, agents) or (samples, agents, targets)" if regression else "(samples, agents)"
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}  # of the first x and the first y
    for key, values in sorted(arrays.items(), key=lambda item: (item[0][-1], not item[0].startswith("train"))):
        shape, wanted = values.shape, of_x if key[-1] == "x" else of_y
        got = f"{who}: expected {key} of {wanted}, got shape {shape}"
        if values.dtype.kind not in "biuf":
            raise ValueError(f"{who}: expected numbers in {key}, got an array of {values.dtype}; convert it to float64")
        if key[-1] == "x" and images:
            continue
        axes = (2 + by_agent,) if key[-1] == "x" else (2, 3) if regression else (2,)
        if values.ndim not in axes:
            several = ", or set data.task=regression for several targets" if key[-1] == "y" and axes == (2,) else ""
            raise ValueError(f"{got}; reshape it, a row per sample{several}")
        if 0 in shape:
            axis = (
                "samples",
                "agents" if "agents" in wanted else "features",
                "features" if key[-1] == "x" else "targets",
            )
            raise ValueError(f"{got}, which has no {axis[shape.index(0)]}; give at least one")
        one, (first, other) = shape[1:] if key[-1] == "x" else (*shape[1:], 1)[:2], shapes.get(key[-1], (key, ()))
        shapes.setdefault(key[-1], (key, one))
        if other and one != other:
            sizes = " x ".join(map(str, other))
            raise ValueError(f"{got}, where {first} has {sizes} per sample; give every part the same columns")
        held = shapes.get("x", (key, one))
        if key[-1] == "y" and by_agent and one[0] != held[1][0]:
            raise ValueError(f"{got}, where {held[0]} has {held[1][0]} agents; give a column for every agent")


def _of_features(agents: int, features: int, names: Sequence[str] | None, who: str) -> Sequence[str]:
    """Return a name for each feature of each agent, (agents * features,): as given, or "agent.feature"."""
    if names is None:
        return [f"{agent}.{k}" if features > 1 else str(agent) for agent in range(agents) for k in range(features)]
    if len(names) == agents * features:
        return names
    if len(names) != features:
        raise ValueError(
            f"{who}: expected {features} feature names, one for each feature of an agent, or {agents * features}, "
            f"agent by agent, got {len(names)}; correct feature_names"
        )
    return [f"{agent}.{name}" for agent in range(agents) for name in names]


def _without_silent(
    arrays: dict[str, Column], blank: Preparation, regression: bool, who: str
) -> tuple[dict[str, Column], Preparation]:
    """Leave out agents without a known target in any sample, with a notice: they do not answer."""
    held = {key: y.astype(np.float64) for key, y in arrays.items() if key.endswith("y")}
    if any(y.ndim < 2 or y.shape[1] != len(blank.answering) for y in held.values()):
        return arrays, blank  # refused where shapes are checked
    gaps = [np.isnan(y) if regression else np.isnan(y) | (y == MISSING) for y in held.values()]
    silent = np.all([np.moveaxis(gap, 1, 0).reshape(gap.shape[1], -1).all(axis=1) for gap in gaps], axis=0)
    if not silent.any() or silent.all():
        return arrays, blank
    quiet = [agent for agent, is_silent in zip(blank.answering, silent, strict=True) if is_silent]
    warnings.warn(
        f"{who}: {some([str(agent) for agent in quiet])} have no known target, so they do not answer",
        UserWarning,
        stacklevel=5,
    )
    targets = {name: agent for name, agent in blank.targets.items() if agent not in quiet}
    return arrays | {key: arrays[key][:, ~silent] for key in held}, replace(blank, targets=targets)
