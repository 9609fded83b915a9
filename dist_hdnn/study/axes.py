"""Axes of a study over config keys, how a study file writes them, and the trials that are made of them.

A setting is a dotted config key with its value; an option of an axis is a label with the settings it stands for.
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
    """label -> settings; of an axis over one key the label is the value in words"""
    shown: Mapping[str, Any]
    """label -> what tables show: the value itself if it is a number or a word, else the label"""

    @property
    def keys(self) -> set[str]:
        """The config keys that this axis sets."""
        return {key for settings in self.options.values() for key in settings}

    def draw(self, source: random.Random) -> Any:
        """A label, each as likely as the others."""
        return source.choice(list(self.options))


@dataclass(frozen=True)
class Range:
    """An axis over all numbers from low to high, integers when both ends are; for random and Optuna search."""

    name: str
    low: float
    high: float
    log: bool = False

    @property
    def keys(self) -> set[str]:
        """The config key that this axis sets."""
        return {self.name}

    @property
    def integer(self) -> bool:
        """Whether the values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def draw(self, source: random.Random) -> Any:
        """A number, uniform (or uniform in its logarithm) on the range."""
        if self.log:
            value = math.exp(source.uniform(math.log(self.low), math.log(self.high)))
            return min(max(round(value), self.low), self.high) if self.integer else value
        return source.randint(int(self.low), int(self.high)) if self.integer else source.uniform(self.low, self.high)


Axis = Choice | Range


@dataclass(frozen=True)
class Trial:
    """One config of a study."""

    values: Mapping[str, Any]
    """axis -> what tables show"""
    settings: Settings
    """dotted config key -> value, over the base config"""
    baseline: str = ""
    """name of the baseline that this trial belongs to; empty for the trials of the axes"""
    id: str = field(init=False)
    """folder name: the values in words and a digest of the settings; equal for equal trials"""

    def __post_init__(self) -> None:
        text = json.dumps([self.baseline, self.settings], sort_keys=True, default=str)
        parts = [self.baseline] if self.baseline else []
        parts += [f"seed{v}" if axis == SEED else label_of(v) for axis, v in self.values.items()]
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", "_".join(parts).replace("_", "\0")).strip("-.")[:LONGEST_SLUG]
        object.__setattr__(self, "id", f"{slug or 'trial'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")


def label_of(value: Any) -> str:
    """A value of a config key in words."""
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
    """The trial with one option of each axis. picked: axis -> label of a Choice, number of a Range."""
    values: dict[str, Any] = {}
    settings: Settings = {}
    for axis in axes:
        pick = picked[axis.name]
        values[axis.name] = axis.shown[pick] if isinstance(axis, Choice) else pick
        settings |= axis.options[pick] if isinstance(axis, Choice) else {axis.name: pick}
    return Trial(values, settings)


def grid(axes: Sequence[Choice]) -> Iterator[Trial]:
    """Every combination of options; the last axis changes fastest."""
    for labels in itertools.product(*(axis.options for axis in axes)):
        yield trial_of(axes, dict(zip((axis.name for axis in axes), labels, strict=True)))


def drawn(axes: Sequence[Axis], count: int, seed: int) -> list[Trial]:
    """Return `count` different random trials, fewer if there are no more.

    The same seed draws the same trials, and a larger count starts with those of a smaller one.
    """
    source = random.Random(seed)
    size = math.prod(len(axis.options) if isinstance(axis, Choice) else math.inf for axis in axes)
    found: dict[str, Trial] = {}
    for _ in range(1000 * count):
        if len(found) == min(count, size):
            break
        trial = trial_of(axes, {axis.name: axis.draw(source) for axis in axes})
        found.setdefault(trial.id, trial)
    return list(found.values())


def applied(document: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """A copy of nested config options with dotted keys set."""
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
        raise ValueError(f"{where}{': ' if where else ''}unknown {what} {name!r}; {remedy}")


def whole_number(key: str, value: Any, least: int) -> int | None:
    """The value of a key if it is absent or an integer >= least."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise ValueError(f"{key}: expected an integer >= {least}, got {value!r}; change {key}")
    return value


def mapping(where: str, value: Any) -> dict[str, Any]:
    """A mapping with its keys as text."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected a mapping, got {value!r}")
    return {text_of(where, key): item for key, item in value.items()}


def text_of(where: str, value: Any) -> str:
    """A name as text. Raises ValueError for a word that YAML reads as true, false or nothing."""
    if value is None or isinstance(value, bool):
        raise ValueError(
            f"{where}: expected a name, got {value}; YAML reads yes, no, on, off and null as values: put it in quotes"
        )
    return str(value)


def settings_of(where: str, value: Any) -> Settings:
    """Dotted keys with their values, each checked."""
    settings: Settings = {}
    for key, item in mapping(where, value).items():
        try:
            check_value(key, item)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        settings[key] = item
    return settings


def axes_of(value: Any) -> list[Axis]:
    """The axes of a study file, each option checked, no config key set by two of them."""
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
    if isinstance(value, dict) and {"low", "high"} & value.keys():
        return _range(name, value)
    if isinstance(value, dict):
        if not value:
            raise ValueError(f"axis {name}: expected options, got none, so there are zero trials; add options")
        named = mapping(f"axis {name}", value)
        options = {label: settings_of(f"axis {name}, {label}", settings) for label, settings in named.items()}
        return Choice(name, options, {label: label for label in options})
    if not isinstance(value, list):
        raise ValueError(f"axis {name}: expected a list of values, a range or named settings, got {value!r}")
    if not value:
        raise ValueError(f"axis {name}: expected values, got an empty list, so there are zero trials; add values")
    settings = [settings_of(f"axis {name}", {name: item}) for item in value]
    labels = [label_of(item) for item in value]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"axis {name}: expected different values, got {label} {labels.count(label)} times")
    shown = [item if isinstance(item, bool | int | float | str) else label_of(item) for item in value]
    return Choice(name, dict(zip(labels, settings, strict=True)), dict(zip(labels, shown, strict=True)))


def _range(name: str, value: Mapping[str, Any]) -> Range:
    for key in value:
        check_known("key", key, ("low", "high", "log"), f"axis {name}")
    low, high, log = value.get("low"), value.get("high"), value.get("log", False)
    for bound in (low, high):
        settings_of(f"axis {name}", {name: bound})
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise ValueError(f"axis {name}: expected numbers low and high, got {low!r} and {high!r}")
    assert isinstance(low, int | float) and isinstance(high, int | float)
    if not low < high or (log and low <= 0):
        raise ValueError(f"axis {name}: expected low < high{' and low > 0' if log else ''}, got {low} and {high}")
    return Range(name, low, high, bool(log))


def baselines_of(value: Any, axes: Sequence[Axis]) -> list[Trial]:
    """A baseline's settings, in all combinations where they are lists, with every seed that the study has."""
    seeds = next((axis for axis in axes if axis.name == SEED and isinstance(axis, Choice)), None)
    replicates = [(seeds.shown[label], seeds.options[label]) for label in seeds.options] if seeds else []
    trials = []
    for name, settings in mapping("baselines", value).items():
        lists = {
            key: item if isinstance(item, list) else [item]
            for key, item in mapping(f"baselines.{name}", settings).items()
        }
        for combination in itertools.product(*lists.values()):
            own = settings_of(f"baselines.{name}", dict(zip(lists, combination, strict=True)))
            for seed, more in replicates or [(None, {})]:
                trials.append(Trial({} if seed is None else {SEED: seed}, {**own, **more}, name))
    return trials
