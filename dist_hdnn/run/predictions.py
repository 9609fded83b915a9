"""Predictions as a table: .csv, written batch by batch, .parquet, or .npz with one array per column.

    row  [columns passed through]  prediction | [predicted_]targets[[t+ahead]]  [probability_<class>]  [agent_<name>]

A file appears whole or not at all.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

SUFFIXES = (".csv", ".parquet", ".npz")
Columns = Mapping[str, Sequence[Any]]


def check_output(path: Path) -> None:
    """Raise ValueError, before anything is predicted, for a file of predictions that cannot be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"output: expected one of the suffixes {', '.join(SUFFIXES)}, got {path.name!r}; rename it")
    if path.exists():
        raise ValueError(f"output: expected a new file, got {path}, which exists; delete it, or choose another name")
    if not path.parent.is_dir():
        raise ValueError(f"output: expected a folder that exists, got {path.parent}; make it, or choose another")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def write_predictions(parts: Iterable[Columns], path: Path | None) -> int:
    """Write tables of the same columns below each other, on stdout without a path, and return the number of rows."""
    if path is None:
        return _write_csv(parts, sys.stdout)
    part = path.with_name(f"{path.name}.part")
    try:
        if path.suffix.lower() == ".csv":
            with part.open("w", encoding="utf-8", newline="") as file:
                rows = _write_csv(parts, file)
        elif path.suffix.lower() == ".parquet":
            rows = _write_parquet(parts, part)
        else:
            rows = _write_npz(parts, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return rows


def _write_csv(parts: Iterable[Columns], file: IO[str]) -> int:
    writer, rows = csv.writer(file, lineterminator="\n"), 0
    for columns in parts:
        if not rows:
            writer.writerow(columns)
        lists = [column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()]
        writer.writerows(zip(*lists, strict=True))
        rows += len(lists[0])
    file.flush()
    return rows


def _write_parquet(parts: Iterable[Columns], path: Path) -> int:
    pyarrow, parquet = _pyarrow()
    tables = [pyarrow.table(dict(columns)) for columns in parts]
    table = pyarrow.concat_tables(tables, promote_options="permissive")  # a part's column may be all gaps
    parquet.write_table(table, path)
    return int(table.num_rows)


def _write_npz(parts: Iterable[Columns], path: Path) -> int:
    tables = list(parts)
    arrays: dict[str, Any] = {name: _joined([part[name] for part in tables]) for name in tables[0]}
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return len(arrays["row"])


def _joined(parts: list[Sequence[Any]]) -> Any:
    """Join cells into an array that loads without pickle: numbers with NaN in gaps, else text, empty in gaps."""
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    cells = [cell for part in parts for cell in part]
    if all(cell is None or isinstance(cell, int | float) for cell in cells):
        return np.array([np.nan if cell is None else cell for cell in cells])
    return np.array(["" if cell is None else str(cell) for cell in cells])


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError("output: expected pyarrow to write .parquet, got none; pip install pyarrow, or .csv") from None
    return pyarrow, pyarrow.parquet
