"""Arrays that become data sets, checked before anything is trained on them.

Every complaint is one line that names the array or its file, what was expected, what was found and what to do.
Shapes: x (samples, features), float32 where it came as bytes, else float64; y (samples,) int64 with 0 <= y < classes.
Images, asked for by name, come as (samples, height, width) or (samples, height, width, channels) and become rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.batches import checked_integer
from dist_hdnn.data.dataset import Answers, Floats, Integers
from dist_hdnn.data.readers.frames import plain


def checked(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    classes: int | None,
    name: str,
    regression: bool,
    feature_names: Sequence[str] | None = None,
    lines: Sequence[int] | None = None,
    gaps: bool = False,
) -> tuple[Floats, Answers, int]:
    """`validated`, or for a regression x, real targets (n, targets) float64 and 0 classes. gaps: x may hold NaN."""
    if not regression:
        return validated(x, y, classes, name, feature_names, lines, gaps)
    values = _checked_features(x, y, name, feature_names, lines, gaps, targets=True)
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
    gaps: bool = False,
) -> tuple[Floats, Integers, int]:
    """x as (n, features) numbers, y as (n,) int64 and the number of classes, or a ValueError naming the first fault.

    classes: None counts them, and then every class needs a sample (labels 1, 2, 3 are a mistake more often than four
    classes). name: who is checked, starts every message. lines: the file line of each sample, else rows count from 0.
    gaps: x may hold NaN, which is filled later. Raises for fewer than 2 samples, no features, mismatched lengths, other
    dimensions, NaN or infinity (row and column), other labels than integers 0 .. classes - 1, fewer than
    2 classes.
    """
    values = _checked_features(x, y, name, feature_names, lines, gaps)
    labels = whole_labels(y, name, lines)
    counted = classes is None
    classes = count_classes(labels, name) if classes is None else classes
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
    gaps: bool,
    targets: bool = False,
) -> Floats:
    """x as (n, features) finite numbers with as many rows as y; targets: y may be (n, targets)."""
    values = _numbers(x, name, "x")
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(
            f"{name}: expected x of shape (samples, features) with at least one feature, got shape {values.shape}; "
            "reshape it so that each row is one sample"
        )
    if plain(y).ndim not in ((1, 2) if targets else (1,)):
        raise ValueError(
            f"{name}: expected y of shape (samples,), got shape {plain(y).shape}; give one label per row of x"
        )
    if len(values) != plain(y).shape[0]:
        raise ValueError(
            f"{name}: expected as many labels as rows of x, got {len(values)} rows and {plain(y).shape[0]} labels; "
            "drop the surplus or add what is missing"
        )
    if len(values) < 2:
        raise ValueError(f"{name}: expected at least 2 samples, got {len(values)}; training and test need one each")
    names = column_names(values.shape[1], feature_names, name)
    faults = np.argwhere(np.isinf(values) if gaps else ~np.isfinite(values))
    if len(faults):
        row, column = faults[0]
        remedy = ", or set data.missing to fill gaps" if np.isnan(values[row, column]) else ""
        raise ValueError(
            f"{name}: expected finite numbers, got {values[row, column]} at {_where(row, lines)}, column "
            f"{names[column]!r} ({len(faults)} such value{'s' * (len(faults) > 1)}); remove or fill in these samples"
            + remedy
        )
    return values


def _where(row: int | np.int64, lines: Sequence[int] | None) -> str:
    return f"row {row}" if lines is None else f"line {lines[int(row)]}"


def _numbers(values: npt.ArrayLike, name: str, what: str) -> Floats:
    array = plain(values)
    if array.dtype.kind not in "biuf":
        remedy = "number the classes 0, 1, 2, ..." if what == "the labels" else "convert it to float64"
        raise ValueError(f"{name}: expected real numbers in {what}, got an array of {array.dtype}; {remedy}")
    return array.astype(np.float32 if array.dtype.itemsize == 1 else np.float64)  # bytes are exact in both


def column_names(features: int, given: Sequence[str] | None, name: str) -> tuple[str, ...]:
    """The names of the columns of x as given, else x1, x2, ..."""
    if given is None:
        return tuple(f"x{i + 1}" for i in range(features))
    if len(given) != features:
        raise ValueError(f"{name}: expected {features} feature names, got {len(given)}; give one per column of x")
    repeated = next((column for column in given if list(given).count(column) > 1), None)
    if repeated is not None:
        raise ValueError(f"{name}: expected columns of different names, got {repeated!r} twice; rename one of them")
    return tuple(given)


def check_index(x: Any, y: Any, name: str) -> None:
    """Refuse rows of pandas that have the same labels in another order: samples are paired by their place."""
    one: Any = getattr(x, "index", None)
    other: Any = getattr(y, "index", None)
    if not hasattr(one, "equals") or not hasattr(other, "equals") or one.equals(other):
        return
    if len(one) == len(other) and set(one) == set(other):
        raise ValueError(
            f"{name}: expected x and y with the same index, got the same rows in another order, and samples are paired "
            "by their place; give y.loc[x.index]"
        )


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


def count_classes(labels: Integers, name: str) -> int:
    """The number of classes of labels without a gap."""
    present = np.unique(labels)
    if not np.array_equal(present, np.arange(len(present))):
        shown = ", ".join(str(label) for label in present[:8]) + (", ..." if len(present) > 8 else "")
        raise ValueError(
            f"{name}: expected labels 0, 1, 2, ... without a gap, got {shown}; renumber them from 0, "
            "or set data.classes if some classes have no sample"
        )
    return len(present)
