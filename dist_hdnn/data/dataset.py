"""Data sets: points and answers for training, validation and test, scaled by the training points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dist_hdnn.data.checks import Answers, Floats, Image
from dist_hdnn.data.preparation import Preparation


@dataclass(frozen=True, eq=False)
class Dataset:
    """Points (n, features) with labels (n,) int64 in 0 .. classes - 1, or for classes 0 real targets (n, targets).

    Where agents have targets of their own, `preparation.targets`, answers are (n, agents) classes, -1 where unknown, or
    (n, agents, targets) float64, NaN where unknown.

    validation_x, validation_y: points that choose between epochs, recipes and trials; None where there are none. Test
    points choose nothing.
    image: height, width and channels where the features are pixels, row by row, the channels of a pixel together.
    class_names: of the classes, where they have names.
    preparation: how the points were made of readings, to be repeated for new readings.
    """

    name: str
    train_x: Floats
    train_y: Answers
    test_x: Floats
    test_y: Answers
    classes: int
    feature_names: tuple[str, ...]
    image: Image | None = None
    class_names: tuple[str, ...] | None = None
    validation_x: Floats | None = None
    validation_y: Answers | None = None
    preparation: Preparation = Preparation()

    @property
    def features(self) -> int:
        """Number of input features."""
        return len(self.feature_names)

    @property
    def regression(self) -> bool:
        """True where the answers are real targets, not classes."""
        return self.classes == 0

    @property
    def outputs(self) -> int:
        """Scores per sample, or per agent with targets of its own: one per class, or one per target."""
        return self.train_y.shape[-1] if self.regression else self.classes

    @property
    def own(self) -> bool:
        """Whether agents have targets of their own."""
        return bool(self.preparation.targets)

    @property
    def own_names(self) -> list[tuple[str, ...]]:
        """Names of the targets of each agent with its own, in the order of the answers."""
        owners = self.preparation.targets
        return [tuple(name for name in owners if owners[name] == agent) for agent in self.preparation.answering]

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the targets, agent by agent where these have their own; of classes that all agents share none."""
        if self.own or not self.regression:
            return tuple(self.preparation.targets)
        target = self.preparation.target or "target"
        return (target,) if self.outputs == 1 else tuple(f"{target}_{i + 1}" for i in range(self.outputs))

    @property
    def normalisation(self) -> dict[str, Any]:
        """The shift and scale of the points, as `standardised` sets them, or empty."""
        fitted = self.preparation
        if not fitted.mean:
            return {}
        pixels = self.image is not None
        scale = {
            "x": "(x - mean) / deviation",
            "of": "all training pixels" if pixels else "each feature over the training points",
            "mean": list(fitted.mean),
            "deviation": list(fitted.deviation),
        }
        targets = {"target_mean": list(fitted.target_mean), "target_deviation": list(fitted.target_deviation)}
        return scale | (targets if self.regression else {})

    @property
    def parts(self) -> dict[str, tuple[Floats, Answers]]:
        """Points and answers of "train", "test" and, where there is one, "validation"."""
        parts = {"train": (self.train_x, self.train_y), "test": (self.test_x, self.test_y)}
        if self.validation_x is not None and self.validation_y is not None:
            parts["validation"] = (self.validation_x, self.validation_y)
        return parts


class UncutDataset(Dataset):
    """A data set without a stated split, whose parts raise ValueError.

    No default suits all samples: a random cut leaks between rows that depend on each other.
    """

    def __getattribute__(self, name: str) -> Any:
        if name in ("train_x", "train_y", "validation_x", "validation_y", "test_x", "test_y"):
            raise ValueError(
                f"data set {self.name}: expected data.split, which separates training and test samples, got none; set "
                "data.split=random for samples that do not depend on each other, data.split=last for rows in order of "
                "time"
            )
        return super().__getattribute__(name)


def standardised(data: Dataset) -> Dataset:
    """Scale every part as (x - mean) / deviation, so that training features have mean 0 and deviation 1.

    Images share one mean and one deviation, so that differences between pixels keep their size. Other features have
    their own. A feature that is constant over the training points is only shifted. Real targets are scaled alike, so
    the loss of a regression is in units of the training targets' variance.
    """
    axis = None if data.image is not None else 0
    mean = data.train_x.mean(axis=axis, dtype=np.float64)
    deviation = np.atleast_1d(data.train_x.std(axis=axis, dtype=np.float64))
    deviation[deviation < 1e-12 * (1 + np.abs(mean).max())] = 1.0
    fitted = replace(data.preparation, mean=tuple(np.atleast_1d(mean).tolist()), deviation=tuple(deviation.tolist()))
    if data.regression:
        center, spread = (np.ravel(of(data.train_y, axis=0)) for of in (np.nanmean, np.nanstd))
        spread[spread < 1e-12 * (1 + np.abs(center).max())] = 1.0
        fitted = replace(fitted, target_mean=tuple(center.tolist()), target_deviation=tuple(spread.tolist()))
    arrays: dict[str, Any] = {}
    for which, (x, y) in data.parts.items():
        arrays |= {f"{which}_x": fitted.scaled(x), f"{which}_y": fitted.scaled_targets(y)}
    return replace(data, preparation=fitted, **arrays)
