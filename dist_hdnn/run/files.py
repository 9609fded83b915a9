"""The JSON files of a run directory, written when training starts and ends.

graph.json, environment.json  the communication graph (node-link form); versions, machine, command
links.json                    link data that were read from a file
data.json                     how the run prepares its data
summary.json                  what scripts rely on, written whole or not at all
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

from dist_hdnn import __version__
from dist_hdnn.data import Dataset, Preparation
from dist_hdnn.run.directory import LINKS
from dist_hdnn.topology import CommunicationGraph
from dist_hdnn.training.checkpoints.manifest import write_durably

PREPARATION = "data.json"
PACKAGES = ("torch", "numpy", "scipy", "networkx", "safetensors", "scikit-learn", "matplotlib")
INDENTED_UP_TO = 10_000  # agents; above, graph.json is not indented, which takes Python's slow encoder


def measure_of(data: Dataset) -> str:
    """Return the name of accuracies on these data."""
    return "r2" if data.regression else "accuracy"


def measured(values: dict[str, Any], measure: str) -> dict[str, Any]:
    """Return figures with accuracies named by the measure, such as test_r2, and None for NaN."""
    return {name.replace("accuracy", measure): _defined(value) for name, value in values.items()}


def _defined(value: Any) -> Any:
    """Replace NaN, which JSON does not have, by None: the figure is undefined."""
    if isinstance(value, dict):
        return {key: _defined(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_defined(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def versions() -> dict[str, str]:
    """Return the versions of this package, Python and what the numbers depend on."""
    own = {"dist_hdnn": __version__, "python": platform.python_version()}
    return own | {package: importlib.metadata.version(package) for package in PACKAGES}


def write_start(
    directory: Path, graph: CommunicationGraph, links: str | None, threads: int, device: str, preparation: Preparation
) -> None:
    """Write graph.json, environment.json, data.json and, where link data were read, links.json.

    links: its content.
    """
    indented = 2 if graph.agents <= INDENTED_UP_TO else None
    (directory / "graph.json").write_text(_json({**graph.to_json(), "digest": graph.digest()}, indented), "utf-8")
    if links is not None:
        (directory / LINKS).write_text(links, "utf-8")
    environment = {
        "versions": versions(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
        "command": sys.argv,
    }
    (directory / "environment.json").write_text(_json(environment), "utf-8")
    (directory / PREPARATION).write_text(_json(preparation.as_json(), None), "utf-8")


def read_preparation(directory: Path) -> Preparation:
    """Read how a run prepares its data. Raises ValueError, one line, when data.json is missing or damaged."""
    path = directory / PREPARATION
    try:
        return Preparation.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ValueError(f"{path}: expected how the run prepares its data, got nothing; train it again") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, TypeError, AttributeError) as error:
        problem = f"got a damaged file ({error}); train it again"
        raise ValueError(f"{path}: expected how the run prepares its data, {problem}") from None


def write_summary(directory: Path, summary: dict[str, Any]) -> None:
    """Write summary.json. A reader never sees half of it."""
    write_durably(directory / "summary.json", _json(summary).encode())


def _json(value: dict[str, Any], indent: int | None = 2) -> str:
    return json.dumps(value, indent=indent, allow_nan=False) + "\n"
