"""Data sets from tables (.csv, .tsv, .parquet), archives (.npz) and folders of arrays, checked before any training.

Every error is one line that names the file (or array), what was expected, what was found and what to do.
Shapes: x (samples, features) float64; y (samples,) int64 with 0 <= y < classes.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.arrays import Task, dataset_of
from dist_hdnn.data.checks import check_options, some
from dist_hdnn.data.dataset import Dataset
from dist_hdnn.data.preparation import INDEX, Preparation
from dist_hdnn.data.readers.answers import check_names, of_long_table, own_answers
from dist_hdnn.data.readers.cells import check_order, labels, moments
from dist_hdnn.data.readers.long import check_steps
from dist_hdnn.data.readers.tables import SUFFIXES, Block, suffix_of, table_blocks
from dist_hdnn.data.splits import Cut

SETS = (("x", "y"), ("train_x", "train_y", "test_x", "test_y"))
VALIDATION = ("validation_x", "validation_y")
NAMES = "feature_names"  # array of texts that may stand beside them
COUNTED = 10  # rows from which a column that counts them looks like an index
CHUNK = 4096  # rows that are text at a time
NO_NUMBER = ", remove that line, or name the column in data.ignore (in data.time if rows are in its order)"


class TableOptions(TypedDict, total=False):
    """Options of `read_dataset` for the columns of a table."""

    ignore: Sequence[str]
    time: str | None
    window: int
    ahead: int
    missing: str | None
    indicator: bool
    targets: Mapping[str, int | str] | None
    agent: str | None
    own: bool


def read_dataset(
    path: str | Path,
    classes: int | None = None,
    split: str | None = None,
    test_fraction: float = 0.5,
    seed: int = 0,
    target: str = "label",
    regression: bool = False,
    *,
    validation_fraction: float = 0.0,
    images: bool = False,
    **table: Unpack[TableOptions],
) -> Dataset:
    """Read the data set in a .csv, .tsv, .parquet or .npz file, or in a folder of .npy files.

    .csv, .tsv (also .csv.gz, .tsv.gz): UTF-8, with a header line that names the feature columns and the column
    `target`. .parquet: the same columns; needs pyarrow; a row index that pandas wrote is no feature.
    .npz, or a folder of .npy files: arrays x (n, features) and y (n,), split here; or train_x, train_y, test_x, test_y
    as they are, with validation_x and validation_y if wanted; and feature_names, texts, see `from_arrays`.
    images: x holds images, (n, height, width) or (n, height, width, channels).
    Labels are integers 0 .. classes - 1, counted without `classes`, and then without a gap. In a table they may be
    names, the classes in alphabetical order. regression: real targets, in arrays (n,) or (n, targets).
    split, test_fraction, seed, validation_fraction: see `dist_hdnn.data.Cut`. With `time` the split is "last". Without
    a split the columns and classes are known, but the parts raise ValueError.
    table: how the columns of a table are used:

        ignore      columns that are no features
        time        the column that the rows are in order of, no feature either
        window      rows of a time series that a sample sees, up to its own (1)
        ahead       rows from a sample to its target (0)
        missing     what a gap among the features becomes: "mean" or "zero" of the training rows' column, "last" (the
                    reading before it); None refuses gaps
        indicator   give each column with gaps in the training rows a feature that marks them (True)
        targets     column -> agent that answers it: targets of each agent's own, in place of `target`, gaps unknown.
                    With `ahead` these columns are features as well, seen by the same agent
        agent       the column that names the agent of a row, in a table with a row per `time` and agent. Its other
                    columns are features of that agent, `target` its own target
        own         arrays hold targets of each agent's own: y (n, agents) or (n, agents, targets), see `from_arrays`

    ValueError for whatever is missing, unreadable or not a number.
    """
    check_options(table, TableOptions.__annotations__, "read_dataset")
    path, who, blank = Path(path), f"data file {path}", _blank(target, table)
    check_file(path, who, (*SUFFIXES, ".npz"), "correct data.file", folders=True)
    if blank.time is not None and split is None:
        split = "last"
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    cut, own = Cut(split, test_fraction, seed, validation_fraction), table.get("own", False)
    task = Task(name, who, classes, regression, images, cut, blank, own or bool(blank.targets or blank.agent))
    if suffix_of(path) in SUFFIXES:
        if images:
            raise ValueError(f"{who}: expected arrays for data.images, got a table; leave data.images out")
        return _of_table(path, task)
    uses = {"windows of rows": blank.window > 1 or blank.ahead, "data.ignore": blank.ignored, "data.time": blank.time}
    uses |= {"data.targets": blank.targets, "data.agent": blank.agent}
    for option in (option for option, used in uses.items() if used):
        raise ValueError(f"{who}: expected a table for {option}, got arrays; cut them beforehand")
    arrays = _arrays_of(path, who)
    names = _names_of(arrays.pop(NAMES, None), who)
    return dataset_of(arrays, replace(task, blank=replace(blank, target=None)), names)


def _names_of(names: npt.NDArray[Any] | None, who: str) -> list[str] | None:
    """Return the names of the features. Raises ValueError for what is no row of texts."""
    if names is None:
        return None
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(
            f"{who}: expected {NAMES} as one row of texts, got {names.dtype} of shape {names.shape}; write it by "
            "numpy.array of a list of str"
        )
    return names.tolist()  # type: ignore[no-any-return]


def _blank(target: str, table: TableOptions) -> Preparation:
    """Return the preparation that is to be fitted to the training rows."""
    return Preparation(
        window=table.get("window", 1),
        ahead=table.get("ahead", 0),
        fill=table.get("missing"),
        indicator=table.get("indicator", True),
        target=target,
        ignored=tuple(table.get("ignore", ())),
        time=table.get("time"),
        targets=dict(table.get("targets") or {}),
        agent=table.get("agent"),
    )


def check_file(path: Path, who: str, suffixes: Sequence[str], remedy: str, folders: bool = False) -> None:
    """Refuse a file that is missing, empty or of another suffix. folders: a folder of arrays may be read."""
    kinds = ", ".join(suffixes)
    try:
        there = path.exists()
    except OSError as error:  # a name that is too long, a folder without rights
        raise ValueError(f"{who}: expected a path, got {error.strerror}; {remedy}") from None
    if not there:
        near = sorted(entry.name for entry in path.parent.glob("*") if suffix_of(entry) in suffixes)[:5]
        beside = f"the folder holds {', '.join(near)}" if near else "the folder holds no such file"
        raise ValueError(f"{who}: expected a file ({kinds}), found nothing; {beside}; {remedy}")
    known = suffix_of(path) in suffixes
    if path.is_dir() and folders and not known:
        return
    if not path.is_file():
        raise ValueError(f"{who}: expected a file ({kinds}), got a folder; name a file inside it")
    if not known:
        raise ValueError(
            f"{who}: expected one of the suffixes {kinds}, got {path.suffix!r}; convert or rename the file"
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{who}: expected samples, got an empty file; write it again")


def _of_table(path: Path, task: Task) -> Dataset:
    """Read feature columns x, with NaN in gaps, and one column of answers, or one for every agent's own."""
    who, blank = task.who, task.blank
    names: tuple[str, ...] = ()
    features, answers, times = [], [], []
    lines: list[int] = []
    blocks = table_blocks(path, who, CHUNK)
    if blank.agent is not None:
        block, blank = of_long_table(blocks, blank, who)
        blocks = iter([block])
    asked = tuple(blank.targets) or (blank.target or "",)
    for block in blocks:
        names = names or _feature_columns(tuple(block.columns), block.index, blank, who)
        features.append(np.stack([block.numbers(name, NO_NUMBER) for name in names], axis=1))
        answers.append([block.array(name) for name in asked])
        times += [] if blank.time is None else [block.array(blank.time)]
        lines += [] if block.lines is None else block.lines
    if not features:
        raise ValueError(f"{who}: expected samples below the header, got none; add one line per sample")
    where = Block(who, {}, lines=lines or None).where
    x = np.concatenate(features)
    read = [
        labels(np.concatenate(column), name, who, where, gaps=task.own)
        for name, column in zip(asked, zip(*answers, strict=True), strict=True)
    ]
    if blank.time is not None:
        when, series = np.concatenate(times), blank.window > 1 or blank.ahead > 0
        if task.own:
            order = np.argsort(moments(when, blank.time, who, where), kind="stable")
            if (np.diff(order) != 1).any():
                warnings.warn(f"{who}: rows are sorted by {blank.time!r}", UserWarning, stacklevel=3)
                x, when, read = x[order], when[order], [column[order] for column in read]
                lines = [lines[row] for row in order] if lines else lines
                where = Block(who, {}, lines=lines or None).where
        check_order(when, blank.time, who, where, series=series)
        if task.own and series:
            check_steps(moments(when, blank.time, who, where), blank.time, who)
    for name, column in zip(names, x.T, strict=True):
        if len(column) >= COUNTED and column[0] in (0, 1) and np.all(np.diff(column) == 1):
            message = f"{who}: the column {name!r} counts the rows; if it is no reading, name it in data.ignore"
            warnings.warn(message, UserWarning, stacklevel=3)
    if not task.own:
        y = read[0]
        if not task.regression and y.dtype.kind == "U":
            classes, y = np.unique(y, return_inverse=True)
            check_names(classes.tolist(), task.classes, who)
            blank = replace(blank, class_names=tuple(classes.tolist()))
        return dataset_of({"x": x, "y": y}, replace(task, blank=blank), names, lines or None)
    y, blank = own_answers(read, blank, task.regression, who)
    check_names(blank.class_names, task.classes, who)
    return dataset_of({"x": x, "y": y}, replace(task, blank=blank), names, lines or None)


def _feature_columns(held: Sequence[str], index: Sequence[str], blank: Preparation, who: str) -> tuple[str, ...]:
    """Return the features: all columns but the answers, the time, ignored ones, and the row index of a .parquet."""
    time, ignored = blank.time, blank.ignored
    targets = tuple(blank.targets) or (blank.target or "",)
    absent = next((name for name in targets if name not in held), None)
    if absent is not None and blank.targets:
        near = difflib.get_close_matches(absent, held, 1)
        raise ValueError(
            f"{who}: expected columns of the file in data.targets, got {absent!r}; "
            + (f"did you mean {near[0]!r}?" if near else f"the columns are {some(held)}")
        )
    target = targets[0]
    if absent is not None:
        near = difflib.get_close_matches(target, held, 1)
        raise ValueError(
            f"{who}: expected a header line of feature columns and one column {target!r}, got {some(held)!r}; name the "
            f"column of the answers in data.target{f', perhaps {near[0]!r}' if near else ''}"
        )
    for key, name in [*(("data.ignore", name) for name in ignored), *([("data.time", time)] if time else [])]:
        if name not in held:
            near = difflib.get_close_matches(name, held, 1)
            raise ValueError(
                f"{who}: expected a column of the file for {key}, got {name!r}; "
                + (f"did you mean {near[0]!r}?" if near else "correct its name")
            )
    answers_key = "data.targets" if blank.targets else "data.target"
    uses = {answers_key: targets, "data.time": (time,), "data.ignore": ignored}
    for name in (*targets, *([time] if time else [])):
        keys = [key for key, used in uses.items() if name in used]
        if len(keys) > 1:
            raise ValueError(
                f"{who}: expected one use of the column {name!r}, got it in {' and '.join(keys)}; drop it from one"
            )
    answers = () if blank.targets and blank.ahead else targets  # what an agent will see, it has seen before
    names = tuple(name for name in held if name not in {*answers, time, *ignored, *index})
    unnamed = next((name for name in names if name in INDEX[:2]), None)
    if unnamed is not None:
        raise ValueError(
            f"{who}: got a column without a name ({unnamed!r}), as pandas writes its row index; write the file with "
            f"index=False, or set data.ignore=[{unnamed!r}]"
        )
    if not names:
        raise ValueError(f"{who}: expected feature columns beside {target!r}, got no feature column; add at least one")
    return names


def _arrays_of(path: Path, who: str) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of one of SETS. ValueError when none is whole, and for other arrays beside it."""
    held, arrays = load_arrays(path, who, _wanted)
    if not arrays:
        expected = "a folder with x.npy, y.npy or train_x.npy, train_y.npy, test_x.npy, test_y.npy"
        if not path.is_dir():
            expected = "the arrays x, y or train_x, train_y, test_x, test_y"
        raise ValueError(
            f"{who}: expected {expected}, got {', '.join(held) or 'no array'}; name a file inside it, or rename the "
            "arrays"
        )
    more = sorted(set(held) - set(arrays))
    if more:
        raise ValueError(
            f"{who}: expected {', '.join(arrays)} alone, got {more[0]!r} too, which is not used; remove or rename it"
        )
    return arrays


def _wanted(held: Collection[str]) -> tuple[str, ...]:
    """Return the arrays to use, none where none of SETS is complete."""
    wanted: tuple[str, ...] = next((names for names in SETS if set(names) <= set(held)), ())
    if len(wanted) == 4 and set(VALIDATION) <= set(held):
        wanted += VALIDATION
    return (*wanted, NAMES) if wanted and NAMES in held else wanted


def load_arrays(
    path: Path, who: str, wanted: Callable[[Collection[str]], Sequence[str]]
) -> tuple[list[str], dict[str, npt.NDArray[Any]]]:
    """Return the names of all arrays of an .npz file or a folder of .npy files, and the wanted arrays.

    An .npy file holds one array, x. Nothing is unpickled.
    """
    folder, suffix = path.is_dir(), path.suffix.lower()
    try:
        if folder:
            files = {file.stem: file for file in sorted(path.glob("*.npy"))}
            return list(files), {name: np.load(files[name], allow_pickle=False) for name in wanted(files)}
        if suffix == ".npy":
            return ["x"], {"x": np.load(path, mmap_mode="r", allow_pickle=False)}
        with np.load(path, allow_pickle=False) as archive:
            return list(archive.files), {name: archive[name] for name in wanted(archive.files)}
    except Exception as error:  # numpy.load raises nearly anything on damaged or foreign archives
        kind = ".npy files" if folder else f"an {suffix} {'file' if suffix == '.npy' else 'archive'}"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "numpy.savez" if suffix == ".npz" else "numpy.save"
        raise ValueError(f"{who}: expected {kind} of plain numbers, got {reason}; write with {remedy}") from None
