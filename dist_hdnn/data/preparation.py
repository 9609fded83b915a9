"""Preparation of readings for a network: columns, gaps, windows and scale, fitted on training points.

A `Preparation` is kept with a run. It holds plain values, which JSON keeps to the last bit, so `apply` repeats for new
readings what training did to the old ones.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dist_hdnn.data.checks import Floats, Image, check_finite, some

FILLS = ("mean", "zero", "last")
INDEX = ("", "Unnamed: 0", "__index_level_0__")  # what pandas calls an index without a name


@dataclass(frozen=True)
class Preparation:
    """The map from readings (rows, columns) to points (samples, features), and from answers to their own units.

        readings -> columns by name -> gaps filled, indicators added -> windows of rows -> (x - mean) / deviation

    columns: names of the readings' columns, in order; empty for images and for points without names.
    image: height, width, channels of readings that are images. Then a reading is a row of pixels, or an image.
    dtype: "float32" where readings came as bytes, else "float64".
    window: rows of a time series that a sample sees, up to its own. ahead: rows from a sample to its target.
    fill: what a gap (NaN) becomes: "mean", "zero" or "last" (the reading before it in the same rows; before the first
    one the mean). None refuses gaps. fills: the value for each column. indicator: whether columns get indicators.
    indicators: columns that have gaps in the training rows. Each gets a feature "<column> missing", 1 in a gap, else 0.
    mean, deviation: of each feature, or one for all; empty for features that stay as they are.
    target, target_mean, target_deviation: column of the answers, and the scale of real ones, of each target.
    classes, class_names: number of classes, 0 for a regression; their names where they have some.
    ignored, time: columns of the file that are no features. Readings may have them or not.
    observers: the agent that sees a column, by column, where the data say so.
    targets: the agent that answers, by target, where agents have targets of their own; several of an agent stand
    together, and every agent has as many. agent: column of a table with a row per agent and time, see `long`.
    agents: of arrays with a column for every agent of the graph, their number; 0 for other data.
    """

    columns: tuple[str, ...] = ()
    image: Image | None = None
    dtype: str = "float64"
    window: int = 1
    ahead: int = 0
    fill: str | None = None
    fills: tuple[float, ...] = ()
    indicator: bool = True
    indicators: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    target: str | None = None
    target_mean: tuple[float, ...] = ()
    target_deviation: tuple[float, ...] = ()
    classes: int = 0
    class_names: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()
    time: str | None = None
    observers: Mapping[str, int | str] = field(default_factory=dict)
    targets: Mapping[str, int | str] = field(default_factory=dict)
    agent: str | None = None
    agents: int = 0

    @property
    def answering(self) -> tuple[int | str, ...]:
        """The agents that have targets of their own, in the order of these."""
        return tuple(dict.fromkeys(self.targets.values()))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, column by column, the oldest row of a window first ("speed[t-1]", "speed[t]")."""
        names = (*self.columns, *(f"{name} missing" for name in self.indicators))
        if self.window == 1:
            return names
        lags = [f"[t-{lag}]" if lag else "[t]" for lag in range(self.window - 1, -1, -1)]
        return tuple(name + lag for name in names for lag in lags)

    @property
    def sources(self) -> tuple[str, ...]:
        """The column that each feature comes from."""
        return tuple(name for name in (*self.columns, *self.indicators) for _ in range(self.window))

    def apply(self, readings: npt.ArrayLike, names: Sequence[str] | None = None) -> Floats:
        """Return the network's input (samples, features) for readings (rows, columns).

        There are window - 1 samples fewer than rows.
        readings: numbers in the units of the file, NaN in gaps, in the order of `columns`. Images (rows, height, width)
        or (rows, height, width, channels) are flattened. names: of the readings' columns, if they may come in another
        order, with the target, the time or ignored columns among them. ValueError, one line, for a missing or an
        unknown column, another number of them, a gap where none is filled, infinity, and fewer rows than a window.
        """
        x = np.asarray(readings)
        if self.image is not None and x.ndim > 2:
            x = x.reshape(len(x), -1)
        if names is not None:
            self.check_columns(names, "readings")
            x = x[:, [names.index(name) for name in self.columns]]
        wanted = len(self.columns) or (int(np.prod(self.image)) if self.image else x.shape[-1])
        if x.ndim != 2 or x.shape[1] != wanted or x.dtype.kind not in "biuf":
            raise ValueError(
                f"readings: expected numbers of shape (rows, {wanted}), got {x.dtype} of shape {x.shape}; give a "
                f"column for each of {some(self.columns) or 'the pixels'}"
            )
        check_finite(x, self.columns, "readings", gaps=self.fill is not None)
        if len(x) < self.window:
            raise ValueError(
                f"readings: expected at least {self.window} rows for a window, got {len(x)}; give more rows"
            )
        return self.scaled(self.points(x.astype(self.dtype)))

    def points(self, x: Floats) -> Floats:
        """`apply` without the scale, for checked columns and at least as many rows as a window has."""
        filled = self._filled(x)
        if self.window == 1:
            return filled
        seen = np.lib.stride_tricks.sliding_window_view(filled, self.window, axis=0)  # (samples, columns, window)
        return seen.reshape(len(seen), -1)

    def scaled(self, x: Floats) -> Floats:
        """Return (x - mean) / deviation of points (samples, features)."""
        if not self.mean:
            return x
        kind = x.dtype.type
        shift, scale = np.array(self.mean).astype(kind), (1.0 / np.array(self.deviation)).astype(kind)
        return np.asarray((x - shift) * scale)

    def scaled_targets(self, y: Floats) -> Floats:
        """Return real targets (samples, targets) in the units that a network is trained in."""
        if not self.target_mean:
            return y
        mean, deviation = self._of_targets(y)
        return np.asarray((y - mean) / deviation)

    def answers(self, predictions: npt.ArrayLike) -> Floats:
        """Return real predictions (..., targets) in the units of the file, the inverse of `scaled_targets`."""
        y = np.asarray(predictions, dtype=np.float64)
        if not self.target_mean:
            return y
        mean, deviation = self._of_targets(y)
        return y * deviation + mean

    def _of_targets(self, y: Floats) -> tuple[Floats, Floats]:
        """Return mean and deviation of the targets in the shape of targets (..., targets) or (..., agents, targets)."""
        shape = y.shape[-2:] if self.targets else y.shape[-1:]
        return np.reshape(self.target_mean, shape), np.reshape(self.target_deviation, shape)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for `json.dumps`."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Preparation:
        """Return the preparation that `as_json` was called on. ValueError for values of something else."""
        unknown = values.keys() - {field.name for field in dataclasses.fields(Preparation)}
        if unknown:
            raise ValueError(
                f"preparation: expected the values of a run, got the unknown {min(unknown)!r}; train again, or use the "
                "version that wrote it"
            )
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return Preparation(**plain)

    def check_columns(
        self, held: Sequence[str], who: str, keep: Sequence[str] | None = None, index: Sequence[str] = ()
    ) -> dict[str, str]:
        """Refuse missing, repeated and unknown columns, and return those that pass through, new name -> held name.

        keep: columns that have to be there and pass through; None where none can. index: columns that pandas wrote as
        the row index, which pass through like the time.
        """
        wanted = (*self.columns, *(keep or ()))
        expected = {*wanted, *self.ignored, *self.targets, self.target}
        passed = [name for name in held if name in {*index, *INDEX, self.time} and name not in expected]
        for name in wanted:
            if held.count(name) != 1:
                others = {other.casefold(): other for other in held if other not in expected}
                near = [others[word] for word in difflib.get_close_matches(name.casefold(), others, 1)]
                remedy = f"is it {near[0]!r}?" if near else f"the columns are {some(held)}"
                if not {*held} & expected:
                    remedy = f"the first line is {some(held)} and has to name the columns"
                got = f"{name!r} twice" if name in held else f"no {name!r}"
                raise ValueError(f"{who}: expected the columns {some(wanted)}, got {got}; {remedy}")
        unknown = [name for name in held if name not in expected and name not in passed]
        if unknown:
            remedy = "remove them"
            if keep is not None:
                remedy = f"give --keep={','.join(unknown)} to pass columns through, or {remedy}"
            raise ValueError(
                f"{who}: expected the columns {some(self.columns)}, got {some([repr(name) for name in unknown])} too; "
                f"{remedy}"
            )
        return {"index" if name in INDEX else name: name for name in (*passed, *(keep or ()))}

    def _filled(self, x: Floats) -> Floats:
        if self.fill is None:
            return x
        gaps = np.isnan(x)
        marks = gaps[:, [self.columns.index(name) for name in self.indicators]].astype(x.dtype)
        if self.fill == "last":
            # (rows, columns): the last row at or before each that has a reading, else row 0
            rows = np.maximum.accumulate(np.where(gaps, 0, np.arange(len(x))[:, None]), axis=0)
            x = np.take_along_axis(x, rows, axis=0)
        filled = np.where(np.isnan(x), np.array(self.fills, dtype=x.dtype), x)
        return np.concatenate([filled, marks], axis=1)


def fitted_to_gaps(blank: Preparation, train: Floats, who: str) -> Preparation:
    """Return the preparation with fills and indicators of the training rows. ValueError for a column of gaps alone."""
    if blank.fill is None:
        return blank
    gaps: npt.NDArray[np.bool] = np.isnan(train)
    empty = np.flatnonzero(gaps.all(axis=0))
    if len(empty):
        raise ValueError(
            f"{who}: expected a value in column {blank.columns[empty[0]]!r} among the training rows, got gaps alone; "
            "leave the column out (data.ignore)"
        )
    zero = blank.fill == "zero"
    fills = np.zeros(train.shape[1]) if zero else np.asarray(np.nanmean(train, axis=0, dtype=np.float64))
    marked = [name for name, any_gap in zip(blank.columns, np.asarray(gaps.any(axis=0)), strict=True) if any_gap]
    return dataclasses.replace(blank, fills=tuple(fills.tolist()), indicators=tuple(marked) if blank.indicator else ())
