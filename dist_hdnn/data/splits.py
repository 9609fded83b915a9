"""Splits of samples into training, validation and test points.

Samples that depend on each other must not stand on both sides of a cut. So rows of a time series are cut in time, and
windows of rows are made inside each part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dist_hdnn.data.batches import checked_integer, shuffled
from dist_hdnn.data.checks import Integers

SPLITS = ("alternate", "random", "last")
Parts = tuple[Integers, Integers, Integers]


@dataclass(frozen=True)
class Cut:
    """A cut of samples into training, validation and test points.

    split: "alternate" (even positions train, odd positions test; test_fraction and seed play no part); "random":
    round(samples * test_fraction) points, at least one, held out under the seed; "last": as many at the end, as for a
    time series. None: not stated yet.
    validation_fraction: the share of the rest that validates, its end with "last", else random points under the seed.
    """

    split: str | None = None
    test_fraction: float = 0.5
    seed: int = 0
    validation_fraction: float = 0.0

    def parts(self, samples: int) -> Parts:
        """Return the indices of the training, the validation and the test points, ascending and disjoint.

        ValueError for an unknown split, a fraction outside its range, and too few samples for the parts.
        """
        samples = checked_integer(samples, "number of samples", 2, "training and test need at least one point each")
        if self.split not in SPLITS:
            raise ValueError(
                f"data split: expected one of {', '.join(SPLITS)}, got {self.split!r}; set data.split to one of them"
            )
        if self.split == "alternate":
            rest, test = np.arange(0, samples, 2, dtype=np.int64), np.arange(1, samples, 2, dtype=np.int64)
        else:
            rest, test = self._held_out(samples, self.test_fraction, "test_fraction", "held-out split")
        kept, chosen = self.validation(len(rest))
        return rest[kept], rest[chosen], test

    def validation(self, samples: int) -> tuple[Integers, Integers]:
        """Return the indices that train and those that validate, among the samples that are no test points."""
        fraction = self.validation_fraction
        if not isinstance(fraction, int | float) or not 0.0 <= fraction < 1.0:
            raise ValueError(
                f"data validation_fraction: expected a number of at least 0 and below 1, got {fraction!r}; 0.2 takes a "
                "fifth of the training points"
            )
        if fraction == 0.0:
            return np.arange(samples, dtype=np.int64), np.zeros(0, dtype=np.int64)
        if samples < 2:
            raise ValueError(
                f"data.validation_fraction: expected at least 2 points to train on and to validate, got {samples}; "
                "lower data.test_fraction, or leave data.validation_fraction out"
            )
        return self._held_out(samples, fraction, "validation_fraction", "validation split")

    def _held_out(self, samples: int, fraction: float, name: str, purpose: str) -> tuple[Integers, Integers]:
        """Return the indices that remain and those held out: the last with "last", else random ones."""
        if not isinstance(fraction, int | float) or not 0.0 < fraction < 1.0:
            raise ValueError(
                f"data {name}: expected a number above 0 and below 1, got {fraction!r}; 0.5 holds out half"
            )
        count = min(max(round(samples * fraction), 1), samples - 1)
        if self.split == "last":
            return tuple(np.split(np.arange(samples, dtype=np.int64), [samples - count]))  # type: ignore[return-value]
        order = shuffled(samples, self.seed, purpose)
        return np.sort(order[count:]), np.sort(order[:count])


UNSTATED = Cut()
