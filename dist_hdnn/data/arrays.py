"""Data sets of arrays: cut into parts, or in parts already; prepared as the training part says.

Shapes: x (samples, features), or images (samples, height, width) or (samples, height, width, channels) where they are
asked for by name; y (samples,) labels, or (samples, targets). Every complaint is one line.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.checks import check_index, checked, column_names, count_classes, whole_labels
from dist_hdnn.data.dataset import Answers, Dataset, Floats, Image
from dist_hdnn.data.preparation import FILLS, Preparation, fitted_to_gaps
from dist_hdnn.data.readers.frames import collected, frame_columns, is_frame, plain
from dist_hdnn.data.splits import UNSTATED, Cut, under_cut, validation_indices

WORDS = {"train": "training", "test": "test", "validation": "validation"}
AS_IT_IS = Preparation()
MOST_COPIES = 0.1  # of a part that may be training samples again without a word


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
    missing: str | None = None,
    indicator: bool = True,
) -> Dataset:
    """A data set from arrays, tensors or data frames (pandas, polars, pyarrow) in memory, split here.

    x: (n, features) numbers; with images (n, height, width) or (n, height, width, channels). y: (n,) labels.
    feature_names: None takes those of a data frame, else x1, x2, ... regression: y holds real targets instead, (n,)
    or (n, targets). lines: the file line of each sample, for messages.
    classes, split, test_fraction, seed, validation_fraction, missing, indicator: as for `read_dataset`.
    ValueError for whatever does not fit.
    """
    x = collected(x)
    check_index(x, y, name)
    if feature_names is None and is_frame(x):
        feature_names = [str(column) for column in frame_columns(x)]
        column_names(len(feature_names), feature_names, name)
    blank = Preparation(fill=missing, indicator=indicator)

    def made(cut: Cut) -> Dataset:
        return cut_arrays(x, y, cut, classes, name, feature_names, regression, lines, images, blank)

    return under_cut(Cut(split, test_fraction, seed, validation_fraction), made)


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
    blank: Preparation = AS_IT_IS,
) -> Dataset:
    """`from_arrays` under a cut. blank: what is to be done to the readings, to be fitted to the training part."""
    _check_blank(blank, cut, images, name)
    rows, image = pixel_rows(x, name, images)
    values, answers, classes = checked(
        rows, y, classes, name, regression, feature_names, lines, gaps=blank.fill is not None
    )
    parts = dict(zip(("train", "validation", "test"), cut.parts(len(answers)), strict=True))
    found = {which: (values[index], answers[index]) for which, index in parts.items() if len(index)}
    return _prepared(name, found, image, classes, feature_names, blank, name)


def from_parts(
    name: str,
    arrays: Mapping[str, npt.ArrayLike],
    classes: int | None = None,
    source: str | None = None,
    regression: bool = False,
    cut: Cut = UNSTATED,
    images: bool = False,
    blank: Preparation = AS_IT_IS,
) -> Dataset:
    """A data set from train_x, train_y, test_x and test_y, each as in `from_arrays`, taken as they are.

    Validation points are validation_x and validation_y where they are given, else those that the cut takes out of the
    training part. source: starts the messages instead of the name. ValueError for parts that do not fit together.
    """
    source = name if source is None else source
    parts = [which for which in ("train", "test", "validation") if f"{which}_x" in arrays]
    _check_cut(cut, "validation" in parts, source)
    _check_blank(blank, cut, images, source)
    rows, sizes = {}, {}
    for which in parts:
        rows[which], sizes[which] = pixel_rows(arrays[f"{which}_x"], source, images)
    if classes is None and not regression:
        # over all parts: a small test part may lack a class
        labels = [whole_labels(arrays[f"{which}_y"], f"{source}, {which}_y").reshape(-1) for which in parts]
        classes = count_classes(np.concatenate(labels), source)
    found: dict[str, tuple[Floats, Answers]] = {}
    for which in parts:
        who, gaps = f"{source}, {WORDS[which]} part", blank.fill is not None
        x, y, classes = checked(rows[which], arrays[f"{which}_y"], classes, who, regression, gaps=gaps)
        found[which] = x, y
        _check_alike(which, y.shape[1:], found["train"][1].shape[1:], "y", "targets", source)
        same = sizes[which] == sizes["train"]
        _check_alike(which, x.shape[1:], found["train"][0].shape[1:] if same else (), "x", "features", source)
    if cut.validation_fraction:
        x, y = found["train"]
        train, validation = validation_indices(len(x), cut.split or "random", cut.seed, cut.validation_fraction)
        found |= {"train": (x[train], y[train]), "validation": (x[validation], y[validation])}
    return _prepared(name, found, sizes["train"], classes or 0, None, blank, source)


def _prepared(
    name: str,
    parts: Mapping[str, tuple[Floats, Answers]],
    image: Image | None,
    classes: int,
    feature_names: Sequence[str] | None,
    blank: Preparation,
    who: str,
) -> Dataset:
    """The data set of parts whose rows are checked: gaps filled as the training part says, windows inside each part."""
    train_x = parts["train"][0]
    names = column_names(train_x.shape[1], feature_names, who)
    columns = () if image is not None else names
    fitted = replace(blank, columns=columns, image=image, dtype=train_x.dtype.name, classes=classes)
    fitted = fitted_to_gaps(fitted, train_x, who)
    first = fitted.window - 1 + fitted.ahead
    arrays: dict[str, Any] = {}
    for which, (x, y) in parts.items():
        if len(x) <= first:
            raise ValueError(
                f"{who}: expected at least {first + 1} rows in the {WORDS[which]} part for windows of {fitted.window} "
                f"rows and targets {fitted.ahead} rows ahead, got {len(x)}; shorten data.window or data.ahead, or "
                "change data.test_fraction or data.validation_fraction"
            )
        arrays |= {f"{which}_x": fitted.points(x)[: len(x) - first], f"{which}_y": y[first:]}
    _say_what_is_degenerate(arrays, fitted, who)
    features = names if image is not None else fitted.features
    return Dataset(
        name,
        classes=classes,
        feature_names=features,
        image=image,
        class_names=fitted.class_names,
        preparation=fitted,
        **arrays,
    )


def _say_what_is_degenerate(arrays: Mapping[str, Any], fitted: Preparation, who: str) -> None:
    """One warning for each part of equal answers, of classes that training never sees, or of training samples again."""
    notes, trained = [], np.unique(arrays["train_y"], axis=0)
    for which, word in WORDS.items():
        y = arrays.get(f"{which}_y")
        if y is None:
            continue
        found = np.unique(y, axis=0)
        if len(found) == 1 and fitted.classes == 0:
            notes.append(f"all targets of the {word} part are equal, so its R² is undefined")
        elif len(found) == 1:
            notes.append(f"all samples of the {word} part are of one class, so its accuracy says little")
        unseen = np.setdiff1d(found, trained)
        if fitted.classes and len(unseen):
            name = repr(fitted.class_names[unseen[0]]) if fitted.class_names else unseen[0]
            notes.append(f"the {word} part has samples of class {name}, the training part has none; look at data.split")
        copies = _copies(arrays, which) if which != "train" and fitted.image is None and fitted.window == 1 else 0
        if copies > MOST_COPIES * len(y):
            notes.append(
                f"{copies} of {len(y)} samples of the {word} part are copies of training samples, so its figures may "
                "say little of new ones; drop repeated rows"
            )
    for note in notes:
        warnings.warn(f"{who}: {note}", UserWarning, stacklevel=4)


def _copies(arrays: Mapping[str, Any], which: str) -> int:
    """How many samples of a part are those of the training part again, to the last bit, with their answers."""
    rows = {
        part: np.column_stack([arrays[f"{part}_x"], arrays[f"{part}_y"]]).astype(np.float64)
        for part in ("train", which)
    }
    seen = {hash(row.tobytes()) for row in rows["train"]}
    return sum(hash(row.tobytes()) in seen for row in rows[which])


def _check_blank(blank: Preparation, cut: Cut, images: bool, source: str) -> None:
    """Refuse a fill that is none, and one that would carry answers or readings from one part into another."""
    if blank.fill not in (None, *FILLS):
        raise ValueError(
            f"{source}: expected a fill among {', '.join(FILLS)}, got {blank.fill!r}; correct data.missing"
        )
    if blank.fill is not None and images:
        raise ValueError(f"{source}: expected no data.missing for images, got {blank.fill}; fill in pixels beforehand")
    if blank.fill == "last" and cut.split != "last":
        raise ValueError(
            f"{source}: expected rows in order of time for data.missing.fill=last, got data.split={cut.split}; set "
            "data.split=last, or another fill"
        )
    if (blank.window > 1 or blank.ahead or blank.time) and cut.split != "last":
        raise ValueError(
            f"{source}: expected data.split=last for rows in order of time, got {cut.split}, which puts neighbors in "
            "time into training and test; set data.split=last"
        )


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


def _check_alike(which: str, got: tuple[int, ...], wanted: tuple[int, ...], array: str, what: str, source: str) -> None:
    if got != wanted:
        shown = " and ".join(" x ".join(map(str, sizes)) or "other sizes" for sizes in (got, wanted))
        raise ValueError(
            f"{source}: expected as many {what} in {which}_{array} as in train_{array}, got {shown}; "
            "give both the same columns"
        )


def pixel_rows(x: npt.ArrayLike, name: str, images: bool) -> tuple[npt.ArrayLike, Image | None]:
    """Images (n, height, width) or (n, height, width, channels) as rows of pixels and their sizes; other x as it is."""
    x = plain(x)
    shape = x.shape
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
    return x.reshape(shape[0], -1), (shape[1], shape[2], shape[3] if len(shape) == 4 else 1)
