"""What a trained network is asked about: rows of a file, a data frame or an array, in batches that bound the memory.

    for part in readings(source, Wanted(columns=("flow", "heat"))): ...

Columns of tables are found by their names, in whatever order; the target column may be there and is not read. Other
columns have to be asked for (`keep`), so that none is taken for a feature, or left out, in silence.
Every complaint is one line that names the file, the line or row and the column.
"""

from __future__ import annotations

import csv
import difflib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.data.readers.columns import TEXT, check_header, number, opened, suffix_of, texts
from dist_hdnn.data.readers.frames import collected, column_cells, frame_columns, is_frame, plain

SUFFIXES = (*TEXT, ".parquet", ".npz", ".npy")
INDEX = ("", "Unnamed: 0", "__index_level_0__")  # what pandas calls an index without a name


@dataclass(frozen=True)
class Wanted:
    """Which columns are readings, in order; images have rows of so many pixels.

    skip: columns that may be there and are not read. passed: columns that are passed through where they are. keep:
    that have to be there, too. gaps: whether a reading may be missing (NaN).
    """

    columns: tuple[str, ...]
    skip: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    gaps: bool = False


class Rows(NamedTuple):
    """Rows of a source: the number of the first, readings (n, columns) and the columns that are passed through."""

    first: int
    x: NDArray[Any]
    kept: Mapping[str, Sequence[Any]]


@dataclass
class _Table:
    """Where the columns of a table stand that are wanted."""

    columns: list[int]
    kept: dict[str, int] = field(default_factory=dict)


def readings(source: Any, wanted: Wanted, batch: int, who: str) -> Iterator[Rows]:
    """Read the rows of a path, a data frame or an array, at most `batch` at once.

    A frame is what has `columns` and gives one by its name, as those of pandas, polars and pyarrow do. who:
    starts every message. Raises ValueError for what cannot be read, and for no row at all.
    """
    parts = _parts(source, wanted, batch, who)
    first = next(parts, None)
    if first is None:
        raise ValueError(f"{who}: expected rows of readings, got none; add at least one")
    yield first
    yield from parts


def _parts(source: Any, wanted: Wanted, batch: int, who: str) -> Iterator[Rows]:
    source = collected(source)
    if isinstance(source, str | Path):
        yield from _of_file(Path(source), wanted, batch, who)
    elif is_frame(source):
        names = frame_columns(source)
        table = _places([str(name) for name in names], wanted, who)
        columns = [plain(source[names[place]]) for place in table.columns]
        kept = {name: column_cells(source[names[place]]) for name, place in table.kept.items()}
        for first in range(0, len(columns[0]), batch):
            rows = slice(first, first + batch)
            x = _stacked([column[rows] for column in columns], wanted, who, first)
            yield Rows(first, x, {name: cells[rows] for name, cells in kept.items()})
    else:
        yield from _of_array(source, wanted, who, batch)


def _of_file(path: Path, wanted: Wanted, batch: int, who: str) -> Iterator[Rows]:
    suffix = suffix_of(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise ValueError(f"{who}: expected a file of readings ({', '.join(SUFFIXES)}), found {found}; correct the path")
    if suffix not in SUFFIXES:
        raise ValueError(f"{who}: expected one of the suffixes {', '.join(SUFFIXES)}, got {suffix!r}; convert the file")
    if suffix in TEXT:
        yield from _of_text(path, wanted, who, batch)
    elif suffix == ".parquet":
        yield from _of_parquet(path, wanted, who, batch)
    else:
        if wanted.keep:
            raise ValueError(f"{who}: expected a table for --keep, got arrays; leave it out")
        yield from _of_array(_loaded(path, who), wanted, who, batch)


def _of_text(path: Path, wanted: Wanted, who: str, batch: int) -> Iterator[Rows]:
    first, delimiter = 0, TEXT[suffix_of(path)]
    try:
        with opened(path) as stream:
            reader = csv.reader(stream, delimiter=delimiter)
            header = [cell.strip() for cell in next(reader, [])]
            if header:
                check_header(path, header, delimiter)
            table = _places(header, wanted, who)
            lines: list[tuple[int, list[str]]] = []
            for cells in reader:
                if cells:
                    lines.append((reader.line_num, cells))
                if len(lines) == batch:
                    yield _parsed(lines, header, table, wanted, who, first)
                    first, lines = first + batch, []
            if lines:
                yield _parsed(lines, header, table, wanted, who, first)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{who}: expected a table as UTF-8 text, got {error}; save it as UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{who}: expected a readable file, got {reason}; write it again") from None


def _parsed(
    lines: list[tuple[int, list[str]]], header: list[str], table: _Table, wanted: Wanted, who: str, first: int
) -> Rows:
    x = np.empty((len(lines), len(table.columns)))
    for row, (line, cells) in enumerate(lines):
        if len(cells) != len(header):
            raise ValueError(
                f"{who}: expected {len(header)} cells as in the header, got {len(cells)} in line {line}; complete it"
            )
        for place, column in enumerate(table.columns):
            value = number(cells[column])
            if value is None or np.isinf(value) or (np.isnan(value) and not wanted.gaps):
                raise ValueError(
                    f"{who}: expected a number, got {cells[column]!r} in line {line}, column {header[column]!r}; "
                    "write a number there"
                )
            x[row, place] = value
    return Rows(first, x, {name: [cells[at] for _, cells in lines] for name, at in table.kept.items()})


def _of_parquet(path: Path, wanted: Wanted, who: str, batch: int) -> Iterator[Rows]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{who}: expected pyarrow to read .parquet, got none; pip install pyarrow") from None
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{who}: expected a parquet file, got {reason}; write it again") from None
    about = json.loads((file.schema_arrow.metadata or {}).get(b"pandas", b"{}"))
    index = tuple(name for name in about.get("index_columns", []) if isinstance(name, str))
    table = _places(list(file.schema_arrow.names), wanted, who, index)
    first = 0
    for part in file.iter_batches(batch):
        columns = [part.column(at).to_numpy(zero_copy_only=False) for at in table.columns]
        kept = {name: part.column(at).to_pylist() for name, at in table.kept.items()}
        yield Rows(first, _stacked(columns, wanted, who, first), kept)
        first += len(part)


def _loaded(path: Path, who: str) -> NDArray[Any]:
    """The array of an .npy file, or the one named x, or the only one, of an .npz file."""
    try:
        found = np.load(path, mmap_mode="r" if path.suffix.lower() == ".npy" else None, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            names = list(found.files)
            name = "x" if "x" in names else names[0] if len(names) == 1 else None
            if name is not None:
                return np.asarray(found[name])
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{who}: expected plain arrays of numbers, got {reason}; write it with numpy.save") from None
    raise ValueError(f"{who}: expected an array x, got {', '.join(names) or 'none'}; name it x")


def _of_array(values: Any, wanted: Wanted, who: str, batch: int) -> Iterator[Rows]:
    values = plain(values)
    width = len(wanted.columns)
    if values.ndim < 2 or np.prod(values.shape[1:]) != width:
        raise ValueError(
            f"{who}: expected {width} readings a row ({_some(wanted.columns)}), got an array of shape {values.shape}; "
            "give one row per sample"
        )
    for first in range(0, len(values), batch):
        part = np.asarray(values[first : first + batch]).reshape(-1, width)
        yield Rows(first, _checked(part, wanted, who, first), {})


def _stacked(columns: list[NDArray[Any]], wanted: Wanted, who: str, first: int) -> NDArray[Any]:
    numbers = [_numbers(column, name, who, first) for name, column in zip(wanted.columns, columns, strict=True)]
    return _checked(np.stack(numbers, axis=1), wanted, who, first)


def _numbers(column: NDArray[Any], name: str, who: str, first: int) -> NDArray[Any]:
    """A column as float64; one of text, of Decimals or with None in gaps is read as training reads it."""
    if column.dtype.kind in "biuf":
        return column.astype(np.float64)
    found = [number(cell) for cell in texts(column)]
    if None in found:
        row = found.index(None)
        raise ValueError(
            f"{who}: expected numbers in column {name!r}, got {str(column[row])!r} in row {first + row}; convert the "
            "column"
        )
    return np.array(found, dtype=np.float64)


def _checked(values: NDArray[Any], wanted: Wanted, who: str, first: int) -> NDArray[Any]:
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{who}: expected real numbers, got an array of {values.dtype}; convert it to float64")
    wrong = np.isinf(values) if wanted.gaps else ~np.isfinite(values)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"{who}: expected finite numbers, got {values[row, column]} in row {first + row}, column "
            f"{wanted.columns[column]!r}; remove that row or fill it in"
        )
    return values


def _places(header: list[str], wanted: Wanted, who: str, index: tuple[str, ...] = ()) -> _Table:
    """Where the wanted columns stand under these names. Raises ValueError for one that lacks, repeats or is unknown."""
    if not header:
        raise ValueError(f"{who}: expected a header line naming the columns {_some(wanted.columns)}, got an empty file")
    known = {*wanted.columns, *wanted.skip, *wanted.keep}
    index = tuple(name for name in header if name in {*index, *INDEX, *wanted.passed} and name not in known)
    for name in (*wanted.columns, *wanted.keep):
        if header.count(name) != 1:
            others = {other.casefold(): other for other in header if other not in known}
            near = [others[word] for word in difflib.get_close_matches(name.casefold(), others, 1)]
            got = f"{name!r} twice" if name in header else f"no {name!r}"
            remedy = f"is it {near[0]!r}?" if near else f"the columns are {_some(header)}"
            if not {*header} & known:
                remedy = f"the first line is {_some(header)} and has to name the columns"
            raise ValueError(
                f"{who}: expected the columns {_some((*wanted.columns, *wanted.keep))}, got {got}; {remedy}"
            )
    unknown = [name for name in header if name not in known and name not in index]
    if unknown:
        raise ValueError(
            f"{who}: expected the columns {_some(wanted.columns)}, got {_some([repr(name) for name in unknown])} too; "
            f"give --keep={','.join(unknown)} to pass columns through, or remove them"
        )
    kept = {"index" if name in INDEX else name: header.index(name) for name in (*index, *wanted.keep)}
    return _Table([header.index(name) for name in wanted.columns], kept)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f", ... ({len(names)})" if len(names) > 8 else "")
