"""One seed moves everything random in a run; data, graph and patterns follow it unless they have their own."""

from __future__ import annotations

import copy

from dist_hdnn.config.data import DataConfig
from dist_hdnn.config.network import GraphConfig, PatternConfig
from dist_hdnn.config.run import Config

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
