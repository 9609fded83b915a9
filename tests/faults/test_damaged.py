"""F11-F14: a checkpoint that is not what was written is found out before a tensor of it is used."""

from __future__ import annotations

import json
import math
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from faults.small import Setting, repetitions, step_folder, trained

import dist_hdnn
from dist_hdnn.training.checkpoints.manifest import (
    NAME,
    Manifest,
    _first_line,
    check_identity,
    read_manifest,
    verify,
    write_manifest,
)
from dist_hdnn.training.checkpoints.weights_file import CheckpointError, load_checkpoint, newest_checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with checkpoints of two workers."""
    directory = tmp_path_factory.mktemp("run")
    trained(directory / "checkpoints", 2, Setting(every=3))
    return directory


def copy(run: Path, folder: Path) -> Path:
    """The run again, to be damaged; its newest checkpoint."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    return newest_checkpoint(folder / "checkpoints")


def assert_refused(checkpoint: Path, match: str = "checkpoint") -> None:
    """Assert that the path itself fails, and that the run falls back on the checkpoint before."""
    with pytest.raises(CheckpointError, match=match) as found:
        load_checkpoint(checkpoint)
    assert found.value.exit_code == 4 and "\n" not in str(found.value)
    assert newest_checkpoint(checkpoint.parent) == step_folder(checkpoint.parent, 9)


def shortened(whole: bytes) -> bytes:
    return whole[: random.randrange(len(whole))]


def flipped(whole: bytes) -> bytes:
    """Flip one random bit."""
    bit, damaged = random.randrange(8 * len(whole)), bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def damaged(checkpoint: Path, damage: Callable[[bytes], bytes]) -> Iterator[Path]:
    """Damage a random file of the checkpoint, again and again, and repair it in between."""
    random.seed(seed := random.randrange(2**32))
    print(f"seed {seed}")
    for _ in range(repetitions(20, 200)):
        path = random.choice(sorted(checkpoint.iterdir()))
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        yield path
        path.write_bytes(whole)


def test_F11_a_truncated_file_is_detected(run: Path, tmp_path: Path) -> None:
    checkpoint = copy(run, tmp_path / "run")
    for _ in damaged(checkpoint, shortened):
        assert_refused(checkpoint)
    assert load_checkpoint(checkpoint), "whole again, it is loaded"


def test_F12_a_flipped_bit_is_detected(run: Path, tmp_path: Path) -> None:
    checkpoint = copy(run, tmp_path / "run")
    for _ in damaged(checkpoint, flipped):
        assert_refused(checkpoint)
    assert load_checkpoint(checkpoint), "whole again, it is loaded"


def test_F13_two_swapped_files_are_detected(run: Path, tmp_path: Path) -> None:
    checkpoint = copy(run, tmp_path / "run")
    (checkpoint / "worker_0.safetensors").rename(checkpoint / "kept")
    (checkpoint / "worker_1.safetensors").rename(checkpoint / "worker_0.safetensors")
    (checkpoint / "kept").rename(checkpoint / "worker_1.safetensors")
    assert_refused(checkpoint, "worker_")


def test_F13_a_missing_file_is_detected(run: Path, tmp_path: Path) -> None:
    checkpoint = copy(run, tmp_path / "run")
    (checkpoint / "worker_1.safetensors").unlink()
    assert_refused(checkpoint, "worker_1.safetensors is missing")


def test_F13_an_extra_file_is_detected(run: Path, tmp_path: Path) -> None:
    checkpoint = copy(run, tmp_path / "run")
    shutil.copy(checkpoint / "worker_1.safetensors", checkpoint / "worker_2.safetensors")
    assert_refused(checkpoint, "worker_2.safetensors is not one of its files")


def test_F13_a_file_of_another_run_is_detected(run: Path, tmp_path: Path) -> None:
    checkpoint = copy(run, tmp_path / "run")
    trained(tmp_path / "other", 2, Setting(readout="sum", every=12))
    shutil.copy(step_folder(tmp_path / "other", 12) / "worker_1.safetensors", checkpoint)
    assert_refused(checkpoint, "worker_1.safetensors")
    manifest = read_manifest(step_folder(tmp_path / "other", 12))
    other: dict[str, Any] = {**manifest.identity, "config": {"network": {"layers": 8}}}
    with pytest.raises(CheckpointError, match="another run: config.network.layers is 4 there and 8 here"):
        check_identity(step_folder(tmp_path / "other", 12), manifest, other)


def test_F13_another_format_is_detected(run: Path, tmp_path: Path) -> None:
    checkpoint = copy(run, tmp_path / "run")
    manifest = read_manifest(checkpoint)
    write_manifest(checkpoint, Manifest(**{**vars(manifest), "format": 0}))
    assert_refused(checkpoint, "expected format 2, got format 0")


def test_a_checkpoint_of_the_first_format_is_read(run: Path, tmp_path: Path) -> None:
    """It had test accuracies in its history, and neither a best epoch nor the options that came later."""
    checkpoint = copy(run, tmp_path / "run")
    manifest = read_manifest(checkpoint)
    record = {key: value for key, value in manifest.history[0].items() if key != "validation_accuracy"}
    old = {**vars(manifest), "history": [{**record, "test_accuracy": 0.5}], "format": 1}
    del old["best"]
    rest = json.dumps(old).encode()[1:]
    (checkpoint / NAME).write_bytes(_first_line(rest) + rest)
    found = read_manifest(checkpoint)
    assert (found.best, found.accuracy) == (None, -math.inf)
    assert found.history == [{**record, "validation_accuracy": None}]
    defaults = {"config": {"new": 1}}
    for new in (1, 2):
        identity = {**manifest.identity, "config": {**manifest.identity["config"], "new": new}}
        with nullcontext() if new == 1 else pytest.raises(CheckpointError, match="config.new is 1 there and 2 here"):
            check_identity(checkpoint, found, identity, defaults)


class Payload:
    """What a hostile pickle does when it is read."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


@pytest.mark.parametrize("name", ["worker_0.safetensors", NAME, "final.safetensors"])
def test_F14_a_pickle_in_a_checkpoint_never_runs(name: str, run: Path, tmp_path: Path) -> None:
    checkpoint, proof = copy(run, tmp_path / "run"), tmp_path / "proof"
    path = checkpoint.parent / name if name.startswith("final") else checkpoint / name
    path.write_bytes(pickle.dumps(Payload(proof)))
    with pytest.raises(CheckpointError):
        dist_hdnn.load_checkpoint(path if name.startswith("final") else checkpoint)
    assert not proof.exists()
    pickle.loads(pickle.dumps(Payload(proof)))
    assert proof.exists(), "the payload works, so the test can fail"


def test_F14_a_path_outside_the_checkpoint_is_not_read(run: Path, tmp_path: Path) -> None:
    checkpoint = copy(run, tmp_path / "run")
    manifest = read_manifest(checkpoint)
    manifest.files["../step_00000009/worker_0.safetensors"] = manifest.files.pop("worker_0.safetensors")
    write_manifest(checkpoint, manifest)
    assert_refused(checkpoint)


def test_a_checkpoint_of_any_workers_is_an_ordinary_state_dict(run: Path, tmp_path: Path) -> None:
    whole = trained(tmp_path / "one", 1, Setting(every=12))[0].weights
    loaded = dist_hdnn.load_checkpoint(newest_checkpoint(run / "checkpoints"))
    assert loaded.keys() == whole.keys()
    assert all((loaded[name] == whole[name]).all() for name in whole)
    manifest = read_manifest(newest_checkpoint(run / "checkpoints"))
    verify(newest_checkpoint(run / "checkpoints"), manifest)
    assert json.loads((newest_checkpoint(run / "checkpoints") / NAME).read_text())["step"] == manifest.step == 12
