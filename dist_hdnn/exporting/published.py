"""Networks of the published single-process code, from .npz files: the same network, here on a graph.

A file holds weights in the paper's convention (K acts as K y + b): `h`, `y0` (batch, n) and, by architecture,

    MS1   K0, b             p = second half, q = first half of the published state
    MS3   K1, K2, b1, b2    likewise
    H2    K_first, K_second, b, J = [[0, J12], [J21, 0]] over (first, second)    likewise, X = J12
    H1    K, b, J           one part
    MS2   K, b              one part, K antisymmetric

Source: github.com/DecodEPFL/HamiltonianNet, the code of arXiv:2105.13205 and arXiv:2104.13166.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.topology import as_graph, complete

Array = NDArray[np.float64]

KINDS: dict[str, tuple[tuple[str, str, int | None], ...]] = {
    "MS1": (("K0", "K", None), ("b", "bp", 1), ("b", "bq", 0)),
    "MS3": (("K1", "Kq", None), ("K2", "Kp", None), ("b2", "bq", None), ("b1", "bp", None)),
    "hamiltonian": (("K_first", "Kq", None), ("K_second", "Kp", None), ("b", "bp", 1), ("b", "bq", 0)),
    "H1": (("K", "K", None), ("b", "b", None)),
    "MS2": (("K", "S", None), ("b", "b", None)),
}
"""(array, parameter, half of the array's columns or None for all) of each architecture, most specific first."""


class Published(NamedTuple):
    """A network, the column of the published state that each of its columns is, and everything in the file."""

    network: HDNN
    order: NDArray[np.int64]
    arrays: dict[str, Array]

    def of_parameter(self, name: str, prefix: str = "") -> Tensor | None:
        """Return the values of a parameter such as "Kp.0" or "bq", with prefix "grad_" its gradient, None if absent."""
        for source, target, half in KINDS[self.network.architecture.name]:
            if name.partition(".")[0] != target or prefix + source not in self.arrays:
                continue
            values = self.arrays[prefix + source]
            if target in self.network.architecture.matrices:
                rows, columns = self.network.scalar_positions(target, 0)
                return torch.from_numpy(values[:, rows.numpy(), columns.numpy()])
            return torch.from_numpy(values if half is None else np.split(values, 2, axis=1)[half])
        return None


def from_published(file: str | Path, graph: Any = None) -> Published:
    """Read the network of a file.

    graph: the agents that share its neurons in runs of equal length; None for one agent that owns all.

    Raises ValueError for a file that is no such network, arrays of the wrong shape, a number of agents that does not
    divide the neurons, or weights between agents that the graph does not link.
    """
    arrays = _read(Path(file))
    kind = next((kind for kind in KINDS if set(_names(kind)) <= arrays.keys()), None)
    if kind is None or not {"h", "y0"} <= arrays.keys():
        raise ValueError(
            f"{file}: expected h, y0 and the weights of one of {', '.join(KINDS)}, got {', '.join(sorted(arrays))}. "
            "See dist_hdnn.exporting.published for the names."
        )
    layers, neurons = _check_shapes(str(file), kind, arrays)
    halves = kind not in ("H1", "MS2")
    graph = complete(1) if graph is None else as_graph(graph)
    part = neurons // 2 if halves else neurons
    if part % graph.agents:
        raise ValueError(
            f"{file}: expected a number of agents that divides its {part} neurons, got {graph.agents}. Choose another."
        )
    X = _interconnection(str(file), arrays["J"]) if kind == "hamiltonian" else None
    network = HDNN(
        graph,
        width=neurons // graph.agents,
        layers=layers,
        step=float(arrays["h"]),
        architecture=kind,
        X="identity" if X is None else "block_diagonal",
        J=arrays["J"] if kind == "H1" else "J1",
        dtype=torch.float64,
    )
    order = np.empty(neurons, dtype=np.int64)
    order[np.concatenate(network.columns)] = np.roll(np.arange(neurons), neurons // 2 if halves else 0)
    published = Published(network, order, arrays)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            values = published.of_parameter(name)
            if values is None:
                assert X is not None, "only X has a parameter that is not named in the file"
                rows, columns = (index.numpy() for index in network.scalar_positions("X", 0))
                values = torch.from_numpy(X[rows, columns])[None]
            parameter.copy_(values)
    _check_pattern(str(file), published)
    return published


def _names(kind: str) -> tuple[str, ...]:
    """Return the names of the arrays of an architecture, a matrix first."""
    return *dict.fromkeys(source for source, _, _ in KINDS[kind]), *(("J",) if kind in ("hamiltonian", "H1") else ())


def _read(file: Path) -> dict[str, Array]:
    try:
        with np.load(file) as archive:
            if not isinstance(archive, Mapping):
                raise ValueError("a single array")
            return {name: np.asarray(archive[name], dtype=np.float64) for name in archive}
    except (OSError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{file}: expected an .npz file of arrays, got: {reason}. Give another file.") from error


def _check_shapes(file: str, kind: str, arrays: dict[str, Array]) -> tuple[int, int]:
    """Return the (layers, neurons) that all arrays agree on, or raise ValueError."""
    neurons = arrays["y0"].shape[1] if arrays["y0"].ndim == 2 else 0
    names = _names(kind)
    first = arrays[names[0]]
    layers = first.shape[0] if first.ndim == 3 else 0
    if min(layers, neurons) < 1:
        raise ValueError(
            f"{file}: expected y0 (batch, n) and {names[0]} (layers, ...), got {arrays['y0'].shape} and "
            f"{first.shape}. Save whole arrays."
        )
    part = neurons if kind in ("H1", "MS2") else neurons // 2
    expected: dict[str, tuple[int, ...]] = {"h": (), "J": (neurons, neurons)}
    expected |= {name: (layers, part, part) for name in names if name.startswith("K")}
    expected |= {"b": (layers, neurons), "b1": (layers, part), "b2": (layers, part)}
    for name in ("h", *names):
        if arrays[name].shape != expected[name] or (part < neurons and neurons % 2):
            raise ValueError(
                f"{file}: expected {name} of shape {expected[name]} for {layers} layers of {neurons} neurons, got "
                f"{arrays[name].shape}. Save y0 (batch, n) and weights (layers, ...)."
            )
    if kind == "MS2" and not np.array_equal(arrays["K"], -arrays["K"].transpose(0, 2, 1)):
        raise ValueError(f"{file}: expected an antisymmetric K, because there is no J, got another. Save J for an H1.")
    return layers, neurons


def _interconnection(file: str, J: Array) -> Array | None:
    """Return X of the J of an H2, None where it is the identity."""
    half = len(J) // 2
    X = J[:half, half:]
    if np.any(J[:half, :half]) or np.any(J[half:, half:]) or not np.array_equal(J[half:, :half], -X.T):
        raise ValueError(f"{file}: expected J = [[0, X], [-Xᵀ, 0]], got another. Save the J of an H2 network.")
    return None if np.array_equal(X, np.eye(half)) else X


def _check_pattern(file: str, published: Published) -> None:
    """Raise ValueError for a weight of the file that the network has no place for."""
    network, arrays = published.network, published.arrays
    for source, target, _ in KINDS[network.architecture.name]:
        if target in network.architecture.matrices:
            rows, columns = (index.numpy() for index in network.scalar_positions(target, 0))
            rest = arrays[source].copy()
            rest[:, rows, columns] = 0.0
            if network.architecture.skew:
                rest[:, columns, rows] = 0.0
            if rest.any():
                raise ValueError(
                    f"{file}: expected {source} to be zero between agents that are not linked, got other values. Use a "
                    "graph with more links, or one agent."
                )
