"""Learned lifts: every agent maps the features that it sees to its own first state, without communication.

    linear    (p, q)_i = W_i x_i + c_i
    conv      filters of agent i's own on its own patch of an image in between: W_i relu(pool(F_i * x_i) + e_i) + c_i

Every weight belongs to one agent, so a worker holds those of its agents and no gradient travels.
Shapes: x (batch, features), the same on all workers; state (batch, neurons of the owned agents), agent by agent.
Inside, the batch comes last, as in the sweep.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dist_hdnn.network.keyed_random import Purpose, normal
from dist_hdnn.network.ownership import Ownership, Shard
from dist_hdnn.network.sharing import register_holder, share_state
from dist_hdnn.operators.indexed import Indexed
from dist_hdnn.sweep.surroundings import check_kind, under_autocast
from dist_hdnn.topology.ragged import IntArray, ragged_ranges


class Gather(Indexed):
    """values (length, ...) -> values at the places of a table (*its shape, ...), zero at the place `length`."""

    index: Tensor

    def __init__(self, table: IntArray, length: int) -> None:
        super().__init__()
        self.shape, self.padded = table.shape, bool((table == length).any())
        self.plain = table.size == length and bool((table.ravel() == np.arange(length)).all())
        self.keep_index("index", torch.from_numpy(table.ravel()))

    def forward(self, values: Tensor) -> Tensor:
        """Gather (length, ...) into (*shape of the table, ...)."""
        if not self.plain:
            values = torch.cat([values, values.new_zeros(1, *values.shape[1:])]) if self.padded else values
            values = values.index_select(0, self.index)
        return values.reshape(*self.shape, *values.shape[1:])


class AgentwiseLinear(Indexed):
    """y_i = W_i x_i + c_i for every owned agent i, W_i ~ N(0, 1 / features of agent i), c_i = 0 at the start.

    features: that every agent of the network sees, (agents,). `weight` holds the owned agents' W_i one after the other,
    each row by row, keyed by (seed, agent, neuron, feature).
    """

    places: Tensor

    def __init__(self, ownership: Ownership, features: IntArray, seed: int = 0) -> None:
        super().__init__()
        agents, widths, everyone = ownership.agents, ownership.widths, ownership.all_widths
        self.ownership, self.ordered, self.neurons = ownership, ownership.deterministic, int(widths.sum())
        self.all_widths, self.all_features = everyone, features
        # the longest of the whole network, so that no bit depends on which agents are here
        shape = len(agents), int(everyone.max()), int(features.max())
        agent = np.repeat(np.arange(len(agents)), widths)  # of each neuron
        neuron, sizes = ragged_ranges(np.zeros_like(widths), widths), features[agents][agent]
        feature = ragged_ranges(np.zeros_like(sizes), sizes)
        keys = [np.repeat(agents[agent], sizes), np.repeat(neuron, sizes), feature]
        values = normal(seed, Purpose.LIFT, 0, *(key.astype(np.uint64) for key in keys))
        values /= np.sqrt(np.repeat(sizes, sizes))
        table = np.full(shape, len(values), dtype=np.int64)
        table[np.repeat(agent, sizes), np.repeat(neuron, sizes), feature] = np.arange(len(values))
        places = np.full(shape[:2], self.neurons, dtype=np.int64)
        places[agent, neuron] = np.arange(self.neurons)
        self.blocks, self.bias_blocks = Gather(table, len(values)), Gather(places[:, :, None], self.neurons)
        self.keep_index("places", torch.from_numpy(agent * shape[1] + neuron))
        self.weight = nn.Parameter(torch.from_numpy(values).to(torch.get_default_dtype()))
        self.bias = nn.Parameter(torch.zeros(self.neurons))
        self.shards = {
            "weight": ownership.shard_of_agents(features * everyone, dimension=0),
            "bias": ownership.shard_of_agents(everyone, dimension=0),
        }
        share_state(self, ownership, self.shards, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Map (agents, most features of an agent, batch) to (batch, neurons)."""
        register_holder(self, self.ownership)
        weight, bias = self.blocks(self.weight), self.bias_blocks(self.bias)
        if self.ordered:  # one agent at a time, so that no bit depends on which agents are here
            parts = zip(bias, weight, x, strict=True)
            state = torch.stack([contiguous(torch.mm(w, seen) + c) for c, w, seen in parts])
        else:
            state = torch.baddbmm(bias, weight, x)
        state = state.flatten(0, 1)
        return (state if len(state) == self.neurons else state.index_select(0, self.places)).t()


class LinearLift(nn.Module):
    """(p, q)_i = W_i x_i + c_i: each agent's own linear map of the features that it sees.

    starts, columns: agent i sees the features columns[starts[i]:starts[i + 1]]; number `features` stands for zero.
    An agent that sees nothing learns a constant first state.
    """

    def __init__(self, ownership: Ownership, features: int, starts: IntArray, columns: IntArray, seed: int = 0) -> None:
        super().__init__()
        self.ownership, self.features, agents, sizes = ownership, features, ownership.agents, np.diff(starts)
        table = np.full((len(agents), int(sizes.max())), features, dtype=np.int64)
        rows = np.repeat(np.arange(len(agents)), sizes[agents])
        inside = ragged_ranges(np.zeros_like(agents), sizes[agents])
        table[rows, inside] = columns[ragged_ranges(starts[agents], sizes[agents])]
        self.view = Gather(table, features)
        self.linear = AgentwiseLinear(ownership, sizes, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Lift (batch, features) to (batch, neurons)."""
        check_features(x, self.features, self.linear.weight)
        self.ownership.note("features", x)
        return self.linear(self.view(x.t().contiguous()))  # type: ignore[no-any-return]

    def decaying(self) -> list[nn.Parameter]:
        """Return the weights that weight decay acts on."""
        return [self.linear.weight]


class ConvLift(nn.Module):
    """(p, q)_i = W_i relu(pool(F_i * x_i) + e_i) + c_i: each agent's own filters on its own patch of an image.

    starts, columns: as for LinearLift. patch: height, width and channels of every agent's. channels: filters of every
    agent. kernel: side of the filters, odd; around a patch lies zero. pool: side of the squares of which the largest
    value continues; 1 for none. F_i ~ N(0, 2 / (kernel² input channels)), keyed by (seed, agent, filter, element).
    """

    def __init__(
        self,
        ownership: Ownership,
        features: int,
        starts: IntArray,
        columns: IntArray,
        patch: tuple[int, int, int],
        channels: int = 8,
        kernel: int = 3,
        pool: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.ownership, self.features, agents = ownership, features, ownership.agents
        pixels = columns[ragged_ranges(starts[agents], np.diff(starts)[agents])].reshape(len(agents), *patch)
        windows = pooled_windows(pixels, kernel, pool, features)
        self.shape = windows.shape[1:]  # elements of a window, squares, windows of a square
        self.view = Gather(windows.reshape(len(agents), self.shape[0], -1), features)
        shape = len(agents), channels, self.shape[0]
        keys = np.broadcast_arrays(agents[:, None, None], np.arange(channels)[:, None], np.arange(shape[2]))
        values = normal(seed, Purpose.FILTER, 0, *(key.astype(np.uint64) for key in keys)) * (2.0 / shape[2]) ** 0.5
        self.filters = nn.Parameter(torch.from_numpy(values).to(torch.get_default_dtype()))
        self.filter_bias = nn.Parameter(torch.zeros(shape[:2]))
        everyone = len(ownership.all_widths)
        self.linear = AgentwiseLinear(ownership, np.full(everyone, channels * self.shape[1]), seed)
        self.shards = {name: Shard(0, everyone, agents) for name in ("filters", "filter_bias")}
        share_state(self, ownership, self.shards, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Lift (batch, features) to (batch, neurons)."""
        register_holder(self, self.ownership)
        check_features(x, self.features, self.filters)
        self.ownership.note("features", x)
        seen = self.view(x.t().contiguous()).flatten(2)
        if self.ownership.deterministic:
            values = torch.stack([contiguous(torch.mm(f, part)) for f, part in zip(self.filters, seen, strict=True)])
        else:
            values = torch.bmm(self.filters, seen)
        pooled = values.view(*values.shape[:2], *self.shape[1:], x.shape[0]).amax(dim=3)
        pooled = pooled + self.filter_bias[:, :, None, None]
        return self.linear(pooled.relu().flatten(1, 2))  # type: ignore[no-any-return]

    def decaying(self) -> list[nn.Parameter]:
        """Return the weights that weight decay acts on."""
        return [self.filters, self.linear.weight]


def pooled_windows(pixels: IntArray, kernel: int, pool: int, zero: int) -> IntArray:
    """Return the pixels under a filter at every place of a patch: (agents, elements, squares, places of a square).

    pixels: (agents, height, width, channels) feature numbers. Elements go channel by channel, row by row. Places are
    those of one square of the pooling together; a square that the border cuts repeats its last places, which changes no
    maximum. zero: the feature number of what lies around a patch.
    """
    agents, high, wide, depth = pixels.shape
    margin = kernel // 2
    padded = np.pad(pixels, ((0, 0), (margin, margin), (margin, margin), (0, 0)), constant_values=zero)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
    rows = np.minimum(np.arange(-(-high // pool) * pool), high - 1).reshape(-1, 1, pool, 1)
    columns = np.minimum(np.arange(-(-wide // pool) * pool), wide - 1).reshape(1, -1, 1, pool)
    squares = windows[:, rows, columns]  # agents, squares down, squares across, pool, pool, depth, kernel, kernel
    count = rows.shape[0] * columns.shape[1]
    return squares.reshape(agents, count, pool * pool, depth * kernel * kernel).transpose(0, 3, 1, 2).copy()


class _Contiguous(torch.autograd.Function):
    """forward: x. backward: its gradient in contiguous memory, since bits of products depend on strides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous()


def contiguous(x: Tensor) -> Tensor:
    """Return x, with a gradient in contiguous memory."""
    return _Contiguous.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def check_features(x: Tensor, features: int, like: Tensor) -> None:
    """Raise ValueError unless x is (batch, features), of the dtype and on the device of the weights."""
    if x.ndim != 2 or x.shape[1] != features:
        raise ValueError(
            f"lift: expected input of shape (batch, {features}), got {tuple(x.shape)}; give one column per feature"
        )
    if not under_autocast(x):
        check_kind(x, like, "lift", "input")
