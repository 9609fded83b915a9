"""The figures of summary.json: accuracy, size, traffic and memory, summed over the workers of a run."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dist_hdnn.data import Dataset
from dist_hdnn.ends.readout import LocalReadout, SumReadout, summed
from dist_hdnn.links.words import figures_of as impairments_of
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.topology import CommunicationGraph
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.evaluation import Evaluation
from dist_hdnn.training.loop import Epoch

LISTED_LINKS = 2000  # above, summary.json gives only mean and maximum of the traffic


def figures_of_run(
    model: AgentClassifier,
    data: Dataset,
    history: Sequence[Epoch],
    result: Evaluation,
    traffic: Mapping[str, int],
) -> dict[str, Any]:
    """Return accuracies, sizes and times. Collective. traffic: of this worker in the first step, empty if unknown.

    messages_per_step, bytes_per_step: slices between agents, equal on any workers. wire_...: messages between workers,
    a slice once for all agents of a worker, with the sums of readouts and metrics.
    """
    network, last = model.network, history[-1]
    kept = next((record for record in reversed(history) if record.best), last)  # whose weights the model has
    parameters = sum(parameter.numel() for parameter in model.parameters())
    counts = torch.tensor([*traffic.values(), parameters, _peak_memory(network)], dtype=torch.int64)
    total = dict(zip([*traffic, "parameters", "memory"], summed(counts, network.ownership).tolist(), strict=True))
    seconds = sorted(record.seconds for record in history)[len(history) // 2] * len(history) / last.step
    return {
        "status": "done",
        "test_accuracy": result.accuracy,
        "train_accuracy": kept.train_accuracy,
        **({} if kept.best is None else {"validation_accuracy": kept.validation_accuracy, "best_epoch": kept.epoch}),
        "loss": kept.loss,
        **({} if result.mse is None else {"test_mse": result.mse}),
        **agent_figures(model, result),
        **target_figures(model, data, result),
        "agents": network.graph.agents,
        "links": len(network.graph.links),
        "parameters": total["parameters"],
        "layers": network.layers,
        "plan": network.plan,
        "epochs": last.epoch,
        "steps": last.step,
        "seconds_per_step": seconds,
        "peak_memory_bytes": total["memory"],
        "messages_per_step": total.get("agent_messages"),  # None: resumed after its last step
        "bytes_per_step": total.get("agent_bytes"),
        "wire_messages_per_step": 0 if network.ownership.alone else total.get("messages"),
        "wire_bytes_per_step": 0 if network.ownership.alone else total.get("bytes"),
        "non_neighbour_messages": total.get("non_neighbour_messages", 0),
        **({} if network.links is None else {"impairments": impairments_of(network.links)}),
        **_reconstruction(network),
    }


def agent_figures(model: AgentClassifier, result: Evaluation, prefix: str = "") -> dict[str, Any]:
    """Return the accuracies of the agents by name, where agents classify."""
    readout = model.readout
    if result.per_agent is None or isinstance(readout, SumReadout):
        return {}
    names = [model.network.graph.names[agent] for agent in readout.output_agents]
    return {
        f"{prefix}mean_agent_accuracy": result.mean_agent,
        f"{prefix}worst_agent_accuracy": result.worst_agent,
        f"{prefix}agent_accuracy": dict(zip(names, result.per_agent, strict=True)),
    }


def target_figures(model: AgentClassifier, data: Dataset, result: Evaluation, prefix: str = "") -> dict[str, Any]:
    """Return the mean squared errors of a regression, each in its unit, by agent or by target.

    agent_mse: of agents with targets of their own, agent -> error, or agent -> target -> error where each has several.
    target_mse: of targets that all agents share, target -> error; none where there is one.
    """
    readout, errors = model.readout, result.mse_of
    if errors is None or (data.outputs == 1 and not data.own):
        return {}
    if not data.own:
        return {f"{prefix}target_mse": dict(zip(data.target_names, errors[0], strict=True))}
    assert isinstance(readout, LocalReadout), "agents with targets of their own answer by themselves"
    own, figures = data.own_names, {}
    for agent, column, row in zip(readout.output_agents, readout.columns, errors, strict=True):
        of_targets = dict(zip(own[column], row, strict=True))
        figures[model.network.graph.names[agent]] = of_targets if data.outputs > 1 else row[0]
    return {f"{prefix}agent_mse": figures}


def link_figures(graph: CommunicationGraph, over_links: NDArray[np.int64] | None) -> dict[str, Any]:
    """Return messages and bytes per step over each link by the agents' names, of large graphs mean and maximum.

    over_links: (links, 2), of all workers; None: unknown.
    """
    if over_links is None:
        return {}
    amount = over_links[:, 1] if len(over_links) else np.zeros(1, dtype=np.int64)
    figures: dict[str, Any] = {"bytes_per_link": {"mean": float(amount.mean()), "max": int(amount.max())}}
    if len(over_links) <= LISTED_LINKS:
        rows = zip(graph.links.tolist(), over_links.tolist(), strict=True)
        figures["link_traffic"] = [[graph.names[i], graph.names[j], *counts] for (i, j), counts in rows]
    return figures


def inputs_of(data: Dataset) -> dict[str, Any]:
    """Return what a user of the trained network must know of the data: scale and names."""
    return {
        "task": "regression" if data.regression else "classification",
        **({"targets": "own"} if data.own else {}),
        "normalisation": data.normalisation,
        **({"class_names": data.class_names} if data.class_names is not None else {}),
    }


def _reconstruction(network: HDNN) -> dict[str, float]:
    """Return the largest relative error of a state that a reversible network rebuilt in training. Collective."""
    ownership, error = network.ownership, network.reconstruction_error()
    if network.sweep.kept.memory != "reversible":
        return {}
    of_workers = torch.zeros(ownership.workers, dtype=torch.float64)
    of_workers[ownership.rank] = error or 0.0
    return {"reconstruction_error": float(summed(of_workers, ownership).max())}


def _peak_memory(network: HDNN) -> int:
    """Return the largest resident memory of this process so far, in bytes (Linux counts in KiB, macOS in bytes).

    Workers that are threads share one process, which the first one counts.
    """
    transport = network.ownership.transport
    if transport is not None and transport.name == "threads" and transport.rank:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
