"""Axes of a study over config keys, as a study file writes them, and their trials.

A setting is a dotted config key with its value. An option of an axis is a label with the settings it stands for.
Functions that read the study file raise ValueError, one line, that names the axis or the key.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dist_hdnn.config.files import check_value

Settings = dict[str, Any]
SEED = "seed"  # the axis over which results are averaged
LONGEST_SLUG = 70  # characters of a trial's name


@dataclass(frozen=True)
class Choice:
    """An axis with a list of options: values of one key, or named groups of settings."""

    name: str
    options: Mapping[str, Settings]
    """label -> settings; the label of an axis over one key is the value in words"""
    shown: Mapping[str, Any]
    """label -> entry of a table: the value itself if it is a number or a word, else the label"""

    @property
    def keys(self) -> set[str]:
        """Config keys that this axis sets."""
        return {key for settings in self.options.values() for key in settings}

    def draw(self, source: random.Random) -> Any:
        """Draw a label, each with the same probability."""
        return source.choice(list(self.options))


@dataclass(frozen=True)
class Range:
    """An axis over all numbers from low to high, integers when both ends are, for random and Optuna search."""

    name: str
    low: float
    high: float
    log: bool = False

    @property
    def keys(self) -> set[str]:
        """Config key that this axis sets."""
        return {self.name}

    @property
    def integer(self) -> bool:
        """Whether the values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def draw(self, source: random.Random) -> Any:
        """Draw a number, uniform on the range, or uniform in its logarithm."""
        if self.log:
            value = math.exp(source.uniform(math.log(self.low), math.log(self.high)))
            return min(max(round(value), self.low), self.high) if self.integer else value
        return source.randint(int(self.low), int(self.high)) if self.integer else source.uniform(self.low, self.high)


Axis = Choice | Range


@dataclass(frozen=True)
class Trial:
    """One config of a study."""

    values: Mapping[str, Any]
    """axis -> entry of a table"""
    settings: Settings
    """dotted config key -> value, over the base config"""
    baseline: str = ""
    """name of its baseline, empty for the trials of the axes"""
    id: str = field(init=False)
    """folder name: the values in words and a digest of the settings, equal for equal trials"""

    def __post_init__(self) -> None:
        text = json.dumps([self.baseline, self.settings], sort_keys=True, default=str)
        parts = [self.baseline] if self.baseline else []
        parts += [f"seed{v}" if axis == SEED else label_of(v) for axis, v in self.values.items()]
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", "_".join(parts).replace("_", "\0")).strip("-.")[:LONGEST_SLUG]
        object.__setattr__(self, "id", f"{slug or 'trial'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")


def label_of(value: Any) -> str:
    """Write a value of a config key in words."""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={label_of(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(map(label_of, value)) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return str(value)


def trial_of(axes: Sequence[Axis], picked: Mapping[str, Any]) -> Trial:
    """Return the trial with one option of each axis. picked: axis -> label of a Choice, number of a Range."""
    values: dict[str, Any] = {}
    settings: Settings = {}
    for axis in axes:
        pick = picked[axis.name]
        values[axis.name] = axis.shown[pick] if isinstance(axis, Choice) else pick
        settings |= axis.options[pick] if isinstance(axis, Choice) else {axis.name: pick}
    return Trial(values, settings)


def grid(axes: Sequence[Choice]) -> Iterator[Trial]:
    """Yield every combination of options, in which the last axis changes fastest."""
    for labels in itertools.product(*(axis.options for axis in axes)):
        yield trial_of(axes, dict(zip((axis.name for axis in axes), labels, strict=True)))


def drawn(axes: Sequence[Axis], count: int, seed: int) -> list[Trial]:
    """Return `count` different random trials, fewer if there are no more.

    The same seed draws the same trials, and a larger count starts with those of a smaller one.
    """
    source = random.Random(seed)
    size = math.prod(len(axis.options) if isinstance(axis, Choice) else math.inf for axis in axes)
    trials: dict[str, Trial] = {}
    for _ in range(1000 * count):
        if len(trials) == min(count, size):
            break
        trial = trial_of(axes, {axis.name: axis.draw(source) for axis in axes})
        trials.setdefault(trial.id, trial)
    return list(trials.values())


def applied(document: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return a copy of nested config options with dotted keys set."""
    result = json.loads(json.dumps(document))
    for key, value in settings.items():
        *parents, last = key.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return dict(result)


def check_known(what: str, name: Any, known: Sequence[str], where: str = "") -> None:
    """Raise ValueError, with the nearest known name, unless name is known."""
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1, 0.6)
        remedy = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise ValueError(f"{where}unknown {what} {name!r}; {remedy}")


def text_of(where: str, value: Any) -> str:
    """Return a name as text. Raises ValueError for a word that YAML reads as true, false or null."""
    if value is None or isinstance(value, bool):
        raise ValueError(
            f"{where}: expected a name, got {value}; YAML reads yes, no, on, off and null as values: put it in quotes"
        )
    return str(value)


def mapping(where: str, value: Any) -> dict[str, Any]:
    """Return a mapping with its keys as text."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected a mapping, got {value!r}")
    return {text_of(where, key): item for key, item in value.items()}


def settings_of(where: str, value: Any) -> Settings:
    """Return dotted keys with their values, each checked."""
    settings = mapping(where, value)
    try:
        for key, item in settings.items():
            check_value(key, item)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return settings


def axes_of(value: Any) -> list[Axis]:
    """Return the axes of a study file, each option checked, no config key set by two of them."""
    axes = [_axis(name, options) for name, options in mapping("axes", value).items()]
    if not axes:
        raise ValueError("axes: expected at least one axis, got none, so there are zero trials; add seed: [0, 1, 2]")
    setters: dict[str, str] = {}
    for axis in axes:
        for key in sorted(axis.keys):
            if key in setters:
                raise ValueError(f"axis {axis.name}: {key} is set by axis {setters[key]} too; let one of them set it")
            setters[key] = axis.name
    return axes


def _axis(name: str, value: Any) -> Axis:
    where = f"axis {name}"
    if not isinstance(value, dict | list):
        raise ValueError(f"{where}: expected a list of values, a range or named settings, got {value!r}")
    if not value:
        raise ValueError(f"{where}: expected options, got none, so there are zero trials; add options")
    if isinstance(value, dict):
        if {"low", "high"} & value.keys():
            return _range(name, value)
        named = mapping(where, value)
        options = {label: settings_of(f"{where}, {label}", settings) for label, settings in named.items()}
        return Choice(name, options, {label: label for label in options})
    labels = [label_of(item) for item in value]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"{where}: expected different values, got {label} {labels.count(label)} times")
    values = dict(zip(labels, value, strict=True))
    shown = {label: item if isinstance(item, bool | int | float | str) else label for label, item in values.items()}
    return Choice(name, {label: settings_of(where, {name: item}) for label, item in values.items()}, shown)


def _range(name: str, value: Mapping[str, Any]) -> Range:
    where = f"axis {name}"
    for key in value:
        check_known("key", key, ("low", "high", "log"), f"{where}: ")
    low, high, log = value.get("low"), value.get("high"), bool(value.get("log"))
    for bound in (low, high):
        settings_of(where, {name: bound})
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise ValueError(f"{where}: expected numbers low and high, got {low!r} and {high!r}")
    assert isinstance(low, int | float) and isinstance(high, int | float)
    if not low < high or (log and low <= 0):
        raise ValueError(f"{where}: expected low < high{' and low > 0' if log else ''}, got {low} and {high}")
    return Range(name, low, high, log)


def baselines_of(value: Any, axes: Sequence[Axis]) -> list[Trial]:
    """Return the trials of baselines: all combinations of settings that are lists, with every seed of the axes."""
    seeds = next((axis for axis in axes if axis.name == SEED and isinstance(axis, Choice)), None)
    replicates = list(grid([seeds])) if seeds else [Trial({}, {})]
    trials = []
    for name, settings in mapping("baselines", value).items():
        where = f"baselines.{name}"
        lists = [item if isinstance(item, list) else [item] for item in mapping(where, settings).values()]
        for combination in itertools.product(*lists):
            own = settings_of(where, dict(zip(mapping(where, settings), combination, strict=True)))
            trials += [Trial(each.values, {**own, **each.settings}, name) for each in replicates]
    return trials
