"""Data sets of arrays: cut into parts if they are not already, and prepared from the training part.

Shapes: x (samples, features), or images (samples, height, width) or (samples, height, width, channels) where they are
asked for by name; y (samples,) labels, or (samples, targets). Every error is one line.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.checks import (
    Answers,
    Floats,
    Image,
    check_answers,
    check_features,
    check_index,
    check_options,
    check_own,
    check_range,
    column_names,
    count_classes,
    count_own_classes,
    pixel_rows,
    row_number,
)
from dist_hdnn.data.dataset import Dataset, UncutDataset
from dist_hdnn.data.preparation import FILLS, Preparation, fitted_to_gaps
from dist_hdnn.data.readers.answers import of_agents
from dist_hdnn.data.readers.frames import collected, frame_columns, is_frame
from dist_hdnn.data.splits import Cut

WORDS = {"train": "training", "test": "test", "validation": "validation"}
MOST_COPIES = 0.1  # of a part that may be training samples again without a word
Parts = dict[str, tuple[Floats, Answers]]


@dataclass(frozen=True)
class Task:
    """The task that a data set of arrays poses, and the use of its arrays.

    source: starts messages in place of the name. classes: None counts them, and then every class needs a sample.
    images: x holds images. own: y holds targets of each agent's own, and x may hold features of each agent, (samples,
    agents, features). blank: the preparation, to be fitted to the training part.
    """

    name: str = "data"
    source: str = ""
    classes: int | None = None
    regression: bool = False
    images: bool = False
    cut: Cut = Cut()
    blank: Preparation = Preparation()
    own: bool = False

    @property
    def who(self) -> str:
        """The start of every message."""
        return self.source or self.name


class ArrayOptions(TypedDict, total=False):
    """The less usual options of `from_arrays`."""

    validation_fraction: float
    images: bool
    missing: str | None
    indicator: bool
    lines: Sequence[int] | None
    own: bool


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
    **options: Unpack[ArrayOptions],
) -> Dataset:
    """Make a data set of arrays, tensors or data frames (pandas, polars, pyarrow) in memory, and split it.

    x: (n, features) numbers; with images (n, height, width) or (n, height, width, channels). y: (n,) labels.
    feature_names: None takes those of a data frame, else x1, x2, ...; of x (n, agents, features) one for each feature,
    and then a column is "agent.feature", or one for each feature of each agent. regression: y holds real targets
    instead, (n,) or (n, targets).
    classes, split, test_fraction, seed: as for `read_dataset`. options, as there: validation_fraction, images, missing,
    indicator; lines, the file line of each sample, for messages; and own: every agent has targets of its own, y is
    (n, agents) classes (-1: unknown) or, of a regression, (n, agents) or (n, agents, targets) (NaN: unknown), a masked
    array or a frame with the agents' names; x may be (n, agents, features).
    ValueError for whatever does not fit.
    """
    check_options(options, ArrayOptions.__annotations__, "from_arrays")
    x = collected(x)
    check_index(x, y, name)
    if feature_names is None and is_frame(x):
        feature_names = [str(column) for column in frame_columns(x)]
        column_names(len(feature_names), feature_names, name)
    cut = Cut(split, test_fraction, seed, options.get("validation_fraction", 0.0))
    blank = Preparation(fill=options.get("missing"), indicator=options.get("indicator", True))
    own = options.get("own", False)
    if own and is_frame(y):
        blank = replace(blank, targets={str(agent): str(agent) for agent in frame_columns(y)})
    task = Task(name, "", classes, regression, options.get("images", False), cut, blank, own)
    return dataset_of({"x": x, "y": y}, task, feature_names, options.get("lines"))


def dataset_of(
    arrays: Mapping[str, npt.ArrayLike],
    task: Task,
    names: Sequence[str] | None = None,
    lines: Sequence[int] | None = None,
) -> Dataset:
    """Make a data set of x and y, cut here, or of train_x, train_y, test_x and test_y as they are.

    Validation points are validation_x and validation_y where they are given, else those that the cut takes out of the
    training part. Without a split the columns and classes of x and y are known, but the parts raise ValueError.
    names: of the features. lines: the file line of each sample. ValueError for arrays that do not fit the task.
    """
    whole = "x" in arrays
    uncut = whole and task.cut.split is None
    if uncut:  # under any split, so that faults of the samples raise now
        task = replace(task, cut=replace(task.cut, split="last"))
    _check_blank(task)
    if task.own:
        arrays, blank, names = of_agents(arrays, task.blank, names, task.regression, task.images, task.who)
        task = replace(task, blank=blank)
    parts, image, classes = _checked(arrays, task, names, lines)
    cut = task.cut
    if whole:
        x, y = parts.pop("")
        indices = zip(("train", "validation", "test"), cut.parts(len(y)), strict=True)
        parts |= {which: (x[index], y[index]) for which, index in indices if len(index)}
    else:
        _check_cut(cut, "validation" in parts, task.who)
        if cut.validation_fraction:
            x, y = parts["train"]
            train, validation = cut.validation(len(x))
            parts |= {"train": (x[train], y[train]), "validation": (x[validation], y[validation])}
    data = _prepared(parts, image, classes, names, task)
    return UncutDataset(**vars(data)) if uncut else data


def _checked(
    arrays: Mapping[str, npt.ArrayLike], task: Task, names: Sequence[str] | None, lines: Sequence[int] | None
) -> tuple[Parts, Image | None, int]:
    """Return the parts by name ("" for x and y), the sizes of images and the number of classes."""
    parts: Parts = {}
    sizes: dict[str, Image | None] = {}
    where = row_number if lines is None else lambda row: f"line {lines[int(row)]}"
    present = [""] if "x" in arrays else [which for which in WORDS if f"{which}_x" in arrays]
    whose = {which: task.who + (f", {WORDS[which]} part" if which else "") for which in present}
    for which in present:
        of_x, of_y = (f"{which}_{array}".lstrip("_") for array in "xy")
        rows, sizes[which] = pixel_rows(arrays[of_x], task.who, task.images)
        x = check_features(rows, names, whose[which], where, gaps=task.blank.fill is not None)
        parts[which] = x, check_answers(arrays[of_y], len(x), task.regression, whose[which], where, task.own)
    classes = 0 if task.regression else task.classes
    if classes is None:  # over all parts: a small test part may lack a class
        every, own = np.concatenate([y for _, y in parts.values()]), task.own
        classes = count_own_classes(every, task.blank.answering, task.who) if own else count_classes(every, task.who)
    first = present[0]
    for which, (x, y) in parts.items():
        if not task.regression:
            check_range(y, classes, whose[which], where, task.own)
        _check_alike(which, y.shape[1:], parts[first][1].shape[1:], "y", "targets", task.who)
        same = sizes[which] == sizes[first]
        _check_alike(which, x.shape[1:], parts[first][0].shape[1:] if same else (), "x", "features", task.who)
    return parts, sizes[first], classes


def _prepared(parts: Parts, image: Image | None, classes: int, names: Sequence[str] | None, task: Task) -> Dataset:
    """Return the data set of checked parts: gaps filled from the training part, windows inside each part."""
    train_x = parts["train"][0]
    names = column_names(train_x.shape[1], names, task.who)
    columns = () if image is not None else names
    fitted = replace(task.blank, columns=columns, image=image, dtype=train_x.dtype.name, classes=classes)
    fitted = fitted_to_gaps(fitted, train_x, task.who)
    first = fitted.window - 1 + fitted.ahead
    arrays: dict[str, Any] = {}
    for which, (x, y) in parts.items():
        if len(x) <= first:
            raise ValueError(
                f"{task.who}: expected at least {first + 1} rows in the {WORDS[which]} part for windows of "
                f"{fitted.window} rows and targets {fitted.ahead} rows ahead, got {len(x)}; shorten data.window or "
                "data.ahead, or change data.test_fraction or data.validation_fraction"
            )
        arrays |= {f"{which}_x": fitted.points(x)[: len(x) - first], f"{which}_y": y[first:]}
    if task.own:
        check_own({which: arrays[f"{which}_y"] for which in parts}, fitted.answering, task.who)
    else:
        _warn_of_degenerate_parts(arrays, fitted, task.who)
    return Dataset(
        task.name,
        classes=classes,
        feature_names=names if image is not None else fitted.features,
        image=image,
        class_names=fitted.class_names,
        preparation=fitted,
        **arrays,
    )


def _warn_of_degenerate_parts(arrays: Mapping[str, Any], fitted: Preparation, who: str) -> None:
    """Warn of each part of equal answers, of classes that training never sees, or of training samples again."""
    notes, trained = [], np.unique(arrays["train_y"], axis=0)
    for which, word in WORDS.items():
        y = arrays.get(f"{which}_y")
        if y is None:
            continue
        present = np.unique(y, axis=0)
        if len(present) == 1 and fitted.classes == 0:
            notes.append(f"all targets of the {word} part are equal, so its R² is undefined")
        elif len(present) == 1:
            notes.append(f"all samples of the {word} part are of one class, so its accuracy says little")
        unseen = np.setdiff1d(present, trained)
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
        warnings.warn(f"{who}: {note}", UserWarning, stacklevel=5)


def _copies(arrays: Mapping[str, Any], which: str) -> int:
    """Count the samples of a part that repeat training samples to the last bit, answers included."""
    rows = {
        part: np.column_stack([arrays[f"{part}_x"], arrays[f"{part}_y"]]).astype(np.float64)
        for part in ("train", which)
    }
    seen = {hash(row.tobytes()) for row in rows["train"]}
    return sum(hash(row.tobytes()) in seen for row in rows[which])


def _check_blank(task: Task) -> None:
    """Refuse an unknown fill, and one that would carry answers or readings from one part into another."""
    blank, split, who = task.blank, task.cut.split, task.who
    if blank.fill not in (None, *FILLS):
        raise ValueError(f"{who}: expected a fill among {', '.join(FILLS)}, got {blank.fill!r}; correct data.missing")
    if blank.fill is not None and task.images:
        raise ValueError(f"{who}: expected no data.missing for images, got {blank.fill}; fill in pixels beforehand")
    if blank.fill == "last" and split != "last":
        raise ValueError(
            f"{who}: expected rows in order of time for data.missing.fill=last, got data.split={split}; set "
            "data.split=last, or another fill"
        )
    if (blank.window > 1 or blank.ahead or blank.time) and split != "last":
        raise ValueError(
            f"{who}: expected data.split=last for rows in order of time, got {split}, which puts neighbors in time "
            "into training and test; set data.split=last"
        )


def _check_cut(cut: Cut, validates: bool, who: str) -> None:
    """Warn of an unused split of parts, and refuse a second way to make a validation part."""
    if validates and cut.validation_fraction:
        raise ValueError(
            f"{who}: expected no data.validation_fraction beside validation_x, got {cut.validation_fraction:g}; leave "
            "one of them out"
        )
    if cut.split is not None and (cut.split == "alternate" or not cut.validation_fraction):
        message = f"{who}: data.split={cut.split} is not used, because the test samples are given"
        warnings.warn(message, UserWarning, stacklevel=4)


def _check_alike(which: str, got: tuple[int, ...], wanted: tuple[int, ...], array: str, what: str, who: str) -> None:
    if got != wanted:
        shown = " and ".join(" x ".join(map(str, sizes)) or "other sizes" for sizes in (got, wanted))
        raise ValueError(
            f"{who}: expected as many {what} in {which}_{array} as in train_{array}, got {shown}; give both the same "
            "columns"
        )
