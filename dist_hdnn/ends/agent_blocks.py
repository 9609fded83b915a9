"""Neurons agent by agent: one padded row per agent, for maps that act on each agent alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from dist_hdnn.network.ownership import Ownership
from dist_hdnn.operators.indexed import Indexed
from dist_hdnn.topology.ragged import IntArray, offsets, ragged_ranges


class AgentBlocks(Indexed):
    """(rows, neurons) -> (rows, agents, neurons of the widest agent of the network).

    Narrower blocks end in zeros.
    agents: global numbers. of_agents_only: the columns are those of these agents alone, not of all owned agents.
    """

    columns: Tensor

    def __init__(self, ownership: Ownership, agents: IntArray, of_agents_only: bool = False) -> None:
        super().__init__()
        widths, widest = ownership.all_widths[agents], int(ownership.all_widths.max())
        source = agents if of_agents_only else ownership.agents
        starts = offsets(ownership.all_widths[source])
        columns = np.full((len(agents), widest), int(starts[-1]), dtype=np.int64)
        inside = ragged_ranges(np.zeros_like(widths), widths)
        rows = np.repeat(np.arange(len(agents)), widths)
        columns[rows, inside] = np.repeat(starts[np.searchsorted(source, agents)], widths) + inside
        self.keep_index("columns", torch.from_numpy(columns))
        self.whole = bool((columns.ravel() == np.arange(columns.size)).all()) and columns.size == int(starts[-1])

    def forward(self, values: Tensor) -> Tensor:
        """Arrange (rows, neurons) as (rows, agents, widest)."""
        if self.whole:
            return values.unflatten(1, self.columns.shape)  # type: ignore[no-any-return, no-untyped-call]
        return nn.functional.pad(values, (0, 1))[:, self.columns]
