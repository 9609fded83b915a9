"""The learned part of y0, for the neurons without a sensor."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from dist_hdnn.data.sensors import SensorMap
from dist_hdnn.network.ownership import Ownership, Shard
from dist_hdnn.network.sharing import register_holder, share_state
from dist_hdnn.operators.indexed import Indexed


class InitialState(Indexed):
    """A learned constant for the columns without a sensor: () -> (neurons of the owned agents,), zero at the start.

    sensors: of the whole network. `value` holds the free columns of this worker alone, in ascending order, so every
    parameter counts. The sensor columns of the output are zero, and SensorMap.lift overwrites them.
    """

    free: Tensor

    def __init__(self, sensors: SensorMap, ownership: Ownership, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        if not np.array_equal(sensors.widths, ownership.all_widths):
            raise ValueError(
                f"initial state: expected sensors on {len(ownership.all_widths)} agents of the network's widths, got a "
                f"map on {len(sensors.widths)} agents or of other widths; build both from the same widths"
            )
        own = ownership.shard_of_agents(ownership.all_widths, dimension=0).index
        everywhere = np.setdiff1d(np.arange(sensors.neurons, dtype=np.int64), sensors.columns)  # all free columns
        mine = np.isin(everywhere, own)
        self.ownership, self.neurons = ownership, len(own)
        # global columns -> places among the owned ones
        self.keep_index("free", torch.from_numpy(np.searchsorted(own, everywhere[mine])))
        self.value = nn.Parameter(torch.zeros(int(mine.sum()), dtype=dtype))
        self.shards = {"value": Shard(0, len(everywhere), np.flatnonzero(mine))}
        share_state(self, ownership, self.shards)

    def forward(self) -> Tensor:
        """Return (neurons,): the learned values in the free columns, zeros in the sensor columns."""
        register_holder(self, self.ownership)
        return self.value.new_zeros(self.neurons).index_copy(0, self.free, self.value)
