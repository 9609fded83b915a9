"""The study file: axes and search of a study, read from YAML and checked before anything runs.

    name: ...        folder below runs/studies (default: the file's name)
    base: FILE       config file of a run, relative to the study file, or the name of a bundled one
    config: {...}    options that differ from the base
    axes:            options to vary, see below
    baselines:       name -> settings (a value may be a list), run with every seed of the axes and drawn for comparison
    search:          grid (default), random or optuna;   trials: N for the last two;   seed: of the search
    objectives:      result -> maximize or minimize; of the Pareto front and of Optuna (default: accuracy and bytes)
    parallel:        trials at once (default: as many as there are cores);   storage: Optuna's, sqlite:///FILE or FILE
    colour:          axis that has the colors

An axis is a dotted config key with a list of values or {low: ..., high: ..., log: true}, or any other name with options
that set several keys together: {small ring: {graph.family: ring, graph.agents: 8}, ...}.
"""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dist_hdnn.config import Config
from dist_hdnn.config.checks import validate
from dist_hdnn.config.documents import read_yaml
from dist_hdnn.config.files import config_from, overridden, read_config, self_contained
from dist_hdnn.config.paths import folder, located, names
from dist_hdnn.study.axes import (
    Axis,
    Choice,
    Range,
    Trial,
    applied,
    axes_of,
    baselines_of,
    check_known,
    drawn,
    grid,
    label_of,
    mapping,
    settings_of,
    text_of,
)
from dist_hdnn.study.results import OF_TEST_DATA

SEARCHES = ("grid", "random", "optuna")
KEYS = (
    *("name", "base", "config", "axes", "baselines", "search", "trials", "seed", "objectives", "parallel", "storage"),
    "colour",
)
MOST_TRIALS = 100_000
VALIDATION = 0.2  # of the training points, for Optuna's objectives unless the config says otherwise


@dataclass(frozen=True)
class Plan:
    """A study file, read and checked."""

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
    storage: str | None = field(repr=False)  # may hold a password
    colour: str | None

    @property
    def by_test(self) -> bool:
        """Whether trials are compared by their results on test data."""
        return any(name in OF_TEST_DATA for name in self.objectives)

    def listed(self) -> list[Trial]:
        """Return all trials that are fixed beforehand: with Optuna's search only the baselines."""
        trials: list[Trial] = []
        if self.search == "grid":
            trials += grid([axis for axis in self.axes if isinstance(axis, Choice)])
        if self.search == "random":
            trials += drawn(self.axes, self.trials or 0, self.seed)
        return trials + list(self.baselines)

    def config(self, trial: Trial) -> Config:
        """Return the config of a trial. Raises ValueError, one line, when it cannot work."""
        config = config_from(applied(self.base, trial.settings))
        validate(config)
        return self_contained(config)


def read_plan(path: str, overrides: Sequence[str] = (), trials: int | None = None, parallel: int | None = None) -> Plan:
    """Read a study file, with --key=value overrides of its base config; trials, parallel: in place of the file's.

    Raises ValueError, one line that starts with the path, for a file that cannot be read and anything in it that cannot
    work: every trial's options are checked here.
    """
    path = located(path, "study")
    document = read_yaml(path, "study")
    if not isinstance(document, dict) or "axes" not in document:
        got = f"keys {', '.join(map(str, document))}" if isinstance(document, dict) else type(document).__name__
        raise ValueError(f"{path}: expected a study file with the key axes, got {got}; see {folder()}/studies")
    overridden(Config(), overrides)  # a mistake in them is not the file's
    document |= {"trials": trials} if trials is not None else {}
    document |= {"parallel": parallel} if parallel is not None else {}
    try:
        plan = _plan(document, Path(path), overrides)
        _check_trials(plan)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return plan


def _plan(document: Mapping[str, Any], path: Path, overrides: Sequence[str]) -> Plan:
    for key in document:
        check_known("key", key, KEYS)
    base = _base(document, path, overrides)
    axes = axes_of(document["axes"])
    search, storage, colour = document.get("search", "grid"), document.get("storage"), document.get("colour")
    check_known("search", search, SEARCHES)
    if search == "optuna":
        base = _with_validation(base)
    for axis in axes:
        if isinstance(axis, Range) and search == "grid":
            raise ValueError(f"axis {axis.name}: a range needs search random or optuna; for a grid, list the values")
        for key in [word[2:].partition("=")[0].removesuffix("+") for word in overrides if word.startswith("--")]:
            if key in axis.keys:
                raise ValueError(f"--{key}: expected an option that the study does not vary; axis {axis.name} sets it")
    for key, least in (("trials", 1), ("parallel", 1), ("seed", 0)):
        value = document.get(key, least)
        if value is not None and (type(value) is not int or value < least):  # true is no number
            raise ValueError(f"{key}: expected an integer >= {least}, got {value!r}; change {key}")
    trials = document.get("trials")
    if colour is not None:
        check_known("axis in colour", colour, [axis.name for axis in axes])
    if storage is not None and not isinstance(storage, str):  # its value may hold a password
        kind = type(storage).__name__
        raise ValueError(f"storage: expected sqlite:///FILE or the path of a journal file, got a {kind}")
    if search != "grid" and trials is None:
        raise ValueError(f"trials: expected the number of trials of search {search}, got nothing; add trials: 20")
    if search == "grid" and trials is not None:
        raise ValueError("trials: expected none with search grid, which runs every combination; remove trials")
    name = text_of("name", document.get("name", path.stem))
    if not re.fullmatch(r"[^/\\\0]+", name) or name in (".", ".."):
        raise ValueError(f"name: expected the name of a folder, got {name!r}; use --output for a path")
    return Plan(
        name=name,
        base=dataclasses.asdict(base),
        axes=axes,
        baselines=baselines_of(document.get("baselines", {}), axes),
        search=search,
        trials=trials,
        seed=document.get("seed") or 0,
        objectives=_objectives(document, base, search),
        parallel=document.get("parallel"),
        storage=storage,
        colour=colour,
    )


def _with_validation(base: Config) -> Config:
    """Return the base config with validation data: by default a fifth of the training points."""
    if base.data.validation_fraction:
        return base
    warnings.warn(
        f"search optuna chooses trials by validation data: takes {VALIDATION:.0%} of the training points for it; set "
        "data.validation_fraction for another share",
        UserWarning,
        stacklevel=4,
    )
    return dataclasses.replace(base, data=dataclasses.replace(base.data, validation_fraction=VALIDATION))


def _objectives(document: Mapping[str, Any], base: Config, search: str) -> dict[str, str]:
    """Return result -> direction; a search that chooses its next trial by results must not see test data."""
    part = "validation" if base.data.validation_fraction else "test"
    measure = "r2" if base.data.task == "regression" else "accuracy"
    default = {f"{part}_{measure}": "maximize", "bytes_per_step": "minimize"}
    objectives = mapping("objectives", document.get("objectives", default))
    if not objectives:
        raise ValueError(f"objectives: expected at least one, such as {part}_{measure}: maximize, got none; add it")
    for name, direction in objectives.items():
        if direction not in ("maximize", "minimize"):
            raise ValueError(f"objectives.{name}: expected maximize or minimize, got {direction!r}")
        if search == "optuna" and name in OF_TEST_DATA:
            raise ValueError(
                f"objectives.{name}: expected a result of validation data with search optuna, which chooses trials by "
                f"it, got one of test data; use validation_{measure}"
            )
    return objectives


def _base(document: Mapping[str, Any], path: Path, overrides: Sequence[str]) -> Config:
    """Return the config that the axes vary; it need not be valid before an axis has set the rest."""
    file = document.get("base")
    if file is not None and not isinstance(file, str):
        raise ValueError(f"base: expected the path of a config file, got {file!r}; put options under config")
    place = path.parent / file if file else None
    if place is not None and not place.exists() and file in names():
        place = Path(located(file))
    options = mapping("config", document.get("config", {}))
    config = overridden(config_from(_merged(dataclasses.asdict(read_config(place)), options)), overrides)
    if config.output is not None:
        raise ValueError("output: expected a base config without output, as every trial has its own; remove it")
    return self_contained(config)


def _merged(base: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested options over those of the base; dotted keys name options inside."""
    merged = dict(base)
    for name, item in options.items():
        if "." in name:
            merged = applied(merged, settings_of("config", {name: item}))
        elif isinstance(item, dict) and isinstance(base.get(name), dict):
            merged[name] = _merged(base[name], item)
        else:
            merged[name] = item
    return merged


def _check_trials(plan: Plan) -> None:
    """Raise ValueError for the first trial that cannot work; Optuna's are represented by 50 drawn ones."""
    size = math.prod(len(axis.options) for axis in plan.axes if isinstance(axis, Choice))
    if plan.search == "grid" and size > MOST_TRIALS:
        raise ValueError(f"axes: expected at most {MOST_TRIALS} trials, got {size}; use search random with trials: N")
    for trial in plan.listed() + (drawn(plan.axes, 50, plan.seed) if plan.search == "optuna" else []):
        try:
            plan.config(trial)
        except ValueError as error:
            where = f"baseline {trial.baseline}" if trial.baseline else "trial"
            values = ", ".join(f"{axis}={label_of(value)}" for axis, value in trial.values.items())
            raise ValueError(f"{where} {values}: {error}") from None
