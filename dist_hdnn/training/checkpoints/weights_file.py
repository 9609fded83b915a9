"""A network in a file: canonical tensors by name in safetensors, which can hold nothing but tensors.

What a run needs to resume, of which the weights are a part, is written by `saver` and read by `load_checkpoint`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from dist_hdnn.training.checkpoints.manifest import CheckpointError, Manifest, candidates, read_manifest, verify
from dist_hdnn.training.checkpoints.snapshot import whole_weights
from dist_hdnn.training.classifier import AgentClassifier

__all__ = ["FINAL", "CheckpointError", "load_checkpoint", "load_weights", "newest_checkpoint", "save_weights"]

FINAL = Path("checkpoints") / "final.safetensors"


def save_weights(state: Mapping[str, Tensor], path: Path, architecture: str | None = None) -> None:
    """Write a model's `state_dict`, which is global whatever the workers; the file appears whole or not at all.

    architecture: its name is kept beside the tensors, because two architectures may have weights of the same names.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    part = path.with_suffix(".part")
    part.write_bytes(save(tensors, metadata={"architecture": architecture} if architecture else None))
    os.replace(part, path)


def load_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The ordinary `state_dict` of a network, in one process, from whatever workers have written.

    path: a run directory (its final weights, or else its newest usable checkpoint), a checkpoint in it, or a
    safetensors file. Raises CheckpointError, one line, when nothing there can be used.
    """
    return _found(Path(path))[0]


def newest_checkpoint(checkpoints: Path) -> Path:
    """The newest checkpoint of a run that can be used. Raises CheckpointError, naming what is wrong with the newest."""
    problems = []
    for folder, found in candidates(checkpoints):
        try:
            if not isinstance(found, Manifest):
                raise found
            verify(folder, found)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            return folder
    raise CheckpointError(
        problems[0] if problems else f"{checkpoints}: expected a checkpoint, got none. Train the run."
    )


def _found(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """What `load_checkpoint` finds, and the architecture where a file names it."""
    if path.is_file():
        return _read(path)
    if (path / FINAL).is_file():
        return _read(path / FINAL)
    if (path / "checkpoints").is_dir():
        path = newest_checkpoint(path / "checkpoints")
    manifest = read_manifest(path)
    verify(path, manifest)
    return whole_weights(path, manifest), None


def _read(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Tensors of a safetensors file, and the architecture it names."""
    try:
        tensors = load(path.read_bytes())
        with safe_open(path, "pt") as file:
            return tensors, (file.metadata() or {}).get("architecture")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint in safetensors form, got: {error}. Train the run again."
        ) from error


def load_weights(model: AgentClassifier, path: Path) -> None:
    """Read what `load_checkpoint` does into a model. Raises CheckpointError when it is not of this network."""
    tensors, saved = _found(path)
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
