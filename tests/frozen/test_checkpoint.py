"""A checkpoint's layout on disk, frozen: later versions read what earlier ones wrote.

    python tests/frozen/test_checkpoint.py      write tests/frozen/checkpoints.json

Each line of the manifest and each file has a digest. Times, hashes of files and floating-point numbers, which vary by
machine, are replaced by the names of their types first. A change of layout needs a new format and a reader of the old.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from faults.small import BATCHES, Setting, step_folder, trained  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

FILE = Path(__file__).with_name("checkpoints.json")
CASES = {
    "local": (Setting(validated=True), 1),
    "local, 3 workers": (Setting(validated=True), 3),
    "gossip, 2 workers": (Setting(readout="gossip"), 2),
    "learned initial state, 2 workers": (Setting(readout="sum", deterministic=False), 2),
    "first level, 2 workers": (Setting(levels=(2, 4)), 2),
}


def layout(folder: Path) -> dict[str, str]:
    """Digests of a checkpoint's manifest, key by key in its order, and of its files: names, types, shapes and runs."""
    found = {}
    for line in (folder / "manifest.json").read_text(encoding="utf-8").splitlines()[1:-1]:
        ((key, value),) = json.loads("{" + line.removesuffix(",") + "}").items()
        if key == "files":
            value = {name: of | {"sha256": "str"} for name, of in value.items()}
        found[key] = _digest(value)
    found["order of keys"] = _digest(list(found))
    for path in sorted(folder.glob("*.safetensors")):
        parts = {
            name: [str(tensor.dtype), list(tensor.shape), tensor.tolist() if name.endswith("@places") else None]
            for name, tensor in load_file(path).items()
        }
        found[path.name] = _digest(sorted(parts.items()))
    return found


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(_without_floats(value)).encode()).hexdigest()[:16]


def _without_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_floats(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_floats(inner) for inner in value]
    return "float" if isinstance(value, float) else value


def written(name: str, folder: Path) -> dict[str, str]:
    """The layout after the first epoch, when there are records and, with validation data, best weights."""
    setting, workers = CASES[name]
    trained(folder, workers, setting)
    return layout(step_folder(folder, BATCHES))


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_is_laid_out_as_it_was(name: str, tmp_path: Path) -> None:
    assert written(name, tmp_path) == json.loads(FILE.read_text(encoding="utf-8"))[name]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        layouts = {name: written(name, Path(scratch, str(i))) for i, name in enumerate(CASES)}
    FILE.write_text(json.dumps(layouts, indent=1) + "\n", encoding="utf-8")
