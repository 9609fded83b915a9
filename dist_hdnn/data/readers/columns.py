"""The columns of a table as its file holds them: text files (.csv, .tsv, also .gz) and .parquet.

Numbers are read as people write them: `2021_05` and `1,234` are none, `true` and `false` are 1 and 0. Every complaint
is one line that names the file, the line and the column.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.preparation import Floats

TEXT = {".csv": ",", ".tsv": "\t", ".csv.gz": ",", ".tsv.gz": "\t"}
SUFFIXES = (*TEXT, ".parquet")
GAPS = {"", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "<na>", "nat"}
WORDS = {"true": 1.0, "false": 0.0}
CHUNK = 4096  # rows that are text at a time


@dataclass(frozen=True, eq=False)
class Columns:
    """A table by column: float64 with NaN in gaps where all cells are numbers or gaps, else text (or what parquet has).

    lines: the file line of each row; None where rows count from 0. index: columns that pandas wrote as the row index.
    """

    path: Path
    values: dict[str, npt.NDArray[Any]]
    lines: Sequence[int] | None
    index: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.values.values()))) if self.values else 0

    def where(self, row: int | np.int64) -> str:
        """Where a row stands in the file, for messages."""
        return f"row {row}" if self.lines is None else f"line {self.lines[int(row)]}"

    def numbers(self, name: str) -> Floats:
        """A column as float64, NaN in gaps. ValueError for anything else, and for infinity."""
        values = self.values[name]
        if values.dtype.kind in "biuf":
            return values.astype(np.float64)
        cells = texts(values)
        for row, cell in enumerate(cells):
            if number(cell) is None:
                raise ValueError(
                    f"data file {self.path}: expected a number, got {cell!r} in {self.where(row)}, column "
                    f"{name!r}; write a number there (1234.5), remove that line, or name the column in data.ignore "
                    "(in data.time if rows are in its order)"
                )
        return np.array([number(cell) for cell in cells], dtype=np.float64)

    def labels(self, name: str) -> npt.NDArray[Any]:
        """A column of answers: float64, or text where no cell is a number. ValueError for gaps and for a mixture."""
        values = self.values[name]
        cells = None if values.dtype.kind in "biuf" else [cell.strip() for cell in texts(values)]
        gap = np.isnan(values.astype(np.float64)) if cells is None else [cell.lower() in GAPS for cell in cells]
        for row in np.flatnonzero(gap)[:1]:
            shown = "nan" if cells is None else cells[row]
            raise ValueError(
                f"data file {self.path}: expected an answer, got the gap {shown!r} in {self.where(row)}, column "
                f"{name!r}; write a number or a name there, or remove that line"
            )
        if cells is None:
            return values.astype(np.float64)
        numbers = [number(cell) is not None and cell.lower() not in WORDS for cell in cells]
        if any(numbers) and not all(numbers):
            few = sum(numbers) * 2 <= len(numbers)  # blame what is rarer
            row = numbers.index(few)
            raise ValueError(
                f"data file {self.path}: expected {'a name' if few else 'a number'}, got {cells[row]!r} in "
                f"{self.where(row)}, column {name!r}; write numbers there, or names alone"
            )
        return np.array([float(cell) for cell in cells]) if all(numbers) else np.array(cells)


def suffix_of(path: Path) -> str:
    """The suffix of a data file, with that below .gz."""
    parts = [part.lower() for part in path.suffixes]
    return "".join(parts[-2:]) if parts[-1:] == [".gz"] else "".join(parts[-1:])


def read_columns(path: Path) -> Columns:
    """The columns of a .csv, .tsv (also .gz) or .parquet file. Raises ValueError."""
    found = _read_parquet(path) if suffix_of(path) == ".parquet" else _read_text(path, TEXT[suffix_of(path)])
    if not found.rows:
        raise ValueError(f"data file {path}: expected samples below the header, got none; add one line per sample")
    return found


def _read_text(path: Path, delimiter: str) -> Columns:
    lines: list[int] = []
    try:
        with opened(path) as stream:
            reader = csv.reader(stream, delimiter=delimiter)
            header = [cell.strip() for cell in next(reader, [])]
            check_header(path, header, delimiter)
            parts = [
                [_typed(cells) for cells in zip(*rows, strict=True)] for rows in _chunks(path, reader, header, lines)
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        word, where = ("tab", ".tsv") if delimiter == "\t" else ("comma", ".csv")
        remedy = "save it as UTF-8" if isinstance(error, UnicodeDecodeError) else f"write it again as {where}"
        raise ValueError(
            f"data file {path}: expected {word}-separated UTF-8 text, got {_reason(error)}; {remedy}"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"data file {path}: expected a readable file, got {_reason(error)}; check its rights, or write it again"
        ) from None
    columns = zip(*parts, strict=True) if parts else ([] for _ in header)
    return Columns(path, {name: _joined(list(part)) for name, part in zip(header, columns, strict=True)}, lines)


def opened(path: Path) -> io.TextIOBase | Any:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", newline="", encoding="utf-8-sig")
    return path.open(newline="", encoding="utf-8-sig")


def check_header(path: Path, header: list[str], delimiter: str) -> None:
    who = f"data file {path}: expected a header line that names the columns"
    if not any(header):
        raise ValueError(f"{who}, got an empty line first; name the columns in the first line")
    other = next(
        (word for mark, word in ((";", "';'"), ("\t", "tabs"), (",", "commas")) if mark in "".join(header)), None
    )
    if len(header) == 1 and other:
        remedy = "name it .tsv" if other == "tabs" else "name it .csv" if other == "commas" else "save it with commas"
        raise ValueError(f"{who}, separated by {_words(delimiter)}, got {header[0]!r}, separated by {other}; {remedy}")
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        fault = f"the column {repeated[0]!r} twice" if repeated[0] else "two columns without a name"
        raise ValueError(f"{who}, got {fault}; give every column its own name")
    if header and header[0].startswith("#"):
        raise ValueError(f"{who}, got {header[0]!r} first; remove the #")


def _words(delimiter: str) -> str:
    return "tabs" if delimiter == "\t" else "commas"


def _chunks(path: Path, reader: Any, header: list[str], lines: list[int]) -> Iterator[list[list[str]]]:
    """The rows, some thousand at a time; blank lines are skipped."""
    rows: list[list[str]] = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"data file {path}: expected {len(header)} cells as in the header, got {len(cells)} in line "
                f"{reader.line_num}; complete or remove that line"
            )
        rows.append(cells)
        lines.append(reader.line_num)
        if len(rows) == CHUNK:
            yield rows
            rows = []
    if rows:
        yield rows


def number(cell: str) -> float | None:
    """A cell as a number, NaN for a gap; None for anything else."""
    text = cell.strip().lower()
    if text in GAPS:
        return float("nan")
    if "_" in text or not text.isascii():  # Python reads 2021_05 as 202105, and digits of every script
        return WORDS.get(text)
    try:
        return float(text)
    except ValueError:
        return WORDS.get(text)


def _typed(cells: Sequence[str]) -> npt.NDArray[Any]:
    """Cells as float64 where all are numbers or gaps, none of them true or false; else as text."""
    text = "".join(cells)
    if text.isascii() and "_" not in text:  # the usual case, and faster
        with suppress(ValueError):
            return np.array([float(cell) for cell in cells])
    found = [number(cell) for cell in cells]
    if None in found or any(cell.strip().lower() in WORDS for cell in cells):
        return np.array(cells, dtype=object)
    return np.array(found, dtype=np.float64)


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if all(part.dtype.kind == "f" for part in parts):
        return np.concatenate(parts) if parts else np.zeros(0)
    return np.concatenate([part.astype(str).astype(object) if part.dtype.kind == "f" else part for part in parts])


def _read_parquet(path: Path) -> Columns:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError(
            f"data file {path}: expected pyarrow to read .parquet, got none; pip install pyarrow, or save it as .csv"
        ) from None
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are among them
        raise ValueError(f"data file {path}: expected a parquet file, got {_reason(error)}; write it again") from None
    names = list(table.column_names)
    check_header(path, names, ",")
    written = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    index = tuple(name for name in written.get("index_columns", []) if isinstance(name, str))
    values = {name: table.column(place).to_numpy() for place, name in enumerate(names)}
    return Columns(path, {name: _of_objects(column) for name, column in values.items()}, None, index)


def _of_objects(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Objects with gaps among them (None) as text with empty cells; numbers and times as they are."""
    return np.array(texts(column), dtype=object) if column.dtype.kind == "O" else column


def texts(column: npt.NDArray[Any]) -> list[str]:
    """Cells as text, gaps empty. Times as ISO dates, which numpy's own lists would have as counts of nanoseconds."""
    return ["" if cell is None else str(cell) for cell in column]


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"the byte 0x{error.object[error.start]:02x} at place {error.start}"
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__
