"""Safetensors files: the weights of a network by canonical names, and a writer that streams the files of checkpoints.

The library's own writer builds the whole file in memory and holds the interpreter while it does, so training could not
continue beside it. `write_tensors` hashes the stream on its way and makes no second copy. Reading is left to the
library.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from dist_hdnn.training.checkpoints.manifest import CheckpointError, Manifest, candidates, read_manifest, verify
from dist_hdnn.training.checkpoints.snapshot import whole_weights
from dist_hdnn.training.classifier import AgentClassifier

FINAL = Path("checkpoints") / "final.safetensors"
CHUNK = 1 << 23  # bytes hashed and written at a time
DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, int | str]:
    """Write contiguous tensors of host memory and return the file's "bytes" and "sha256" once it is on the disk.

    Raises OSError.
    """
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())  # so that every tensor is aligned
    header, end = {}, 0
    for name, tensor in ordered:
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end := end + tensor.nbytes],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for data in (memoryview(len(text).to_bytes(8, "little") + text), *(_memory(tensor) for _, tensor in ordered)):
            for start in range(0, len(data), CHUNK):
                part = data[start : start + CHUNK]
                digest.update(part)
                file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": 8 + len(text) + end, "sha256": digest.hexdigest()}


def _memory(tensor: Tensor) -> memoryview:
    memory: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(memory) if tensor.numel() else memoryview(b"")


def save_weights(state: Mapping[str, Tensor], path: Path, architecture: str | None = None) -> None:
    """Write a model's `state_dict`, which is global whatever the workers. The file appears whole or not at all.

    architecture: its name is kept beside the tensors, because two architectures may have weights of the same names.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    part = path.with_suffix(".part")
    part.write_bytes(save(tensors, metadata={"architecture": architecture} if architecture else None))
    os.replace(part, path)


def load_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Return the ordinary `state_dict` of a network, in one process, from whatever workers have written.

    path: a run directory (its final weights, or else its newest usable checkpoint), a checkpoint in it, or a
    safetensors file. Raises CheckpointError, one line, when nothing there can be used.
    """
    return _state_dict(Path(path))[0]


def newest_checkpoint(checkpoints: Path) -> Path:
    """Return the newest checkpoint of a run that can be used. Raises CheckpointError, with the fault of the newest."""
    problems = []
    for folder, manifest in candidates(checkpoints):
        try:
            if not isinstance(manifest, Manifest):
                raise manifest
            verify(folder, manifest)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            return folder
    raise CheckpointError(
        problems[0] if problems else f"{checkpoints}: expected a checkpoint, got none. Train the run."
    )


def _state_dict(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Return the `state_dict`, and the architecture where a file names it."""
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
    """Return the tensors of a safetensors file, and the architecture it names."""
    try:
        tensors = load(path.read_bytes())
        with safe_open(path, "pt") as file:
            return tensors, (file.metadata() or {}).get("architecture")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint in safetensors form, got: {error}. Train the run again."
        ) from error


def load_weights(model: AgentClassifier, path: Path) -> None:
    """Load the weights at a path of `load_checkpoint`. Raises CheckpointError when they are of another network."""
    tensors, saved = _state_dict(path)
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
