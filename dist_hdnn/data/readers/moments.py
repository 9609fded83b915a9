"""Rows in order of time: numbers, or dates in ISO form, without a zone or all with one.

Dates without a zone are compared as they stand, whatever the zone of the machine: it may skip an hour that they have.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.readers.columns import number, texts

Where = Callable[[int], str]


def check_order(cells: npt.NDArray[Any], time: str, who: str, where: Where, series: bool = False) -> None:
    """Refuse rows that are not in order of the column `time`, and times that cannot be read.

    where: what a row is called in messages. series: refuse a time of several rows, too. Raises ValueError, one line.
    """
    moments = _moments(cells, time, who, where)
    twice = np.flatnonzero(moments[1:] == moments[:-1])
    if series and len(twice):
        raise ValueError(
            f"{who}: expected one row for each time for data.window and data.ahead, got {cells[twice[0]]} again in "
            f"{where(int(twice[0]) + 1)}; give every station columns"
        )
    late = np.flatnonzero(moments[1:] < moments[:-1])
    if len(late):
        row = int(late[0]) + 1
        raise ValueError(
            f"{who}: expected rows in order of {time!r}, got {cells[row]} after {cells[row - 1]} in {where(row)}; sort "
            "the rows by that column"
        )


def _moments(cells: npt.NDArray[Any], time: str, who: str, where: Where) -> npt.NDArray[Any]:
    """The cells as numbers, or as seconds since 1970."""
    if cells.dtype.kind in "biufM":
        gap = np.flatnonzero(np.isnat(cells) if cells.dtype.kind == "M" else np.isnan(cells.astype(np.float64)))
        if len(gap):
            raise ValueError(
                f"{who}: expected a time, got a gap in {where(int(gap[0]))}, column {time!r}; complete or remove that "
                "line"
            )
        return cells
    found = texts(cells)
    numbers = [number(cell) for cell in found]
    if None not in numbers and not np.isnan(np.array(numbers, dtype=np.float64)).any():
        return np.array(numbers, dtype=np.float64)
    moments, zones = [], set()
    for row, cell in enumerate(found):
        try:
            moment = datetime.fromisoformat(cell.strip())
        except ValueError:
            raise ValueError(
                f"{who}: expected a number or a date such as 2026-01-31 12:00, got {cell!r} in {where(row)}, column "
                f"{time!r}; write it in that form"
            ) from None
        zones.add(moment.tzinfo is None)
        if len(zones) > 1:
            raise ValueError(
                f"{who}: expected all dates with a time zone, or none, got {cell!r} after {found[row - 1]!r} in "
                f"{where(row)}, column {time!r}; write all alike"
            )
        moments.append(moment.timestamp() if moment.tzinfo else moment.replace(tzinfo=UTC).timestamp())
    return np.array(moments)
