"""Results of a study: their names and units, one tidy row per trial, means over seeds, the Pareto front."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dist_hdnn.study.axes import SEED, Axis, check_known, label_of
from dist_hdnn.study.trials import DONE, replacing


@dataclass(frozen=True)
class Quantity:
    """Form of a result: factor * value with this many digits and its unit.

    name: in tables and progress. axis: on a picture, where the name cannot stand alone.
    """

    name: str
    unit: str = ""
    factor: float = 1.0
    digits: int = 0
    axis: str = ""

    @property
    def heading(self) -> str:
        """Name and unit, for a column."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def label(self) -> str:
        """Name and unit, for an axis of a picture."""
        return replace(self, name=self.axis or self.name).heading


def _fits() -> dict[str, Quantity]:
    """Return accuracy and R² of validation and test data, of all points, the mean and the worst agent."""
    fits = {}
    measures = (("accuracy", "accuracy", "", "%", 100.0, 2), ("r2", "R²", " R²", "", 1.0, 4))
    for part, prefix, also in (("validation", "validation_", "validation "), ("test", "", "")):
        for key, measure, more, unit, factor, digits in measures:
            fits[f"{part}_{key}"] = Quantity(f"{part} {measure}", unit, factor, digits)
            for which in ("mean", "worst"):
                name, axis = f"{also}{which} agent{more}", f"{part} {measure}, {which} agent"
                fits[f"{prefix}{which}_agent_{key}"] = Quantity(name, unit, factor, digits, axis)
    return fits


FITS = _fits()
OF_TEST_DATA = tuple(name for name in FITS if not name.startswith("validation"))
"""Results by which nothing may be chosen."""
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
"""Results that are shown with their deviation over the seeds."""


def quantity(name: str) -> Quantity:
    """Return the form of a result; one without an entry has its own name."""
    return QUANTITIES.get(name, Quantity(name.replace("_", " "), digits=4))


def figure(name: str, value: float) -> str:
    """Write a value in the unit of its column, whole numbers without a fraction."""
    if name == "peak_memory_bytes":
        return in_bytes(value)
    shown = quantity(name)
    number = shown.factor * value
    digits = 0 if not shown.unit and name not in FITS and number == round(number) else shown.digits
    return f"{number:,.{digits}f}"


def spoken(name: str, value: float) -> str:
    """Write name, value and unit, for a line of progress."""
    return f"{quantity(name).name} {figure(name, value)} {quantity(name).unit}".rstrip()


def in_bytes(value: float) -> str:
    """Write a number of bytes with a decimal prefix, as 12 kB."""
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
    *("messages_per_step", "bytes_per_step", "bytes_per_prediction"),
    *("non_neighbour_messages", "seconds_per_step", "peak_memory_bytes"),
    *("layers", "epochs", "steps", "seconds", "wall_seconds", "workers", "transport", "dtype", "device", "seed"),
)
LAST = ("git_commit", "started", "error")


@dataclass(frozen=True)
class Group:
    """Trials that differ in their seed only."""

    baseline: str
    values: Mapping[str, Any]
    """axis -> entry of a table, without the seed; of a baseline the settings in which its groups differ"""
    count: int
    mean: Mapping[str, float]
    """result -> mean over the seeds, of the numbers that every trial of the group has"""
    spread: Mapping[str, float]
    """result -> standard deviation over the seeds (n - 1), 0 for one seed"""

    @property
    def label(self) -> str:
        """Options in words."""
        if self.baseline:
            return words(self.baseline, self.values)
        return ", ".join(map(label_of, self.values.values()))


def words(baseline: str, values: Mapping[str, Any]) -> str:
    """Write the options of a trial with their names."""
    options = [f"{name.split('.')[-1]} {label_of(value)}" for name, value in values.items()]
    return ", ".join([baseline] * bool(baseline) + options)


def rows_of(results: Iterable[Mapping[str, Any]], axes: Sequence[Axis]) -> list[Row]:
    """Return one row per trial, all with the same columns, and None where a trial has no value."""
    rows = [_row(result) for result in results]
    present = dict.fromkeys(key for row in rows for key in row)
    first = [*FIRST, *(axis.name for axis in axes)]
    versions = sorted(key for key in present if key.startswith("version_"))
    settings = sorted(key for result in results for key in result["settings"] if key not in first)
    other = [key for key in present if key not in {*first, *settings, *METRICS, *versions, *LAST}]
    columns = dict.fromkeys([*first, *settings, *METRICS, *other, *versions, *LAST])
    return [{column: row.get(column) for column in columns} for row in rows]


def _row(result: Mapping[str, Any]) -> Row:
    row: Row = {"trial": result["id"], "status": result["status"], "baseline": result["baseline"]}
    row |= {key: item if _is_plain(item) else label_of(item) for key, item in result["settings"].items()}
    row |= result["values"]
    for key, value in result.get("summary", {}).items():
        if key == "versions":
            row |= {f"version_{name}": version for name, version in value.items()}
        elif isinstance(value, dict) and not key.startswith("agent_"):  # a column per agent would be too many
            row |= {f"{key}_{name}": item for name, item in value.items() if _is_plain(item)}
        elif _is_plain(value) and key not in row:
            row[key] = value
    return row | {key: result.get(key) for key in ("wall_seconds", *LAST)}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def write_tables(folder: Path, rows: Sequence[Row]) -> None:
    """Write results.csv, and results.parquet where pyarrow is installed, each whole or not at all."""
    if not rows:
        return
    with replacing(folder / "results.csv") as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if importlib.util.find_spec("pyarrow") is not None:
        import pyarrow
        import pyarrow.parquet

        columns = {key: [row[key] for row in rows] for key in rows[0]}
        for key, values in columns.items():
            kinds = {type(value) for value in values if value is not None}
            if len(kinds) > 1 and not kinds <= {int, float}:  # a column has one type
                columns[key] = [None if value is None else str(value) for value in values]
        with replacing(folder / "results.parquet") as part:
            pyarrow.parquet.write_table(pyarrow.table(columns), part)


def groups_of(results: Iterable[Mapping[str, Any]]) -> list[Group]:
    """Return mean and spread over the seeds of the trials that ended well, in the order of the trials."""
    done = [result for result in results if result["status"] == DONE]
    members: dict[str, list[Mapping[str, Any]]] = {}
    for result in done:
        members.setdefault(json.dumps([result["baseline"], _options(result)], default=str), []).append(result)
    return [_group(together, done) for together in members.values()]


def _options(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a trial without its seed."""
    options = result["settings"] if result["baseline"] else result["values"]
    return {key: value for key, value in options.items() if key != SEED}


def _group(together: Sequence[Mapping[str, Any]], done: Sequence[Mapping[str, Any]]) -> Group:
    first, values = together[0], _options(together[0])
    if first["baseline"]:
        others = [_options(result) for result in done if result["baseline"] == first["baseline"]]
        values = {key: value for key, value in values.items() if any(other[key] != value for other in others)}
    mean, spread = {}, {}
    for name in first["summary"]:
        column = [result["summary"].get(name) for result in together]
        if all(isinstance(value, int | float) and math.isfinite(value) for value in column):
            mean[name] = statistics.fmean(column)
            spread[name] = statistics.stdev(map(float, column)) if len(column) > 1 else 0.0
    return Group(first["baseline"], values, len(together), mean, spread)


def pareto_front(groups: Sequence[Group], objectives: Mapping[str, str]) -> list[Group]:
    """Return, in their order, the groups of the axes that no other beats: as good in every objective, better in one.

    Baselines are not compared.
    """
    signs = {"minimize": 1.0, "maximize": -1.0}
    costs = [
        (group, [signs[direction] * group.mean[name] for name, direction in objectives.items()])
        for group in groups
        if not group.baseline and all(name in group.mean for name in objectives)
    ]

    def beaten(own: list[float]) -> bool:
        return any(all(a <= b for a, b in zip(other, own, strict=True)) and other != own for _, other in costs)

    return [group for group, own in costs if not beaten(own)]


def check_objectives(result: Mapping[str, Any], objectives: Mapping[str, str]) -> None:
    """Raise ValueError, with the nearest name, for an objective that a finished trial does not have as a number."""
    numbers = [name for name, value in result["summary"].items() if isinstance(value, int | float)]
    for name in objectives:
        check_known("result in objectives", name, numbers)
