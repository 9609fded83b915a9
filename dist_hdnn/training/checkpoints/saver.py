"""Write checkpoints while training continues: every worker its own file, worker 0 the manifest of all.

    all workers   copy the state (the only pause), write and sync worker_k.safetensors in a thread, then worker_k.json
    worker 0      waits for all worker_k.json, writes manifest.json, renames the folder, then replaces `latest`

Workers meet through the folder alone, so saving sends no message. A folder that is not renamed yet is no checkpoint;
what killed workers leave of one is removed at the next start. Only then are older ones removed, but the best.
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dist_hdnn.training.checkpoints.manifest import (
    FOLDER,
    LATEST,
    CheckpointError,
    Manifest,
    checkpoints,
    read_manifest,
    sync_folder,
    write_durably,
    write_manifest,
)
from dist_hdnn.training.checkpoints.snapshot import copied, described, owners_digest
from dist_hdnn.training.checkpoints.weights_file import write_tensors
from dist_hdnn.training.loop import NonFiniteError, TrainingState

PART = ".part-"  # in the name of a folder that is no checkpoint yet
LOOK = 0.01  # seconds between looks for the other workers' files
MARGIN = 1 << 20  # bytes of the disk that stay free


class DiskError(OSError):
    """A checkpoint that cannot be written. Those before it are intact."""

    exit_code = 7

    def __init__(self, folder: Path, reason: str, number: int | None = None) -> None:
        super().__init__(
            number or errno.EIO,
            f"{reason} for a checkpoint in {folder}; those before it are intact. Make space there, then resume with "
            "--resume=auto",
        )

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass
class Saver:
    """One worker's end of the checkpoints of a run, one at a time.

    folder: checkpoints/ of the run directory, which all workers see. nonce: of this start, the same on all workers.
    identity, versions: for the manifest. keep: how many to keep, besides the best. timeout: seconds that worker 0 waits
    for the other workers' files.
    """

    folder: Path
    rank: int
    workers: int
    nonce: str
    identity: Mapping[str, Any]
    versions: Mapping[str, str]
    keep: int = 3
    timeout: float = 120.0
    saved: int = -1
    """step of the last save"""
    _known: dict[str, tuple[float, float]] = field(default_factory=dict)
    """time and accuracy of the checkpoints that were there, so that no save reads their manifests again"""
    _thread: threading.Thread | None = None
    _failure: Exception | None = None

    def save(self, state: TrainingState) -> None:
        """Begin to save. Raises the error of the save before, and DiskError before anything is written."""
        if state.step == self.saved:
            return
        self.finish()
        tensors = copied(state)
        needed, free = (
            sum(tensor.nbytes for tensor in tensors.values()) * self.workers,
            shutil.disk_usage(self.folder).free,
        )
        if free < needed + MARGIN:
            reason = f"no space left ({needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free)"
            raise DiskError(self.folder, reason, errno.ENOSPC)
        manifest = self._manifest(state) if self.rank == 0 else None
        arguments = (FOLDER.format(state.step), tensors, manifest)
        self._thread = threading.Thread(target=self._work, args=arguments, name="save a checkpoint", daemon=True)
        self._thread.start()
        self.saved = state.step

    def check(self) -> None:
        """Raise the error of the save under way: OSError, CheckpointError, NonFiniteError."""
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Wait for the save under way: on worker 0 until it is a checkpoint, elsewhere for its own file."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def clean(self) -> None:
        """Remove unfinished checkpoints of killed workers. Worker 0 calls it before anybody saves."""
        for left in self.folder.glob(f"*{PART}*"):
            shutil.rmtree(left, ignore_errors=True)

    def _manifest(self, state: TrainingState) -> Manifest:
        history = [vars(record) for record in state.history]  # not copies: records never change and grow in number
        return Manifest(
            step=state.step,
            epoch=history[-1]["epoch"] + (state.step > history[-1]["step"]) if history else 1,
            layers=state.model.network.layers,
            identity=dict(self.identity),
            tensors=described(state),
            files={},
            owners=owners_digest(state),
            history=history,
            best=None if state.best is None else {"epoch": state.best.epoch, "accuracy": state.best.accuracy},
            seconds=state.seconds,
            saved=time.time(),
            versions=dict(self.versions),
        )

    def _work(self, name: str, tensors: dict[str, Tensor], manifest: Manifest | None) -> None:
        """Write this worker's file, on worker 0 then the checkpoint. Runs in a thread."""
        part = self.folder / f"{name}{PART}{self.nonce}"
        try:
            try:
                result = self._write(part, tensors)
            except (OSError, NonFiniteError) as error:
                if isinstance(error, OSError):
                    error = DiskError(self.folder, (error.strerror or str(error)).lower(), error.errno)
                self._failure = error
                result = {"error": str(error), "code": 6 if isinstance(error, NonFiniteError) else 7}
            if self.workers > 1 and part.is_dir():
                with contextlib.suppress(OSError):
                    write_durably(part / f"worker_{self.rank}.json", json.dumps(result).encode())
            if manifest is not None and self._failure is None:
                self._commit(part, self.folder / name, manifest, result)
        except Exception as error:
            self._failure = self._failure or error
        if self._failure is not None and self.rank == 0:
            shutil.rmtree(part, ignore_errors=True)

    def _write(self, part: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise NonFiniteError(
                    f"checkpoint: expected finite numbers, got NaN or infinity in {name} of worker {self.rank}; it is "
                    "not kept. Lower train.learning_rate or network.step."
                )
        part.mkdir(exist_ok=True)
        return dict(write_tensors(part / _file(self.rank), tensors))

    def _commit(self, part: Path, folder: Path, manifest: Manifest, own: dict[str, Any]) -> None:
        files = {_file(0): own} | {_file(k): self._result(part, k) for k in range(1, self.workers)}
        manifest.files.update(files)
        for note in part.glob("*.json"):
            note.unlink()
        write_manifest(part, manifest)
        doomed = [self._retired(folder)] if folder.exists() else []  # of the same step, before a restart
        part.rename(folder)
        self._known[folder.name] = manifest.saved, manifest.accuracy
        sync_folder(self.folder)
        write_durably(self.folder / LATEST, f"{folder.name}\n".encode())
        for old in (*doomed, *map(self._retired, self._superfluous(folder))):
            shutil.rmtree(old, ignore_errors=True)

    def _retired(self, folder: Path) -> Path:
        """Rename a checkpoint, so that half of a removed one is never taken for a whole."""
        return folder.rename(folder.with_name(f"{folder.name}{PART}{self.nonce}-old"))

    def _result(self, part: Path, worker: int) -> dict[str, Any]:
        """Wait for the bytes and the hash of another worker's file."""
        note, deadline = part / f"worker_{worker}.json", time.monotonic() + self.timeout
        while not note.exists():
            if time.monotonic() > deadline:
                raise CheckpointError(
                    f"checkpoint: worker {worker} did not write its file within {self.timeout:g} s; check its log, "
                    "and that all workers see the same run directory"
                )
            time.sleep(LOOK)
        result: dict[str, Any] = json.loads(note.read_text())
        if "error" in result:
            raise NonFiniteError(result["error"]) if result["code"] == 6 else OSError(errno.EIO, result["error"])
        return result

    def _superfluous(self, newest: Path) -> list[Path]:
        """Return all but the newest few and the one with the best validation accuracy, where there is one."""
        names = [folder.name for folder in checkpoints(self.folder)]
        for name in names:
            if name not in self._known:
                with contextlib.suppress(CheckpointError):
                    manifest = read_manifest(self.folder / name)
                    self._known[name] = manifest.saved, manifest.accuracy
        good = sorted((name for name in names if name in self._known), key=self._known.__getitem__, reverse=True)
        best = max(good, key=lambda name: self._known[name][1], default=newest.name)
        return [self.folder / name for name in good[max(self.keep, 1) :] if name not in (best, newest.name)]


def _file(worker: int) -> str:
    return f"worker_{worker}.safetensors"
