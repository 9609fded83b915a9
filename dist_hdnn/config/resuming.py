"""A config beyond its first run: its seeds, what a resumed run must keep, and how often it is saved.

One seed determines everything random in a run; data, graph and patterns follow it unless they have their own.
"""

from __future__ import annotations

import copy
from collections.abc import Container
from dataclasses import asdict
from typing import Any

from dist_hdnn.config.data import DataConfig
from dist_hdnn.config.network import GraphConfig, PatternConfig
from dist_hdnn.config.run import Config, PartitionConfig

Seeded = DataConfig | GraphConfig | PatternConfig


def seed_of(part: Seeded, config: Config) -> int:
    """Return the seed of a part of config: its own if it has one, else that of the run."""
    return config.seed if part.seed is None else part.seed


def with_seeds(config: Config) -> Config:
    """Return a copy of config in which every part has a seed of its own; it describes the same run."""
    copied = copy.deepcopy(config)
    parts: list[Seeded] = [copied.data, copied.graph, *copied.more_graphs, copied.network.K, copied.network.X]
    for part in parts:
        part.seed = seed_of(part, config)
    return copied


ELSEWHERE = (
    "name",
    "output",
    "resume",
    "restarts",
    "checkpoint",
    "workers",
    "transport",
    "partition",
    "plots",
    "deterministic",
    "overlap",
    "cuda_graphs",
    "timeout",
    "device",
)
"""Options that may change when a run is resumed."""
UNITS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "steps": 1.0, "epochs": 1.0}


def run_identity(config: Config) -> dict[str, Any]:
    """Return the options that a resumed run must keep, as nested mappings in which every seed is a number."""
    options = {key: value for key, value in asdict(with_seeds(config)).items() if key not in ELSEWHERE}
    options["train"] = {key: value for key, value in options["train"].items() if key != "threads"}
    return options


def interval(every: str) -> tuple[float, str]:
    """ "5 minutes" -> (300.0, "seconds"), "2 epochs" -> (2.0, "epochs"), "never" -> (0.0, "never").

    Raises ValueError, one line.
    """
    words = every.split()
    if words == ["never"]:
        return 0.0, "never"
    unit = words[1] if len(words) == 2 and words[1] in UNITS else f"{words[1]}s" if len(words) == 2 else ""
    try:
        amount = float(words[0])
    except (ValueError, IndexError):
        amount = 0.0
    counted = unit in ("steps", "epochs")
    if unit not in UNITS or not 0 < amount < float("inf") or (counted and amount != int(amount)):
        raise ValueError(
            f"checkpoint.every: expected such as '500 steps', '2 epochs', '5 minutes', or never, got {every!r}. Use "
            f"one of the units {', '.join(UNITS)}."
        )
    return (amount, unit) if counted else (amount * UNITS[unit], "seconds")


def forget_workers(config: Config, kept: Container[str]) -> None:
    """Reset the options of workers, so that others than those that trained a run can use its config.

    kept: the keys that stay as they are.
    """
    for key in ("workers", "transport"):
        if key not in kept:
            setattr(config, key, None)
    if "partition.method" not in kept:
        config.partition = PartitionConfig()
