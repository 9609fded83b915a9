"""Readings part by part that know of the rows before them: their order in time, gaps that these fill, windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.data.preparation import Preparation
from dist_hdnn.data.readers.moments import check_order
from dist_hdnn.data.readers.readings import Rows


def in_order(parts: Iterable[Rows], time: str, who: str, series: bool) -> Iterator[Rows]:
    """Pass rows on; raise ValueError where those that have a column `time` are not in its order, as training does."""
    before: list[Any] = []
    for part in parts:
        cells = [*before, *part.kept.get(time, ())]
        first = part.first - len(before)
        check_order(_array(cells), time, who, partial(_row, first), series)
        before = cells[-1:]
        yield part


def points(parts: Iterable[Rows], preparation: Preparation, who: str) -> Iterator[Rows]:
    """What `Preparation.points` makes of all rows together, part by part: gaps filled, windows that reach back.

    `first` of a part is the row that its first point is about; rows before a window is full are left out. Raises
    ValueError where that leaves none.
    """
    window, seen = preparation.window, 0
    before: NDArray[Any] | None = None  # the last reading of each column in rows that have left the window
    held: NDArray[Any] | None = None
    for part in parts:
        block = part.x if held is None else np.concatenate([held, part.x])
        rows = len(block) - window + 1
        seen += len(part.x)
        if rows > 0:
            whole = block if before is None else np.concatenate([before, block])
            kept = {name: cells[len(cells) - rows :] for name, cells in part.kept.items()}
            yield Rows(part.first + len(part.x) - rows, preparation.points(whole)[-rows:], kept)
        leaving, held = block[: max(rows, 0)], block[max(rows, 0) :]
        if preparation.fill == "last" and len(leaving):
            before = _last(leaving if before is None else np.concatenate([before, leaving]))
    if seen < window:
        raise ValueError(f"{who}: expected at least {window} rows for a window of as many, got {seen}; add some")


def _last(rows: NDArray[Any]) -> NDArray[Any]:
    """The last reading of every column, (1, columns); NaN where there is none."""
    numbers = np.where(np.isnan(rows), -1, np.arange(len(rows))[:, None]).max(axis=0)
    return np.where(numbers < 0, np.nan, rows[numbers, np.arange(rows.shape[1])])[None]


def _array(cells: list[Any]) -> NDArray[Any]:
    """Numbers as numbers, so that gaps are found; all else as objects."""
    numbers = all(isinstance(cell, int | float) for cell in cells)
    return np.array(cells, dtype=np.float64 if numbers else object)


def _row(first: int, row: int) -> str:
    return f"row {first + row}"
