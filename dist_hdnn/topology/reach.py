"""How far information travels in a network of so many layers, against how wide its graph is."""

from dist_hdnn.topology.graphs import CommunicationGraph, whole_number


def reach_in_layers(graph: CommunicationGraph, layers: int, hops_per_layer: int = 4) -> tuple[int, int, bool]:
    """(hops information travels at most, diameter of the largest component, whether that is exact or a lower bound).

    hops_per_layer: the rounds of a layer: 4 when K couples agents (times k for hops=k), 2 when X does, 6 when both do.
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
