"""Arrays that become data sets, checked before anything is trained on them.

Every complaint is one line that names the array or its file, what was expected, what was found and what to do.
Shapes: x (samples, features), float32 where it came as bytes, else float64; y (samples,) int64 with 0 <= y < classes.
Images come as (samples, height, width) or (samples, height, width, channels) and become rows of pixels.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.batches import checked_integer
from dist_hdnn.data.toys import Answers, Dataset, Floats, Image, Integers, split_indices


def from_arrays(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    classes: int | None = None,
    name: str = "data",
    feature_names: Sequence[str] | None = None,
    split: str = "random",
    test_fraction: float = 0.5,
    seed: int = 0,
    regression: bool = False,
    lines: Sequence[int] | None = None,
) -> Dataset:
    """A data set from arrays or CPU tensors in memory, split here.

    x: (n, features) numbers, or images (n, height, width) or (n, height, width, channels). y: (n,) labels.
    regression: y holds real targets instead, (n,) or (n, targets). lines: the file line of each sample, for messages.
    classes, split, test_fraction, seed: as for `read_dataset`. ValueError for whatever does not fit.
    """
    rows, image = pixel_rows(x, name)
    floats, labels, classes = checked(rows, y, classes, name, regression, feature_names, lines)
    train, test = split_indices(len(labels), split, test_fraction, seed)
    names = _feature_names(floats.shape[1], feature_names, name)
    return Dataset(name, floats[train], labels[train], floats[test], labels[test], classes, names, image)


def from_parts(
    name: str,
    arrays: Mapping[str, npt.ArrayLike],
    classes: int | None = None,
    source: str | None = None,
    regression: bool = False,
) -> Dataset:
    """A data set from train_x, train_y, test_x and test_y, each as in `from_arrays`, taken as they are.

    source: starts the messages instead of the name. ValueError for parts that do not fit together.
    """
    source = name if source is None else source
    (train_x, image), (test_x, test_image) = (pixel_rows(arrays[part], source) for part in ("train_x", "test_x"))
    if classes is None and not regression:
        # over both parts: a small test part may lack a class
        parts = [whole_labels(arrays[part], f"{source}, {part}") for part in ("train_y", "test_y")]
        classes = _count_classes(np.concatenate([part.reshape(-1) for part in parts]), source)
    train, train_y, classes = checked(train_x, arrays["train_y"], classes, f"{source}, train part", regression)
    test, test_y, _ = checked(test_x, arrays["test_y"], classes, f"{source}, test part", regression)
    if train_y.shape[1:] != test_y.shape[1:]:
        raise ValueError(
            f"{source}: expected as many targets in test_y as in train_y, got {test_y.shape[1]} and "
            f"{train_y.shape[1]}; give both the same columns"
        )
    if train.shape[1] != test.shape[1] or image != test_image:
        raise ValueError(
            f"{source}: expected as many features in test_x as in train_x, got {test.shape[1]} and {train.shape[1]}; "
            "give both the same columns"
        )
    return Dataset(name, train, train_y, test, test_y, classes, _feature_names(train.shape[1], None, source), image)


def pixel_rows(x: npt.ArrayLike, name: str) -> tuple[npt.ArrayLike, Image | None]:
    """Images (n, height, width) or (n, height, width, channels) as rows of pixels and their sizes; other x as it is."""
    shape = np.shape(x)
    if len(shape) not in (3, 4):
        return x, None
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
