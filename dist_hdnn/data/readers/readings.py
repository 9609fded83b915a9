"""Readings for a trained network: rows of a file, a data frame or an array, in batches that bound the memory.

    for part in points(source, preparation, keep, batch, who): ...

Columns of tables are found by their names, in any order. The target and ignored columns may be there and are not
read. Any other column has to be named (`keep`), so that none is used, or left out, in silence.
Every error is one line that names the file, the line or row, and the column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.data.checks import check_finite, some
from dist_hdnn.data.preparation import Preparation
from dist_hdnn.data.readers.cells import check_order
from dist_hdnn.data.readers.files import check_file, load_arrays
from dist_hdnn.data.readers.frames import collected, column_cells, is_frame, plain
from dist_hdnn.data.readers.long import wide
from dist_hdnn.data.readers.tables import SUFFIXES, Block, frame_block, suffix_of, table_blocks


class Rows(NamedTuple):
    """Rows of a source: the number of the first, x (n, columns or features), the columns that are passed through."""

    first: int
    x: NDArray[Any]
    kept: Mapping[str, Sequence[Any]]


def points(source: Any, preparation: Preparation, keep: Sequence[str], batch: int, who: str) -> Iterator[Rows]:
    """Yield the points that `Preparation.points` makes of all rows of a source, at most `batch` rows at once.

    preparation: of the run, with a name for each column. `first` of a part is the row that its first point is about.
    Rows before a window is full are left out. ValueError where that leaves none.
    """
    window, seen = preparation.window, 0
    held = np.empty((0, len(preparation.columns)))  # rows that the next windows reach back to
    before = held  # (1, columns), the last readings among the rows before those, where gaps are filled with them
    for part in readings(source, preparation, keep, batch, who):
        block = np.concatenate([held, part.x]) if len(held) else part.x
        rows = len(block) - window + 1
        seen += len(part.x)
        if rows > 0:
            whole = np.concatenate([before, block]) if len(before) else block
            kept = {name: cells[len(cells) - rows :] for name, cells in part.kept.items()}
            yield Rows(part.first + len(part.x) - rows, preparation.points(whole)[-rows:], kept)
        leaving, held = block[: max(rows, 0)], block[max(rows, 0) :]
        if preparation.fill == "last" and len(leaving):
            before = _last(np.concatenate([before, leaving]))
    if not seen:
        raise ValueError(f"{who}: expected rows of readings, got none; add at least one")
    if seen < window:
        raise ValueError(f"{who}: expected at least {window} rows for a window of as many, got {seen}; add some")


def _last(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the last reading of every column, (1, columns), or NaN."""
    last = np.where(np.isnan(rows), -1, np.arange(len(rows))[:, None]).max(axis=0)  # row of it, -1 for none
    return np.where(last < 0, np.nan, rows[last, np.arange(rows.shape[1])])[None]


def readings(source: Any, preparation: Preparation, keep: Sequence[str], batch: int, who: str) -> Iterator[Rows]:
    """Read the rows of a path, a data frame or an array, at most `batch` at once, as they come."""
    source = collected(source)
    if isinstance(source, str | Path):
        path = Path(source)
        check_file(path, who, (*SUFFIXES, ".npz", ".npy"), "correct the path")
        if suffix_of(path) in SUFFIXES:
            yield from _of_table(table_blocks(path, who, batch), preparation, keep, batch)
            return
        if keep:
            raise ValueError(f"{who}: expected a table for --keep, got arrays; leave it out")
        source = _array_in(path, who)
    elif is_frame(source):
        yield from _of_table(iter([frame_block(source, who)]), preparation, keep, batch)
        return
    yield from _of_array(plain(source), preparation, batch, who)


def _of_table(blocks: Iterator[Block], preparation: Preparation, keep: Sequence[str], batch: int) -> Iterator[Rows]:
    columns, series = preparation.columns, preparation.window > 1
    if preparation.agent is not None and preparation.time is not None:
        first = list(blocks)
        who = first[0].who if first else "predict"
        kept_out = [*preparation.ignored, *keep]
        block, owners = wide(first, preparation.agent, preparation.time, kept_out, who, series)
        agents = {*preparation.observers.values(), *preparation.targets.values()}
        strangers = [owner for owner in owners.values() if owner not in agents]
        if strangers:
            raise ValueError(
                f"{who}: expected agents among {some(sorted(map(str, agents)))} in column {preparation.agent!r}, got "
                f"{strangers[0]!r}; drop its rows"
            )
        times = len(block.columns[preparation.time])
        silent = {name: np.full(times, "", dtype=object) for name in columns if name not in block.columns}
        blocks = iter([replace(block, columns={**block.columns, **silent})])
    time = preparation.time if series or preparation.fill == "last" else None
    before: NDArray[Any] | None = None  # the time of the last row
    for block in blocks:
        passed = preparation.check_columns(tuple(block.columns), block.who, keep, block.index)
        if time is not None and time in block.columns:
            before = _check_times(block, time, before, series)
        x = np.stack([block.numbers(name) for name in columns], axis=1)
        check_finite(x, columns, block.who, block.where, gaps=preparation.fill is not None)
        kept = {name: column_cells(block.columns[held]) for name, held in passed.items()}
        for start in range(0, len(x), batch):
            rows = slice(start, start + batch)
            yield Rows(block.first + start, x[rows], {name: cells[rows] for name, cells in kept.items()})


def _check_times(block: Block, time: str, before: NDArray[Any] | None, series: bool) -> NDArray[Any]:
    """Refuse rows that are not in order of the column `time`, and return the time of the last row, (1,).

    before: the time of the last row of the block before.
    """
    times = block.array(time)
    if before is not None:
        check_order(np.concatenate([before, times[:1]]), time, block.who, lambda _: block.where(0), series)
    check_order(times, time, block.who, block.where, series)
    return times[-1:]


def _of_array(values: NDArray[Any], preparation: Preparation, batch: int, who: str) -> Iterator[Rows]:
    columns = preparation.columns
    width = len(columns)
    if values.ndim < 2 or np.prod(values.shape[1:]) != width:
        raise ValueError(
            f"{who}: expected {width} readings per row ({some(columns)}), got an array of shape {values.shape}; "
            "give one row per sample"
        )
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{who}: expected real numbers, got an array of {values.dtype}; convert it to float64")
    for first in range(0, len(values), batch):
        x = np.asarray(values[first : first + batch]).reshape(-1, width)
        check_finite(x, columns, who, Block(who, {}, first).where, gaps=preparation.fill is not None)
        yield Rows(first, x, {})


def _array_in(path: Path, who: str) -> NDArray[Any]:
    """Return the array of an .npy file, or the one named x, or the only one, of an .npz file."""
    held, arrays = load_arrays(path, who, lambda names: ["x"] if "x" in names else list(names)[:1])
    if "x" not in held and len(held) != 1:
        raise ValueError(f"{who}: expected an array x, got {', '.join(held) or 'none'}; name it x")
    return next(iter(arrays.values()))
