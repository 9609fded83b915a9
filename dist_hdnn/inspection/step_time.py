"""Predicted time of a training step on workers of one machine, from a calibration of that machine.

    seconds = Σ_k coefficient_k · feature_k     coefficients >= 0, a set for each kind of worker

For one worker the features count agents and block products by times measured at their shape, bytes of states and
weights within and beyond caches, and calls; for several what the busiest would take alone, messages and their bytes.
`benchmarks/step_time.py` measures and fits a calibration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from dist_hdnn.config import Config
from dist_hdnn.launching import choice
from dist_hdnn.network.layout import Layout
from dist_hdnn.topology import BlockPattern, make_partition

CACHES = (2.5e5, 1e6, 4e6, 1.6e7)  # bytes, beyond which memory has rates of its own
LAYER_CACHES = (5e4, 2e5, 7e5)  # of what one layer reads
LARGE = 2**16  # bytes of a message, from which on it has its own rate
ROUNDS = 8  # of a layer: two updates, each with two rounds forward and two backward


@dataclass(frozen=True)
class Case:
    """A training step of a Hamiltonian network with X = 1: what counts for its time, of the busiest worker.

    neurons: of a part of an agent. blocks: of its rows of K. ghosts: slices that it receives in a round. kind: "one"
    worker, or the transport of several.
    """

    kind: str
    agents: int
    neurons: int
    layers: int
    batch: int
    blocks: int
    ghosts: int

    @classmethod
    def of(
        cls, kind: str, pattern: BlockPattern, owners: NDArray[np.int64], neurons: int, layers: int, batch: int
    ) -> Case:
        """Return the case of a pattern of K and the workers that own the agents, (agents,)."""
        rows, columns = pattern.rows(), pattern.columns
        workers = int(owners.max()) + 1
        agents = np.bincount(owners, minlength=workers)
        blocks = np.bincount(owners[rows], minlength=workers)
        foreign = owners[rows] != owners[columns]
        pairs = np.unique(owners[rows[foreign]] * pattern.agents + columns[foreign])
        ghosts = np.bincount(pairs // pattern.agents, minlength=workers)
        return cls(kind, int(agents.max()), neurons, layers, batch, int(blocks.max()), int(ghosts.max()))


def features(case: Case, calibration: Mapping[str, Any]) -> dict[str, float]:
    """Return what a step counts, by name; of several workers what the busiest would take alone, and what it sends."""
    n, batch, layers = case.neurons, case.batch, case.layers
    if case.kind != "one":
        message, rounds = 4 * case.ghosts * n * batch, ROUNDS * layers * (case.ghosts > 0)
        return {
            "seconds alone": predict(replace(case, kind="one", ghosts=0), calibration)[0],
            "step": 1.0,
            "messages": rounds,
            "ghosts": rounds * case.ghosts,
            "bytes": rounds * message,
            "bytes of large messages": rounds * max(message - LARGE, 0),
        }
    probes = calibration["probes"]
    part, matrix = 4 * case.agents * n * batch, 8 * case.blocks * n * n  # bytes in a layer
    return {
        "step": 1.0,
        "layers": layers,
        "seconds of agents": layers * case.agents * seconds_at("agent", n, batch, probes),
        "seconds of blocks": layers * case.blocks * seconds_at("block", n, batch, probes),
        "agents": layers * case.agents,
        "blocks": layers * case.blocks,
        "slices": layers * case.blocks * n * batch,
        "arithmetic": layers * case.blocks * n * n * batch,
        "states": layers * part,
        **{f"states beyond {limit:g}": max(layers * part - limit, 0.0) for limit in CACHES},
        **{f"states of a layer beyond {limit:g}": layers * max(part - limit, 0.0) for limit in LAYER_CACHES},
        "weights": layers * matrix,
        **{f"weights beyond {limit:g}": max(layers * matrix - limit, 0.0) for limit in CACHES},
        **{f"weights of a layer beyond {limit:g}": layers * max(matrix - limit, 0.0) for limit in LAYER_CACHES},
    }


def fit(cases: Sequence[Case], seconds: Sequence[float], calibration: Mapping[str, Any]) -> dict[str, float]:
    """Fit the coefficients of cases of one kind, none negative, to the least squares of relative errors.

    calibration: with probes and, for several workers, the coefficients of one. seconds: of every case.
    """
    counts = [features(case, calibration) for case in cases]
    matrix = np.array([list(each.values()) for each in counts]) / np.asarray(seconds)[:, None]
    scale = np.maximum(matrix.max(axis=0), np.finfo(float).tiny)
    factors, _ = nnls(matrix / scale, np.ones(len(counts)))
    return {name: value for name, value in zip(counts[0], (factors / scale).tolist(), strict=True) if value}


def seconds_at(what: str, neurons: int, batch: int, probes: Mapping[str, Any]) -> float:
    """Return the seconds of an "agent" or a "block" in a layer, between measured shapes linear in all logarithms."""
    along = [np.interp(np.log(batch), np.log(probes["batches"]), row) for row in np.log(np.array(probes[what]))]
    return float(np.exp(np.interp(np.log(neurons), np.log(probes["neurons"]), along)))


def predict(case: Case, calibration: Mapping[str, Any]) -> tuple[float, bool]:
    """Return the seconds of a step, and whether the case lies outside of what was measured.

    Raises ValueError for a kind of worker that the calibration lacks.
    """
    if case.kind not in calibration["coefficients"]:
        measured = ", ".join(calibration["coefficients"])
        raise ValueError(f"step time: expected a kind of worker among {measured}, got {case.kind}. Calibrate it.")
    counts = features(case, calibration)
    seconds = sum(factor * counts[name] for name, factor in calibration["coefficients"][case.kind].items())
    ranges, here = calibration["domain"].get(case.kind, {}), domain_of(case)
    return seconds, not all(low <= here[name] <= high for name, (low, high) in ranges.items())


def domain_of(case: Case) -> dict[str, float]:
    """Return the numbers of a case whose ranges make the domain of a calibration."""
    return {
        "agents": case.agents,
        "neurons": case.neurons,
        "layers": case.layers,
        "batch": case.batch,
        "blocks": case.blocks,
        "ghosts": case.ghosts,
        "arithmetic": case.layers * case.blocks * case.neurons**2 * case.batch,
    }


def step_of_config(config: Config, layout: Layout, calibration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the predicted milliseconds of a config's training step, without lift and readout, and "extrapolated".

    That is true outside of the calibration's domain, and for networks of a kind that it has not measured: others than
    Hamiltonian ones with X = 1, agents of several widths, other memory modes, dtypes or numbers of workers.
    """
    workers, widths = config.workers or 1, layout.ownership.all_widths
    kind = "one" if workers == 1 else config.transport or choice.usual("dist-hdnn", config.device).transport
    pattern = layout.stored["K"][0]
    owners = np.zeros(pattern.agents, np.int64)
    if workers > 1:
        owners = np.asarray(make_partition(layout.graphs[0], workers, config.partition.method, widths, pattern).owners)
    neurons = max(round(float(layout.sizes.mean())), 1)
    case = Case.of(kind, pattern, owners, neurons, config.network.layers, config.train.batch_size)
    seconds, outside = predict(case, calibration)
    usual = (
        config.network.architecture == "hamiltonian"
        and layout.architecture.interconnection == ""
        and layout.architecture.integrator.name == "semi_implicit"
        and config.network.memory == "store"
        and config.dtype == "float32"
        and workers <= 2
        and bool((widths == widths[0]).all())
    )
    return {"milliseconds": 1e3 * seconds, "extrapolated": outside or not usual}
