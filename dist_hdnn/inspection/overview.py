"""`dist-hdnn inspect`: graph, patterns, network, rounds, bytes per link, memory and warnings of a config."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch

from dist_hdnn.build import assembly
from dist_hdnn.build.inputs import agent_number, column_agents
from dist_hdnn.config import Config
from dist_hdnn.data import Dataset
from dist_hdnn.inspection.sizes import ends_of, memory, parameters, trains_interconnection
from dist_hdnn.inspection.timing import times_on_links
from dist_hdnn.inspection.traffic import communication, partition, per_prediction, reach_of
from dist_hdnn.links.words import in_words
from dist_hdnn.network.layout import Layout
from dist_hdnn.operators.activations import activation
from dist_hdnn.operators.choice import chosen_products
from dist_hdnn.topology import BlockPattern, CommunicationGraph, block_diagonal, is_locally_computable, non_links


def inspect(config: Config) -> dict[str, Any]:
    """Return everything that `dist-hdnn inspect` shows, JSON-ready.

    Nothing is trained and no weight is drawn. config: validated. Raises ValueError as `assembly` does. Warnings go into
    the result, not to the terminal.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        activation(config.network.activation)
        assembly.build_device(config)
        layout = assembly.build_layout(config)
        layout.check(config.network.layers, config.network.shared_x)
        graph, widths = layout.graphs[0], layout.ownership.all_widths
        data = assembly.build_dataset(config)
        ends = ends_of(config, graph, widths, data)
        if ends.pixels > 1:  # every pixel is a sample of the network
            config = replace(config, train=replace(config.train, batch_size=ends.pixels * config.train.batch_size))
        first, *others = [_stage_summary(config, layout, stage) for stage in range(len(layout.graphs))]
        reach = reach_of(config, layout)
        del reach["links_used"]
        network = _network(config, layout) | {"parameters": parameters(config, layout, ends, data.outputs)}
        sent = communication(config, layout) | per_prediction(config, layout, data)
        result: dict[str, Any] = {"name": config.name, **first, "more_graphs": others}
        result |= {"network": network, "reach": reach, "communication": sent}
        times = times_on_links(config, layout, data.outputs, ends.pixels)
        result |= {"timing": times} if times else {}
        result["memory"] = memory(config, layout, network["parameters"]["total"])
        result["data"] = {
            "name": data.name,
            "train": len(data.train_x),
            "test": len(data.test_x),
            "validation": 0 if data.validation_x is None else len(data.validation_x),
            "features": data.features,
            "classes": data.classes,
            "columns": column_agents(config, graph, widths, data),
            "sensor_agents": [graph.names[agent] for agent in ends.observers],
            **_answers(graph, data),
        }
        if (config.workers or 1) > 1:
            result["partition"] = partition(config, layout)
    lines = [" ".join(str(warning.message).split()) for warning in caught]
    result["warnings"] = list(dict.fromkeys(lines))
    return result


def _answers(graph: CommunicationGraph, data: Dataset) -> dict[str, Any]:
    """Return how many agents have targets of their own, and target -> names of the agent; empty for shared targets."""
    if not data.own:
        return {}
    numbers = [agent_number(graph, agent, "data.targets") for agent in data.preparation.targets.values()]
    names = zip(data.target_names, numbers, strict=True)
    return {"answering_agents": len(set(numbers)), "targets": {name: [graph.names[number]] for name, number in names}}


def exchanged(config: Config, layout: Layout, data: Dataset) -> dict[str, Any]:
    """Return density and reach of the coupling and the traffic of one prediction, for summary.json.

    links_used: pairs of agents that exchange, by K or X of any layer; density: their share of all pairs, 0 for
    block-diagonal, 1 for dense; the rest as in `reach_of`.
    """
    reach, agents = reach_of(config, layout), layout.graphs[0].agents
    return {
        "links_used": reach["links_used"],
        "density": reach["links_used"] / max(agents * (agents - 1) // 2, 1),
        "reach": reach["hops"],
        **{key: reach[key] for key in ("diameter", "diameter_exact", "components")},
        **per_prediction(config, layout, data),
    }


def _stage_summary(config: Config, layout: Layout, stage: int) -> dict[str, Any]:
    """Return figures of one of the graphs and of the patterns on it."""
    graph, K = layout.graphs[stage], layout.K_patterns[stage]
    X = block_diagonal(graph.agents) if layout.X_patterns is None else layout.X_patterns[stage]
    degrees, sizes = graph.degrees(), graph.component_sizes()
    diameter, exact = graph.diameter()
    return {
        "graph": {
            "name": graph.name,
            "agents": graph.agents,
            "links": len(graph.links),
            "components": len(sizes),
            "component_sizes": sizes[:10],
            "diameter": diameter,
            "diameter_exact": exact,
            "degree": {"min": int(degrees.min()), "mean": float(degrees.mean()), "max": int(degrees.max())},
        },
        "K": _pattern_summary(K, graph),
        "X": _pattern_summary(X, graph) | ({"kind": "identity"} if config.network.X.kind == "identity" else {}),
        "locally_computable": is_locally_computable(X, K, graph),
    }


def _pattern_summary(pattern: BlockPattern, graph: CommunicationGraph) -> dict[str, Any]:
    return {
        "kind": pattern.kind,
        "entries": pattern.entries,
        "density": pattern.density,
        "links_used": pattern.links_used,
        "links": len(graph.links),
        "entries_on_non_links": len(non_links(pattern, graph)),
    }


def _network(config: Config, layout: Layout) -> dict[str, Any]:
    network, widths = config.network, layout.ownership.all_widths
    coupled = [
        {which for which, patterns in layout.stored.items() if patterns and not patterns[stage].is_block_diagonal}
        for stage in range(len(layout.graphs))
    ]
    placement = [" and ".join(sorted(names)) or "none" for names in coupled]
    notes = () if layout.stated_links is None else layout.stated_links.notes  # what the file says of its links
    dtype, device = getattr(torch, config.dtype), assembly.build_device(config)
    return {
        "architecture": network.architecture,
        "integrator": layout.architecture.integrator.name,
        "neurons": int(widths.sum()),
        "width": {"min": int(widths.min()), "mean": float(widths.mean()), "max": int(widths.max())},
        "layers": network.layers,
        "step": network.step,
        "activation": network.activation,
        "X_trained": trains_interconnection(config, layout),
        "placement": placement if len(placement) > 1 else placement[0],
        **({} if layout.links is None else {"impaired_links": in_words(layout.links)}),
        **({"link_data": "; ".join(notes)} if notes else {}),
        "plan": chosen_products(config.plan, config.deterministic, dtype, device),
    }
