"""`dist-hdnn inspect`: graph, patterns, network, rounds, bytes per link, memory and warnings of a config."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dist_hdnn.build import assembly
from dist_hdnn.build.inputs import column_agents
from dist_hdnn.config import Config
from dist_hdnn.data import Dataset
from dist_hdnn.inspection.reach import coupling, hops_per_layer, reach_of
from dist_hdnn.inspection.sizes import Ends, ends_of, memory, parameters, trained
from dist_hdnn.inspection.stages import Stage, stages_of
from dist_hdnn.inspection.traffic import communication, partition, prediction
from dist_hdnn.operators.activations import activation
from dist_hdnn.operators.choice import chosen_products
from dist_hdnn.topology import BlockPattern, CommunicationGraph, is_locally_computable, non_links, reach_warnings


def inspect(config: Config) -> dict[str, Any]:
    """Everything `dist-hdnn inspect` shows, JSON-ready; nothing is trained and no weight is made.

    config: validated. Raises ValueError as `assembly` does. Warnings go into the result, not to the terminal.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        activation(config.network.activation)
        assembly.build_device(config)
        stages = stages_of(config)
        graph = stages[0].graph
        widths = assembly.build_widths(config, graph)
        data = assembly.build_dataset(config)
        ends = ends_of(config, graph, widths, data)
        if ends.pixels > 1:  # every pixel is a sample of the network
            config = replace(config, train=replace(config.train, batch_size=ends.pixels * config.train.batch_size))
        patterns = [pattern for stage in stages for pattern in (stage.K, stage.X)]
        notes = reach_warnings(graph, patterns, config.network.layers, hops_per_layer(stages[0]))
        notes += [line for stage in stages for line in _stage_warnings(config, stage)]
        result: dict[str, Any] = {
            "name": config.name,
            **_stage_summary(stages[0]),
            "more_graphs": [_stage_summary(stage) for stage in stages[1:]],
            "network": _network(config, stages, widths, ends),
            "reach": reach_of(config, stages),
            "communication": communication(config, stages, widths)
            | prediction(config, stages, widths, ends.outputs, ends.pixels),
            "memory": {},
            "data": {
                "name": data.name,
                "train": len(data.train_x),
                "test": len(data.test_x),
                "validation": 0 if data.validation_x is None else len(data.validation_x),
                "features": data.features,
                "classes": data.classes,
                "columns": column_agents(config, graph, widths, data),
                "sensor_agents": [graph.names[agent] for agent in ends.observers],
            },
        }
        if (config.workers or 1) > 1:
            result["partition"] = partition(config, stages, widths)
        result["memory"] = memory(config, stages, widths, result["network"]["parameters"]["total"])
    lines = [" ".join(str(warning.message).split()) for warning in caught]
    result["warnings"] = list(dict.fromkeys(lines + notes))
    return result


def exchanged(config: Config, data: Dataset) -> dict[str, Any]:
    """How agents are coupled, see `coupling`, and what they send for one prediction, see `prediction`."""
    stages = stages_of(config)
    return coupling(config, stages) | per_prediction(config, data, stages)


def per_prediction(config: Config, data: Dataset, stages: list[Stage] | None = None) -> dict[str, int]:
    """What agents send for one prediction, see `prediction`."""
    stages = stages_of(config) if stages is None else stages
    widths = assembly.build_widths(config, stages[0].graph)
    height, width, _ = assembly.image_of(config, data) if config.lift.kind == "channels" else (1, 1, 1)
    return prediction(config, stages, widths, data.outputs, height * width)


def _stage_summary(stage: Stage) -> dict[str, Any]:
    graph, degrees, sizes = stage.graph, stage.graph.degrees(), stage.graph.component_sizes()
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
        "K": _pattern_summary(stage.K, graph),
        "X": _pattern_summary(stage.X, graph),
        "locally_computable": is_locally_computable(stage.X, stage.K, graph),
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


def _network(config: Config, stages: list[Stage], widths: NDArray[np.int64], ends: Ends) -> dict[str, Any]:
    network = config.network
    return {
        "architecture": network.architecture,
        "integrator": stages[0].architecture.integrator.name,
        "neurons": int(widths.sum()),
        "width": {"min": int(widths.min()), "mean": float(widths.mean()), "max": int(widths.max())},
        "layers": network.layers,
        "step": network.step,
        "activation": network.activation,
        "X_trained": trained(config, stages[0].architecture),
        "placement": [stage.placement for stage in stages] if len(stages) > 1 else stages[0].placement,
        "plan": chosen_products(
            config.plan, config.deterministic, getattr(torch, config.dtype), assembly.build_device(config)
        ),
        "parameters": parameters(config, stages, widths, ends),
    }


def _stage_warnings(config: Config, stage: Stage) -> list[str]:
    lines = []
    for name, pattern in (("K", stage.K), ("X", stage.X)):
        beyond = len(non_links(pattern, stage.graph))
        if beyond:
            lines.append(
                f"network.{name}: {beyond} blocks of pattern {pattern.kind} join agents that are not linked in "
                f"{stage.graph.name}; their messages go past neighbours"
            )
    if config.network.X.kind != "identity" and not config.network.shared_x:
        lines.append("network.shared_x=false: each layer keeps the bound on gradients, the whole network does not")
    return lines
