"""The cells of a column as numbers, gaps, answers, and times in order.

`2021_05` and `1,234` are no numbers, `true` and `false` are 1 and 0. Every error is one line that names the row and the
column. `where` returns the name of a row for messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

GAPS = {"", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "<na>", "nat"}
WORDS = {"true": 1.0, "false": 0.0}

Column = npt.NDArray[Any]
Where = Callable[[int], str]


def number(cell: str) -> float | None:
    """Return a cell as a number, NaN for a gap, None for anything else."""
    text = cell.strip().lower()
    if text in GAPS:
        return float("nan")
    if "_" in text or not text.isascii():  # Python reads 2021_05 as 202105, and digits of every script
        return WORDS.get(text)
    try:
        return float(text)
    except ValueError:
        return WORDS.get(text)


def texts(column: Column) -> list[str]:
    """Return cells as text, gaps empty. Times become ISO dates, where numpy's own lists count nanoseconds."""
    cells = column.tolist() if column.dtype.kind == "O" else column
    return ["" if cell is None else str(cell) for cell in cells]


def first_gap(column: Column) -> int | None:
    """Return the first row without a value, None where there is none."""
    if column.dtype.kind in "biufmM":
        gaps = np.isnat(column) if column.dtype.kind in "mM" else np.isnan(column.astype(np.float64))
    else:
        gaps = np.array([cell.strip().lower() in GAPS for cell in texts(column)], dtype=bool)
    return int(gaps.argmax()) if gaps.any() else None


def numbers(column: Column, name: str, who: str, where: Where, remedy: str) -> npt.NDArray[np.float64]:
    """Return a column as float64, NaN in gaps. ValueError for cells that are no numbers."""
    if column.dtype.kind in "biuf":
        return column.astype(np.float64)
    cells = column.tolist()
    with suppress(TypeError, ValueError):  # the usual case, and faster: text of which Python reads what people mean
        joined = "".join(cells)
        if joined.isascii() and "_" not in joined:
            return np.array([float(cell) for cell in cells])
    cells = texts(column)
    values = [number(cell) for cell in cells]
    if None in values:
        row = values.index(None)
        raise ValueError(
            f"{who}: expected a number, got {cells[row]!r} in {where(row)}, column {name!r}; write a number there "
            f"(1234.5){remedy}"
        )
    return np.array(values, dtype=np.float64)


def labels(column: Column, name: str, who: str, where: Where, gaps: bool = False) -> Column:
    """Return a column of answers: float64, or text where no cell is a number. ValueError for gaps and for a mixture.

    gaps: they may be there, and become NaN, or empty text.
    """
    gap = first_gap(column)
    if gap is not None and not gaps:
        raise ValueError(
            f"{who}: expected an answer, got the gap '{column[gap] or ''}' in {where(gap)}, column {name!r}; write a "
            "number or a name there, or remove that line"
        )
    if column.dtype.kind in "biuf":
        return column.astype(np.float64)
    cells = [cell.strip() for cell in texts(column)]
    cells = ["" if cell.lower() in GAPS else cell for cell in cells] if gaps else cells
    numeric = [number(cell) is not None and cell.lower() not in WORDS for cell in cells if cell or not gaps]
    if any(numeric) and not all(numeric):
        few = sum(numeric) * 2 <= len(numeric)  # blame what is rarer
        row = [row for row, cell in enumerate(cells) if cell or not gaps][numeric.index(few)]
        raise ValueError(
            f"{who}: expected {'a name' if few else 'a number'}, got {cells[row]!r} in {where(row)}, column {name!r}; "
            "write numbers there, or names alone"
        )
    return np.array([float(cell or "nan") for cell in cells]) if all(numeric) else np.array(cells)


def check_order(column: Column, time: str, who: str, where: Where, series: bool = False) -> None:
    """Refuse rows that are not in order of the column `time`, and times that cannot be read.

    series: also refuse a time of several rows. Dates without a zone are compared as they stand, whatever the zone of
    the machine, which may skip an hour that they have.
    """
    when = moments(column, time, who, where)
    twice = np.flatnonzero(when[1:] == when[:-1])
    if series and len(twice):
        raise ValueError(
            f"{who}: expected one row for each time for data.window and data.ahead, got {column[twice[0]]} again in "
            f"{where(int(twice[0]) + 1)}; give every station columns"
        )
    late = np.flatnonzero(when[1:] < when[:-1])
    if len(late):
        row = int(late[0]) + 1
        raise ValueError(
            f"{who}: expected rows in order of {time!r}, got {column[row]} after {column[row - 1]} in {where(row)}; "
            "sort the rows by that column"
        )


def moments(column: Column, time: str, who: str, where: Where) -> Column:
    """Return times as they are, as numbers, or as seconds since 1970."""
    gap = first_gap(column)
    if gap is not None:
        raise ValueError(
            f"{who}: expected a time, got a gap in {where(gap)}, column {time!r}; complete or remove that line"
        )
    if column.dtype.kind in "biufM":
        return column
    cells = texts(column)
    values = [number(cell) for cell in cells]
    return _dates(cells, time, who, where) if None in values else np.array(values, dtype=np.float64)


def _dates(cells: Sequence[str], time: str, who: str, where: Where) -> Column:
    """Return dates in ISO form as seconds since 1970. ValueError where only some have a time zone."""
    seconds, zoned = [], None
    for row, cell in enumerate(cells):
        try:
            moment = datetime.fromisoformat(cell.strip())
        except ValueError:
            raise ValueError(
                f"{who}: expected a number or a date such as 2026-01-31 12:00, got {cell!r} in {where(row)}, column "
                f"{time!r}; write it in that form"
            ) from None
        if zoned not in (None, moment.tzinfo is not None):
            raise ValueError(
                f"{who}: expected all dates with a time zone, or none, got {cell!r} after {cells[row - 1]!r} in "
                f"{where(row)}, column {time!r}; write all alike"
            )
        zoned = moment.tzinfo is not None
        seconds.append((moment if zoned else moment.replace(tzinfo=UTC)).timestamp())
    return np.array(seconds)
