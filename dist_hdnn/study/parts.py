"""Parts of a study file, read and checked: axes, baselines, settings. Every function raises ValueError, one line."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dist_hdnn.config.files import check_value
from dist_hdnn.study.axes import SEED, Axis, Choice, Range, Settings, Trial, label_of


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
