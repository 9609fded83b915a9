"""Answers of each agent's own in tables: a column per agent, or a row per time and agent.

Every error is one line that names the file, what was expected, what was found and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from dist_hdnn.data.checks import MISSING, Floats, some
from dist_hdnn.data.preparation import Preparation
from dist_hdnn.data.readers.cells import Column
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
