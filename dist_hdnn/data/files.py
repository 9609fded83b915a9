"""Data sets from files (.csv, .npz) and from arrays in memory, checked before anything is trained on them.

Every complaint is one line that names the file (or array), what was expected, what was found and what to do.
Shapes: x (samples, features) float64; y (samples,) int64 with 0 <= y < classes.
"""

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.batches import checked_integer
from dist_hdnn.data.toys import Dataset, Floats, Integers, split_indices

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
        return _split(path.stem, x, y, classes, names, split, test_fraction, seed)
    return _read_npz(path, classes, split, test_fraction, seed)


def from_arrays(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    classes: int | None = None,
    name: str = "data",
    feature_names: Sequence[str] | None = None,
    split: str = "random",
    test_fraction: float = 0.5,
    seed: int = 0,
) -> Dataset:
    """The same for arrays in memory: x (n, features) numbers, y (n,) labels; see read_dataset for the rest."""
    floats, labels, classes = validated(x, y, classes, name, feature_names)
    return _split(name, floats, labels, classes, feature_names, split, test_fraction, seed)


def validated(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    classes: int | None = None,
    name: str = "data",
    feature_names: Sequence[str] | None = None,
    lines: Sequence[int] | None = None,
) -> tuple[Floats, Integers, int]:
    """x as (n, features) float64, y as (n,) int64 and the number of classes, or a ValueError naming the first fault.

    classes: None counts them, and then every class needs a sample (labels 1, 2, 3 are a mistake more often than four
    classes). name: who is checked, starts every message. lines: the file line of each sample, else rows count from 0.
    Raises for fewer than 2 samples, no features, mismatched lengths, other dimensions, NaN or infinity (row and
    column), labels that are not integers or outside 0 .. classes - 1, fewer than 2 classes.
    """
    values = _numbers(x, name, "x")
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(
            f"{name}: expected x of shape (samples, features) with at least one feature, got shape {values.shape}; "
            "reshape it so that each row is one sample"
        )
    if np.ndim(y) != 1:
        raise ValueError(
            f"{name}: expected y of shape (samples,), got shape {np.shape(y)}; give one label per row of x"
        )
    if len(values) != np.shape(y)[0]:
        raise ValueError(
            f"{name}: expected as many labels as rows of x, got {len(values)} rows and {np.shape(y)[0]} labels; "
            "drop the surplus or add what is missing"
        )
    if len(values) < 2:
        raise ValueError(f"{name}: expected at least 2 samples, got {len(values)}; training and test need one each")
    names = _feature_names(values.shape[1], feature_names, name)
    faults = np.argwhere(~np.isfinite(values))
    if len(faults):
        row, column = faults[0]
        raise ValueError(
            f"{name}: expected finite numbers, got {values[row, column]} at {_where(row, lines)}, column "
            f"{names[column]!r} ({len(faults)} such value{'s' * (len(faults) > 1)}); remove or fill in these samples"
        )
    labels = _whole_labels(y, name, lines)
    counted = classes is None
    classes = _count_classes(labels, name) if classes is None else classes
    remedy = "give samples of another class" if counted else "correct data.classes"
    classes = checked_integer(classes, f"{name}: number of classes", 2, remedy)
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        raise ValueError(
            f"{name}: expected labels 0 .. {classes - 1}, got {labels[outside[0]]} at {_where(outside[0], lines)}; "
            "renumber the labels from 0 or correct data.classes"
        )
    return values, labels, classes


def _where(row: int | np.int64, lines: Sequence[int] | None) -> str:
    return f"row {row}" if lines is None else f"line {lines[int(row)]}"


def _numbers(values: npt.ArrayLike, name: str, what: str) -> Floats:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name}: expected real numbers in {what}, got an array of {array.dtype}; convert it to float64"
        )
    return array.astype(np.float64)


def _feature_names(features: int, given: Sequence[str] | None, name: str) -> tuple[str, ...]:
    if given is None:
        return tuple(f"x{i + 1}" for i in range(features))
    if len(given) != features:
        raise ValueError(f"{name}: expected {features} feature names, got {len(given)}; give one per column of x")
    return tuple(given)


def _whole_labels(y: npt.ArrayLike, name: str, lines: Sequence[int] | None = None) -> Integers:
    labels = _numbers(y, name, "the labels")
    # 2**53: above it float64 skips integers, so a label could not be told from its neighbour
    broken = np.flatnonzero(~(np.isfinite(labels) & (np.trunc(labels) == labels) & (np.abs(labels) < 2**53)))
    if len(broken):
        raise ValueError(
            f"{name}: expected integer labels, got {labels[broken[0]]} at {_where(broken[0], lines)}; "
            "number the classes 0, 1, 2, ..."
        )
    return labels.astype(np.int64)


def _count_classes(labels: Integers, name: str) -> int:
    present = np.unique(labels)
    if not np.array_equal(present, np.arange(len(present))):
        shown = ", ".join(str(label) for label in present[:8]) + (", ..." if len(present) > 8 else "")
        raise ValueError(
            f"{name}: expected labels 0, 1, 2, ... without a gap, got {shown}; renumber them from 0, "
            "or set data.classes if some classes have no sample"
        )
    return len(present)


def _split(
    name: str,
    x: Floats,
    y: Integers,
    classes: int,
    feature_names: Sequence[str] | None,
    split: str,
    test_fraction: float,
    seed: int,
) -> Dataset:
    train, test = split_indices(len(y), split, test_fraction, seed)
    names = _feature_names(x.shape[1], feature_names, name)
    return Dataset(name, x[train], y[train], x[test], y[test], classes, names)


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
    arrays = _npz_arrays(path)
    name = f"data file {path}"
    if "x" in arrays:
        x, y, classes = validated(arrays["x"], arrays["y"], classes, name)
        return _split(path.stem, x, y, classes, None, split, test_fraction, seed)
    if classes is None:
        # over both parts: a small test part may lack a class
        parts = [_whole_labels(arrays[part], f"{name}, {part}") for part in ("train_y", "test_y")]
        classes = _count_classes(np.concatenate([part.reshape(-1) for part in parts]), name)
    train_x, train_y, _ = validated(arrays["train_x"], arrays["train_y"], classes, f"{name}, train part")
    test_x, test_y, _ = validated(arrays["test_x"], arrays["test_y"], classes, f"{name}, test part")
    if train_x.shape[1] != test_x.shape[1]:
        raise ValueError(
            f"{name}: expected as many features in test_x as in train_x, got {test_x.shape[1]} and {train_x.shape[1]}; "
            "give both the same columns"
        )
    return Dataset(path.stem, train_x, train_y, test_x, test_y, classes, _feature_names(train_x.shape[1], None, name))


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
