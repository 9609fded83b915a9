"""A network in a file: canonical tensors by name in safetensors, which can hold nothing but tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from dist_hdnn.training.classifier import AgentClassifier


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: missing, damaged, or of another network."""

    exit_code = 4


def save_weights(state: Mapping[str, Tensor], path: Path, architecture: str | None = None) -> None:
    """Write a model's `state_dict`, which is global whatever the workers; the file appears whole or not at all.

    architecture: its name is kept beside the tensors, because two architectures may have weights of the same names.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    part = path.with_suffix(".part")
    part.write_bytes(save(tensors, metadata={"architecture": architecture} if architecture else None))
    os.replace(part, path)


def load_weights(model: AgentClassifier, path: Path) -> None:
    """Read what `save_weights` wrote. Raises CheckpointError when the file is not that of this network."""
    try:
        tensors = load(path.read_bytes())
        with safe_open(path, "pt") as file:
            saved = (file.metadata() or {}).get("architecture")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint in safetensors form, got: {error}. Train the run again."
        ) from error
    architecture = model.network.architecture.name
    if saved not in (None, architecture):
        raise CheckpointError(
            f"{path}: expected the weights of the architecture {architecture}, got those of {saved}. "
            "Use the config.yaml that belongs to the checkpoint."
        )
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != got:
        different = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
        raise CheckpointError(
            f"{path}: expected the weights of this network, got other shapes or names for {', '.join(different[:5])}. "
            "Use the config.yaml that belongs to the checkpoint."
        )
    if any(not torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise CheckpointError(f"{path}: expected finite weights, got NaN or infinity. Use an earlier checkpoint.")
    model.load_state_dict(tensors)
