"""Hamiltonian deep networks whose neurons live on the agents of a communication network.

Names below are imported when they are first used, so that `import dist_hdnn` and `dist-hdnn --help` do not wait for
torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dist_hdnn.build.trained import load_run
    from dist_hdnn.data import Dataset, Sensor, SensorMap, from_arrays, read_dataset
    from dist_hdnn.ends.readout import LocalReadout, SumReadout
    from dist_hdnn.exporting.files import export
    from dist_hdnn.exporting.published import from_published
    from dist_hdnn.launching.launcher import connect
    from dist_hdnn.network.hdnn import HDNN
    from dist_hdnn.topology import (
        BlockPattern,
        CommunicationGraph,
        as_graph,
        balanced_tree,
        barabasi_albert,
        build_pattern,
        complete,
        erdos_renyi,
        exponential_ring,
        grid,
        hypercube,
        path,
        random_regular,
        read_graph,
        ring,
        star,
        torus,
        watts_strogatz,
    )
    from dist_hdnn.training.checkpoints.weights_file import load_checkpoint
    from dist_hdnn.training.clipping import clip_grad_norm_
    from dist_hdnn.training.optimizer_state import load_optimizer_state_dict, optimizer_state_dict
    from dist_hdnn.training.scaler import GradScaler

__version__ = "0.1.0"

_ELSEWHERE = {
    "HDNN": "dist_hdnn.network.hdnn",
    "SumReadout": "dist_hdnn.ends.readout",
    "GradScaler": "dist_hdnn.training.scaler",
    "LocalReadout": "dist_hdnn.ends.readout",
    "Dataset": "dist_hdnn.data",
    "Sensor": "dist_hdnn.data",
    "SensorMap": "dist_hdnn.data",
    "from_arrays": "dist_hdnn.data",
    "read_dataset": "dist_hdnn.data",
    "clip_grad_norm_": "dist_hdnn.training.clipping",
    "connect": "dist_hdnn.launching.launcher",
    "export": "dist_hdnn.exporting.files",
    "from_published": "dist_hdnn.exporting.published",
    "load_run": "dist_hdnn.build.trained",
    "load_checkpoint": "dist_hdnn.training.checkpoints.weights_file",
    "load_optimizer_state_dict": "dist_hdnn.training.optimizer_state",
    "optimizer_state_dict": "dist_hdnn.training.optimizer_state",
}

__all__ = [
    "HDNN",
    "BlockPattern",
    "CommunicationGraph",
    "Dataset",
    "GradScaler",
    "LocalReadout",
    "Sensor",
    "SensorMap",
    "SumReadout",
    "__version__",
    "as_graph",
    "balanced_tree",
    "barabasi_albert",
    "build_pattern",
    "clip_grad_norm_",
    "complete",
    "connect",
    "erdos_renyi",
    "exponential_ring",
    "export",
    "from_arrays",
    "from_published",
    "grid",
    "hypercube",
    "load_checkpoint",
    "load_optimizer_state_dict",
    "load_run",
    "optimizer_state_dict",
    "path",
    "random_regular",
    "read_dataset",
    "read_graph",
    "ring",
    "star",
    "torus",
    "watts_strogatz",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'dist_hdnn' has no attribute {name!r}")
    return getattr(importlib.import_module(_ELSEWHERE.get(name, "dist_hdnn.topology")), name)


def __dir__() -> list[str]:
    return __all__
