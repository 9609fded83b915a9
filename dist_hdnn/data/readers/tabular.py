"""Tables: which columns are features, which one holds the answers, which one the time, and which are left out.

Whatever a file says is used, named to be ignored, or refused. Every complaint is one line.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.preparation import Floats
from dist_hdnn.data.readers.columns import Columns, read_columns
from dist_hdnn.data.readers.moments import check_order

UNNAMED = ("", "Unnamed: 0")  # what pandas calls its row index in a .csv
COUNTED = 10  # rows from which a column that counts them looks like an index


@dataclass(frozen=True, eq=False)
class Table:
    """Feature columns x (n, features), NaN in gaps, and the target column (n,): float64, or text where all are names.

    lines: the file line of each row; None where rows count from 0.
    """

    names: tuple[str, ...]
    x: Floats
    target: npt.NDArray[np.generic]
    lines: Sequence[int] | None

    def class_names(self) -> tuple[str, ...] | None:
        """The names in the target column in alphabetical order; None where it holds numbers."""
        return tuple(np.unique(self.target).tolist()) if self.target.dtype.kind == "U" else None


def read_table(
    path: Path, target: str, ignore: Sequence[str] = (), time: str | None = None, series: bool = False
) -> Table:
    """The table in a file whose target column has this name. Raises ValueError.

    ignore: columns that are no features. time: the column that the rows are in order of, no feature either. series:
    every time has one row, as windows of rows need it.
    """
    columns = read_columns(path)
    names = feature_columns(columns, target, ignore, time)
    answers = columns.labels(target)
    if time is not None:
        check_order(columns.values[time], time, f"data file {columns.path}", columns.where, series)
    x = np.stack([columns.numbers(name) for name in names], axis=1)
    for name, column in zip(names, x.T, strict=True):
        if len(column) >= COUNTED and column[0] in (0, 1) and np.all(np.diff(column) == 1):
            warnings.warn(
                f"data file {path}: the column {name!r} counts the rows; if it is no reading, name it in data.ignore",
                UserWarning,
                stacklevel=2,
            )
    return Table(names, x, answers, columns.lines)


def feature_columns(columns: Columns, target: str, ignore: Sequence[str], time: str | None) -> tuple[str, ...]:
    """The columns that are features: all but these, and but the row index that pandas writes to .parquet."""
    who, held = f"data file {columns.path}", list(columns.values)
    if target not in held:
        shown = ", ".join(held[:8]) + (", ..." if len(held) > 8 else "")
        near = difflib.get_close_matches(target, held, 1)
        raise ValueError(
            f"{who}: expected a header line of feature columns and one column {target!r}, got {shown!r}; name the "
            f"column of the answers in data.target{f', perhaps {near[0]!r}' if near else ''}"
        )
    for key, name in [*(("data.ignore", name) for name in ignore), *([("data.time", time)] if time else [])]:
        if name not in held:
            near = difflib.get_close_matches(name, held, 1)
            raise ValueError(
                f"{who}: expected a column of the file for {key}, got {name!r}; "
                + (f"did you mean {near[0]!r}?" if near else "correct its name")
            )
    twice = [name for name in {target, time} if name in ignore] or ([target] if target == time else [])
    if twice:
        raise ValueError(
            f"{who}: expected one use of the column {twice[0]!r}, got two of data.target, data.time and data.ignore"
        )
    names = tuple(name for name in held if name not in {target, time, *ignore, *columns.index})
    unnamed = next((name for name in names if name in UNNAMED), None)
    if unnamed is not None:
        raise ValueError(
            f"{who}: got a column without a name ({unnamed!r}), as pandas writes its row index; write the file with "
            f"index=False, or set data.ignore=[{unnamed!r}]"
        )
    if not names:
        raise ValueError(f"{who}: expected feature columns beside {target!r}, got no feature column; add at least one")
    return names
