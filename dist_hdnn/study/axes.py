"""What varies in a study: axes over config keys, and the trials that are made of them.

A setting is a dotted config key with its value; an option of an axis is a label with the settings it stands for.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
    """So many different random trials, fewer if there are no more; the same for the same seed, and with a larger
    count the same ones first."""
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
