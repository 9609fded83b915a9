"""Tables as blocks of rows with named columns: text (.csv, .tsv, also .gz), .parquet, data frames in memory.

    for block in table_blocks(path, who, 4096):
        flow = block.numbers("flow")

Training joins the blocks of a file and prediction answers them one by one, so both read the same cells alike.
Every error is one line that names the file, the line or row, and the column.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dist_hdnn.data.checks import Floats
from dist_hdnn.data.readers.cells import Column, numbers
from dist_hdnn.data.readers.frames import frame_columns, plain

TEXT = {".csv": ",", ".tsv": "\t", ".csv.gz": ",", ".tsv.gz": "\t"}
SUFFIXES = (*TEXT, ".parquet")


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive rows of a table by column.

    who: starts every message. columns: the cells of each, text or a column of its library. first: number of the first
    row. lines: file line of each row; None where rows count from 0. index: columns that pandas wrote as
    the row index.
    """

    who: str
    columns: Mapping[str, Any]
    first: int = 0
    lines: Sequence[int] | None = None
    index: tuple[str, ...] = ()

    def where(self, row: int) -> str:
        """Return the name of a row of the block for messages."""
        return f"row {self.first + row}" if self.lines is None else f"line {self.lines[row]}"

    def array(self, name: str) -> Column:
        """Return the cells of a column: numbers with NaN in gaps, times, or objects."""
        return plain(self.columns[name])

    def numbers(self, name: str, remedy: str = "") -> Floats:
        """Return a column as float64, NaN in gaps. ValueError for anything else."""
        return numbers(self.array(name), name, self.who, self.where, remedy)


def suffix_of(path: Path) -> str:
    """Return the suffix of a data file, with the one before .gz."""
    parts = [part.lower() for part in path.suffixes]
    return "".join(parts[-2:]) if parts[-1:] == [".gz"] else "".join(parts[-1:])


def table_blocks(path: Path, who: str, rows: int) -> Iterator[Block]:
    """Read a file of one of SUFFIXES, at most `rows` rows at once. A table without rows has no block."""
    return _parquet_blocks(path, who, rows) if suffix_of(path) == ".parquet" else _text_blocks(path, who, rows)


def frame_block(frame: Any, who: str) -> Block:
    """Return all rows of a data frame of pandas, polars or pyarrow."""
    names = frame_columns(frame)
    _check_names([str(name) for name in names], who)
    return Block(who, {str(name): frame[name] for name in names})


def _text_blocks(path: Path, who: str, rows: int) -> Iterator[Block]:
    delimiter, first = TEXT[suffix_of(path)], 0
    packed = path.suffix.lower() == ".gz"
    try:
        with (gzip.open if packed else open)(path, "rt", newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, delimiter=delimiter)
            header = [cell.strip() for cell in next(reader, [])]
            _check_header(header, delimiter, who)
            lines: list[int] = []
            part: list[list[str]] = []
            for cells in reader:
                if not cells:  # a blank line
                    continue
                if len(cells) != len(header):
                    raise ValueError(
                        f"{who}: expected {len(header)} cells as in the header, got {len(cells)} in line "
                        f"{reader.line_num}; complete or remove that line"
                    )
                part.append(cells)
                lines.append(reader.line_num)
                if len(part) == rows:
                    yield _text_block(who, header, part, first, lines)
                    first, part, lines = first + rows, [], []
            if part:
                yield _text_block(who, header, part, first, lines)
    except (UnicodeDecodeError, csv.Error) as error:
        kind, remedy = ("tab", "as .tsv") if delimiter == "\t" else ("comma", "as .csv")
        if isinstance(error, UnicodeDecodeError):
            reason, remedy = f"the byte 0x{error.object[error.start]:02x} at place {error.start}", "as UTF-8"
        else:
            reason = str(error)
        raise ValueError(f"{who}: expected {kind}-separated UTF-8 text, got {reason}; save it {remedy}") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"{who}: expected a readable file, got {reason}; check its rights, or write it again"
        ) from None


def _text_block(who: str, header: list[str], rows: list[list[str]], first: int, lines: list[int]) -> Block:
    columns = (np.array(cells, dtype=object) for cells in zip(*rows, strict=True))
    return Block(who, dict(zip(header, columns, strict=True)), first, lines)


def _parquet_blocks(path: Path, who: str, rows: int) -> Iterator[Block]:
    try:
        pyarrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    except ImportError:
        raise ValueError(
            f"{who}: expected pyarrow to read .parquet, got none; pip install pyarrow, or save it as .csv"
        ) from None
    first = 0
    try:
        file = parquet.ParquetFile(path)
        names = list(file.schema_arrow.names)
        _check_header(names, ",", who)
        about = json.loads((file.schema_arrow.metadata or {}).get(b"pandas", b"{}"))
        index = tuple(name for name in about.get("index_columns", []) if isinstance(name, str))
        for part in file.iter_batches(rows):
            yield Block(who, {name: part.column(at) for at, name in enumerate(names)}, first, None, index)
            first += len(part)
    except (OSError, pyarrow.ArrowException) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{who}: expected a parquet file, got {reason}; write it again") from None


def _check_header(header: list[str], delimiter: str, who: str) -> None:
    who += ": expected a header line that names the columns"
    if not any(header):
        raise ValueError(f"{who}, got an empty line first; name the columns in the first line")
    marks = ((";", "';'", "save it with commas"), ("\t", "tabs", "name it .tsv"), (",", "commas", "name it .csv"))
    other = next((mark for mark in marks if mark[0] in "".join(header)), None)
    if len(header) == 1 and other:
        wanted = "tabs" if delimiter == "\t" else "commas"
        raise ValueError(f"{who}, separated by {wanted}, got {header[0]!r}, separated by {other[1]}; {other[2]}")
    _check_names(header, who)
    if header[0].startswith("#"):
        raise ValueError(f"{who}, got {header[0]!r} first; remove the #")


def _check_names(names: Sequence[str], who: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        fault = f"the column {repeated[0]!r} twice" if repeated[0] else "two columns without a name"
        raise ValueError(f"{who}, got {fault}; give every column its own name")
