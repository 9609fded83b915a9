"""The impaired links of a network around its sweeps: which sweep comes next, what cannot be asked, who is down.

Nothing happens where links are perfect. Shapes: states (batch, neurons), columns of this worker's agents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dist_hdnn.links.fates import Moment
from dist_hdnn.links.model import Links
from dist_hdnn.network.ownership import Ownership


class Passage:
    """The way of a network's sweeps over its links; links: None for perfect ones."""

    def __init__(self, links: Links | None, ownership: Ownership) -> None:
        self.links, self.ownership = links, ownership

    def enter(self, training: bool = False) -> Moment | None:
        """Tell exchanges which sweep comes next, and return its moment."""
        if self.links is None:
            return None
        self.ownership.where.moment = moment = self.links.moment(training)
        return moment

    def leave(self, output: Tensor, moment: Moment | None) -> Tensor:
        """Return the last state of a sweep, with zeros for agents that are down."""
        down = None if self.links is None or moment is None else self.links.down(moment, len(output))
        if down is None:
            return output
        up = ~down[self.ownership.agents].repeat(self.ownership.widths, axis=0)
        return output * torch.from_numpy(up.T).to(output.device)

    def down(self, batch: int) -> Tensor | None:
        """Tell which agents are down for which sample of the next evaluation, (batch, agents); None if none can be."""
        down = None if self.links is None else self.links.down(self.links.moment(training=False), batch)
        return None if down is None else torch.from_numpy(down.T)

    def check_memoryless(self, who: str) -> None:
        """Raise ValueError where a state alone does not determine the next one."""
        if self.links is not None and self.links.has_memory:
            raise ValueError(
                f"{who}: expected links without delays and fills that remember, where a state determines the next one, "
                "got some. Fill with zero or own."
            )
