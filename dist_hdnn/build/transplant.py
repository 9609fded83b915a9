"""Copy the common weights of two networks on different agents, which are matched by their names.

Weights are kept by the block: in a matrix those of a pair of agents, elsewhere those of one agent. A block is kept when
both networks have it in one shape; every other block stays as drawn. Each worker fills its own part and sends nothing,
so the numbers do not depend on the workers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from dist_hdnn.ends.image_lift import ChannelLift
from dist_hdnn.ends.initial_state import InitialState
from dist_hdnn.ends.lift import ConvLift, LinearLift
from dist_hdnn.ends.readout import LocalReadout, SumReadout
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.network.keyed_random import block_keys
from dist_hdnn.network.layout import Layout
from dist_hdnn.topology.ragged import IntArray, ragged_ranges

SIDE = 1 << 31  # of a block's shape as one number: rows * SIDE + columns


@dataclass(frozen=True)
class Places:
    """Places of a parameter's entries, in its order along `dimension`: arrays of (entries,).

    rows, columns: agents of the block, equal for a block of one agent. element: number inside the block.
    shape: of the block, as one number. skew: block (j, i) is minus the transpose of (i, j), and one of them is stored.
    """

    dimension: int
    rows: IntArray
    columns: IntArray
    element: IntArray
    shape: IntArray
    skew: bool = False


def places_of(part: nn.Module, layout: Layout) -> dict[str, Places]:
    """Return the places of the parameters of a network or of one of its ends, such as "Kp.0", by name.

    A parameter without places, such as the bias of a sum over the agents, belongs to no agent.
    """
    agents, widths = layout.agents, layout.ownership.all_widths
    one = np.ones_like(widths)
    if isinstance(part, HDNN):
        return _of_network(layout)
    if isinstance(part, SumReadout):
        return {"weight": _of_agents(part.ownership.agents, part.ownership.all_widths, 1)}
    if isinstance(part, LocalReadout):
        own = part.ownership.all_widths
        return {"weight": _of_agents(part.agents, own, 1), "bias": _of_agents(part.agents, one, 0)}
    if isinstance(part, InitialState):
        return {"value": _of_agents(agents, widths, 0, part.free.cpu().numpy())}
    if isinstance(part, ChannelLift):
        return {name: _of_agents(agents, widths, 0) for name in ("filters", "bias")}
    assert isinstance(part, LinearLift | ConvLift), f"a part of another kind: {type(part).__name__}"
    weight = _of_agents(agents, widths, 0, columns=part.linear.all_features)
    places = {"linear.weight": weight, "linear.bias": _of_agents(agents, widths, 0)}
    filters = ("filters", "filter_bias") if isinstance(part, ConvLift) else ()
    return places | {name: _of_agents(agents, one, 0) for name in filters}


def _of_network(layout: Layout) -> dict[str, Places]:
    chosen = layout.architecture
    places = {name: _of_agents(layout.agents, layout.sizes, 1) for name in chosen.biases}
    names = {"K": chosen.matrices, "X": (chosen.interconnection,) if chosen.interconnection else ()}
    for which, matrices in layout.matrices.items():
        for stage, matrix in enumerate(matrices):
            agents, own = matrix.agents.astype(np.uint64), matrix.operator.pattern
            keys = block_keys(own, agents, matrix.columns.astype(np.uint64))
            rows, columns, element = (key.astype(np.int64) for key in keys)
            shape = layout.sizes[rows] * SIDE + layout.sizes[columns]
            for name in names[which]:
                skew = chosen.skew if which == "K" else name == "J"
                places[f"{name}.{stage}"] = Places(1, rows, columns, element, shape, skew)
    return places


def _of_agents(
    agents: IntArray, sizes: IntArray, dimension: int, kept: IntArray | None = None, columns: IntArray | None = None
) -> Places:
    """Return blocks of one agent each, agent by agent. columns: of each block, by default 1. kept: existing entries."""
    columns = np.ones_like(sizes) if columns is None else columns
    lengths = (sizes * columns)[agents]  # entries of each block, row by row
    owner, element = np.repeat(agents, lengths), ragged_ranges(np.zeros_like(lengths), lengths)
    owner, element = (owner, element) if kept is None else (owner[kept], element[kept])
    return Places(dimension, owner, owner, element, sizes[owner] * SIDE + columns[owner])


@torch.no_grad()
def transplant(parameter: Tensor, here: Places, values: Tensor, there: Places, numbers: IntArray) -> None:
    """Copy the common blocks of a whole tensor, `values`, into this worker's part of another, `parameter`.

    numbers: of every agent there, its number here; -1 without one. Both tensors agree in all other dimensions.
    """
    renumbered = replace(there, rows=numbers[there.rows], columns=numbers[there.columns])
    _copy(parameter, here, values, renumbered)
    if here.skew:
        _copy(parameter, here, -values, _transposed(renumbered))


def _transposed(places: Places) -> Places:
    """Return the blocks of a skew matrix that are not stored: minus the transposed stored ones."""
    high, wide = places.shape // SIDE, places.shape % SIDE
    element = places.element % wide * high + places.element // wide  # (r, c) at r * wide + c goes to c * high + r
    columns = np.where(places.rows == places.columns, -1, places.columns)  # a diagonal block is its own mirror image
    return replace(places, rows=columns, columns=places.rows, element=element, shape=wide * SIDE + high)


def _copy(parameter: Tensor, here: Places, values: Tensor, there: Places) -> None:
    """Copy the common entries. there: in the numbers of the agents here."""
    known = np.flatnonzero((there.rows >= 0) & (there.columns >= 0))
    if not len(known) or not len(here.rows):
        return
    agents = 1 + max(int(one.max()) for one in (here.rows, here.columns, there.rows, there.columns))
    elements = 1 + max(int(here.element.max()), int(there.element.max()))
    # one number per entry: (row agent, column agent, element), unique in a parameter
    theirs = ((there.rows * agents + there.columns) * elements + there.element)[known]
    ours = (here.rows * agents + here.columns) * elements + here.element
    _, mine, other = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    same = here.shape[mine] == there.shape[known[other]]  # blocks of another shape stay as drawn
    entries = values.index_select(there.dimension, torch.from_numpy(known[other[same]]))
    index = torch.from_numpy(mine[same]).to(parameter.device)
    parameter.index_copy_(here.dimension, index, entries.to(parameter.device, parameter.dtype))


def coupled_pairs(layout: Layout, numbers: IntArray | None = None, agents: int | None = None) -> IntArray:
    """Return the unordered pairs of agents that share weights, as low * agents + high, ascending.

    numbers: new numbers of the agents, below `agents`; -1 leaves an agent out.
    """
    agents = len(layout.sizes) if agents is None else agents
    numbers = np.arange(agents) if numbers is None else numbers
    pairs = []
    for pattern in (*layout.K_patterns, *(layout.X_patterns or [])):
        ends = np.stack([numbers[pattern.rows()], numbers[pattern.columns]])  # (2, blocks)
        low, high = ends.min(axis=0), ends.max(axis=0)
        pairs.append((low * agents + high)[(low >= 0) & (low < high)])  # no diagonal, no agent that is left out
    return np.unique(np.concatenate(pairs))
