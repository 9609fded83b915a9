"""Block patterns by name, as a config file or a user gives them."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.topology.graphs import CommunicationGraph
from dist_hdnn.topology.patterns import (
    BlockPattern,
    block_diagonal,
    dense,
    from_matrix,
    hops,
    neighbours,
    thinned,
)

# kind -> the settings it needs, the settings it may have
_SETTINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "neighbours": ((), ()),
    "block_diagonal": ((), ()),
    "dense": ((), ()),
    "hops": (("hops",), ()),
    "thinned": (("keep",), ("seed", "spanning_forest")),
    "matrix": (("file",), ()),
}


def build_pattern(graph: CommunicationGraph, spec: object, seed: int = 0) -> BlockPattern:
    """Return the pattern that a config file or a user names, for this graph.

    spec: a BlockPattern; "neighbours", "block_diagonal", "dense" or "hops=2"; a 0/1 matrix; or a mapping such as
    {"kind": "thinned", "keep": 0.5, "seed": 0, "spanning_forest": True}, {"kind": "hops", "hops": 2} or
    {"kind": "matrix", "file": "R.csv"} (or .npy). seed: of a thinned pattern whose mapping gives none.
    Raises ValueError naming the nearest known kind or setting.
    """
    if isinstance(spec, BlockPattern):
        spec.check_agents(graph.agents)
        return spec
    if isinstance(spec, str):
        kind, equals, number = spec.partition("=")
        if equals and kind == "hops" and number.isdecimal():
            return hops(graph, int(number))
        spec = {"kind": spec}
    if not isinstance(spec, Mapping):
        return from_matrix(graph, spec)
    settings = _settings(spec)
    match spec["kind"]:
        case "neighbours":
            return neighbours(graph)
        case "block_diagonal":
            return block_diagonal(graph.agents)
        case "dense":
            return dense(graph.agents)
        case "hops":
            return hops(graph, settings["hops"])
        case "thinned":
            return thinned(graph, **{"seed": seed, **settings})
        case _:
            return from_matrix(graph, _read_matrix(settings["file"]), kind=str(settings["file"]))


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of this kind. Those of other kinds may be present if unset: None, False, or any seed."""
    kind = spec.get("kind")
    if not isinstance(kind, str) or kind not in _SETTINGS:
        nearest = difflib.get_close_matches(str(kind), [*_SETTINGS, "hops=2"], n=1, cutoff=0.0)[0]
        kinds = ", ".join(_SETTINGS)
        raise ValueError(f"pattern: expected kind to be one of {kinds}, got {kind!r}; did you mean {nearest!r}?")
    required, optional = _SETTINGS[kind]
    settings = [*required, *optional]
    everything = sorted({name for groups in _SETTINGS.values() for group in groups for name in group})
    for name in spec.keys() - {"kind", *settings}:
        takes = f"pattern {kind}: expected {', '.join(settings) or 'no settings'}, got {name}={spec[name]!r}"
        if name not in everything:
            nearest = difflib.get_close_matches(str(name), everything, n=1, cutoff=0.0)[0]
            raise ValueError(f"{takes}; did you mean {nearest!r}?")
        if name != "seed" and spec[name] is not None and spec[name] is not False:
            raise ValueError(f"{takes}; remove it or change the kind")
    for name in required:
        if spec.get(name) is None:
            raise ValueError(f"pattern {kind}: expected the setting {name!r}, got none; add it beside kind")
    return {name: spec[name] for name in settings if spec.get(name) is not None}


def _read_matrix(file: str | os.PathLike[str]) -> NDArray[Any]:
    """Read the numbers of a CSV (commas, no header) or NPY file."""
    path = Path(file)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".npy"):
        raise ValueError(f"{path}: expected a matrix file .csv or .npy, found the suffix {suffix!r}; convert the file")
    try:
        if suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        if not any(map(str.strip, lines)):
            raise ValueError("an empty file")
        return np.loadtxt(lines, delimiter=",", ndmin=2)
    except (OSError, ValueError, EOFError) as error:
        detail = "nothing there" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())[:160]
        raise ValueError(
            f"{path}: expected a 0/1 matrix, one row per agent, found {detail}; check the path or write it again"
        ) from error
