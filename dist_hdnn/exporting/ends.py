"""One agent's lift and readout, as plain values and tensors.

All return (a description for JSON, tensors by name), for a model of one process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.ends.image_lift import ChannelLift
from dist_hdnn.ends.lift import AgentwiseLinear, ConvLift
from dist_hdnn.ends.readout import GossipReadout, SumReadout
from dist_hdnn.ends.scaler import Scaler
from dist_hdnn.topology.ragged import offsets
from dist_hdnn.training.classifier import AgentClassifier

Part = tuple[dict[str, Any], dict[str, Tensor]]


def lift_of(model: AgentClassifier, agent: int) -> Part:
    """Describe an agent's map from the features that it sees to its first state.

    A feature `null` is zero.

    sensors: neuron neurons[k] starts at feature features[k], the others at "lift.constant".
    linear: "lift.weight" x + "lift.bias" with x the listed features.
    conv: y = "lift.filters" x for the features x of all "lift.windows" (elements, squares, places; the number
        `features` stands for zero), the largest over places + "lift.filter_bias", relu, then linear.
    Raises ValueError for channels, whose samples are pixels.
    """
    lift = model.learned_lift
    if isinstance(lift, ChannelLift):
        raise ValueError(
            "export: expected agents that see sensors, features or a patch, got the lift channels, where every pixel "
            "is a sample. Use --agents=none for the whole network alone."
        )
    if lift is None:
        return _sensors_of(model, agent)
    table = lift.view.index.view(lift.view.shape)[agent].cpu()
    linear = _linear_of(lift.linear, agent)
    if isinstance(lift, ConvLift):
        own = {"lift.filters": lift.filters[agent], "lift.filter_bias": lift.filter_bias[agent]}
        return {"kind": "conv", "features": lift.features}, {**linear, **own, "lift.windows": table.view(lift.shape)}
    seen = table[: linear["lift.weight"].shape[1]].tolist()
    return {"kind": "linear", "features": [None if f == lift.features else f for f in seen]}, linear


def readings_of(lift: dict[str, Any], tensors: dict[str, Tensor], scaler: Scaler) -> Part:
    """Describe what an agent senses, by number and name, and its map from readings to features.

    features[k] is (reading sources[k] - shift[k]) * scale[k], a gap filled with fill[k]; where mark[k], of 1 in a gap
    and 0 else. count: features of the whole network. lift, tensors: its own, from `lift_of`.
    """
    if lift["kind"] == "conv":
        seen = torch.unique(tensors["lift.windows"]).tolist()
        seen = [feature for feature in seen if feature < lift["features"]]
    else:
        seen = sorted({feature for feature in lift["features"] if feature is not None})
    sources, count = scaler.source[seen].tolist(), len(scaler.source)
    of_readings = {
        "names": {source: scaler.names[source] for source in sorted(set(sources))},
        "sources": sources,
        "features": seen,
        "count": count,
    }
    arrays = {"fill": scaler.fill, "mark": scaler.mark, "shift": scaler.shift, "scale": scaler.scale}
    return of_readings, {f"readings.{name}": values.expand(count)[seen] for name, values in arrays.items()}


def in_own_units(readout: dict[str, Any], tensors: dict[str, Tensor], scaler: Scaler, agent: int) -> dict[str, Tensor]:
    """Return an agent's readout whose answers are targets in their own units, {} for classes.

    Gossip's shares sum to one, so averages keep their units; of a sum agent 0 has the mean. Of agents with own targets
    each has a scale of its own, at the readout's "place".
    """
    if not scaler.targets or readout["kind"] == "none":
        return {}
    weight, bias = tensors["readout.weight"].double(), tensors["readout.bias"].double()
    mean, deviation = scaler.target_mean, scaler.target_deviation
    if mean.ndim == 2:  # (agents, targets)
        mean, deviation = mean[readout["place"]], deviation[readout["place"]]
    elif readout["kind"] == "sum" and agent:
        mean = torch.zeros_like(mean)
    return {"readout.weight": deviation[:, None] * weight, "readout.bias": deviation * bias + mean}


def _linear_of(linear: AgentwiseLinear, agent: int) -> dict[str, Tensor]:
    widths = linear.all_widths
    weight, bias = (
        values[slice(*offsets(sizes)[agent : agent + 2])]
        for values, sizes in ((linear.weight, widths * linear.all_features), (linear.bias, widths))
    )
    return {"lift.weight": weight.view(int(widths[agent]), -1), "lift.bias": bias}


def _sensors_of(model: AgentClassifier, agent: int) -> Part:
    sensors = model.sensors
    assert sensors is not None, "without a learned lift there are sensors"
    first, last = offsets(model.network.widths)[agent : agent + 2]
    mine = (sensors.columns >= first) & (sensors.columns < last)
    places = {"features": sensors.feature_of_column[mine].tolist(), "neurons": (sensors.columns[mine] - first).tolist()}
    start = model.initial_state
    constant = {} if start is None else {"lift.constant": start()[int(first) : int(last)]}
    return {"kind": "sensors", **places}, constant


def readout_of(model: AgentClassifier, agent: int) -> Part:
    """Describe an agent's map from its last state y to scores "readout.weight" y + "readout.bias".

    sum: the scores of all agents are to be added up. local: they are the agent's answer, "place" its number among those
    that answer. gossip: likewise after `rounds` rounds of averaging with the neighbors, with the weights "average" by
    agent. none: it has no readout.
    """
    readout, widths = model.readout, model.network.ownership.all_widths
    if isinstance(readout, SumReadout):
        first, last = offsets(widths)[agent : agent + 2]
        bias = readout.bias if agent == 0 else readout.bias.new_zeros(readout.classes)
        return {"kind": "sum"}, {"readout.weight": readout.weight[:, first:last], "readout.bias": bias}
    place = int(np.searchsorted(readout.output_agents, agent))
    if place == len(readout.output_agents) or readout.output_agents[place] != agent:
        return {"kind": "none"}, {}
    first, last = offsets(widths[readout.output_agents])[place : place + 2]
    tensors = {"readout.weight": readout.weight[:, first:last], "readout.bias": readout.bias[place]}
    if not isinstance(readout, GossipReadout):
        return {"kind": "local", "place": place}, tensors
    pattern = readout.average.operator.pattern
    own = slice(int(pattern.row_start[agent]), int(pattern.row_start[agent + 1]))
    shares = readout.average.get_buffer("weights")[0, own].tolist()
    average = dict(zip(pattern.columns[own].tolist(), shares, strict=True))
    return {"kind": "gossip", "rounds": readout.average.rounds, "average": average}, tensors
