"""Channels of an image as neurons: each agent's own filters on the whole image, with every pixel a sample.

    lift    y_i(pixel) = F_i * x (pixel) + c_i      the filters of agent i, on the image that every agent sees
    join    (samples x pixels, neurons) -> (samples, neurons x pixels): what a readout of the agents' channels reads

As the published MNIST network: 8 channels after a convolution, layers that act on the channels of each pixel, one
linear readout (DecodEPFL/HamiltonianNet at 288ffbef, run_MNIST.py).
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from dist_hdnn.ends.lift import Gather, check_features, contiguous, pooled_windows
from dist_hdnn.network.keyed_random import Purpose, normal
from dist_hdnn.network.ownership import Ownership
from dist_hdnn.network.sharing import register_holder, share_state
from dist_hdnn.topology.ragged import ragged_ranges


class ChannelLift(nn.Module):
    """One filter per neuron: (samples, features) -> (pixels x samples, neurons), pixel by pixel.

    image: its height, width and channels. kernel: side of the filters, odd; around the image lies zero.
    `filters` (owned neurons, kernel² channels) ~ N(0, 1 / columns), keyed by (seed, agent, neuron, element).
    """

    def __init__(self, ownership: Ownership, image: tuple[int, int, int], kernel: int = 3, seed: int = 0) -> None:
        super().__init__()
        self.ownership = ownership
        self.features, self.pixels = image[0] * image[1] * image[2], image[0] * image[1]
        self.widths = ownership.widths.tolist() if ownership.deterministic else None
        windows = pooled_windows(np.arange(self.features).reshape(1, *image), kernel, 1, self.features)
        self.view = Gather(windows.reshape(windows.shape[1], self.pixels), self.features)
        neurons = ragged_ranges(np.zeros_like(ownership.widths), ownership.widths)[:, None]
        agents = np.repeat(ownership.agents, ownership.widths)[:, None]
        keys = np.broadcast_arrays(agents, neurons, np.arange(windows.shape[1]))
        values = normal(seed, Purpose.FILTER, 1, *(key.astype(np.uint64) for key in keys))
        values /= np.sqrt(windows.shape[1])
        self.filters = nn.Parameter(torch.from_numpy(values).to(torch.get_default_dtype()))
        self.bias = nn.Parameter(torch.zeros(len(values)))
        own = ownership.shard_of_agents(ownership.all_widths, dimension=0)
        self.shards = {"filters": own, "bias": own}
        share_state(self, ownership, self.shards, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Lift (samples, features) to (pixels x samples, neurons)."""
        register_holder(self, self.ownership)
        check_features(x, self.features, self.filters)
        self.ownership.note("features", x)
        seen = self.view(x.t().contiguous()).flatten(1)
        if self.widths is None:
            return torch.addmm(self.bias[:, None], self.filters, seen).t()
        parts = zip(self.filters.split(self.widths), self.bias.split(self.widths), strict=True)
        # one agent at a time, so that no bit depends on which agents are here
        return torch.cat([contiguous(torch.mm(f, seen) + c[:, None]) for f, c in parts]).t()

    def join(self, state: Tensor) -> Tensor:
        """Arrange (pixels x samples, neurons) as (samples, neurons x pixels), neuron by neuron."""
        if state.ndim != 2 or state.shape[0] % self.pixels:
            raise ValueError(
                f"lift: expected a state of shape ({self.pixels} pixels x samples, neurons), got {tuple(state.shape)}. "
                "Give the last state of the network, net(lift(x))."
            )
        samples = state.shape[0] // self.pixels
        return state.t().reshape(state.shape[1] * self.pixels, samples).t()

    def decaying(self) -> list[nn.Parameter]:
        """Return the weights that weight decay acts on."""
        return [self.filters]


def of_pixels(ownership: Ownership, pixels: int) -> Ownership:
    """Return the same ownership with widths times pixels, for a readout of every neuron at every pixel."""
    wide = copy.copy(ownership)
    wide.all_widths, wide.widths = pixels * ownership.all_widths, pixels * ownership.widths
    wide.all_halves, wide.halves = pixels * ownership.all_halves, pixels * ownership.halves
    return wide
