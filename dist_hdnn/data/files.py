"""Data sets from files (.csv, .npz) and from arrays in memory, checked before anything is trained on them.

Every complaint is one line that names the file (or array), what was expected, what was found and what to do.
Shapes: x (samples, features) float64; y (samples,) int64 with 0 <= y < classes.
"""

import csv
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.checks import from_arrays, from_parts, validated
from dist_hdnn.data.toys import Dataset, Floats, split_indices

LABEL = "label"
# what numpy.load raises on damaged, encrypted, pickled or foreign archives
UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    AttributeError,
    TypeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_dataset(
    path: str | Path, classes: int | None = None, split: str = "random", test_fraction: float = 0.5, seed: int = 0
) -> Dataset:
    """The data set in a .csv or .npz file.

    .csv: comma separated, UTF-8, a header line naming the feature columns and one column `label`.
    .npz: arrays x (n, features) and y (n,), split here; or train_x, train_y, test_x, test_y, taken as they are.
    Labels are integers 0 .. classes - 1; without `classes` they are counted and must leave no gap.
    split, test_fraction, seed: see toys.split_indices. ValueError for whatever is missing, unreadable or not a number.
    """
    path = Path(path)
    if not path.exists():
        near = sorted(entry.name for entry in path.parent.glob("*") if entry.suffix in (".csv", ".npz"))[:5]
        found = f"the folder holds {', '.join(near)}" if near else "the folder holds no .csv or .npz file"
        raise ValueError(f"data file {path}: expected a .csv or .npz file, found nothing; {found}; correct data.file")
    if path.suffix.lower() not in (".csv", ".npz"):
        raise ValueError(
            f"data file {path}: expected the suffix .csv or .npz, got {path.suffix!r}; convert or rename it"
        )
    if not path.is_file():
        raise ValueError(f"data file {path}: expected a file, got a folder; name a file inside it")
    if path.stat().st_size == 0:
        raise ValueError(f"data file {path}: expected samples, got an empty file; write it again")
    if path.suffix.lower() == ".csv":
        table, column, names, lines = _read_csv(path)
        x, y, classes = validated(table, column, classes, f"data file {path}", names, lines)
        train, test = split_indices(len(y), split, test_fraction, seed)
        return Dataset(path.stem, x[train], y[train], x[test], y[test], classes, tuple(names))
    return _read_npz(path, classes, split, test_fraction, seed)


def _read_csv(path: Path) -> tuple[Floats, Floats, list[str], list[int]]:
    """Features, labels (still floats), feature names and the file line of each sample."""
    rows: list[Floats] = []
    lines: list[int] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = [cell.strip() for cell in next(reader, [])]
            label = _label_column(path, header)
            for cells in reader:
                if cells:
                    rows.append(_row(path, reader.line_num, header, cells))
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
    table = np.stack(rows)
    names = header[:label] + header[label + 1 :]
    return np.delete(table, label, axis=1), table[:, label], names, lines


def _label_column(path: Path, header: list[str]) -> int:
    expected = f"data file {path}: expected a header line of feature columns and one column {LABEL!r}"
    shown = ", ".join(header[:8]) + (", ..." if len(header) > 8 else "")
    if header.count(LABEL) != 1:
        raise ValueError(f"{expected}, got {shown!r}; name the columns in the first line, separated by commas")
    if len(header) < 2:
        raise ValueError(f"{expected}, got no feature column; add at least one")
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated or "" in header:
        fault = f"the column {repeated[0]!r} twice" if repeated else "a column without a name"
        raise ValueError(f"{expected}, got {fault}; give every column its own name")
    return header.index(LABEL)


def _row(path: Path, line: int, header: list[str], cells: list[str]) -> Floats:
    if len(cells) != len(header):
        raise ValueError(
            f"data file {path}: expected {len(header)} cells as in the header, got {len(cells)} in line {line}; "
            "complete or remove that line"
        )
    try:
        return np.array([float(cell) for cell in cells], dtype=np.float64)
    except ValueError:
        column, cell = next((c, cell) for c, cell in zip(header, cells, strict=True) if not _is_number(cell))
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


def _read_npz(path: Path, classes: int | None, split: str, test_fraction: float, seed: int) -> Dataset:
    arrays, name = _npz_arrays(path), f"data file {path}"
    if "x" not in arrays:
        return from_parts(path.stem, arrays, classes, name)
    data = from_arrays(arrays["x"], arrays["y"], classes, name, None, split, test_fraction, seed)
    return replace(data, name=path.stem)


def _npz_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of one of the two accepted sets, read without unpickling anything."""
    pair, four = ("x", "y"), ("train_x", "train_y", "test_x", "test_y")
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = next((keys for keys in (pair, four) if set(keys) <= set(archive.files)), None)
            held = ", ".join(archive.files)
            if wanted is not None:
                return {key: archive[key] for key in wanted}
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"data file {path}: expected an .npz archive of plain number arrays, got {reason}; "
            "write it with numpy.savez"
        ) from None
    raise ValueError(
        f"data file {path}: expected the arrays x, y or train_x, train_y, test_x, test_y, got {held or 'no array'}; "
        "rename them in numpy.savez"
    )
