"""Data sets from files (.csv, .parquet, .npz) and folders of arrays, checked before anything is trained on them.

Every complaint is one line that names the file (or array), what was expected, what was found and what to do.
Shapes: x (samples, features) float64; y (samples,) int64 with 0 <= y < classes.
"""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.checks import cut_arrays, from_arrays, from_parts, validated
from dist_hdnn.data.dataset import Dataset
from dist_hdnn.data.splits import Cut, chosen
from dist_hdnn.data.tabular import read_table

__all__ = ["from_arrays", "read_dataset", "validated"]

SUFFIXES = (".csv", ".parquet", ".npz")
ARRAYS = (("x", "y"), ("train_x", "train_y", "test_x", "test_y"))
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
    path: str | Path,
    classes: int | None = None,
    split: str | None = None,
    test_fraction: float = 0.5,
    seed: int = 0,
    target: str = "label",
    regression: bool = False,
    window: int = 1,
    ahead: int = 0,
    validation_fraction: float = 0.0,
    images: bool = False,
) -> Dataset:
    """The data set in a .csv, .parquet or .npz file, or in a folder of .npy files.

    .csv: comma separated, UTF-8, a header line naming the feature columns and the column `target`. .parquet: the same
    columns; needs pyarrow.
    .npz: arrays x (n, features) and y (n,), split here; or train_x, train_y, test_x, test_y, taken as they are, with
    validation_x and validation_y if wanted. images: x holds images, (n, height, width) or (n, height, width, channels).
    A folder holds the same arrays as x.npy and so on.
    Labels are integers 0 .. classes - 1; without `classes` they are counted and must leave no gap. Labels of a table
    may be names instead: the classes are the names in alphabetical order.
    window, ahead: a table is a time series, a sample sees so many rows and its target lies so many rows later.
    regression: the target is a real number, or in arrays several, (n, targets).
    split: "random" for samples that do not depend on each other, "last" for rows in order of time, "alternate"; has to
    be stated, because no default suits all samples. test_fraction, seed, validation_fraction: see splits.split_indices.
    ValueError for whatever is missing, unreadable or not a number.
    """
    path, cut = Path(path), Cut(split, test_fraction, seed, validation_fraction)
    if not path.exists():
        near = sorted(entry.name for entry in path.parent.glob("*") if entry.suffix in SUFFIXES)[:5]
        found = f"the folder holds {', '.join(near)}" if near else "the folder holds no .csv or .npz file"
        raise ValueError(f"data file {path}: expected a .csv or .npz file, found nothing; {found}; correct data.file")
    if path.is_dir() and path.suffix.lower() not in SUFFIXES:
        return _dataset_of(_npy_arrays(path), path, cut, classes, regression, images)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"data file {path}: expected the suffix .csv or .npz, got {path.suffix!r}; convert or rename it"
        )
    if not path.is_file():
        raise ValueError(f"data file {path}: expected a file, got a folder; name a file inside it")
    if path.stat().st_size == 0:
        raise ValueError(f"data file {path}: expected samples, got an empty file; write it again")
    if path.suffix.lower() == ".npz":
        if window > 1 or ahead:
            raise ValueError(f"data file {path}: expected a table for windows of rows, got arrays; cut them beforehand")
        return _dataset_of(_npz_arrays(path), path, cut, classes, regression, images)
    where = f"data file {path}"
    if images:
        raise ValueError(f"{where}: expected arrays for data.images, got a table; leave data.images out")
    table = read_table(path, target)
    cut = chosen(cut, where)
    if window > 1 or ahead:
        table = table.windows(window, ahead, where)
    names, column = table.names, table.target
    class_names = None if regression else table.class_names()
    if class_names is not None:
        column = np.searchsorted(np.array(class_names), column)
    span = window + ahead
    data = cut_arrays(table.x, column, cut, classes, where, names, regression, table.lines, span=span)
    return replace(data, name=path.stem, class_names=class_names)


def _dataset_of(
    arrays: Mapping[str, npt.NDArray[np.generic]],
    path: Path,
    cut: Cut,
    classes: int | None,
    regression: bool,
    images: bool,
) -> Dataset:
    name = f"data file {path}"
    if "x" not in arrays:
        return from_parts(path.stem, arrays, classes, name, regression, cut, images)
    data = cut_arrays(arrays["x"], arrays["y"], chosen(cut, name), classes, name, regression=regression, images=images)
    return replace(data, name=path.stem)


def _npy_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of a folder of .npy files, read without unpickling anything."""
    held = {file.stem: file for file in sorted(path.glob("*.npy"))}
    wanted = next((keys for keys in ARRAYS if set(keys) <= held.keys()), None)
    if wanted is None:
        raise ValueError(
            f"data file {path}: expected a folder with x.npy, y.npy or train_x.npy, train_y.npy, test_x.npy, "
            f"test_y.npy, got {', '.join(held) or 'no .npy file'}; name a file inside it, or rename the arrays"
        )
    try:
        return {key: np.load(held[key], allow_pickle=False) for key in wanted}
    except UNREADABLE as error:
        raise ValueError(
            f"data file {path}: expected .npy files of plain numbers, got {str(error).splitlines()[0]}; "
            "write them with numpy.save"
        ) from None


def _npz_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of one of the two accepted sets, read without unpickling anything."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = next((keys for keys in ARRAYS if set(keys) <= set(archive.files)), None)
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
