"""Data sets from files (.csv, .parquet, .npz) and folders of arrays, checked before anything is trained on them.

Every complaint is one line that names the file (or array), what was expected, what was found and what to do.
Shapes: x (samples, features) float64; y (samples,) int64 with 0 <= y < classes.
"""

import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.arrays import cut_arrays, from_arrays, from_parts
from dist_hdnn.data.checks import validated
from dist_hdnn.data.dataset import Dataset
from dist_hdnn.data.preparation import Preparation
from dist_hdnn.data.readers.columns import SUFFIXES, suffix_of
from dist_hdnn.data.readers.tabular import read_table
from dist_hdnn.data.splits import Cut, under_cut

__all__ = ["from_arrays", "read_dataset", "validated"]

ARRAYS = (("x", "y"), ("train_x", "train_y", "test_x", "test_y"))
VALIDATION = ("validation_x", "validation_y")
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
    ignore: Sequence[str] = (),
    time: str | None = None,
    missing: str | None = None,
    indicator: bool = True,
) -> Dataset:
    """The data set in a .csv, .tsv, .parquet or .npz file, or in a folder of .npy files.

    .csv, .tsv (also .csv.gz, .tsv.gz): UTF-8, separated by commas or tabs, a header line naming the feature columns and
    the column `target`. .parquet: the same columns; needs pyarrow; a row index that pandas wrote is no feature.
    .npz: arrays x (n, features) and y (n,), split here; or train_x, train_y, test_x, test_y, taken as they are, with
    validation_x and validation_y if wanted. images: x holds images, (n, height, width) or (n, height, width, channels).
    A folder holds the same arrays as x.npy and so on.
    Labels are integers 0 .. classes - 1; without `classes` they are counted and must leave no gap. Labels of a table
    may be names instead: the classes are the names in alphabetical order.
    ignore: columns of a table that are no features. time: the column that its rows are in order of, no feature either.
    window, ahead: a table is a time series, a sample sees so many rows and its target lies so many rows later.
    missing: what a gap among the features becomes: "mean" or "zero" of the training rows' column, "last" (the reading
    before it); None refuses gaps. indicator: each column with gaps in the training rows gets a feature that marks them.
    regression: the target is a real number, or in arrays several, (n, targets).
    split: "random" for samples that do not depend on each other, "last" for rows in order of time, "alternate". No
    default suits all samples, so without one the columns and classes are known, but the parts raise ValueError; with
    `time` it is "last". test_fraction, seed, validation_fraction: see splits.split_indices.
    ValueError for whatever is missing, unreadable or not a number.
    """
    path, where = Path(path), f"data file {path}"
    _check_file(path)
    if time is not None and split is None:
        split = "last"
    cut = Cut(split, test_fraction, seed, validation_fraction)
    blank = Preparation(
        window=window, ahead=ahead, fill=missing, indicator=indicator, target=target, ignored=tuple(ignore), time=time
    )
    if suffix_of(path) in SUFFIXES:
        if images:
            raise ValueError(f"{where}: expected arrays for data.images, got a table; leave data.images out")
        return _dataset_of_table(path, cut, classes, regression, blank)
    options = {"windows of rows": window > 1 or ahead > 0, "data.ignore": bool(ignore), "data.time": time is not None}
    for option, given in options.items():
        if given:
            raise ValueError(f"{where}: expected a table for {option}, got arrays; cut them beforehand")
    arrays = _npy_arrays(path) if path.is_dir() else _npz_arrays(path)
    return _dataset_of(arrays, path, cut, classes, regression, images, replace(blank, target=None))


def _check_file(path: Path) -> None:
    """Refuse what is not there, is empty or has a suffix that nobody reads."""
    kinds = f"{', '.join(SUFFIXES)} or .npz"
    try:
        there = path.exists()
    except OSError as error:  # a name that is too long, a folder without rights
        raise ValueError(f"data file {path}: expected a path, got {error.strerror}; correct data.file") from None
    if not there:
        near = sorted(entry.name for entry in path.parent.glob("*") if suffix_of(entry) in (*SUFFIXES, ".npz"))[:5]
        found = f"the folder holds {', '.join(near)}" if near else "the folder holds no such file"
        raise ValueError(f"data file {path}: expected a file {kinds}, found nothing; {found}; correct data.file")
    known = suffix_of(path) in (*SUFFIXES, ".npz")
    if path.is_dir() and not known:
        return
    if not known:
        raise ValueError(f"data file {path}: expected the suffix {kinds}, got {path.suffix!r}; convert or rename it")
    if not path.is_file():
        raise ValueError(f"data file {path}: expected a file, got a folder; name a file inside it")
    if path.stat().st_size == 0:
        raise ValueError(f"data file {path}: expected samples, got an empty file; write it again")


def _dataset_of_table(path: Path, cut: Cut, classes: int | None, regression: bool, blank: Preparation) -> Dataset:
    where = f"data file {path}"
    table = read_table(path, blank.target or "label", blank.ignored, blank.time, blank.window > 1 or blank.ahead > 0)
    names = None if regression else table.class_names()
    answers = table.target if names is None else np.searchsorted(np.array(names), table.target)
    blank = replace(blank, class_names=names)
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0]

    def made(cut: Cut) -> Dataset:
        data = cut_arrays(table.x, answers, cut, classes, where, table.names, regression, table.lines, blank=blank)
        return replace(data, name=name)

    return under_cut(cut, made)


def _dataset_of(
    arrays: Mapping[str, npt.NDArray[np.generic]],
    path: Path,
    cut: Cut,
    classes: int | None,
    regression: bool,
    images: bool,
    blank: Preparation,
) -> Dataset:
    name = f"data file {path}"
    if "x" not in arrays:
        return from_parts(path.stem, arrays, classes, name, regression, cut, images, blank)

    def made(cut: Cut) -> Dataset:
        data = cut_arrays(arrays["x"], arrays["y"], cut, classes, name, None, regression, images=images, blank=blank)
        return replace(data, name=path.stem)

    return under_cut(cut, made)


def _npy_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of a folder of .npy files, read without unpickling anything."""
    held = {file.stem: file for file in sorted(path.glob("*.npy"))}
    wanted = _wanted(path, held, "a folder with x.npy, y.npy or train_x.npy, train_y.npy, test_x.npy, test_y.npy")
    try:
        return {key: np.load(held[key], allow_pickle=False) for key in wanted}
    except UNREADABLE as error:
        raise ValueError(
            f"data file {path}: expected .npy files of plain numbers, got {str(error).splitlines()[0]}; "
            "write them with numpy.save"
        ) from None


def _npz_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of one of the accepted sets, read without unpickling anything."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            held = list(archive.files)
            found = {key: archive[key] for key in _keys(held)}
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"data file {path}: expected an .npz archive of plain number arrays, got {reason}; "
            "write it with numpy.savez"
        ) from None
    _wanted(path, held, "the arrays x, y or train_x, train_y, test_x, test_y")
    return found


def _keys(held: Collection[str]) -> tuple[str, ...]:
    """The arrays that are used of those that are there; none where none of the accepted sets is whole."""
    wanted = next((keys for keys in ARRAYS if set(keys) <= set(held)), ())
    return wanted + VALIDATION if len(wanted) == 4 and set(VALIDATION) <= set(held) else wanted


def _wanted(path: Path, held: Collection[str], expected: str) -> tuple[str, ...]:
    """`_keys`, or a ValueError when there are none, or others beside them that nobody would look at."""
    wanted = _keys(held)
    if not wanted:
        raise ValueError(
            f"data file {path}: expected {expected}, got {', '.join(held) or 'no array'}; name a file inside it, or "
            "rename the arrays"
        )
    more = sorted(set(held) - set(wanted))
    if more:
        raise ValueError(
            f"data file {path}: expected {', '.join(wanted)} alone, got {more[0]!r} too, which nobody would look at; "
            "remove or rename it"
        )
    return wanted
