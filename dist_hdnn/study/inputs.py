"""What the trials of a study have in common, by what their files hold: only trials of the same data can be compared."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from dist_hdnn.config import run_identity
from dist_hdnn.config.files import config_from
from dist_hdnn.config.paths import user_path
from dist_hdnn.study.axes import Choice, Settings
from dist_hdnn.study.plan import Plan
from dist_hdnn.training.checkpoints.manifest import hash_of

READ = ("data.file", "graph.file", "network.K.file", "network.X.file")


def contents(plan: Plan) -> dict[str, str]:
    """The sha256 of each file that the base config and the options of the axes name; "graph.file ring.edges" for one
    of an axis. A folder stands for its files; one that is not there is left to the trials."""
    settings: list[Settings] = [trial.settings for trial in plan.baselines]
    for axis in plan.axes:
        settings += axis.options.values() if isinstance(axis, Choice) else []
    named = {key: value for key in READ if (value := _option(plan.base, key))}
    named |= {f"{key} {one[key]}": one[key] for one in settings for key in READ if one.get(key)}
    found = {name: _hash_of(user_path(path, name)) for name, path in named.items()}
    return {name: digest for name, digest in found.items() if digest}


def common(base: dict[str, Any]) -> dict[str, Any]:
    """The options of a base config that all its trials share on any machine: without paths, which `contents` covers."""
    found = run_identity(config_from(base))
    for key in (*READ, "data.folder"):
        *parents, last = key.split(".")
        place = found
        for parent in parents:
            place = place[parent]
        place[last] = None
    return found


def differences(before: Any, now: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted key, value before, value now) of what differs in two nested mappings."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = dict.fromkeys([*now, *before])
        pairs = [(f"{key}.{name}".strip("."), before.get(name), now.get(name)) for name in names]
        return [found for name, old, new in pairs for found in differences(old, new, name)]
    return [] if before == now else [(key, before, now)]


def changed(before: dict[str, str], now: dict[str, str]) -> str:
    """The first file that holds something else than before; empty when there is none."""
    return next((name for name in now if before.get(name, now[name]) != now[name]), "")


def _option(base: dict[str, Any], key: str) -> Any:
    value: Any = base
    for part in key.split("."):
        value = value[part]
    return value


def _hash_of(path: Path) -> str:
    if not path.is_dir():
        return hash_of(path) if path.is_file() else ""
    files = sorted(file for file in path.iterdir() if file.is_file())
    return hashlib.sha256("".join(f"{file.name} {hash_of(file)}\n" for file in files).encode()).hexdigest()
