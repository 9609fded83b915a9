"""How far and how densely agents are coupled: the reach of information, and the pairs that exchange."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.config import Config
from dist_hdnn.inspection.stages import Stage
from dist_hdnn.topology import BlockPattern, CommunicationGraph, exchange_graph, reach_in_layers


def coupling(config: Config, stages: list[Stage]) -> dict[str, Any]:
    """How far and how densely agents are coupled, by K or X of any layer.

    links_used: pairs of agents that exchange; density: their share of all pairs, 0 for block-diagonal, 1 for dense;
    reach: exchanges that information passes in all layers; diameter, components: of the pairs that exchange, not of the
    communication graph; the diameter, of the largest component, is a lower bound unless diameter_exact.
    """
    exchange = exchanging(stages)
    used, possible = len(exchange.links), exchange.agents * (exchange.agents - 1) // 2
    found = reach_of(config, stages)
    return {
        "links_used": used,
        "density": used / max(possible, 1),
        "reach": found["hops"],
        "diameter": found["diameter"],
        "diameter_exact": found["diameter_exact"],
        "components": found["components"],
    }


def exchanging(stages: list[Stage]) -> CommunicationGraph:
    """The pairs of agents that exchange, by K or X of any layer, as a graph."""
    return exchange_graph(stages[0].graph, [pattern for stage in stages for pattern, _ in stage.rounds])


def reach_of(config: Config, stages: list[Stage]) -> dict[str, Any]:
    """Hops that information travels in all layers, beside diameter and components of the pairs that exchange."""
    exchange, per_layer = exchanging(stages), hops_per_layer(stages[0])
    hops, diameter, exact = reach_in_layers(exchange, config.network.layers, per_layer)
    return {
        "hops": hops,
        "hops_per_layer": per_layer,
        "diameter": diameter,
        "diameter_exact": exact,
        "components": len(exchange.component_sizes()),
    }


def hops_per_layer(stage: Stage) -> int:
    """Hops that information travels in one layer along the pairs that exchange: one a round."""
    return sum(rounds for _, rounds in stage.rounds)


def off_diagonal(pattern: BlockPattern, half: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of every off-diagonal entry (i, j): a number for the unordered pair, and the n_j of the slice that travels."""
    rows, columns = pattern.rows(), pattern.columns
    off = rows != columns
    i, j = rows[off], columns[off]
    return np.minimum(i, j) * pattern.agents + np.maximum(i, j), half[j]
