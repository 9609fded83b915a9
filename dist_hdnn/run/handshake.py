"""The check that all workers, and a checkpoint, mean the same run: digests of options, graphs, data, code, messages.

Workers compare fixed-size digests, never objects. An error names the worker and the key that differ; all exit with 3.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dist_hdnn
from dist_hdnn.config import Config, run_identity
from dist_hdnn.config.files import self_contained, to_yaml
from dist_hdnn.data import Dataset
from dist_hdnn.links.read import as_json
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.topology import build_halo, disagreement, message_digests, plan_digest
from dist_hdnn.transport import DisagreementError, Transport


def identity_of(config: Config, network: HDNN, data: Dataset) -> dict[str, Any]:
    """Return what a resumed run must have in common with its checkpoint: options, graphs with link data, data."""
    texts, links = [graph.digest() for graph in network.graphs], network.layout.stated_links
    if links is not None and config.links.from_file:
        texts.append(as_json(links.table, network.graph))
    graph = hashlib.sha256("".join(texts).encode()).hexdigest()
    return {"config": run_identity(self_contained(config)), "graph": graph, "data": digest_of(data)}


def digest_of(data: Dataset) -> str:
    """Hash the points and answers of all parts."""
    digest = hashlib.sha256()
    for array in itertools.chain(*data.parts.values()):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def shake_hands(transport: Transport | None, config: Config, network: HDNN, identity: dict[str, Any]) -> None:
    """Compare everything that must agree, then both ends of every message. Raises DisagreementError (exit 3)."""
    ownership = network.ownership
    if transport is None or ownership.alone:
        return
    patterns = [*network.layout.stored["K"], *network.layout.stored["X"]]
    texts = {
        "config": to_yaml(replace(config, output=None)),
        "code": _code(),
        "torch version": torch.__version__,
        "dtype": config.dtype,
        "seed": str(config.seed),
    }
    digests = {key: hashlib.sha256(text.encode()).digest() for key, text in texts.items()}
    digests |= {key: bytes.fromhex(identity[key]) for key in ("graph", "data")}
    digests["partition and message plan"] = plan_digest(patterns, ownership.partition, network.layout.sizes)
    compare(transport, digests)
    for pattern in patterns:
        halo = build_halo(pattern, ownership.partition, ownership.rank)
        table = message_digests(halo, network.layout.sizes)
        everyone = transport.all_gather_bytes(table.tobytes())
        tables = np.stack([np.frombuffer(data, table.dtype).reshape(table.shape) for data in everyone])
        pair = disagreement(tables)
        if pair is not None:
            raise DisagreementError(
                f"workers disagree: worker {pair[0]} sends worker {pair[1]} other slices than that one expects; "
                "start all of them with the same graph, partition and code"
            )


def compare(transport: Transport, digests: dict[str, bytes]) -> None:
    """Raise DisagreementError on every worker unless all have the same digests (32 bytes each) under the same keys."""
    mine = b"".join(digests[key] for key in sorted(digests))
    everyone = transport.all_gather_bytes(mine)
    different: dict[int, list[str]] = {}  # worker -> keys whose digest is not that of most workers
    for key, start in zip(sorted(digests), range(0, len(mine), 32), strict=True):
        values = [data[start : start + 32] for data in everyone]
        usual = max(set(values), key=lambda value: (values.count(value), value == values[0]))
        for rank, value in enumerate(values):
            if value != usual:
                different.setdefault(rank, []).append(key)
    if different:
        worker, keys = min(different.items())
        raise DisagreementError(
            f"workers disagree: worker {worker} has another {' and '.join(keys)} than most of the {len(everyone)} "
            "workers; start all of them with the same command, files and code"
        )


def _code() -> str:
    """Hash the version and the source of the whole package."""
    digest = hashlib.sha256(dist_hdnn.__version__.encode())
    folder = Path(__file__).parents[1]
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()
