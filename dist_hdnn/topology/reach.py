"""How far information travels in a network of so many layers, against how wide the graph of those who exchange is."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dist_hdnn.topology.graphs import CommunicationGraph, whole_number
from dist_hdnn.topology.patterns import BlockPattern, same_agents


def exchange_graph(graph: CommunicationGraph, patterns: Sequence[BlockPattern]) -> CommunicationGraph:
    """Return the pairs of agents that exchange over any of these patterns, as a graph on the same agents.

    A thinned pattern has fewer links than the communication graph, hops and dense have more. Where they are the same,
    this is the graph itself; else its name begins with the kinds of the patterns. ValueError for other agents.
    """
    found = [np.zeros((0, 2), dtype=np.int64)]
    for pattern in patterns:
        same_agents(pattern.kind, graph.agents, pattern.agents)
        pairs = np.column_stack([pattern.rows(), pattern.columns])
        found.append(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1))
    keys = np.unique(np.concatenate([pairs @ [graph.agents, 1] for pairs in found]))
    links = np.column_stack(np.divmod(keys, graph.agents)).astype(np.int64)
    if np.array_equal(links, graph.links):
        return graph
    kinds = (
        " and ".join(dict.fromkeys(pattern.kind for pattern in patterns if not pattern.is_block_diagonal))
        or "no exchange"
    )
    return replace(graph, name=f"{kinds} on {graph.name}", links=links, notes=())


def reach_in_layers(graph: CommunicationGraph, layers: int, hops_per_layer: int = 4) -> tuple[int, int, bool]:
    """(hops information travels at most, diameter of the largest component, whether that is exact or a lower bound).

    graph: whose links are one hop, see `exchange_graph`. hops_per_layer: the rounds of a layer: 4 when K couples
    agents, 2 when X does, 6 when both do.
    """
    layers = whole_number("reach_in_layers", "layers", layers, 0)
    hops_per_layer = whole_number("reach_in_layers", "hops_per_layer", hops_per_layer, 0)
    return layers * hops_per_layer, *graph.diameter()


def information_reach(graph: CommunicationGraph, layers: int, hops_per_layer: int = 4) -> str | None:
    """One line of warning when the graph is wider than information travels in so many layers, else None."""
    reached, diameter, exact = reach_in_layers(graph, layers, hops_per_layer)
    if diameter <= reached:
        return None
    remedy = "couple agents through K or X"
    if hops_per_layer:
        remedy = f"use {-(-diameter // hops_per_layer)} layers or more, or a graph with shorter paths"
    return (
        f"{graph.name}: information travels at most {reached} hops in {layers} layers ({hops_per_layer} each) but the "
        f"diameter is {'' if exact else 'at least '}{diameter}, so far agents cannot influence each other; {remedy}"
    )


def reach_warnings(
    graph: CommunicationGraph, patterns: Sequence[BlockPattern], layers: int, hops_per_layer: int = 4
) -> list[str]:
    """Return a line for agents that cannot influence each other: in too few layers, or as the patterns part them."""
    exchange = exchange_graph(graph, patterns) if hops_per_layer else graph
    lines, sizes, whole = [], exchange.component_sizes(), len(graph.component_sizes())
    if len(sizes) > whole:
        remedy = "keep more links, or set spanning_forest" if "thinned" in exchange.name else "join them in the pattern"
        lines.append(
            f"{exchange.name}: falls into {len(sizes)} parts, the largest of {sizes[0]} agents, where the graph has "
            f"{whole}; agents of different parts never influence each other; {remedy}"
        )
    short = information_reach(exchange, layers, hops_per_layer)
    return [*lines, short] if short else lines
