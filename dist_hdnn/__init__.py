"""Hamiltonian deep networks whose neurons live on the agents of a communication network.

A name is imported on its first use, so `import dist_hdnn` and `dist-hdnn --help` do not wait for torch.
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
    from dist_hdnn.sweep.execution import Execution
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
    from dist_hdnn.training.own_loop import (
        GradScaler,
        clip_grad_norm_,
        load_optimizer_state_dict,
        optimizer_state_dict,
    )

__version__ = "0.1.0"

_HOMES = {
    "HDNN": "network.hdnn",
    "Execution": "sweep.execution",
    "LocalReadout": "ends.readout",
    "SumReadout": "ends.readout",
    **dict.fromkeys(("Dataset", "Sensor", "SensorMap", "from_arrays", "read_dataset"), "data"),
    "GradScaler": "training.own_loop",
    "clip_grad_norm_": "training.own_loop",
    "load_optimizer_state_dict": "training.own_loop",
    "optimizer_state_dict": "training.own_loop",
    "load_checkpoint": "training.checkpoints.weights_file",
    "load_run": "build.trained",
    "connect": "launching.launcher",
    "export": "exporting.files",
    "from_published": "exporting.published",
}
"""name -> module of those outside topology"""

__all__ = [
    "HDNN",
    "BlockPattern",
    "CommunicationGraph",
    "Dataset",
    "Execution",
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
    return getattr(importlib.import_module(f"dist_hdnn.{_HOMES.get(name, 'topology')}"), name)


def __dir__() -> list[str]:
    return __all__
