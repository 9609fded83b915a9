"""Which samples train, which choose, and which test.

Samples that know of each other must not stand on both sides of a cut: rows of a time series are cut in time, and no
window of rows reaches across.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dist_hdnn.data.batches import checked_integer, shuffled
from dist_hdnn.data.dataset import Answers, Floats, Integers

SPLITS = ("alternate", "random", "last")
Parts = tuple[Integers, Integers, Integers]


@dataclass(frozen=True)
class Cut:
    """How samples are cut into training, validation and test points: the arguments of `split_indices`."""

    split: str | None = None
    test_fraction: float = 0.5
    seed: int = 0
    validation_fraction: float = 0.0

    def parts(self, samples: int, span: int = 1) -> Parts:
        """`split_indices` of so many samples; span: as there."""
        assert self.split is not None, "chosen() comes first"
        return split_indices(samples, self.split, self.test_fraction, self.seed, self.validation_fraction, span)


UNSTATED = Cut()


def split_indices(
    samples: int, split: str, test_fraction: float, seed: int, validation_fraction: float = 0.0, span: int = 1
) -> Parts:
    """Indices of the training, the validation and the test points, ascending and disjoint.

    split: "alternate" (even positions train, odd positions test; test_fraction and seed play no part); "random":
    round(samples * test_fraction) points, at least one, held out under the seed; "last": the last so many, as for a
    time series. validation_fraction: the share of what is left that validates: the last of it with "last", else a
    random one under the seed; 0 for none.
    span: rows of a time series that a sample covers, from its own row on. Rows are cut, not samples, so that every row
    is seen in one part only; samples that reach across a cut are in no part.
    ValueError for an unknown split, a fraction outside its range, too few samples for the parts, and rows of a time
    series that a split would mix.
    """
    samples = checked_integer(samples, "number of samples", 2, "training and test need at least one point each")
    if split not in SPLITS:
        raise ValueError(
            f"data split: expected one of {', '.join(SPLITS)}, got {split!r}; set data.split to one of them"
        )
    if span > 1 and split != "last":
        raise ValueError(
            f"data.split: expected last for windows of a time series, got {split}, which puts rows that share a window "
            "into training and test; set data.split=last"
        )
    rows = samples + span - 1
    if split == "alternate":
        rest, test = np.arange(0, rows, 2, dtype=np.int64), np.arange(1, rows, 2, dtype=np.int64)
    elif split == "last":
        rest, test = _ends(rows, test_fraction, "test_fraction")
    else:
        rest, test = _drawn(rows, test_fraction, "test_fraction", seed, "held-out split")
    kept, chosen_by = validation_indices(len(rest), split, seed, validation_fraction)
    train, validation = rest[kept], rest[chosen_by]
    parts = tuple(part[: max(0, len(part) - span + 1)] for part in (train, validation, test))
    for part, which in zip(parts, ("training", "validation", "test"), strict=True):
        if not len(part) and (which != "validation" or validation_fraction):
            raise ValueError(
                f"data.split={split}: expected rows for at least one window of {span} rows in the {which} part, got "
                f"too few of {rows}; change data.test_fraction or data.validation_fraction, or shorten data.window"
            )
    return parts[0], parts[1], parts[2]


def validation_indices(samples: int, split: str, seed: int, fraction: float) -> tuple[Integers, Integers]:
    """Which of the samples that are no test points train, and which validate; as in `split_indices`."""
    if not isinstance(fraction, int | float) or not 0.0 <= fraction < 1.0:
        raise ValueError(
            f"data validation_fraction: expected a number of at least 0 and below 1, got {fraction!r}; 0.2 takes a "
            "fifth of the training points"
        )
    if fraction == 0.0:
        return np.arange(samples, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if samples < 2:
        raise ValueError(
            f"data.validation_fraction: expected at least 2 points to train on and to validate, got {samples}; lower "
            "data.test_fraction, or leave data.validation_fraction out"
        )
    if split == "last":
        return _ends(samples, fraction, "validation_fraction")
    return _drawn(samples, fraction, "validation_fraction", seed, "validation split")


def _ends(rows: int, fraction: float, name: str) -> tuple[Integers, Integers]:
    held_out = _held_out(rows, fraction, name)
    return np.arange(rows - held_out, dtype=np.int64), np.arange(rows - held_out, rows, dtype=np.int64)


def _drawn(rows: int, fraction: float, name: str, seed: int, purpose: str) -> tuple[Integers, Integers]:
    held_out = _held_out(rows, fraction, name)
    order = shuffled(rows, seed, purpose)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def _held_out(rows: int, fraction: float, name: str) -> int:
    if not isinstance(fraction, int | float) or not 0.0 < fraction < 1.0:
        raise ValueError(f"data {name}: expected a number above 0 and below 1, got {fraction!r}; 0.5 holds out half")
    return min(max(round(rows * fraction), 1), rows - 1)


def chosen(cut: Cut, name: str) -> Cut:
    """A cut whose split is stated. ValueError where nobody has stated it: no default suits all samples of a user."""
    if cut.split is None:
        raise ValueError(
            f"{name}: expected data.split, which says how training and test samples are told apart, got none; set "
            "data.split=random for samples that do not depend on each other, data.split=last for rows in order of time"
        )
    return cut


def at_random(cut: Cut) -> Cut:
    """A cut, a random one where none is stated: for samples that are known not to depend on each other."""
    return cut if cut.split is not None else replace(cut, split="random")


def dealt(x: Floats, y: Answers, parts: Parts) -> dict[str, Floats | Answers | None]:
    """train_x, train_y and so on of a `Dataset`; None for the validation points where there are none."""
    found: dict[str, Floats | Answers | None] = {}
    for which, index in zip(("train", "validation", "test"), parts, strict=True):
        none = which == "validation" and not len(index)
        found |= {f"{which}_x": None if none else x[index], f"{which}_y": None if none else y[index]}
    return found
