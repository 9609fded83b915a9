"""The study file: what is varied and how the trials are chosen, read from YAML and checked before anything runs.

    name: ...        folder below runs/studies (default: the file's name)
    base: FILE       config file of a run, relative to the study file, or the name of a bundled one
    config: {...}    options that differ from the base
    axes:            what varies, see below
    baselines:       name -> settings (a value may be a list), run with every seed of the axes and drawn for comparison
    search:          grid (default), random or optuna;   trials: N for the last two;   seed: of the search
    objectives:      result -> maximize or minimize; of the Pareto front and of Optuna
    parallel:        trials at once (default: as many as there are cores);   storage: Optuna's, sqlite:///FILE or FILE
    colour:          axis whose options are told apart by colour

An axis is a dotted config key with a list of values or {low: ..., high: ..., log: true}, or any other name with options
that set several keys together: {small ring: {graph.family: ring, graph.agents: 8}, ...}.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dist_hdnn.config import Config
from dist_hdnn.config.bundled import folder, located, names
from dist_hdnn.config.checks import validate
from dist_hdnn.config.documents import read_yaml
from dist_hdnn.config.files import check_overrides, check_value, config_from, read_config, self_contained
from dist_hdnn.study.axes import SEED, Axis, Choice, Range, Settings, Trial, applied, drawn, grid, label_of

KEYS = (
    *("name", "base", "config", "axes", "baselines", "search", "trials", "seed", "objectives", "parallel", "storage"),
    "colour",
)
SEARCHES = ("grid", "random", "optuna")
OBJECTIVES = {"test_accuracy": "maximize", "bytes_per_step": "minimize"}
MOST_TRIALS = 100_000


@dataclass(frozen=True)
class Plan:
    """A study that was read and checked."""

    name: str
    base: dict[str, Any]
    """every option of the config that the axes vary"""
    axes: Sequence[Axis]
    baselines: Sequence[Trial]
    search: str
    trials: int | None
    seed: int
    objectives: Mapping[str, str]
    parallel: int | None
    storage: str | None
    colour: str | None

    def listed(self) -> list[Trial]:
        """All trials that are known beforehand: of Optuna's search only the baselines."""
        choices = [axis for axis in self.axes if isinstance(axis, Choice)]
        found = list(grid(choices)) if self.search == "grid" else []
        if self.search == "random":
            found = drawn(self.axes, self.trials or 0, self.seed)
        return found + list(self.baselines)

    def config(self, trial: Trial) -> Config:
        """The config of a trial. Raises ValueError, one line, when it cannot work."""
        config = config_from(applied(self.base, trial.settings))
        validate(config)
        return self_contained(config)


def read_plan(path: str, overrides: Sequence[str] = (), trials: int | None = None, parallel: int | None = None) -> Plan:
    """The study that a YAML file describes, with --key=value overrides of its base config.

    Raises ValueError, one line that starts with the path, for a file that cannot be read and anything in it that cannot
    work: every trial's options are checked here.
    """
    path = located(path, "study")
    document = _document(path)
    check_overrides(overrides)
    try:
        given = {"trials": trials, "parallel": parallel}
        document |= {key: value for key, value in given.items() if value is not None}
        plan = _plan(document, Path(path), overrides)
        _check_trials(plan)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return plan


def _document(path: str) -> dict[str, Any]:
    document = read_yaml(path, "study")
    if not isinstance(document, dict) or "axes" not in document:
        got = f"keys {', '.join(map(str, document))}" if isinstance(document, dict) else type(document).__name__
        raise ValueError(f"{path}: expected a study file with the key axes, got {got}; see {folder()}/studies")
    for key in document:
        _known("key", key, KEYS, str(path))
    return document


def _known(what: str, name: Any, known: Sequence[str], where: str = "") -> None:
    """Raise ValueError, with the nearest known name, unless name is known."""
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1, 0.6)
        remedy = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise ValueError(f"{where}{': ' if where else ''}unknown {what} {name!r}; {remedy}")


def _plan(document: Mapping[str, Any], path: Path, overrides: Sequence[str]) -> Plan:
    base = _base(document, path, overrides)
    axes = _axes(document["axes"])
    search = document.get("search", "grid")
    _known("search", search, SEARCHES)
    objectives = _mapping("objectives", document.get("objectives", OBJECTIVES))
    for name, direction in objectives.items():
        if direction not in ("maximize", "minimize"):
            raise ValueError(f"objectives.{name}: expected maximize or minimize, got {direction!r}")
    for axis in axes:
        if isinstance(axis, Range) and search == "grid":
            raise ValueError(f"axis {axis.name}: a range needs search random or optuna; for a grid, list the values")
        for option in overrides:
            key = option.partition("=")[0].lstrip("-")
            if key in axis.keys:
                raise ValueError(f"--{key}: expected an option that the study does not vary; axis {axis.name} sets it")
    whole = {key: _whole(key, document.get(key), least) for key, least in (("trials", 1), ("parallel", 1), ("seed", 0))}
    colour, storage = document.get("colour"), document.get("storage")
    if colour is not None:
        _known("axis in colour", colour, [axis.name for axis in axes])
    if storage is not None and not isinstance(storage, str):
        raise ValueError(f"storage: expected sqlite:///FILE or the path of a journal file, got {storage!r}")
    if search != "grid" and whole["trials"] is None:
        raise ValueError(f"trials: expected the number of trials of search {search}, got nothing; add trials: 20")
    if search == "grid" and whole["trials"] is not None:
        raise ValueError("trials: expected none with search grid, which runs every combination; remove trials")
    name = str(document.get("name", path.stem))
    if not re.fullmatch(r"[^/\\\0]+", name) or name in (".", ".."):
        raise ValueError(f"name: expected the name of a folder, got {name!r}; use --output for a path")
    return Plan(
        name=name,
        base=dataclasses.asdict(base),
        axes=axes,
        baselines=_baselines(document.get("baselines", {}), axes),
        search=search,
        trials=whole["trials"],
        seed=whole["seed"] or 0,
        objectives=objectives,
        parallel=whole["parallel"],
        storage=storage,
        colour=colour,
    )


def _base(document: Mapping[str, Any], path: Path, overrides: Sequence[str]) -> Config:
    """The config that the axes vary; it need not be valid before an axis has set what it leaves open."""
    file = document.get("base")
    if file is not None and not isinstance(file, str):
        raise ValueError(f"base: expected the path of a config file, got {file!r}; put options under config")
    place = path.parent / file if file else None
    if place is not None and not place.exists() and file in names():
        place = Path(located(file))
    base = read_config(place)
    config = config_from(_merged(dataclasses.asdict(base), _mapping("config", document.get("config", {}))))
    if overrides:
        given = _overridden(overrides)
        config = config_from(applied(dataclasses.asdict(config), given))
    if config.output is not None:
        raise ValueError("output: expected a base config without output, as every trial has its own; remove it")
    return self_contained(config)


def _merged(base: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options over those of the base; dotted keys name options inside."""
    merged = dict(base)
    for name, item in options.items():
        if "." in name:
            merged = applied(merged, _settings("config", {name: item}))
        elif isinstance(item, dict) and isinstance(base.get(name), dict):
            merged[name] = _merged(base[name], item)
        else:
            merged[name] = item
    return merged


def _overridden(overrides: Sequence[str]) -> Settings:
    """--key=value and --key value as settings."""
    words = [part for word in overrides for part in (word.split("=", 1) if word.startswith("--") else [word])]
    return {key[2:]: yaml.safe_load(text) for key, text in zip(words[::2], words[1::2], strict=True)}


def _whole(key: str, value: Any, least: int) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise ValueError(f"{key}: expected an integer >= {least}, got {value!r}; change {key}")
    return value


def _mapping(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected a mapping, got {value!r}")
    return {str(key): item for key, item in value.items()}


def _settings(where: str, value: Any) -> Settings:
    """Dotted keys with their values, each checked."""
    settings: Settings = {}
    for key, item in _mapping(where, value).items():
        try:
            check_value(key, item)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        settings[key] = item
    return settings


def _axes(value: Any) -> list[Axis]:
    axes = [_axis(name, options) for name, options in _mapping("axes", value).items()]
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
        options = {str(label): _settings(f"axis {name}, {label}", settings) for label, settings in value.items()}
        return Choice(name, options, {label: label for label in options})
    if not isinstance(value, list):
        raise ValueError(f"axis {name}: expected a list of values, a range or named settings, got {value!r}")
    if not value:
        raise ValueError(f"axis {name}: expected values, got an empty list, so there are zero trials; add values")
    settings = [_settings(f"axis {name}", {name: item}) for item in value]
    labels = [label_of(item) for item in value]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"axis {name}: expected different values, got {label} {labels.count(label)} times")
    shown = [item if isinstance(item, bool | int | float | str) else label_of(item) for item in value]
    return Choice(name, dict(zip(labels, settings, strict=True)), dict(zip(labels, shown, strict=True)))


def _range(name: str, value: Mapping[str, Any]) -> Range:
    for key in value:
        _known("key", key, ("low", "high", "log"), f"axis {name}")
    low, high, log = value.get("low"), value.get("high"), value.get("log", False)
    for bound in (low, high):
        _settings(f"axis {name}", {name: bound})
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise ValueError(f"axis {name}: expected numbers low and high, got {low!r} and {high!r}")
    assert isinstance(low, int | float) and isinstance(high, int | float)
    if not low < high or (log and low <= 0):
        raise ValueError(f"axis {name}: expected low < high{' and low > 0' if log else ''}, got {low} and {high}")
    return Range(name, low, high, bool(log))


def _baselines(value: Any, axes: Sequence[Axis]) -> list[Trial]:
    """A baseline's settings, in all combinations where they are lists, with every seed that the study has."""
    seeds = next((axis for axis in axes if axis.name == SEED and isinstance(axis, Choice)), None)
    replicates = [(seeds.shown[label], seeds.options[label]) for label in seeds.options] if seeds else []
    trials = []
    for name, settings in _mapping("baselines", value).items():
        lists = {
            key: item if isinstance(item, list) else [item]
            for key, item in _mapping(f"baselines.{name}", settings).items()
        }
        for combination in itertools.product(*lists.values()):
            own = _settings(f"baselines.{name}", dict(zip(lists, combination, strict=True)))
            for seed, more in replicates or [(None, {})]:
                trials.append(Trial({} if seed is None else {SEED: seed}, {**own, **more}, name))
    return trials


def _check_trials(plan: Plan) -> None:
    """Raise ValueError for the first trial that cannot work; of a search in ranges, of a few drawn ones."""
    size = math.prod(len(axis.options) for axis in plan.axes if isinstance(axis, Choice))
    if plan.search == "grid" and size > MOST_TRIALS:
        raise ValueError(f"axes: expected at most {MOST_TRIALS} trials, got {size}; use search random with trials: N")
    trials = plan.listed()
    if plan.search == "optuna":
        trials += drawn(plan.axes, 50, plan.seed)
    for trial in trials:
        try:
            plan.config(trial)
        except ValueError as error:
            where = f"baseline {trial.baseline}" if trial.baseline else "trial"
            values = ", ".join(f"{axis}={label_of(value)}" for axis, value in trial.values.items())
            raise ValueError(f"{where} {values}: {error}") from None
