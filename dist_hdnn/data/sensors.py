"""Sensors: the agent and the neuron in which each input feature enters the state.

    lift   x (batch, features) -> y (batch, neurons)    sensor columns take their feature, others zero or a constant

State columns go agent by agent, p before q. Agent i of width w starts at column sum(widths[:i]): w/2 columns p_i, then
w/2 columns q_i. `slot` counts inside a half.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dist_hdnn.data.batches import checked_integer

HALVES = ("p", "q")


@dataclass(frozen=True)
class Sensor:
    """Feature number `feature` enters neuron `slot` of the half ("p" or "q") of agent number `agent`."""

    feature: int
    agent: int
    half: str
    slot: int = 0


class SensorMap:
    """A checked set of sensors on a network of agents.

    sensors: in any order; several agents may observe the same feature, but a neuron has one sensor at most.
    widths: (agents,) even neurons per agent. features: columns of the input.
    sensors, columns, feature_of_column: sorted by (feature, column), entry s of each for sensor s; so with one sensor a
    feature `columns[f]` is the state column of feature f. Raises ValueError for an unknown agent, half, slot or
    feature, two sensors in one neuron, and a feature that no agent observes.
    """

    def __init__(self, sensors: Sequence[Sensor], widths: npt.ArrayLike, features: int) -> None:
        self.widths = _checked_widths(widths)
        self.features = checked_integer(features, "number of input features", 1, "the data need at least one column")
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(self.widths)])
        self.neurons = int(starts[-1])
        placed: dict[int, Sensor] = {}  # by state column
        for sensor in sensors:
            _check_sensor(sensor, self.widths, self.features)
            width = int(self.widths[sensor.agent])
            column = int(starts[sensor.agent]) + int(sensor.slot) + (width // 2 if sensor.half == "q" else 0)
            if column in placed:
                raise ValueError(
                    f"sensors: expected one sensor per neuron, got {_words(placed[column])} and {_words(sensor)}; "
                    "move one to another agent, half or slot"
                )
            placed[column] = sensor
        missing = sorted(set(range(self.features)) - {int(sensor.feature) for sensor in sensors})
        if missing:
            raise ValueError(
                f"sensors: more features than sensors: expected a sensor for each of the {self.features} features, got "
                f"none for feature {', '.join(map(str, missing[:8]))}{', ...' * (len(missing) > 8)}; add a sensor or "
                "leave the list empty for the default"
            )
        entries = sorted(placed.items(), key=lambda entry: (entry[1].feature, entry[0]))
        self.sensors = tuple(sensor for _, sensor in entries)
        self.columns = np.array([column for column, _ in entries], dtype=np.int64)
        self.feature_of_column = np.array([sensor.feature for sensor in self.sensors], dtype=np.int64)
        self._on_device: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def restricted(self, agents: npt.NDArray[np.int64]) -> SensorMap:
        """Return the sensors of these agents (ascending), on a state of their columns alone.

        The input keeps all features. Those that other agents observe have no sensor here.
        """
        part = copy.copy(self)
        mine = np.isin([sensor.agent for sensor in self.sensors], agents)
        part.widths = self.widths[agents]
        part.neurons = int(part.widths.sum())
        columns = np.repeat(np.isin(np.arange(len(self.widths)), agents), self.widths)  # whether a column is here
        part.columns = (np.cumsum(columns) - 1)[self.columns[mine]]
        part.feature_of_column = self.feature_of_column[mine]
        part.sensors = tuple(sensor for sensor, here in zip(self.sensors, mine, strict=True) if here)
        part._on_device = {}
        return part

    def lift(self, x: Tensor, constant: Tensor | None = None) -> Tensor:
        """Return the first state (batch, neurons) of x (batch, features), differentiable in x and constant.

        The result lies in memory neuron by neuron, as the sweep reads it.
        constant: (neurons,) values of the columns without a sensor, usually InitialState(); None means zero.
        ValueError for x without `features` columns.
        """
        if x.ndim != 2 or x.shape[1] != self.features:
            raise ValueError(
                f"sensors: expected input of shape (batch, {self.features}), got {tuple(x.shape)}; "
                "give one column per feature"
            )
        if constant is not None and (constant.shape != (self.neurons,) or constant.device != x.device):
            raise ValueError(
                f"sensors: expected a constant of shape ({self.neurons},) on {x.device}, one value per neuron, got "
                f"{tuple(constant.shape)} on {constant.device}; give InitialState() of the same network"
            )
        if x.device not in self._on_device:
            places = torch.from_numpy(np.stack([self.columns, self.feature_of_column])).to(x.device)
            self._on_device[x.device] = places[0], places[1]
        columns, features = self._on_device[x.device]
        if constant is None:
            state = x.new_zeros(self.neurons, x.shape[0])
        else:
            state = _Repeat.apply(constant.to(x.dtype), x.shape[0])  # type: ignore[no-untyped-call]
        return state.index_copy(0, columns, x.index_select(1, features).t()).t()


class _Repeat(torch.autograd.Function):
    """(neurons,) -> (neurons, batch). Backward sums each row alone, so its bits do not depend on the partition."""

    @staticmethod
    def forward(ctx: Any, constant: Tensor, batch: int) -> Tensor:
        return constant[:, None].expand(-1, batch)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.contiguous().sum(1), None


def default_sensors(features: int, widths: npt.ArrayLike) -> tuple[Sensor, ...]:
    """Return one sensor per feature, spread evenly: the first in q of agent 0, the last in p of the last agent.

    With the neurons listed agent by agent (q and p in turn: q slot 0, p slot 0, q slot 1, ...) feature f of F takes
    entry f (N - 1) // (F - 1) of N. For two features these are the first and last channel, as in the two-dimensional
    examples of DecodEPFL/HamiltonianNet at 288ffbef. Its ring of 8 has feature 0 in q of agent 0 and feature 1 in p of
    agent 4 instead. ValueError for more features than neurons.
    """
    widths = np.asarray(widths)
    ends = np.cumsum(widths)
    neurons = int(ends[-1])
    if features > neurons:
        raise ValueError(
            f"sensors: more features than sensors fit: expected at most {neurons} features for {neurons} neurons, got "
            f"{features}; increase network.width or the number of agents"
        )
    entries = np.arange(features, dtype=np.int64) * (neurons - 1) // max(features - 1, 1)
    owners = np.searchsorted(ends, entries, side="right")
    within = entries - (ends - widths)[owners]
    return tuple(
        Sensor(feature, int(owner), "qp"[int(place) % 2], int(place) // 2)
        for feature, (owner, place) in enumerate(zip(owners, within, strict=True))
    )


def _checked_widths(widths: npt.ArrayLike) -> npt.NDArray[np.int64]:
    array = np.asarray(widths)
    if array.ndim != 1 or len(array) == 0 or array.dtype.kind not in "iu" or (array < 2).any() or (array % 2).any():
        raise ValueError(
            f"sensors: expected one even width of at least 2 per agent, got {np.array2string(array, threshold=8)}; "
            "use the network's widths"
        )
    return array.astype(np.int64)


def _words(sensor: Sensor) -> str:
    return f"feature {sensor.feature} on agent {sensor.agent}, {sensor.half}[{sensor.slot}]"


def _check_sensor(sensor: Sensor, widths: npt.NDArray[np.int64], features: int) -> None:
    who = f"sensor ({_words(sensor)})"
    checked_integer(sensor.feature, f"{who}: feature", 0, f"the data have features 0 .. {features - 1}", features)
    agents = len(widths)
    checked_integer(sensor.agent, f"{who}: unknown agent", 0, f"the agents are 0 .. {agents - 1}", agents)
    if sensor.half not in HALVES:
        raise ValueError(f"{who}: expected the half p or q, got {sensor.half!r}; write half: p or half: q")
    slots = int(widths[sensor.agent]) // 2
    remedy = f"agent {sensor.agent} has {2 * slots} neurons, slots 0 .. {slots - 1} in p and in q; widen it or move it"
    checked_integer(sensor.slot, f"{who}: slot", 0, remedy, slots)
