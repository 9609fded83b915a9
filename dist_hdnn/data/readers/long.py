"""Long tables, a row per time and agent, as wide ones, a row per time.

    time,agent,flow,leak            time,a.flow,b.flow,a.leak,b.leak
    0,a,1.5,0                ->     0,1.5,2.5,0,1
    0,b,2.5,1

A column of one agent is named `agent.column`. A time at which an agent has no row is a gap in its columns.
Every error is one line that names the file, the line or row, and the column.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dist_hdnn.data.checks import some
from dist_hdnn.data.readers.cells import moments, texts
from dist_hdnn.data.readers.tables import Block

TOLERANCE = 1e-6  # of a step of time


class Wide(NamedTuple):
    """A wide block, and the agent of each of its columns but the time."""

    block: Block
    agents: Mapping[str, str]


def wide(blocks: Iterable[Block], agent: str, time: str, left_out: Sequence[str], who: str, series: bool) -> Wide:
    """Turn all blocks of a long table into one wide block, sorted by time, with a notice if it was not.

    left_out: columns that are not turned. series: refuse steps of time that are not equal.
    Raises ValueError for a missing column, a row of the same time and agent again, and unequal steps.
    """
    whole = _joined(list(blocks), who)
    for key, name in (("data.agent", agent), ("data.time", time)):
        if name not in whole.columns:
            raise ValueError(
                f"{who}: expected a column {name!r} for {key}, got {some(list(whole.columns))}; correct it"
            )
    names = np.array([name.strip() for name in texts(whole.array(agent))])
    empty = np.flatnonzero(names == "")
    if len(empty):
        raise ValueError(f"{who}: expected an agent, got a gap in {whole.where(int(empty[0]))}, column {agent!r}")
    when = moments(whole.array(time), time, who, whole.where)
    times, first, row = np.unique(when, return_index=True, return_inverse=True)
    agents, column = np.unique(names, return_inverse=True)
    _check_rows(row * len(agents) + column, whole, agent, time, who)
    if np.any(when[1:] < when[:-1]):
        warnings.warn(f"{who}: rows are sorted by {time!r}", UserWarning, stacklevel=3)
    if series:
        check_steps(times, time, who)
    columns: dict[str, Any] = {time: np.asarray(whole.array(time))[first]}
    owners: dict[str, str] = {}
    for name in whole.columns:
        if name in (agent, time, *left_out):
            continue
        values = np.full((len(times), len(agents)), "", dtype=object)
        values[row, column] = np.asarray(texts(whole.array(name)), dtype=object)
        for number, owner in enumerate(agents.tolist()):
            columns[f"{owner}.{name}"] = values[:, number]
            owners[f"{owner}.{name}"] = owner
    return Wide(Block(who, columns), owners)


def _joined(blocks: list[Block], who: str) -> Block:
    """Join blocks of rows."""
    if not blocks:
        raise ValueError(f"{who}: expected rows below the header, got none; add one per time and agent")
    lines = None if blocks[0].lines is None else [line for block in blocks for line in block.lines or ()]
    columns = {
        name: np.concatenate([np.asarray(block.array(name), dtype=object) for block in blocks])
        for name in blocks[0].columns
        if name not in blocks[0].index
    }
    return Block(who, columns, blocks[0].first, lines)


def _check_rows(keys: Any, whole: Block, agent: str, time: str, who: str) -> None:
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if len(again):
        row = int(order[again[0] + 1])
        cells = ", ".join(f"{name} {texts(whole.array(name))[row]}" for name in (time, agent))
        raise ValueError(
            f"{who}: expected one row per time and agent, got {cells} again in {whole.where(row)}; drop one"
        )


def check_steps(times: Any, time: str, who: str) -> None:
    """Refuse windows over unequal steps, such as those of agents that report at different rates."""
    steps = np.diff(times).astype(np.float64)
    unequal = np.flatnonzero(np.abs(steps - np.min(steps, initial=np.inf)) > TOLERANCE * np.min(steps, initial=np.inf))
    if len(unequal):
        raise ValueError(
            f"{who}: expected equal steps of {time!r} for data.window and data.ahead, got steps of {steps.min():g} and "
            f"{steps[unequal[0]]:g}; resample all agents to one step"
        )
