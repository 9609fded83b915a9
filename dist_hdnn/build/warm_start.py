"""Start a network from the weights of another run: for more epochs, on another graph, or with other data.

Agents are matched by name. Blocks of weights that both networks have in one shape are kept, all others stay as drawn;
the optimizer starts anew. A line, warm_start.json and summary.json say what was kept.
"""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dist_hdnn.build import assembly
from dist_hdnn.build.inputs import agent_number, build_sensors, build_views
from dist_hdnn.build.trained import data_shell
from dist_hdnn.build.transplant import Places, coupled_pairs, places_of, transplant
from dist_hdnn.config import Config, forget_workers
from dist_hdnn.data import TOYS, Dataset
from dist_hdnn.ends.readout import LocalReadout, Readout, SumReadout
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.run.directory import config_of_run, weights_of_run
from dist_hdnn.run.files import PREPARATION, read_preparation
from dist_hdnn.topology.ragged import IntArray
from dist_hdnn.training.checkpoints.manifest import CheckpointError
from dist_hdnn.training.checkpoints.weights_file import load_checkpoint
from dist_hdnn.training.classifier import AgentClassifier

FILE = "warm_start.json"
NAMED = 5  # agents that the line names
WORDS = {"readout": "readout", "learned_lift": "lift", "initial_state": "initial state"}
Entries = dict[str, set[tuple[str, str]]]


def start_from(config: Config, model: AgentClassifier, data: Dataset) -> dict[str, Any]:
    """Overwrite this worker's drawn weights with those of config.warm_start; return the counts kept and drawn.

    Raises ValueError, one line, for a run whose network is of another kind, CheckpointError for unusable weights.
    """
    run, weights = weights_of_run(config.warm_start or "")
    there = config_of_run(run)
    forget_workers(there, ())
    there.device, there.deterministic, there.plan = "cpu", False, "auto"
    tensors = load_checkpoint(weights)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise CheckpointError(f"{weights}: expected finite weights, got NaN or infinity. Start from an earlier one.")
    old, new = _source(run, there, config, tensors), _parts(model)
    before = old["network"]
    assert isinstance(before, HDNN), "the first part is the network"
    _check_kind(run, there, config, before, model.network)
    here = {name: number for number, name in enumerate(model.network.graph.names)}
    numbers = np.array([here.get(name, -1) for name in before.graph.names], dtype=np.int64)
    data_there, drawn = _data_of(run, there), []
    for prefix, module in new.items():
        renamed = prefix == "readout" and data_there is not None and data.class_names != data_there.class_names
        if prefix not in old or not _alike(module, old[prefix]) or renamed:
            drawn.append(WORDS[prefix])
            continue
        same = numbers
        if prefix == "learned_lift":
            moved = _moved(_entries(config, model.network, data), _entries(there, before, data_there))
            same = np.where(np.isin(numbers, [here[name] for name in moved if name in here]), -1, numbers)
            drawn += [f"lift of agent {name}" for name in moved if name in here]
        if isinstance(module, LocalReadout):
            fresh = _new_questions(model.network, data, before, data_there)
            same = np.where(np.isin(numbers, [here[name] for name in fresh]), -1, numbers)
            drawn += [f"readout of agent {name}" for name in _newly_answering(module, old[prefix], before, fresh)]
        places = places_of(module, model.network.layout), places_of(old[prefix], before.layout)
        start = f"{prefix}."
        values = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
        _fill(module, *places, values, same, f"{weights}: {prefix}")
    if model.sensors is not None and there.lift.kind == "sensors":
        _warn_of_moved(run, _entries(config, model.network, data), _entries(there, before, data_there))
    return _report(run, model.network, before, numbers, drawn)


def in_words(kept: dict[str, Any]) -> str:
    """Say in a line what `start_from` returns."""
    counts = " and ".join(f"{kept[f'{what}_kept']} of {kept[what]} {what}" for what in ("agents", "links"))
    names = [f"agent {name}" for name in kept["drawn"]["agents"][:NAMED]]
    more = len(kept["drawn"]["agents"]) - len(names)
    drawn = [*names, *([f"{more} more agents"] if more else [])]
    for word in dict.fromkeys(part.split(" of agent ")[0] for part in kept["drawn"]["parts"]):
        parts = [part for part in kept["drawn"]["parts"] if part.split(" of agent ")[0] == word]
        rest = len(parts) - NAMED
        drawn += [*parts[:NAMED], *([f"{word} of {rest} more agents"] if rest > 0 else [])]
    return f"warm start from {kept['run']}: kept the weights of {counts}; drew {', '.join(drawn) or 'nothing else'}"


def write(directory: Path, kept: dict[str, Any]) -> None:
    """Write warm_start.json into a run directory."""
    (directory / FILE).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def written(directory: Path) -> dict[str, Any]:
    """Return the entries of summary.json on the warm start of a run, none without one."""
    path = directory / FILE
    return {"warm_start": json.loads(path.read_text(encoding="utf-8"))} if path.is_file() else {}


def _source(run: Path, there: Config, config: Config, tensors: dict[str, Tensor]) -> dict[str, nn.Module]:
    """Build the parts of the other run's model in one process, and read its data only if lift or initial state need it.

    Their weights do not matter, only where each lies.
    """
    learned = there.initial_state == config.initial_state == "learned"
    lifted = there.lift.kind == "channels" or there.lift.kind == config.lift.kind != "sensors"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were shown when that run was trained
        if learned or lifted:
            return _parts(assembly.build_classifier(there, assembly.build_dataset(there)))
        network, regression = assembly.build_network(there), there.data.task == "regression"
        fitted = read_preparation(run) if (run / PREPARATION).is_file() else None
        answering = [] if fitted is None else assembly.answering_numbers(network.ownership.graph, fitted)
        outputs = len(tensors["readout.weight"])
        readout = assembly.build_readout(there, network.ownership, outputs, regression, answering)
    return {"network": network, "readout": readout}


def _parts(model: AgentClassifier) -> dict[str, nn.Module]:
    parts = {name: getattr(model, name) for name in ("network", *WORDS)}
    return {name: part for name, part in parts.items() if part is not None}


def _check_kind(run: Path, there: Config, config: Config, old: HDNN, new: HDNN) -> None:
    """Raise ValueError unless both networks have the same sets of weights, whatever their agents and widths."""
    for key in ("architecture", "layers", "time", "shared_x"):
        mine, theirs = (getattr(one.network, key) for one in (config, there))
        if mine != theirs:
            raise ValueError(
                f"warm_start: expected network.{key}={theirs} as in {run}, got {mine}; set it alike, or train from "
                "scratch"
            )
    mine, theirs = ({name: len(values) for name, values in one.named_parameters()} for one in (new, old))
    if mine != theirs:
        name = min(mine.items() ^ theirs.items())[0]
        raise ValueError(
            f"warm_start: expected the matrices of {run}, got another {name}; set network.X.kind, network.J and the "
            "number of more_graphs alike, or train from scratch"
        )
    if not set(old.graph.names) & set(new.graph.names):
        raise ValueError(
            f"warm_start: expected agents with names of {run}, such as {old.graph.names[0]}, got none, such as "
            f"{new.graph.names[0]}; rename them, or train from scratch"
        )


def _data_of(run: Path, there: Config) -> Dataset | None:
    """Return the data of a run without their samples, for columns and classes; None if the run does not say."""
    if there.data.name in TOYS or not (run / PREPARATION).is_file():
        return None
    return data_shell(run, there)


def _newly_answering(here: LocalReadout, there: nn.Module, before: HDNN, fresh: set[str]) -> list[str]:
    """Return the agents of both networks whose readout is drawn: they did not answer, or another question (fresh)."""
    assert isinstance(there, LocalReadout), "alike readouts are of one kind"
    answered = {before.graph.names[agent] for agent in there.output_agents} - fresh
    names, unanswered = here.ownership.graph.names, set(before.graph.names) - answered
    return [names[agent] for agent in here.output_agents if names[agent] in unanswered]


def _new_questions(network: HDNN, data: Dataset, before: HDNN, there: Dataset | None) -> set[str]:
    """Return the agents of both networks whose own targets have other names, so that old weights mean nothing."""
    if there is None:
        return set()
    mine, theirs = (_questions(*pair) for pair in ((network, data), (before, there)))
    return {name for name in mine.keys() & theirs.keys() if mine[name] != theirs[name]}


def _questions(network: HDNN, data: Dataset) -> dict[str, tuple[str, ...]]:
    """Return agent -> names of its own targets, none of shared ones."""
    numbers = [agent_number(network.graph, agent, "data.targets") for agent in data.preparation.answering]
    return {network.graph.names[number]: names for number, names in zip(numbers, data.own_names, strict=True)}


def _entries(config: Config, network: HDNN, data: Dataset | None) -> Entries:
    """Map features of a table to their places, (name of the agent, place there); empty for images."""
    if data is None or data.image is not None or config.lift.kind not in ("sensors", "linear"):
        return {}
    graph, entries = network.graph, defaultdict(set)
    if config.lift.kind == "sensors":
        for sensor in build_sensors(config, graph, network.ownership.all_widths, data).sensors:
            entries[data.feature_names[sensor.feature]].add((graph.names[sensor.agent], f"{sensor.half}{sensor.slot}"))
        return dict(entries)
    views = build_views(config, graph, data)
    for agent, (start, stop) in enumerate(pairwise(views.starts.tolist())):
        for place, feature in enumerate(views.columns[start:stop].tolist()):
            entries[data.feature_names[feature]].add((graph.names[agent], str(place)))
    return dict(entries)


def _moved(here: Entries, there: Entries) -> list[str]:
    """Return the agents that see other features than in the other run."""
    if not here or not there:
        return []
    pairs = {(name, place, feature) for feature, at in here.items() for name, place in at}
    others = {(name, place, feature) for feature, at in there.items() for name, place in at}
    return sorted({name for name, _, _ in pairs ^ others})


def _warn_of_moved(run: Path, here: Entries, there: Entries) -> None:
    """Warn of features that enter elsewhere than in the other run."""
    moved = [feature for feature in here if feature in there and here[feature] != there[feature]]
    if moved:
        mine, theirs = (", ".join(f"agent {name}, {at}" for name, at in sorted(one[moved[0]])) for one in (here, there))
        more = f" ({len(moved) - 1} more moved)" if moved[1:] else ""
        warnings.warn(
            f"warm_start: {moved[0]} enters at {mine}, in {run} at {theirs}{more}, so weights see another feature; "
            "set data.sensors or sensors as there, or train from scratch",
            UserWarning,
            stacklevel=3,
        )


def _alike(here: nn.Module, there: nn.Module) -> bool:
    """Tell whether two parts are of one kind, so that an agent's weights mean the same in both."""
    if isinstance(here, Readout) and isinstance(there, Readout):
        sums = isinstance(here, SumReadout) == isinstance(there, SumReadout)
        kinds = [(readout.classes, readout.regression, readout.own) for readout in (here, there)]
        return sums and kinds[0] == kinds[1]
    other = dict(there.named_parameters())
    return type(here) is type(there) and all(
        values.ndim == 1 or values.shape[1:] == other[name].shape[1:] or isinstance(here, HDNN)
        for name, values in here.named_parameters()
    )


def _fill(
    module: nn.Module,
    here: dict[str, Places],
    there: dict[str, Places],
    values: dict[str, Tensor],
    numbers: IntArray,
    where: str,
) -> None:
    """Copy the common blocks of each parameter of a part, and parameters of no agent as a whole.

    values: the weights of that part, by name. where: they come from, for messages.
    """
    for name, parameter in module.named_parameters():
        stored = values.get(name)
        if stored is None or (name in there and stored.shape[there[name].dimension] != len(there[name].rows)):
            raise CheckpointError(
                f"{where}.{name}: expected weights of the network that config.yaml beside it describes, got others; "
                "restore the graph and the data that it was trained with"
            )
        if name in here:
            transplant(parameter, here[name], stored, there[name], numbers)
        elif parameter.numel():
            with torch.no_grad():
                parameter.copy_(stored)


def _report(run: Path, new: HDNN, old: HDNN, numbers: IntArray, parts: list[str]) -> dict[str, Any]:
    """Count what is kept: agents of equal name and width, and links between such agents that both networks have."""
    sizes, before = new.layout.sizes, old.layout.sizes
    kept = np.where((numbers >= 0) & (sizes[numbers] == before), numbers, -1)
    pairs, others = coupled_pairs(new.layout), coupled_pairs(old.layout, kept, len(sizes))
    missing = np.setdiff1d(np.arange(len(sizes)), kept)
    return {
        "run": str(run),
        "agents": len(sizes),
        "agents_kept": len(sizes) - len(missing),
        "links": len(pairs),
        "links_kept": len(np.intersect1d(pairs, others)),
        "drawn": {"agents": [new.graph.names[agent] for agent in missing], "parts": parts},
    }
