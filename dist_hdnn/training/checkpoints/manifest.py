"""The manifest of a checkpoint: manifest.json, the hashes of its files, and which of several is the newest.

    checkpoints/step_00001200/   worker_0.safetensors  worker_1.safetensors ...  manifest.json
    checkpoints/latest           the name of the newest one, for people and scripts; reading goes by the manifests

The first line of a manifest is the sha256 of all that follows, so nothing in a checkpoint is believed unhashed. Nothing
here needs torch, so that a study, whose trials are processes of their own, does not wait for it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FORMAT = 2
NAME = "manifest.json"
FOLDER = "step_{:08d}"
LATEST = "latest"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: missing, damaged, or of another network."""

    exit_code = 4


@dataclass(frozen=True)
class Manifest:
    """Everything about a checkpoint but its tensors.

    step: gradient steps of the run so far; epoch: the one it is in or has just ended, from 1. layers: of the network,
    which tells the level of multilevel training. identity: what must be the same in a run that resumes from here.
    tensors: for each name the global shape and the dimension that is split over files (None: whole, in the first one).
    files: name -> bytes and sha256. owners: sha256 of who owned which agent. history: the records of the epochs so far.
    best: epoch and accuracy of the best one on validation data so far, None without. seconds: of training in the
    running epoch. saved: seconds since 1970.
    """

    step: int
    epoch: int
    layers: int
    identity: dict[str, Any]
    tensors: dict[str, dict[str, Any]]
    files: dict[str, dict[str, Any]]
    owners: str
    history: list[dict[str, Any]]
    best: dict[str, Any] | None
    seconds: float
    saved: float
    versions: dict[str, str]
    format: int = FORMAT

    @property
    def accuracy(self) -> float:
        """Validation accuracy of the last epoch that has ended, -inf before that and without validation data."""
        return score(self.history[-1]["validation_accuracy"]) if self.history else -math.inf


def score(accuracy: float | None) -> float:
    """Return an accuracy as a number to compare. One that is undefined is the lowest."""
    return -math.inf if accuracy is None or math.isnan(accuracy) else accuracy


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json in a folder. It is on the disk when this returns."""
    entries = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in vars(manifest).items())  # a line each
    rest = ",\n".join(entries).encode() + b"\n}\n"
    write_durably(folder / NAME, _first_line(rest) + rest)


def read_manifest(folder: Path) -> Manifest:
    """Return the checked manifest of a checkpoint. `verify` checks the files. Raises CheckpointError."""
    try:
        text = (folder / NAME).read_bytes()
    except FileNotFoundError:
        what = "a folder without manifest.json" if folder.is_dir() else "a file" if folder.exists() else "nothing"
        raise _unusable(folder, f"expected a checkpoint, got {what}") from None
    except OSError as error:
        raise _unusable(folder, f"its manifest cannot be read: {error.strerror}") from error
    first, newline, rest = text.partition(b"\n")
    if first + newline != _first_line(rest):
        raise _unusable(folder, "its manifest is damaged: it is not what its own sha256 says")
    try:
        content = json.loads(text)
    except ValueError:
        raise _unusable(folder, "its manifest is not JSON") from None
    if isinstance(content, dict) and content.get("format") == 1:
        content = _from_format_1(content)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        got = content.get("format") if isinstance(content, dict) else "none"
        raise _unusable(folder, f"expected format {FORMAT}, got format {got}")
    content.pop("sha256")
    if content.keys() != {field.name for field in fields(Manifest)}:
        raise _unusable(folder, "its manifest has other entries than this version writes")
    return Manifest(**content)


def _from_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of the format that measured test data every epoch and knew no validation data."""
    records = ({key: value for key, value in record.items() if key != "test_accuracy"} for record in content["history"])
    history = [{**record, "validation_accuracy": None} for record in records]
    return {**content, "history": history, "best": None, "format": FORMAT}


def verify(folder: Path, manifest: Manifest, part: int = 0, parts: int = 1) -> None:
    """Raise CheckpointError unless the folder holds the manifest's files and no others, every `parts`th unchanged.

    Several workers divide the hashing: worker `part` of `parts`.
    """
    there = {path.name for path in folder.iterdir()} - {NAME}
    if there != manifest.files.keys():
        odd = sorted(there ^ manifest.files.keys())[0]
        raise _unusable(folder, f"{odd} is {'missing' if odd in manifest.files else 'not one of its files'}")
    for name in sorted(manifest.files)[part::parts]:
        try:
            size, digest = (folder / name).stat().st_size, hash_of(folder / name)
        except OSError as error:
            raise _unusable(folder, f"{name} cannot be read: {error.strerror}") from error
        if size != manifest.files[name]["bytes"]:
            raise _unusable(folder, f"{name} has {size} bytes, but was written with {manifest.files[name]['bytes']}")
        if digest != manifest.files[name]["sha256"]:
            raise _unusable(folder, f"{name} is damaged: it is not what its sha256 says")


def check_identity(
    folder: Path, manifest: Manifest, identity: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> None:
    """Raise CheckpointError, naming what differs, unless a checkpoint is of a run with this identity.

    defaults: the identity of a run without options. What a checkpoint of an earlier version does not know was at its
    default.
    """
    here, there, usual = (_flat(json.loads(json.dumps(one))) for one in (identity, manifest.identity, defaults or {}))
    there = {key: value for key, value in usual.items() if key in here and key not in there} | there
    different = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    if different:
        key = different[0]
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        raise CheckpointError(
            f"checkpoint {folder}: it is of another run: {key} is {there.get(key)!r} there and {here.get(key)!r} "
            f"here{more}. Resume with the options, graph and data of that run, or start a new run from its weights "
            f"with --from={folder}."
        )


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the last step first, without unfinished ones."""
    paths = sorted(folder.glob("step_*"), reverse=True) if folder.is_dir() else []
    return [path for path in paths if path.name.removeprefix("step_").isdigit()]


def candidates(parent: Path) -> list[tuple[Path, Manifest | CheckpointError]]:
    """Return every checkpoint of a run, the newest first, with its manifest or its error. Does not check files."""
    pairs: list[tuple[Path, Manifest | CheckpointError]] = []
    for folder in checkpoints(parent):
        try:
            pairs.append((folder, read_manifest(folder)))
        except CheckpointError as error:
            pairs.append((folder, error))
    return sorted(pairs, key=lambda pair: -pair[1].saved if isinstance(pair[1], Manifest) else float("-inf"))


def write_durably(path: Path, data: bytes) -> None:
    """Write a small file, whole or not at all. It and its name are on the disk when this returns."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _first_line(rest: bytes) -> bytes:
    return f'{{"sha256": "{hashlib.sha256(rest).hexdigest()}",\n'.encode()


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) else {f"{prefix}{key}": inner}
    return flat


def _unusable(folder: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"checkpoint {folder}: {reason}. Resume from another one, as --resume=auto does.")


def hash_of(path: Path) -> str:
    """Return the sha256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
