"""Arrays that become data sets, checked before anything is trained on them.

Every error is one line that names the array or its file, what was expected, what came instead and what to do.
Shapes: x (samples, features), float32 where it came as bytes, else float64; y (samples,) int64 with 0 <= y < classes,
or real targets (samples, targets) float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.batches import checked_integer
from dist_hdnn.data.readers.frames import plain

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.int64]
Answers = npt.NDArray[Any]  # labels (n,) int64, or real targets (n, targets) float64
Image = tuple[int, int, int]  # height, width, channels
Where = Callable[[int], str]  # what a row is called in messages


def some(names: Sequence[str]) -> str:
    """Return names for a message, the first few of many."""
    return ", ".join(names[:8]) + (f", ... ({len(names)})" if len(names) > 8 else "")


def row_number(row: int) -> str:
    """Return the name of a row without a file line."""
    return f"row {row}"


def check_options(options: Mapping[str, Any], known: Mapping[str, Any], function: str) -> None:
    """Refuse keyword arguments that a function does not have. TypeError, as of any function."""
    unknown = options.keys() - known.keys()
    if unknown:
        raise TypeError(f"{function}() got an unexpected keyword argument {min(unknown)!r}; it has {', '.join(known)}")


def check_features(
    x: npt.ArrayLike, names: Sequence[str] | None, who: str, where: Where = row_number, gaps: bool = False
) -> Floats:
    """Return x as (n, features) numbers, finite except for NaN where gaps may be. ValueError for the first fault."""
    values = _numbers(x, who, "x", "convert it to float64")
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(
            f"{who}: expected x of shape (samples, features) with at least one feature, got shape {values.shape}; "
            "reshape it so that each row is one sample"
        )
    if len(values) < 2:
        raise ValueError(f"{who}: expected at least 2 samples, got {len(values)}; training and test need one each")
    names, remedy = column_names(values.shape[1], names, who), "remove or fill in these samples"
    check_finite(values, names, who, where, gaps, remedy, of_gaps=", or set data.missing to fill gaps")
    return values


def check_finite(
    values: npt.NDArray[Any],
    names: Sequence[str],
    who: str,
    where: Where = row_number,
    gaps: bool = False,
    remedy: str = "remove or fill in these rows",
    of_gaps: str = "",
) -> None:
    """Refuse infinity in (rows, columns), and NaN unless gaps may be. of_gaps: what more can be done about NaN."""
    faults = np.argwhere(np.isinf(values) if gaps else ~np.isfinite(values))
    if len(faults):
        row, column = faults[0]
        name = names[column] if names else str(column)
        raise ValueError(
            f"{who}: expected finite numbers, got {values[row, column]} at {where(row)}, column {name!r} "
            f"({len(faults)} such value{'s' * (len(faults) > 1)}); {remedy}"
            + of_gaps
            * bool(np.isnan(values[row, column]))
        )


MISSING = -1  # the class of an agent's own target that is not known


def check_answers(
    y: npt.ArrayLike, rows: int, regression: bool, who: str, where: Where = row_number, own: bool = False
) -> Answers:
    """Return labels (n,) int64, or of a regression real targets (n, targets). ValueError for the first fault.

    own: labels (n, agents), `MISSING` where -1 or NaN, or real targets (n, agents, targets), NaN where missing.
    """
    values = plain(y)
    shapes = ("(samples,)", (1, 2)[: 1 + regression])
    if own:
        shapes = (
            ("(samples, agents) or (samples, agents, targets)", (2, 3)) if regression else ("(samples, agents)", (2,))
        )
    if values.ndim not in shapes[1]:
        more = " of an agent" if own else ""
        remedy = "; with readout.targets=own for one of every agent" if values.ndim == 2 and not own else ""
        raise ValueError(
            f"{who}: expected y of shape {shapes[0]}, got shape {values.shape}; give one label{more} per row of x"
            + remedy
        )
    if len(values) != rows:
        raise ValueError(
            f"{who}: expected as many labels as rows of x, got {rows} rows and {len(values)} labels; drop the surplus "
            "or add what is missing"
        )
    if regression:
        targets = _numbers(values, who, "the targets", "convert it to float64").astype(np.float64)
        targets = targets.reshape(*values.shape[:2], -1) if own else targets.reshape(rows, -1)
        faults = np.argwhere(np.isinf(targets) if own else ~np.isfinite(targets))
        if len(faults):
            raise ValueError(
                f"{who}: expected finite targets, got {targets[tuple(faults[0])]} at {where(faults[0][0])}; remove or "
                "fill in these samples"
            )
        return targets
    labels = _numbers(values, who, "the labels", "number the classes 0, 1, 2, ...")
    if own:
        labels = np.where(np.isnan(labels), MISSING, labels)
    # 2**53: above it float64 skips integers, so a label and its neighbor would be equal
    broken = np.argwhere(~(np.isfinite(labels) & (np.trunc(labels) == labels) & (np.abs(labels) < 2**53)))
    if len(broken):
        raise ValueError(
            f"{who}: expected integer labels, got {labels[tuple(broken[0])]} at {where(broken[0][0])}; number the "
            "classes 0, 1, 2, ..."
        )
    return labels.astype(np.int64)


def count_classes(labels: Integers, who: str) -> int:
    """Return the number of classes of labels. ValueError for a gap: labels 1, 2, 3 are rarely four classes."""
    present = np.unique(labels)
    if not np.array_equal(present, np.arange(len(present))):
        raise ValueError(
            f"{who}: expected labels 0, 1, 2, ... without a gap, got {some([str(label) for label in present])}; "
            "renumber them from 0, or set data.classes if some classes have no sample"
        )
    if len(present) < 2:
        raise ValueError(f"{who}: expected samples of at least 2 classes, got {len(present)}; give some of another")
    return len(present)


def check_range(labels: Integers, classes: int, who: str, where: Where = row_number, own: bool = False) -> None:
    """Refuse labels outside 0 .. classes - 1. own: labels (n, agents), some of them `MISSING`."""
    checked_integer(classes, f"{who}: number of classes", 2, "correct data.classes")
    outside = np.argwhere((labels < (MISSING if own else 0)) | (labels >= classes))
    if len(outside):
        raise ValueError(
            f"{who}: expected labels 0 .. {classes - 1}, got {labels[tuple(outside[0])]} at {where(outside[0][0])}; "
            "renumber the labels from 0 or correct data.classes"
        )


def count_own_classes(labels: Integers, agents: Sequence[int | str], who: str) -> int:
    """Count the classes of labels (n, agents). ValueError where those of two agents differ, or leave a gap."""
    seen = [np.unique(column[column != MISSING]) for column in labels.T]
    first = next((i for i, classes in enumerate(seen) if len(classes)), 0)
    for agent, classes in zip(agents, seen, strict=True):
        if len(classes) and not np.array_equal(classes, seen[first]):
            one, other = (some([str(label) for label in each]) for each in (seen[first], classes))
            raise ValueError(
                f"{who}: expected the same classes of every agent, got {one} of agent {agents[first]} and {other} of "
                f"agent {agent}; set data.classes to their number if all agents share them"
            )
    return count_classes(labels[labels != MISSING], who)


def known_answers(y: Answers) -> npt.NDArray[np.bool]:
    """Tell which own targets are known, classes (n, agents) or real ones (n, agents, targets)."""
    return ~np.isnan(y) & (y != MISSING) if y.ndim == 2 else ~np.isnan(y)


def check_own(parts: Mapping[str, Answers], agents: Sequence[int | str], who: str) -> None:
    """Refuse parts whose targets (n, agents[, targets]) are all missing, or those of an agent in training.

    Warn of agents without a known target in another part, of which nothing can be told there.
    """
    if not any(known_answers(y).any() for y in parts.values()):
        raise ValueError(
            f"{who}: expected known targets of {some([str(agent) for agent in agents])}, got gaps alone; write some"
        )
    for which, y in parts.items():
        there = known_answers(y)
        if y.shape[1] != len(agents):
            raise ValueError(
                f"{who}: expected targets of {len(agents)} agents, got {y.shape[1]}; give one column for each"
            )
        empty = sorted({int(place[0]) for place in np.argwhere(~there.any(axis=0))})
        if which == "train" and empty:
            raise ValueError(
                f"{who}: expected a target of agent {agents[empty[0]]} among the training samples, got gaps alone; "
                "leave its targets out"
            )
        if len(empty) == len(agents):
            raise ValueError(
                f"{who}: expected known targets among the {which} samples, got gaps alone; change data.test_fraction "
                "or data.validation_fraction"
            )
        if empty:
            quiet = some([str(agents[place]) for place in empty])
            warnings.warn(f"{who}: no target of {quiet} is known in the {which} part", UserWarning, stacklevel=5)


def column_names(features: int, names: Sequence[str] | None, who: str) -> tuple[str, ...]:
    """Return the names of the columns of x, by default x1, x2, ... ValueError for too few or repeated names."""
    if names is None:
        return tuple(f"x{i + 1}" for i in range(features))
    if len(names) != features:
        raise ValueError(f"{who}: expected {features} feature names, got {len(names)}; give one per column of x")
    repeated = next((column for column in names if list(names).count(column) > 1), None)
    if repeated is not None:
        raise ValueError(f"{who}: expected columns of different names, got {repeated!r} twice; rename one of them")
    return tuple(names)


def check_index(x: Any, y: Any, who: str) -> None:
    """Refuse rows of pandas that have the same labels in another order: samples are paired by their place."""
    one: Any = getattr(x, "index", None)
    other: Any = getattr(y, "index", None)
    if not (hasattr(one, "equals") and hasattr(other, "equals")) or one.equals(other):
        return
    if len(one) == len(other) and set(one) == set(other):
        raise ValueError(
            f"{who}: expected x and y with the same index, got the same rows in another order, and samples are paired "
            "by their place; give y.loc[x.index]"
        )


def pixel_rows(x: npt.ArrayLike, who: str, images: bool) -> tuple[npt.ArrayLike, Image | None]:
    """Return images (n, height, width[, channels]) as rows of pixels with their sizes, and other x as it is."""
    x = plain(x)
    shape = x.shape
    if not images:
        if len(shape) > 2:
            raise ValueError(
                f"{who}: expected x of shape (samples, features), got shape {shape}; for images, (samples, height, "
                "width) or (samples, height, width, channels), set images=true (data.images=true); for "
                "(samples, agents, features), own=true (readout.targets=own); for series and all "
                "else reshape each sample to one row of features"
            )
        return x, None
    if len(shape) not in (3, 4):
        raise ValueError(
            f"{who}: expected images, x of shape (samples, height, width) or (samples, height, width, channels), got "
            f"shape {shape}; reshape x, or leave data.images out"
        )
    if 0 in shape:
        raise ValueError(f"{who}: expected images with pixels, got x of shape {shape}; give at least one of each")
    return x.reshape(shape[0], -1), (shape[1], shape[2], shape[3] if len(shape) == 4 else 1)


def _numbers(values: npt.ArrayLike, who: str, what: str, remedy: str) -> Floats:
    array = plain(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{who}: expected real numbers in {what}, got an array of {array.dtype}; {remedy}")
    return array.astype(np.float32 if array.dtype.itemsize == 1 else np.float64)  # bytes are exact in both
