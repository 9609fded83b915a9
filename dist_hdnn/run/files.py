"""The files of a run directory that are written while it trains: metrics as they come, the rest at start and end.

metrics.jsonl, metrics.csv    one line an epoch, readable while the run goes on
graph.json, environment.json  the communication graph (node-link form); versions, machine, command
summary.json                  what scripts rely on, written whole or not at all
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dist_hdnn import __version__
from dist_hdnn.data import Dataset, Preparation
from dist_hdnn.topology import CommunicationGraph
from dist_hdnn.training.loop import Epoch

PREPARATION = "data.json"  # how a run prepares its data
PACKAGES = ("torch", "numpy", "scipy", "networkx", "safetensors", "scikit-learn", "matplotlib")
INDENTED_UP_TO = 10_000  # agents of graph.json; indenting takes Python's slow encoder


class MetricsFiles:
    """metrics.jsonl and metrics.csv in a run directory; every record is on disk when `write` returns.

    measure: what the accuracies are called, "accuracy" or "r2".
    """

    def __init__(self, directory: Path, measure: str = "accuracy") -> None:
        self.measure = measure
        self.jsonl, self.csv = directory / "metrics.jsonl", directory / "metrics.csv"

    def begin(self, records: Sequence[dict[str, Any]]) -> None:
        """Hold these epochs and no others: those before the checkpoint that a run goes on from."""
        for path in (self.jsonl, self.csv):
            path.unlink(missing_ok=True)
        if records:
            self._append(*records)

    def write(self, record: Epoch) -> None:
        """Append one epoch."""
        self._append(asdict(record))

    def _append(self, *records: dict[str, Any]) -> None:
        rows = [measured(record, self.measure) for record in records]
        with self.jsonl.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        with self.csv.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerows(rows)


def measure_of(data: Dataset) -> str:
    """What the accuracies of a run on these data are called."""
    return "r2" if data.regression else "accuracy"


def measured(values: dict[str, Any], measure: str) -> dict[str, Any]:
    """The same with accuracies under the name of the measure, test_accuracy as test_r2, and None for NaN."""
    return {name.replace("accuracy", measure): _defined(value) for name, value in values.items()}


def _defined(value: Any) -> Any:
    """A value without NaN, which JSON does not have: None says that a figure is undefined."""
    if isinstance(value, dict):
        return {key: _defined(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_defined(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def versions() -> dict[str, str]:
    """Versions of this package, Python and what the numbers depend on."""
    found = {"dist_hdnn": __version__, "python": platform.python_version()}
    return found | {package: importlib.metadata.version(package) for package in PACKAGES}


def write_start(
    directory: Path, graph: CommunicationGraph, threads: int, device: str, preparation: Preparation
) -> None:
    """graph.json, environment.json and data.json."""
    indented = 2 if graph.agents <= INDENTED_UP_TO else None
    _write_json(directory / "graph.json", {**graph.to_json(), "digest": graph.digest()}, indented)
    environment = {
        "versions": versions(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
        "command": sys.argv,
    }
    _write_json(directory / "environment.json", environment)
    _write_json(directory / PREPARATION, preparation.as_json(), None)


def read_preparation(directory: Path) -> Preparation:
    """What stands between readings and the network of a run. ValueError, one line, where the run does not say."""
    path = directory / PREPARATION
    try:
        return Preparation.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ValueError(f"{path}: expected how the run prepares its data, found nothing; train it again") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected how the run prepares its data, got a damaged file ({error})") from None


def write_summary(directory: Path, summary: dict[str, Any]) -> None:
    """summary.json; a reader never sees half of it."""
    part = directory / "summary.json.part"
    _write_json(part, summary)
    os.replace(part, directory / "summary.json")


def _write_json(path: Path, value: dict[str, Any], indent: int | None = 2) -> None:
    path.write_text(json.dumps(value, indent=indent, allow_nan=False) + "\n", encoding="utf-8")
