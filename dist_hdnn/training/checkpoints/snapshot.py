"""The state of a training as named parts of global tensors, which any number of workers can resume.

    weights/Kp.0                (layers, entries of the pattern)       as in `state_dict`
    optimizer/Kp.0/exp_avg      likewise, for each of the optimizer's moments
    best/Kp.0                   the weights of the best epoch so far, where there are validation data
    epoch/loss                  the loss summed over the running epoch, one entry per term
    NAME@places                 (runs, 2) first and length: where the runs of this file's part of NAME lie
    partial/gradients           what this worker has added to the gradient log in the running epoch

Entries are in canonical order (layer, row neuron, column neuron), agent by agent, so a run is of neighboring agents
of one worker. No number of a worker appears in a name: any file may hold any part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dist_hdnn.ends.readout import LocalReadout
from dist_hdnn.network.ownership import Shard
from dist_hdnn.network.sharing import shards_of
from dist_hdnn.topology.ragged import ragged_ranges
from dist_hdnn.training.checkpoints.manifest import CheckpointError, Manifest
from dist_hdnn.training.loop import Epoch, TrainingState
from dist_hdnn.training.metrics import snapshot

PLACES, PARTIAL, WEIGHTS, BEST = "@places", "partial/gradients", "weights/", "best/"
MOMENTS = ("exp_avg", "exp_avg_sq")


class Piece(NamedTuple):
    """This worker's part of a global tensor. shard: where it lies there, None where every worker has the whole."""

    tensor: Tensor
    shard: Shard | None

    @property
    def shape(self) -> list[int]:
        """Of the global tensor."""
        shape = list(self.tensor.shape)
        if self.shard is not None:
            shape[self.shard.dimension] = self.shard.length
        return shape


def pieces(state: TrainingState) -> dict[str, Piece]:
    """Return the tensors of a checkpoint by name, not copied, in the same order on all workers."""
    model, parts = state.model, dict[str, Piece]()
    shards = shards_of(model)
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        parts[WEIGHTS + name] = Piece(parameter.detach(), shards.get(name))
    for name, parameter in parameters.items():
        for moment in MOMENTS:
            values = state.optimizer.state.get(parameter, {}).get(moment)
            parts[f"optimizer/{name}/{moment}"] = Piece(
                torch.zeros_like(parameter.detach()) if values is None else values, shards.get(name)
            )
    if state.best is not None:
        parts |= {BEST + name: Piece(values, shards.get(name)) for name, values in state.best.weights.items()}
    readout = model.readout
    terms = readout.shards["bias"] if isinstance(readout, LocalReadout) else None
    loss = state.loss if state.loss.ndim else state.loss.expand(1 if terms is None else len(terms.index))
    parts["epoch/loss"] = Piece(loss, terms)
    return parts


def copied(state: TrainingState) -> dict[str, Tensor]:
    """Copy what this worker's file holds, so that training may continue."""
    first, copies = state.model.network.ownership.rank == 0, dict[str, Tensor]()
    for name, (tensor, shard) in pieces(state).items():
        if shard is not None or first:
            copies[name] = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
        if shard is not None:
            copies[name + PLACES] = torch.from_numpy(runs(shard.index))
    if state.gradients is not None:
        copies[PARTIAL] = state.gradients.squares.cpu().clone()
    return copies


def described(state: TrainingState) -> dict[str, dict[str, Any]]:
    """Return `Manifest.tensors` of a state."""
    return {
        name: {"shape": piece.shape, "dimension": None if piece.shard is None else piece.shard.dimension}
        for name, piece in pieces(state).items()
    }


@torch.no_grad()
def restore(state: TrainingState, folder: Path, manifest: Manifest) -> None:
    """Put a fresh state and its model back to a verified checkpoint, whoever owns what now and owned it then.

    Raises CheckpointError when the checkpoint is not of this network.
    """
    state.step, state.seconds = manifest.step, manifest.seconds
    state.history[:] = [Epoch(**record) for record in manifest.history]
    steps = float(state.step - state.first)
    for group in state.optimizer.param_groups:
        for parameter in group["params"]:
            memory = {moment: torch.zeros_like(parameter) for moment in MOMENTS}
            state.optimizer.state[parameter] = {"step": torch.tensor(steps), **memory}
    if manifest.best is not None:
        state.best = snapshot(state.model, **manifest.best)
    wanted = pieces(state)
    shapes = {name: piece.shape for name, piece in wanted.items()}
    if shapes != {name: entry["shape"] for name, entry in manifest.tensors.items()}:
        there = {name: entry["shape"] for name, entry in manifest.tensors.items()}
        odd = sorted(name for name in shapes.keys() | there.keys() if shapes.get(name) != there.get(name))[0]
        raise CheckpointError(
            f"checkpoint {folder}: expected {odd} of shape {shapes.get(odd)}, got {there.get(odd)}. "
            "Use the config.yaml that belongs to the checkpoint."
        )
    with opened(folder, manifest.files) as files:
        for name, piece in wanted.items():
            target = piece.tensor.contiguous().clone() if name == "epoch/loss" else piece.tensor
            fill(target, piece.shard, name, files)
            if name == "epoch/loss":
                state.loss = target
        if state.gradients is not None:
            _restore_gradients(state, files, manifest)


def _restore_gradients(state: TrainingState, files: Sequence[Any], manifest: Manifest) -> None:
    """Give the same owners their sums back. With other owners worker 0 gets the total, which rounds otherwise."""
    assert state.gradients is not None, "the run logs gradients"
    ownership = state.model.network.ownership
    parts = [file.get_tensor(PARTIAL) for file in files if PARTIAL in file.keys()]
    if len(parts) != len(files):
        raise CheckpointError("checkpoint: expected a run with train.log_gradients, got one without; set it alike")
    own = state.gradients.squares
    if manifest.owners == owners_digest(state):
        own.copy_(parts[ownership.rank])
    elif ownership.rank == 0:
        own.copy_(torch.stack(parts).sum(dim=0))
    state.gradients.steps = state.step - (manifest.history[-1]["step"] if manifest.history else 0)


def owners_digest(state: TrainingState) -> str:
    """Return a digest of the owners of all agents."""
    return hashlib.sha256(state.model.network.ownership.partition.owners.tobytes()).hexdigest()


def fill(target: Tensor, shard: Shard | None, name: str, files: Sequence[Any]) -> None:
    """Copy a part of a global tensor together from the files that hold it. Raises CheckpointError for a gap."""
    missing = 1 if shard is None else len(shard.index)
    for file in files:
        if name not in file.keys():
            continue
        data = file.get_tensor(name)
        if data.dtype != target.dtype:
            raise CheckpointError(f"checkpoint: expected {name} in {target.dtype}, got {data.dtype}; set dtype alike")
        if shard is None:
            target.copy_(data)
            return
        there = ragged_ranges(*file.get_tensor(name + PLACES).numpy().T)
        if not len(there) or not len(shard.index):
            continue
        if np.array_equal(there, shard.index):
            target.copy_(data)
            return
        place = np.searchsorted(there, shard.index).clip(max=len(there) - 1)
        hit = np.flatnonzero(there[place] == shard.index)
        rows = data.index_select(shard.dimension, torch.from_numpy(place[hit]))
        target.index_copy_(shard.dimension, torch.from_numpy(hit).to(target.device), rows.to(target.device))
        missing -= len(hit)
    if missing:
        raise CheckpointError(f"checkpoint: {missing} entries of {name} are in none of its files; use another one")


def whole_weights(folder: Path, manifest: Manifest, kind: str = WEIGHTS) -> dict[str, Tensor]:
    """Return the `state_dict` of a verified checkpoint, in one process. kind: prefix of the names, which is dropped."""
    weights: dict[str, Tensor] = {}
    with opened(folder, manifest.files) as files:
        for name, entry in manifest.tensors.items():
            if not name.startswith(kind):
                continue
            dtype = next(file.get_tensor(name).dtype for file in files if name in file.keys())
            target, split = torch.empty(entry["shape"], dtype=dtype), entry["dimension"]
            length = 0 if split is None else entry["shape"][split]
            fill(target, None if split is None else Shard(split, length, np.arange(length)), name, files)
            weights[name.removeprefix(kind)] = target
    return weights


@contextmanager
def opened(folder: Path, names: Iterable[str]) -> Iterator[list[Any]]:
    """Open the safetensors files of a checkpoint, in the order of the workers that wrote them."""
    with ExitStack() as stack:
        try:
            ordered = sorted(names, key=lambda name: (len(name), name))
            yield [stack.enter_context(safe_open(folder / name, "pt")) for name in ordered]
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"checkpoint {folder}: {error}. Resume from another one.") from error


def runs(index: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return ascending numbers as runs of consecutive ones: (runs, 2) first and length, see `ragged_ranges`."""
    if not len(index):
        return np.zeros((0, 2), dtype=np.int64)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(index) != 1) + 1])
    return np.stack([index[starts], np.diff([*starts, len(index)])], axis=1).astype(np.int64)
