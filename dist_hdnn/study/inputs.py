"""Inputs that all trials of a study share: the base config and the contents of its files.

Only trials that share them can be compared, so a study keeps a record of them, in study.json and in Optuna's storage:
{"base": options, "objectives": ..., "files": option -> sha256, and in study.json name, search, seed and axes}.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dist_hdnn.config import run_identity
from dist_hdnn.config.files import config_from
from dist_hdnn.config.paths import user_path
from dist_hdnn.run.directory import first_difference
from dist_hdnn.study.axes import Choice, Settings, applied
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.trials import read_json, write_json
from dist_hdnn.training.checkpoints.manifest import hash_of

READ = ("data.file", "graph.file", "network.K.file", "network.X.file")


def prepare_folder(plan: Plan, output: Path) -> dict[str, str]:
    """Make the study's folder and return the hashes of `contents`.

    Raises ValueError, one line, when the folder holds another study, or files of something else.
    """
    path, files = output / "study.json", contents(plan)
    own = {"name": plan.name, "base": plan.base, "search": plan.search, "seed": plan.seed}
    own |= {"objectives": dict(plan.objectives), "axes": [axis.name for axis in plan.axes], "files": files}
    if path.is_file():
        before = read_json(path) or {}
        remedy = "change it back, or give --output=DIR for a new study"
        record = extended(before, own, f"{output}: holds a study", remedy, _complete)
        if record != before:
            write_json(path, record)
        return files
    try:
        if output.is_dir() and any(not entry.name.startswith("study.json") for entry in output.iterdir()):
            raise ValueError(f"output: expected a new folder or one that holds this study, got files in {output}")
        output.mkdir(parents=True, exist_ok=True)
        write_json(path, own)
    except OSError as error:
        raise ValueError(f"output: expected a folder that can be written, got {output}: {error.strerror}") from error
    return files


def extended(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    holder: str,
    remedy: str,
    compared: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """Return a study's record with the files of an earlier one.

    holder, remedy: for the message. compared: the options of a base config that must not differ. Raises ValueError, one
    line, when an option differs, or a file holds something else.
    """
    names = [name for name in now if name not in ("base", "files")]
    old_options, options = (
        {"base": compared(record.get("base", {})), **{name: record.get(name) for name in names}}
        for record in (before, json.loads(json.dumps(now)))
    )
    key, old, new = first_difference(old_options, options, "")
    if key:
        raise ValueError(
            f"{holder} with {key.removeprefix('base.')} = {old!r}, but now it is {new!r}, so the trials cannot be "
            f"compared; {remedy}"
        )
    files: dict[str, str] = before.get("files", {}) | now["files"]
    for name, digest in before.get("files", {}).items():
        if files[name] != digest:
            raise ValueError(
                f"{holder} with another {name}: that file has changed since, so the trials cannot be compared; {remedy}"
            )
    return {**now, **before, "files": files}


def _complete(base: dict[str, Any]) -> dict[str, Any]:
    """Return a base config with the defaults of options that are newer than the study."""
    return dataclasses.asdict(config_from(base))


def common(base: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a base config that its trials share on any machine: of a path only whether it is set."""
    options = run_identity(config_from(base))
    return applied(options, {"data.folder": None, **{key: bool(_option(options, key)) for key in READ}})


def contents(plan: Plan) -> dict[str, str]:
    """Return the sha256 of each file that the base config, the axes and the baselines name.

    Keys are as "graph.file" of the base config and "graph.file ring.edges" of a setting. A folder stands for its files.
    A missing file is left to the trials.
    """
    settings: list[Settings] = [trial.settings for trial in plan.baselines]
    for axis in plan.axes:
        settings += axis.options.values() if isinstance(axis, Choice) else []
    named = {key: _option(plan.base, key) for key in READ}
    named |= {f"{key} {one[key]}": one[key] for one in settings for key in READ if one.get(key)}
    hashes = {name: _hash_of(user_path(str(path), name)) for name, path in named.items() if path}
    return {name: digest for name, digest in hashes.items() if digest}


def _option(options: dict[str, Any], key: str) -> Any:
    return functools.reduce(operator.getitem, key.split("."), options)


def _hash_of(path: Path) -> str:
    if not path.is_dir():
        return hash_of(path) if path.is_file() else ""
    files = sorted(file for file in path.iterdir() if file.is_file())
    return hashlib.sha256("".join(f"{file.name} {hash_of(file)}\n" for file in files).encode()).hexdigest()
