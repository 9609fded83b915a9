"""Results of a study: their names and units, one tidy row per trial, means over seeds, the Pareto front."""

from __future__ import annotations

import csv
import difflib
import importlib.util
import json
import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_hdnn.study.axes import SEED, Axis, label_of
from dist_hdnn.study.trials import DONE


@dataclass(frozen=True)
class Quantity:
    """How a result is shown: factor * value with this many digits and its unit.

    name: in tables and in progress. axis: on a picture, when the name cannot stand alone there.
    """

    name: str
    unit: str = ""
    factor: float = 1.0
    digits: int = 0
    axis: str = ""

    @property
    def heading(self) -> str:
        """The name with its unit, for a column."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def label(self) -> str:
        """The name with its unit, for an axis of a picture."""
        return (f"{self.axis} ({self.unit})" if self.unit else self.axis) if self.axis else self.heading


def _fits() -> dict[str, Quantity]:
    """Accuracy and R² of validation and test data; of the agents where they answer one by one."""
    found = {}
    for part, prefix in (("validation", "validation_"), ("test", "")):
        also = f"{part} " if prefix else ""
        for key, measure, unit, factor, digits in (("accuracy", "accuracy", "%", 100.0, 2), ("r2", "R²", "", 1.0, 4)):
            more = "" if key == "accuracy" else f" {measure}"
            found[f"{part}_{key}"] = Quantity(f"{part} {measure}", unit, factor, digits)
            for which in ("mean", "worst"):
                words = f"{part} {measure}, {which} agent"
                name = f"{also}{which} agent{more}"
                found[f"{prefix}{which}_agent_{key}"] = Quantity(name, unit, factor, digits, words)
    return found


FITS = _fits()
OF_TEST_DATA = tuple(name for name in FITS if not name.startswith("validation"))
"""Results that must choose nothing."""
QUANTITIES: Mapping[str, Quantity] = FITS | {
    "parameters": Quantity("parameters", axis="trained parameters"),
    "links": Quantity("links"),
    "links_used": Quantity("pairs that exchange"),
    "density": Quantity("density", "%", 100.0, 2, "pairs of agents that exchange"),
    "messages_per_step": Quantity("messages/step", axis="messages per training step"),
    "bytes_per_step": Quantity("bytes/step", axis="bytes per training step, all agents"),
    "non_neighbour_messages": Quantity("past a neighbor"),
    "seconds_per_step": Quantity("time/step", "ms", 1000.0, 2, "time of a training step"),
    "peak_memory_bytes": Quantity("memory", axis="peak memory"),
    "reach": Quantity("reach"),
    "diameter": Quantity("diameter", digits=1),
    "components": Quantity("parts", digits=1),
    "loss": Quantity("training loss", digits=4),
}
"""In the order of the report's columns."""
SPREAD = (*FITS, "seconds_per_step")
"""Results whose deviation over the seeds is shown."""


def quantity(name: str) -> Quantity:
    """How a result is shown; an unknown one under its own name."""
    return QUANTITIES.get(name, Quantity(name.replace("_", " "), digits=4))


def figure(name: str, value: float) -> str:
    """A value in the unit of its column; whole numbers without a fraction."""
    if name == "peak_memory_bytes":
        return in_bytes(value)
    shown = quantity(name)
    number = shown.factor * value
    digits = 0 if not shown.unit and name not in FITS and number == round(number) else shown.digits
    return f"{number:,.{digits}f}"


def spoken(name: str, value: float) -> str:
    """Name, value and unit, for a line of progress."""
    return f"{quantity(name).name} {figure(name, value)} {quantity(name).unit}".rstrip()


def in_bytes(value: float) -> str:
    """A number of bytes with a decimal prefix, as in 12 kB."""
    for prefix in ("", "k", "M", "G"):
        if abs(value) < 1000:
            return f"{value:.3g} {prefix}B"
        value /= 1000
    return f"{value:.3g} TB"


Row = dict[str, Any]

FIRST = ("trial", "status", "baseline")
METRICS = (
    *(*FITS, "train_accuracy", "train_r2", "loss"),
    *("parameters", "agents", "links", "links_used", "density", "reach", "diameter", "components"),
    *(
        "messages_per_step",
        "bytes_per_step",
        "bytes_per_prediction",
        "non_neighbour_messages",
        "seconds_per_step",
        "peak_memory_bytes",
    ),
    *("layers", "epochs", "steps", "seconds", "wall_seconds", "workers", "transport", "dtype", "device", "seed"),
)
LAST = ("git_commit", "started", "error")


@dataclass(frozen=True)
class Group:
    """Trials that differ in their seed only."""

    baseline: str
    values: Mapping[str, Any]
    """axis -> what tables show, without the seed; of a baseline the settings in which its groups differ"""
    count: int
    mean: Mapping[str, float]
    """result -> mean over the seeds; only numbers that every trial of the group has"""
    spread: Mapping[str, float]
    """result -> standard deviation over the seeds (n - 1), 0 for one seed"""

    @property
    def label(self) -> str:
        """The options in words."""
        if self.baseline:
            own = [f"{key.split('.')[-1]} {label_of(value)}" for key, value in self.values.items()]
            return ", ".join([self.baseline, *own])
        return ", ".join(label_of(value) for value in self.values.values())


def rows_of(results: Iterable[Mapping[str, Any]], axes: Sequence[Axis]) -> list[Row]:
    """One row per trial, all with the same columns; None where a trial has no such value."""
    rows = [_row(result) for result in results]
    found = dict.fromkeys(key for row in rows for key in row)
    first = [*FIRST, *(axis.name for axis in axes)]
    versions = sorted(key for key in found if key.startswith("version_"))
    known = {*first, *METRICS, *LAST, *versions}
    settings = sorted(key for result in results for key in result["settings"] if key not in first)
    other = [key for key in found if key not in known and key not in settings]
    columns = dict.fromkeys([*first, *settings, *METRICS, *other, *versions, *LAST])
    return [{column: row.get(column) for column in columns} for row in rows]


def _row(result: Mapping[str, Any]) -> Row:
    row: Row = {"trial": result["id"], "status": result["status"], "baseline": result["baseline"]}
    row |= {key: item if _is_plain(item) else label_of(item) for key, item in result["settings"].items()}
    row |= result["values"]
    for key, value in result.get("summary", {}).items():
        if key == "versions":
            row |= {f"version_{name}": version for name, version in value.items()}
        elif isinstance(value, dict) and not key.startswith("agent_"):  # a column an agent would be too many
            row |= {f"{key}_{name}": item for name, item in value.items() if _is_plain(item)}
        elif _is_plain(value) and key not in row:
            row[key] = value
    return row | {key: result.get(key) for key in ("wall_seconds", *LAST)}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def write_tables(folder: Path, rows: Sequence[Row]) -> None:
    """results.csv, and results.parquet where pyarrow is installed; a reader never sees half of one."""
    if not rows:
        return
    part = folder / f"results.{os.getpid()}.part"
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, folder / "results.csv")
    if importlib.util.find_spec("pyarrow") is not None:
        import pyarrow
        import pyarrow.parquet

        columns = {key: [row[key] for row in rows] for key in rows[0]}
        for key, values in columns.items():
            kinds = {type(value) for value in values if value is not None}
            if len(kinds) > 1 and not kinds <= {int, float}:  # a column has one type
                columns[key] = [None if value is None else str(value) for value in values]
        pyarrow.parquet.write_table(pyarrow.table(columns), part)
        os.replace(part, folder / "results.parquet")


def groups_of(results: Iterable[Mapping[str, Any]]) -> list[Group]:
    """Mean and spread over the seeds of the trials that ended well, in the order of the trials."""
    done = [result for result in results if result["status"] == DONE]
    members: dict[str, list[Mapping[str, Any]]] = {}
    for result in done:
        members.setdefault(json.dumps([result["baseline"], _options(result)], default=str), []).append(result)
    return [_group(together, done) for together in members.values()]


def _options(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial shares with those that differ in the seed only."""
    options = result["settings"] if result["baseline"] else result["values"]
    return {key: value for key, value in options.items() if key != SEED}


def _group(together: Sequence[Mapping[str, Any]], done: Sequence[Mapping[str, Any]]) -> Group:
    first, values = together[0], _options(together[0])
    if first["baseline"]:
        others = [_options(result) for result in done if result["baseline"] == first["baseline"]]
        values = {key: value for key, value in values.items() if any(other[key] != value for other in others)}
    mean, spread = {}, {}
    for name in first["summary"]:
        found = [result["summary"].get(name) for result in together]
        numbers = [float(value) for value in found if isinstance(value, int | float) and math.isfinite(value)]
        if len(numbers) == len(together):
            mean[name] = statistics.fmean(numbers)
            spread[name] = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return Group(first["baseline"], values, len(together), mean, spread)


def pareto_front(groups: Sequence[Group], objectives: Mapping[str, str]) -> list[Group]:
    """The groups that no other group beats: at least as good in every objective, better in one. In the given order."""

    def costs(group: Group) -> list[float]:
        signs = {"minimize": 1.0, "maximize": -1.0}
        return [signs[direction] * group.mean[name] for name, direction in objectives.items()]

    able = [(group, costs(group)) for group in groups if all(name in group.mean for name in objectives)]
    return [
        group
        for group, own in able
        if not any(all(a <= b for a, b in zip(other, own, strict=True)) and other != own for _, other in able)
    ]


def check_objectives(result: Mapping[str, Any], objectives: Mapping[str, str]) -> None:
    """Raise ValueError, with the nearest name, for an objective that no trial has as a number."""
    numbers = [name for name, value in result["summary"].items() if isinstance(value, int | float)]
    for name in objectives:
        if result["status"] == DONE and name not in numbers:
            near = difflib.get_close_matches(name, numbers, 1, 0.5)
            remedy = f"did you mean {near[0]}?" if near else f"results: {', '.join(numbers)}"
            raise ValueError(f"objectives: no result is named {name}; {remedy}")
