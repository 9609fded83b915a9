"""Trained networks as files for other programs: `dist_hdnn.export`, and `dist-hdnn export`.

network.pt2           input -> output in plain tensor operations, for torch.export.load: no dist_hdnn needed; of a run
                      raw readings -> scores or targets in their own units, the scaling inside
model.safetensors     the weights, as in `state_dict`
config.json           what they are, and the shapes of input and output
agents/3.json, 3.npz  what agent 3 alone needs: its weights, its neighbors, its rounds of messages; numpy reads both
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from dist_hdnn.build.inputs import agent_number
from dist_hdnn.build.trained import TrainedRun, load_run
from dist_hdnn.config.paths import user_path
from dist_hdnn.exporting.agentwise import AgentParts
from dist_hdnn.exporting.ends import in_own_units, lift_of, readings_of, readout_of
from dist_hdnn.exporting.program import check_alone, plain_copy
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.run.files import versions
from dist_hdnn.training.classifier import AgentClassifier

FILED_AGENTS = 1000  # networks of more agents get files of those agents alone that are asked for


def export(
    model: nn.Module,
    directory: str | Path,
    example: Tensor | None = None,
    agents: Sequence[int | str] | str | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write network.pt2, model.safetensors, config.json and files of agents into a new or empty directory.

    model: an HDNN, any module around one, such as lift, network and readout in a row, or a run from `load_run`, which
    takes its scaling along; in one process.
    example: an input (at least 2 samples, ...) from which the trace is made; the batch stays free. HDNN, run: none.
    agents: numbers or names, or "all"; None for all, of networks of more than 1000 agents none.
    about: goes into config.json.
    Raises ValueError for several workers, other modules, unknown agents, or a directory that holds files.
    """
    net = _network_of(model)
    check_alone(net)
    if example is None:
        example = _example(model, net)
    if len(example) < 2:
        raise ValueError(f"export: expected an example of 2 or more samples, got {len(example)}; give a larger batch")
    everyone = agents == "all" or (agents is None and net.graph.agents <= FILED_AGENTS)
    chosen = range(net.graph.agents) if everyone else agents or ()
    numbers = sorted({agent_number(net.graph, agent, "export.agents") for agent in chosen})
    classifier = model.model if isinstance(model, TrainedRun) else model
    if numbers and isinstance(classifier, AgentClassifier):
        lift_of(classifier, numbers[0])  # raises before the directory is made
    folder = user_path(directory, "export: output")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"export: expected a new or empty directory, got {folder}; delete it, or choose another one")
    network, example = plain_copy(model).cpu(), example.detach().cpu()
    program = _traced(network, example)
    part = folder.resolve().with_name(
        f"{folder.resolve().name}.part"
    )  # a killed export leaves no folder that looks whole
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    torch.export.save(program, part / "network.pt2")
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in classifier.state_dict().items()}
    (part / "model.safetensors").write_bytes(save(weights))
    description = _description(net, example, network(example), numbers) | dict(about or {})
    if isinstance(model, TrainedRun):
        description |= _readings(model)
    _write(part / "config.json", description)
    if numbers:
        export_agents(model, part / "agents", numbers)
    part.replace(folder)
    return folder


def export_agents(model: nn.Module, folder: Path, agents: Sequence[int]) -> None:
    """Write the files of these agents, with lift and readout for a run or an `AgentClassifier`.

    An agent of a run scales what it senses, and answers in the units of the targets. Raises ValueError.
    """
    parts, run = AgentParts(_network_of(model)), model if isinstance(model, TrainedRun) else None
    classifier = run.model if run else model
    folder.mkdir(parents=True, exist_ok=True)
    for agent in agents:
        about, tensors = parts.description(agent), parts.tensors(agent)
        if isinstance(classifier, AgentClassifier):
            for name, part in (("lift", lift_of), ("readout", readout_of)):
                about[name], more = part(classifier, agent)
                tensors |= more
        if run:
            about["readings"], more = readings_of(about["lift"], tensors, run.scaler)
            tensors |= more | in_own_units(about["readout"], tensors, run.scaler, agent)
            about |= {"classes": list(run.classes), "targets": [] if run.own else list(run.targets)}
            if run.own and about["readout"]["kind"] == "local":
                own = list(run.own[about["readout"]["place"]])
                about |= {"answers": own} | ({"targets": own} if run.regression else {})
        _write(folder / f"{agent}.json", about)
        arrays: dict[str, Any] = {name: _plain(tensor) for name, tensor in tensors.items()}
        np.savez(folder / f"{agent}.npz", **arrays)


def export_run(run: Path, directory: Path, agents: Sequence[int | str] | str | None = None) -> Path:
    """Export a trained run: raw readings -> scores, or targets in their own units. agents: as in `export`.

    Raises ValueError when the directory holds no usable run, CheckpointError when its weights are damaged.
    """
    return export(load_run(run, deterministic=False), directory, agents=agents)


def _example(model: nn.Module, net: HDNN) -> Tensor:
    """Return an input of a network or a run. Raises ValueError for other models, which need one from the user."""
    if isinstance(model, TrainedRun):
        return torch.zeros(2, len(model.features), dtype=model.scaler.raw)
    if model is not net:
        raise ValueError("export: expected an example input, because the model is more than a network; give a batch")
    return torch.zeros(2, net.neurons, dtype=next(net.parameters()).dtype)


def _readings(run: TrainedRun) -> dict[str, Any]:
    """Return what the program of a run takes and answers, by name."""
    return {
        "run": str(run.directory),
        "takes": "raw readings, NaN in gaps that are filled; the program scales them",
        "features": list(run.features),
        "task": "regression" if run.regression else "classification",
        **({"targets": list(run.targets)} if run.regression else {"classes": list(run.classes)}),
        "answering_agents": list(run.agents),
        **({"own_targets": dict(zip(run.agents, map(list, run.own), strict=True))} if run.own else {}),
    }


def _network_of(model: nn.Module) -> HDNN:
    networks = [part for part in model.modules() if isinstance(part, HDNN)]
    if len(networks) != 1:
        raise ValueError(
            f"export: expected a module with one HDNN inside, got {len(networks)} of them; export each alone"
        )
    return networks[0]


def _traced(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    try:
        return torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except ValueError as error:  # torch adds lines to a message of ours
        raise ValueError(str(error).strip().splitlines()[0]) from error


def _description(net: HDNN, example: Tensor, output: Tensor, agents: list[int]) -> dict[str, Any]:
    shapes = {
        name: {"shape": ["batch", *tensor.shape[1:]], "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in (("input", example), ("output", output))
    }
    return {
        **shapes,
        "architecture": net.architecture.name,
        "equation": net.architecture.equation,
        "integrator": net.architecture.integrator.name,
        "activation": net.sweep.spec.sigma.name,
        "layers": net.layers,
        "step": net.step,
        "time": net.time,
        "graph": net.graph.name,
        "agents": net.graph.agents,
        "neurons": net.neurons,
        "agent_files": len(agents),
        "versions": versions(),
    }


def _plain(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor as an array, bfloat16 as float32, because numpy lacks it."""
    tensor = tensor.detach().cpu()
    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _write(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False, default=str)
    path.write_text(text + "\n", encoding="utf-8")
