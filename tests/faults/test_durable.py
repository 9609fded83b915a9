"""The order in which a checkpoint reaches the disk, from the calls themselves: every name after what it names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from faults.small import Setting, trained

from dist_hdnn.training.checkpoints.manifest import read_manifest, verify

Call = tuple[str, str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Call]:
    """What is synced and renamed below the test's folder: ("sync", path) and ("name", path), in the order of calls."""
    found: list[Call] = []

    def inside(path: Any) -> str:
        return os.path.relpath(os.fsdecode(path), tmp_path)

    def fsync(descriptor: int) -> None:
        real["fsync"](descriptor)
        found.append(("sync", inside(os.readlink(f"/proc/self/fd/{descriptor}"))))

    def named(which: str) -> Any:
        def rename(source: Any, target: Any, **options: Any) -> None:
            real[which](source, target, **options)
            found.append(("name", inside(target)))

        return rename

    real: dict[str, Any] = {name: getattr(os, name) for name in ("fsync", "rename", "replace")}
    monkeypatch.setattr(os, "fsync", fsync)
    for which in ("rename", "replace"):
        monkeypatch.setattr(os, which, named(which))
    return found


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the paths of open files are looked up in /proc")
@pytest.mark.parametrize("workers", [1, 3])
def test_a_checkpoint_is_named_once_all_that_it_holds_is_on_the_disk(
    workers: int, calls: list[Call], tmp_path: Path
) -> None:
    trained(tmp_path, workers, Setting(every=12))
    part = "step_00000012.part-start"
    ordered = [
        ("sync", f"{part}/manifest.json.part"),
        ("name", f"{part}/manifest.json"),
        ("sync", part),
        ("name", "step_00000012"),
        ("sync", "."),
        ("sync", "latest.part"),
        ("name", "latest"),
        ("sync", "."),
    ]
    left = iter(calls)
    assert all(call in left for call in ordered)  # in this order; a slow worker may still sync its note's folder
    if workers == 1:
        assert calls[-len(ordered) :] == ordered
    before = calls[: calls.index(ordered[0])]
    for worker in range(workers):
        written = before.index(("sync", f"{part}/worker_{worker}.safetensors"))
        if workers > 1:
            note = f"{part}/worker_{worker}.json"
            assert written < before.index(("sync", f"{note}.part")) < before.index(("name", note))
    verify(tmp_path / "step_00000012", read_manifest(tmp_path / "step_00000012"))
