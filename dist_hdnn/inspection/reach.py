"""How far and how densely agents are coupled: the reach of information, and the pairs that exchange."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.config import Config, PatternConfig
from dist_hdnn.inspection.stages import Stage
from dist_hdnn.topology import BlockPattern, reach_in_layers


def coupling(config: Config, stages: list[Stage]) -> dict[str, Any]:
    """How far and how densely agents are coupled, by K or X of any layer.

    links_used: pairs of agents that exchange; density: their share of all pairs, 0 for block-diagonal, 1 for dense;
    reach: hops that information travels; diameter of the graph, a lower bound unless diameter_exact.
    """
    agents = stages[0].graph.agents
    pairs = [np.zeros(0, dtype=np.int64)]
    pairs += [
        off_diagonal(pattern, np.zeros_like(stage.graph.degrees()))[0]
        for stage in stages
        for pattern, _ in stage.rounds
    ]
    used, possible = len(np.unique(np.concatenate(pairs))), agents * (agents - 1) // 2
    found = reach_of(config, stages[0])
    return {
        "links_used": used,
        "density": used / max(possible, 1),
        "reach": found["hops"],
        "diameter": found["diameter"],
        "diameter_exact": found["diameter_exact"],
    }


def reach_of(config: Config, stage: Stage) -> dict[str, Any]:
    """Hops that information travels in all layers, beside the diameter of the graph."""
    per_layer = hops_per_layer(config, stage)
    hops, diameter, exact = reach_in_layers(stage.graph, config.network.layers, per_layer)
    return {"hops": hops, "hops_per_layer": per_layer, "diameter": diameter, "diameter_exact": exact}


def hops_per_layer(config: Config, stage: Stage) -> int:
    """Hops that information travels in one layer: one a round, more over a pattern of several hops."""
    network, rounds_of = config.network, stage.architecture.rounds
    patterns = ((stage.K, network.K, rounds_of(True, False)), (stage.X, network.X, rounds_of(False, True)))
    return sum(0 if pattern.is_block_diagonal else rounds * _hops(options) for pattern, options, rounds in patterns)


def _hops(options: PatternConfig) -> int:
    return max(options.hops, 1) if options.kind == "hops" else 1


def off_diagonal(pattern: BlockPattern, half: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of every off-diagonal entry (i, j): a number for the unordered pair, and the n_j of the slice that travels."""
    rows, columns = pattern.rows(), pattern.columns
    off = rows != columns
    i, j = rows[off], columns[off]
    return np.minimum(i, j) * pattern.agents + np.maximum(i, j), half[j]
