"""Tables from .csv and .parquet files: named columns of numbers, and one column of labels or real targets.

Every complaint is one line that names the file, the line and the column.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.dataset import Floats


@dataclass(frozen=True, eq=False)
class Table:
    """Feature columns x (n, features) and the target column (n,): float64, or text where every cell is a name.

    lines: the file line of each row; None where rows count from 0.
    """

    names: tuple[str, ...]
    x: Floats
    target: npt.NDArray[np.generic]
    lines: Sequence[int] | None

    def class_names(self) -> tuple[str, ...] | None:
        """The names in the target column in alphabetical order; None where it holds numbers."""
        return tuple(np.unique(self.target).tolist()) if self.target.dtype.kind == "U" else None

    def windows(self, length: int, ahead: int, who: str) -> Table:
        """The table of a time series: each row sees `length` rows up to its own, its target lies `ahead` rows later.

        Columns "speed" become "speed[t-1]", "speed[t]", column by column, oldest first. who: starts the message.
        """
        rows = len(self.x) - length + 1 - ahead
        if rows < 2:
            raise ValueError(
                f"{who}: expected at least {length + 1 + ahead} rows for windows of {length} rows and targets {ahead} "
                f"rows ahead, got {len(self.x)}; shorten data.window or data.ahead"
            )
        seen = np.lib.stride_tricks.sliding_window_view(self.x, length, axis=0)[:rows]  # (rows, columns, length)
        lags = [f"[t-{lag}]" if lag else "[t]" for lag in range(length - 1, -1, -1)]
        first = length - 1 + ahead
        return Table(
            names=tuple(name + lag for name in self.names for lag in lags),
            x=seen.reshape(rows, -1),
            target=self.target[first:],
            lines=None if self.lines is None else self.lines[first:],
        )


def read_table(path: Path, target: str) -> Table:
    """The table in a .csv or .parquet file whose target column has this name. Raises ValueError."""
    return _read_parquet(path, target) if path.suffix.lower() == ".parquet" else _read_csv(path, target)


def _answers(path: Path, target: str, cells: list[str], lines: list[int]) -> npt.NDArray[np.generic]:
    """The cells of the target column as numbers, or as names where none of them is a number."""
    wrong = [i for i, cell in enumerate(cells) if not _is_number(cell)]
    if not wrong:
        return np.array([float(cell) for cell in cells])
    blank = next((i for i in wrong if not cells[i]), None)
    if len(wrong) == len(cells) and blank is None:
        return np.array(cells)
    first = wrong[0] if blank is None else blank
    raise ValueError(
        f"data file {path}: expected a number, got {cells[first]!r} in line {lines[first]}, column {target!r}; "
        "write numbers there, or names alone"
    )


def _read_parquet(path: Path, target: str) -> Table:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError(
            f"data file {path}: expected pyarrow to read .parquet, got none; pip install pyarrow, or save it as .csv"
        ) from None
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are among them
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"data file {path}: expected a parquet file, got {reason}; write it again") from None
    names = list(table.column_names)
    place = _target_column(path, names, target)
    columns = [table.column(i).to_numpy() for i in range(len(names))]
    for name, column in zip(names, columns, strict=True):
        if name != target and column.dtype.kind not in "biuf":
            raise ValueError(
                f"data file {path}: expected numbers in column {name!r}, got {column.dtype}; convert or drop the column"
            )
    answers = columns.pop(place)
    if not len(answers):
        raise ValueError(f"data file {path}: expected samples, got none; add at least two rows")
    if answers.dtype.kind not in "biuf":
        answers = _answers(path, target, [str(cell) for cell in answers], list(range(len(answers))))
    return Table(tuple(names[:place] + names[place + 1 :]), np.stack(columns, axis=1).astype(np.float64), answers, None)


def _read_csv(path: Path, target: str) -> Table:
    rows: list[Floats] = []
    answers: list[str] = []
    lines: list[int] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = [cell.strip() for cell in next(reader, [])]
            label = _target_column(path, header, target)
            for cells in reader:
                if cells:
                    answers.append(cells[label].strip() if label < len(cells) else "")
                    rows.append(_row(path, reader.line_num, header, cells, label))
                    lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"data file {path}: expected comma-separated UTF-8 text, got {error}; save it as .csv"
        ) from None
    except OSError as error:
        raise ValueError(
            f"data file {path}: expected a readable file, got {error.strerror}; check its rights"
        ) from None
    if not rows:
        raise ValueError(f"data file {path}: expected samples below the header, got none; add one line per sample")
    names = tuple(header[:label] + header[label + 1 :])
    return Table(names, np.stack(rows), _answers(path, target, answers, lines), lines)


def _target_column(path: Path, header: list[str], target: str) -> int:
    expected = f"data file {path}: expected a header line of feature columns and one column {target!r}"
    shown = ", ".join(header[:8]) + (", ..." if len(header) > 8 else "")
    if header.count(target) != 1:
        raise ValueError(f"{expected}, got {shown!r}; name the columns in the first line, separated by commas")
    if len(header) < 2:
        raise ValueError(f"{expected}, got no feature column; add at least one")
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated or "" in header:
        fault = f"the column {repeated[0]!r} twice" if repeated else "a column without a name"
        raise ValueError(f"{expected}, got {fault}; give every column its own name")
    return header.index(target)


def _row(path: Path, line: int, header: list[str], cells: list[str], target: int) -> Floats:
    if len(cells) != len(header):
        raise ValueError(
            f"data file {path}: expected {len(header)} cells as in the header, got {len(cells)} in line {line}; "
            "complete or remove that line"
        )
    names, numbers = header[:target] + header[target + 1 :], cells[:target] + cells[target + 1 :]
    try:
        return np.array([float(cell) for cell in numbers], dtype=np.float64)
    except ValueError:
        column, cell = next((c, cell) for c, cell in zip(names, numbers, strict=True) if not _is_number(cell))
        raise ValueError(
            f"data file {path}: expected a number, got {cell!r} in line {line}, column {column!r}; "
            "write a number there or remove that line"
        ) from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
