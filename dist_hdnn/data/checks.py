"""Arrays that become data sets, checked before anything is trained on them.

Every complaint is one line that names the array or its file, what was expected, what was found and what to do.
Shapes: x (samples, features), float32 where it came as bytes, else float64; y (samples,) int64 with 0 <= y < classes.
Images, asked for by name, come as (samples, height, width) or (samples, height, width, channels) and become rows.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.batches import checked_integer
from dist_hdnn.data.dataset import Answers, Dataset, Floats, Image, Integers
from dist_hdnn.data.splits import UNSTATED, Cut, chosen, dealt, validation_indices


def from_arrays(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    classes: int | None = None,
    name: str = "data",
    feature_names: Sequence[str] | None = None,
    split: str | None = None,
    test_fraction: float = 0.5,
    seed: int = 0,
    regression: bool = False,
    lines: Sequence[int] | None = None,
    validation_fraction: float = 0.0,
    images: bool = False,
) -> Dataset:
    """A data set from arrays or CPU tensors in memory, split here.

    x: (n, features) numbers; with images (n, height, width) or (n, height, width, channels). y: (n,) labels.
    regression: y holds real targets instead, (n,) or (n, targets). lines: the file line of each sample, for messages.
    classes, split, test_fraction, seed, validation_fraction: as for `read_dataset`; split has to be stated.
    ValueError for whatever does not fit.
    """
    cut = chosen(Cut(split, test_fraction, seed, validation_fraction), name)
    return cut_arrays(x, y, cut, classes, name, feature_names, regression, lines, images)


def cut_arrays(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    cut: Cut,
    classes: int | None = None,
    name: str = "data",
    feature_names: Sequence[str] | None = None,
    regression: bool = False,
    lines: Sequence[int] | None = None,
    images: bool = False,
    span: int = 1,
) -> Dataset:
    """`from_arrays` under a cut; span: rows of a time series that each sample covers."""
    rows, image = pixel_rows(x, name, images)
    floats, answers, classes = checked(rows, y, classes, name, regression, feature_names, lines)
    names = _feature_names(floats.shape[1], feature_names, name)
    parts = dealt(floats, answers, cut.parts(len(answers), span))
    return Dataset(name, classes=classes, feature_names=names, image=image, **parts)  # type: ignore[arg-type]


def from_parts(
    name: str,
    arrays: Mapping[str, npt.ArrayLike],
    classes: int | None = None,
    source: str | None = None,
    regression: bool = False,
    cut: Cut = UNSTATED,
    images: bool = False,
) -> Dataset:
    """A data set from train_x, train_y, test_x and test_y, each as in `from_arrays`, taken as they are.

    Validation points are validation_x and validation_y where they are given, else those that the cut takes out of the
    training part. source: starts the messages instead of the name. ValueError for parts that do not fit together.
    """
    source = name if source is None else source
    parts = [which for which in ("train", "test", "validation") if f"{which}_x" in arrays]
    _check_cut(cut, "validation" in parts, source)
    rows, sizes = {}, {}
    for which in parts:
        rows[which], sizes[which] = pixel_rows(arrays[f"{which}_x"], source, images)
    if classes is None and not regression:
        # over all parts: a small test part may lack a class
        labels = [whole_labels(arrays[f"{which}_y"], f"{source}, {which}_y").reshape(-1) for which in parts]
        classes = _count_classes(np.concatenate(labels), source)
    found: dict[str, Any] = {}
    for which in parts:
        who = f"{source}, {WORDS[which]} part"
        x, y, classes = checked(rows[which], arrays[f"{which}_y"], classes, who, regression)
        found |= {f"{which}_x": x, f"{which}_y": y}
        _check_alike(which, y.shape[1:], found["train_y"].shape[1:], "y", "targets", source)
        same = sizes[which] == sizes["train"]
        _check_alike(which, x.shape[1:], found["train_x"].shape[1:] if same else (), "x", "features", source)
    if cut.validation_fraction:
        found |= _validation_of(found["train_x"], found["train_y"], cut)
    names = _feature_names(found["train_x"].shape[1], None, source)
    return Dataset(name, classes=classes or 0, feature_names=names, image=sizes["train"], **found)


WORDS = {"train": "training", "test": "test", "validation": "validation"}


def _check_cut(cut: Cut, validates: bool, source: str) -> None:
    """Say what is not used because the parts are given."""
    if validates and cut.validation_fraction:
        raise ValueError(
            f"{source}: expected no data.validation_fraction beside validation_x, got {cut.validation_fraction:g}; "
            "leave one of them out"
        )
    if cut.split is not None and (cut.split == "alternate" or not cut.validation_fraction):
        message = f"{source}: data.split={cut.split} is not used, because the test samples are given"
        warnings.warn(message, UserWarning, stacklevel=3)


def _validation_of(x: Floats, y: Answers, cut: Cut) -> dict[str, Floats | Answers]:
    train, validation = validation_indices(len(x), cut.split or "random", cut.seed, cut.validation_fraction)
    return {"train_x": x[train], "train_y": y[train], "validation_x": x[validation], "validation_y": y[validation]}


def _check_alike(which: str, got: tuple[int, ...], wanted: tuple[int, ...], array: str, what: str, source: str) -> None:
    if got != wanted:
        shown = " and ".join(" x ".join(map(str, sizes)) or "other sizes" for sizes in (got, wanted))
        raise ValueError(
            f"{source}: expected as many {what} in {which}_{array} as in train_{array}, got {shown}; "
            "give both the same columns"
        )


def pixel_rows(x: npt.ArrayLike, name: str, images: bool) -> tuple[npt.ArrayLike, Image | None]:
    """Images (n, height, width) or (n, height, width, channels) as rows of pixels and their sizes; other x as it is."""
    shape = np.shape(x)
    if not images:
        if len(shape) > 2:
            raise ValueError(
                f"{name}: expected x of shape (samples, features), got shape {shape}; for images, (samples, height, "
                "width) or (samples, height, width, channels), set images=true (data.images=true); for series and all "
                "else reshape each sample to one row of features"
            )
        return x, None
    if len(shape) not in (3, 4):
        raise ValueError(
            f"{name}: expected images, x of shape (samples, height, width) or (samples, height, width, channels), got "
            f"shape {shape}; reshape x, or leave data.images out"
        )
    if 0 in shape:
        raise ValueError(f"{name}: expected images with pixels, got x of shape {shape}; give at least one of each")
    return np.asarray(x).reshape(shape[0], -1), (shape[1], shape[2], shape[3] if len(shape) == 4 else 1)


def checked(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    classes: int | None,
    name: str,
    regression: bool,
    feature_names: Sequence[str] | None = None,
    lines: Sequence[int] | None = None,
) -> tuple[Floats, Answers, int]:
    """`validated`, or for a regression x, real targets (n, targets) float64 and 0 classes."""
    if not regression:
        return validated(x, y, classes, name, feature_names, lines)
    values = _checked_features(x, y, name, feature_names, lines, targets=True)
    targets = _numbers(y, name, "the targets").astype(np.float64).reshape(len(values), -1)
    faults = np.argwhere(~np.isfinite(targets))
    if len(faults):
        row, column = faults[0]
        raise ValueError(
            f"{name}: expected finite targets, got {targets[row, column]} at {_where(row, lines)}; "
            "remove or fill in these samples"
        )
    return values, targets, 0


def validated(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    classes: int | None = None,
    name: str = "data",
    feature_names: Sequence[str] | None = None,
    lines: Sequence[int] | None = None,
) -> tuple[Floats, Integers, int]:
    """x as (n, features) numbers, y as (n,) int64 and the number of classes, or a ValueError naming the first fault.

    classes: None counts them, and then every class needs a sample (labels 1, 2, 3 are a mistake more often than four
    classes). name: who is checked, starts every message. lines: the file line of each sample, else rows count from 0.
    Raises for fewer than 2 samples, no features, mismatched lengths, other dimensions, NaN or infinity (row and
    column), labels that are not integers or outside 0 .. classes - 1, fewer than 2 classes.
    """
    values = _checked_features(x, y, name, feature_names, lines)
    labels = whole_labels(y, name, lines)
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


def _checked_features(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    name: str,
    feature_names: Sequence[str] | None,
    lines: Sequence[int] | None,
    targets: bool = False,
) -> Floats:
    """x as (n, features) finite numbers with as many rows as y; targets: y may be (n, targets)."""
    values = _numbers(x, name, "x")
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(
            f"{name}: expected x of shape (samples, features) with at least one feature, got shape {values.shape}; "
            "reshape it so that each row is one sample"
        )
    if np.ndim(y) not in ((1, 2) if targets else (1,)):
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
    return values


def _where(row: int | np.int64, lines: Sequence[int] | None) -> str:
    return f"row {row}" if lines is None else f"line {lines[int(row)]}"


def _numbers(values: npt.ArrayLike, name: str, what: str) -> Floats:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name}: expected real numbers in {what}, got an array of {array.dtype}; convert it to float64"
        )
    return array.astype(np.float32 if array.dtype.itemsize == 1 else np.float64)  # bytes are exact in both


def _feature_names(features: int, given: Sequence[str] | None, name: str) -> tuple[str, ...]:
    if given is None:
        return tuple(f"x{i + 1}" for i in range(features))
    if len(given) != features:
        raise ValueError(f"{name}: expected {features} feature names, got {len(given)}; give one per column of x")
    return tuple(given)


def whole_labels(y: npt.ArrayLike, name: str, lines: Sequence[int] | None = None) -> Integers:
    """Labels as int64, or a ValueError that names the first that is no whole number."""
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
