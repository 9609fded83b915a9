"""Copy weights between networks on different agents: what both have, matched by the names of the agents.

Weights are kept by the block: in a matrix those of a pair of agents, elsewhere those of one agent. A block is kept when
both networks have it in one shape; every other one stays as it was drawn. Each worker fills its own part and sends
nothing, so the numbers do not depend on the workers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.ends.image_lift import ChannelLift
from dist_hdnn.ends.initial_state import InitialState
from dist_hdnn.ends.lift import ConvLift, LinearLift
from dist_hdnn.ends.readout import Readout, SumReadout
from dist_hdnn.network.couplings import Layout
from dist_hdnn.network.keyed_random import block_keys
from dist_hdnn.network.ownership import Ownership
from dist_hdnn.topology.ragged import IntArray, ragged_ranges

SIDE = 1 << 31  # of a block's shape as one number: rows * SIDE + columns


@dataclass(frozen=True)
class Places:
    """Where the entries of a parameter belong, in its order along `dimension`: (entries,) each.

    rows, columns: agents of the block, the same where a block is of one agent. element: number inside the block.
    shape: of the block, as one number. skew: block (j, i) is minus the transpose of (i, j), of which one is stored.
    """

    dimension: int
    rows: IntArray
    columns: IntArray
    element: IntArray
    shape: IntArray
    skew: bool = False


def network_places(layout: Layout) -> dict[str, Places]:
    """The places of a network's parameters: matrices such as "Kp.0", biases such as "bp"."""
    chosen = layout.architecture
    found = {name: _of_agents(layout.agents, layout.sizes, 1) for name in chosen.biases}
    names = {"K": chosen.matrices, "X": (chosen.interconnection,) if chosen.interconnection else ()}
    for which, matrices in layout.matrices.items():
        for stage, matrix in enumerate(matrices):
            agents, own = matrix.agents.astype(np.uint64), matrix.operator.pattern
            keys = block_keys(own, agents, matrix.columns.astype(np.uint64))
            rows, columns, element = (key.astype(np.int64) for key in keys)
            shape = layout.sizes[rows] * SIDE + layout.sizes[columns]
            for name in names[which]:
                skew = chosen.skew if which == "K" else name == "J"
                found[f"{name}.{stage}"] = Places(1, rows, columns, element, shape, skew)
    return found


def coupled_pairs(layout: Layout, numbers: IntArray | None = None, agents: int | None = None) -> IntArray:
    """Unordered pairs of agents that share weights, as low * agents + high, ascending.

    numbers: what the agents are to be called, -1 for one to leave out, of so many `agents`.
    """
    agents = len(layout.sizes) if agents is None else agents
    numbers = np.arange(agents) if numbers is None else numbers
    found = []
    for pattern in (*layout.K_patterns, *(layout.X_patterns or [])):
        ends = np.stack([numbers[pattern.rows()], numbers[pattern.columns]])
        low, high = ends.min(axis=0), ends.max(axis=0)
        found.append((low * agents + high)[(low >= 0) & (low < high)])
    return np.unique(np.concatenate(found))


def readout_places(readout: Readout) -> dict[str, Places]:
    """The places of a readout's parameters; the bias of a sum over the agents belongs to none of them."""
    widths = readout.ownership.all_widths
    if isinstance(readout, SumReadout):
        return {"weight": _of_agents(readout.ownership.agents, widths, 1)}
    one = np.ones_like(widths)
    return {"weight": _of_agents(readout.agents, widths, 1), "bias": _of_agents(readout.agents, one, 0)}


def lift_places(lift: LinearLift | ConvLift | ChannelLift, ownership: Ownership) -> dict[str, Places]:
    """The places of a learned lift's parameters."""
    agents, widths = ownership.agents, ownership.all_widths
    if isinstance(lift, ChannelLift):
        return {name: _of_agents(agents, widths, 0) for name in ("filters", "bias")}
    weight = _of_agents(agents, widths, 0, columns=lift.linear.all_features)
    found = {"linear.weight": weight, "linear.bias": _of_agents(agents, widths, 0)}
    filters = ("filters", "filter_bias") if isinstance(lift, ConvLift) else ()
    return found | {name: _of_agents(agents, np.ones_like(widths), 0) for name in filters}


def start_places(start: InitialState, ownership: Ownership) -> dict[str, Places]:
    """The places of a learned initial state: neurons that no sensor feeds."""
    return {"value": _of_agents(ownership.agents, ownership.all_widths, 0, start.free.cpu().numpy())}


def _of_agents(
    agents: IntArray, sizes: IntArray, dimension: int, kept: IntArray | None = None, columns: IntArray | None = None
) -> Places:
    """Blocks of one agent each, agent by agent. columns: of every agent's block, 1 by default. kept: which entries."""
    columns = np.ones_like(sizes) if columns is None else columns
    lengths = (sizes * columns)[agents]
    owner, element = np.repeat(agents, lengths), ragged_ranges(np.zeros_like(lengths), lengths)
    owner, element = (owner, element) if kept is None else (owner[kept], element[kept])
    return Places(dimension, owner, owner, element, sizes[owner] * SIDE + columns[owner])


@torch.no_grad()
def transplant(parameter: Tensor, here: Places, values: Tensor, there: Places, numbers: IntArray) -> None:
    """Copy the blocks that both have from a whole tensor, `values`, into this worker's part of another, `parameter`.

    numbers: of every agent there its number here, -1 without one. Both tensors agree in all other dimensions.
    """
    found = replace(there, rows=numbers[there.rows], columns=numbers[there.columns])
    _copy(parameter, here, values, found)
    if here.skew:
        _copy(parameter, here, -values, _transposed(found))


def _transposed(places: Places) -> Places:
    """The blocks that are not stored, of which the entries are those of the stored ones with the other sign."""
    high, wide = places.shape // SIDE, places.shape % SIDE
    element = places.element % wide * high + places.element // wide
    columns = np.where(places.rows == places.columns, -1, places.columns)  # a diagonal block is its own
    return replace(places, rows=columns, columns=places.rows, element=element, shape=wide * SIDE + high)


def _copy(parameter: Tensor, here: Places, values: Tensor, there: Places) -> None:
    """Copy what both have; there: with the numbers that agents have here."""
    known = np.flatnonzero((there.rows >= 0) & (there.columns >= 0))
    if not len(known) or not len(here.rows):
        return
    agents = 1 + max(int(one.max()) for one in (here.rows, here.columns, there.rows, there.columns))
    elements = 1 + max(int(here.element.max()), int(there.element.max()))
    keys = ((there.rows * agents + there.columns) * elements + there.element)[known]
    wanted = (here.rows * agents + here.columns) * elements + here.element
    order = np.argsort(keys)
    place = order[np.searchsorted(keys, wanted, sorter=order).clip(max=len(keys) - 1)]
    hit = np.flatnonzero((keys[place] == wanted) & (there.shape[known[place]] == here.shape))
    taken = values.index_select(there.dimension, torch.from_numpy(known[place[hit]]))
    index = torch.from_numpy(hit).to(parameter.device)
    parameter.index_copy_(here.dimension, index, taken.to(parameter.device, parameter.dtype))
