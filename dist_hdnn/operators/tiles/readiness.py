"""The plan of fused kernels: which columns of Kᵀ z can be summed once the rows of an agent are done, and where w stays.

A column agent is ready after its last row agent in the order of work. Between, w_i is needed until the last of agent
i's columns was ready, so its memory is used again by a later agent. Work is cut into parts, for threads: a part makes
the columns whose rows it has itself. All other columns, those of ghosts last, are left for a call of their own.
Positions count agents in the order of work, by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dist_hdnn.operators.tiles.operator import Segments, TileOperator
from dist_hdnn.topology.ragged import IntArray, offsets

AHEAD = 2  # agents from the one whose lines are fetched to the one at work
WIDEST = 8  # rows of an agent up to which fused kernels are made


def uniform_rows(operator: TileOperator) -> int:
    """Return the rows of every agent's blocks where these are thin squares of one size, else 0."""
    by_row, by_column = operator.by_row, operator.by_column
    sizes = np.unique(np.concatenate([np.diff(by_row.start), np.diff(by_column.start)]))
    uniform = len(sizes) == 1 and 0 < sizes[0] <= WIDEST and len(by_row.row) > 0
    return int(sizes[0]) if uniform else 0


class Plan:
    """A plan, and what kernels need of it: tables, and the calls for the columns that are left, both ways."""

    def __init__(self, operator: TileOperator, size: int, parts: Sequence[int]) -> None:
        self.size, self.ready = size, readiness(operator, size, parts)
        self._tables = [self.ready.table(operator.by_row, operator.by_column, adjoint) for adjoint in (False, True)]
        self.tables = [table.ctypes.data for table in self._tables]
        rest = self.ready.rest
        self.rest = rest, rest._replace(row=self.ready.slot_rows)


def plan(operator: TileOperator, size: int, parts: Sequence[int]) -> Plan:
    """Return the plan of an operator of agents of `size` rows for these parts, made once."""
    key = tuple(parts)
    if key not in operator.plans:
        operator.plans[key] = Plan(operator, size, parts)
    return operator.plans[key]  # type: ignore[no-any-return]


class Readiness(NamedTuple):
    """What fused kernels read for agents at the positions parts[0] .. parts[-1].

    ready: by position, its first entry of `columns`, one entry more than agents. columns: column agents in the order
    in which they are ready. farthest: by position, the highest row of x that the agent AHEAD of it reads begins here.
    slots: by row agent, its first row of w. slot_rows: `row` of the segments by column, in w. rest: the segments by
    column, for all columns but those in `columns`. left: how many of these are owned; they come first.
    """

    ready: IntArray
    columns: IntArray
    farthest: IntArray
    slots: IntArray
    slot_rows: IntArray
    rest: Segments
    left: int

    def table(self, by_row: Segments, by_column: Segments, adjoint: bool) -> IntArray:
        """Return the addresses of the arrays that a fused kernel reads, see `fused.TABLE`."""
        rows = self.slot_rows if adjoint else by_column.row
        arrays = by_row.order, by_row.segments, by_row.row, by_row.length, by_row.weight, by_row.width
        of_columns = by_column.segments, rows, by_column.weight, by_column.width
        every = *arrays, *of_columns, self.ready, self.columns, self.farthest, self.slots
        return np.array([array.ctypes.data for array in every], dtype=np.int64)


def readiness(operator: TileOperator, size: int, parts: Sequence[int]) -> Readiness:
    """Plan the fused work of agents of `size` rows at positions parts[0] .. parts[-1], cut at those between."""
    by_row, by_column, agents = operator.by_row, operator.by_column, operator.owned
    position = np.empty(agents, dtype=np.int64)
    position[by_row.order] = np.arange(agents)
    counts = np.diff(by_column.segments)
    column = np.repeat(np.arange(len(counts)), counts)  # of every segment by column
    place = position[by_column.row // size]
    first, last = np.full(len(counts), agents), np.full(len(counts), -1)
    np.minimum.at(first, column, place)
    np.maximum.at(last, column, place)
    part_of = np.searchsorted(np.asarray(parts), np.arange(agents + 1), side="right")  # 0, len(parts): none
    inside = (part_of[first] == part_of[last]) & (part_of[last] < len(parts)) & (counts > 0)
    inside[agents:] = False
    columns = np.flatnonzero(inside)
    columns = columns[np.argsort(last[columns], kind="stable")]
    ready = offsets(np.bincount(last[columns], minlength=agents))
    dies = np.arange(agents)  # by position: where its w is needed last
    np.maximum.at(dies, place, np.where(inside[column], last[column], agents))
    slots = _slots(by_row.order, dies, parts) * size
    rest = np.concatenate([np.flatnonzero(~inside[:agents]), np.arange(agents, len(counts))])
    slot_rows = slots[by_column.row // size]
    cost = offsets(np.diff(by_column.cost)[rest])
    kept = by_column._replace(order=rest, cost=cost)
    farthest = _farthest(by_row, size, agents)
    return Readiness(ready, columns, farthest, slots, slot_rows, kept, len(rest) - (len(counts) - agents))


def _slots(order: IntArray, dies: IntArray, parts: Sequence[int]) -> IntArray:
    """Return the agent in whose rows of w each agent keeps its own: one of its part, whose w is needed no more.

    dies: by position, the position after which w is free; `len(order)` for never.
    """
    slots = np.arange(len(order))
    for begin, end in zip(parts[:-1], parts[1:], strict=True):
        here, ends = np.arange(end - begin), np.sort(dies[begin:end])
        freed = np.argsort(dies[begin:end], kind="stable")  # in turn, the first ones of them in this part
        most = int(np.max(here + 1 - np.searchsorted(ends, begin + here), initial=0))  # at a time
        # the n-th takes what the (n - most)-th freed, which that one took itself from another, down to the first ones
        heir = np.concatenate([here[:most], freed[: len(here) - most]])
        while (heir >= most).any():
            heir = heir[heir]
        slots[order[begin:end]] = order[begin + heir]
    return slots


def _farthest(by_row: Segments, size: int, agents: int) -> IntArray:
    """Return by position the first of the highest rows of x that the agent AHEAD reads, size of them."""
    counts = np.diff(by_row.segments)
    agent = np.repeat(np.arange(agents), counts)
    highest = np.zeros(agents, dtype=np.int64)
    np.maximum.at(highest, agent, by_row.row + by_row.length - size)
    ahead = np.minimum(np.arange(agents) + AHEAD, agents - 1)
    return highest[by_row.order[ahead]]
