"""Networks over impaired links in plain PyTorch: whole matrices, one message after the other, gradients by autograd.

The oracle of the products over links. It shares with them the random numbers of `links.fates` and nothing else.
Shapes: (B, A, n) of what each agent has of a whole part, and (B, A, A) of messages, row agent by column agent.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from networks import network
from torch import Tensor

from dist_hdnn.links.fates import Draw, Keys, Moment, Round
from dist_hdnn.links.model import Links
from dist_hdnn.links.table import LinkTable
from dist_hdnn.network.dense import DenseTwin
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.topology import CommunicationGraph, as_graph

STEPS = {
    "semi_implicit": ((0, 1.0), (1, 1.0)),
    "stormer_verlet": ((0, 0.5), (1, 1.0), (0, 0.5)),
    "forward_euler": ((0, 1.0),),
}


def table_of(graph: CommunicationGraph, seed: int | None = None, **columns: Any) -> LinkTable:
    """Return the links of a graph. A column is one value, or with a seed a range to draw from, link by link."""
    table, rng = LinkTable.perfect(graph), np.random.default_rng(seed)
    for name, value in columns.items():
        column = getattr(table, name)
        if isinstance(value, tuple):
            whole = column.dtype == np.int64
            value = rng.integers(value[0], value[1] + 1, len(table)) if whole else rng.uniform(*value, len(table))
        column[:] = value
    table.delay_most[:] = np.maximum(table.delay_most, table.delay_least)
    return table


def over(graph: Any, columns: dict[str, Any], links: dict[str, Any], **options: Any) -> HDNN:
    """Return a float64 network whose slices go over links. columns: of `table_of`. links: other options of `Links`."""
    graph = as_graph(graph)
    names = {field.name for field in fields(LinkTable)}
    assert columns.keys() <= names | {"seed"}
    made = Links(table_of(graph, **columns), graph.agents, **links)
    return network(graph, links=made, **options)


class Oracle:
    """The same network as `net`. moment: the sweep whose fates it meets."""

    def __init__(self, net: HDNN) -> None:
        assert net.links is not None
        self.net, self.links, self.twin = net, net.links, DenseTwin(net)
        self.agents = len(self.twin.sizes)
        self.agent = torch.from_numpy(np.repeat(np.arange(self.agents), self.twin.sizes))
        self.straight = False
        """Whether cotangents all arrive, whatever became of slices."""
        self.row_of = {pair: row for row, pair in enumerate(zip(*self._ends(), strict=True))}

    def _ends(self) -> tuple[list[int], list[int]]:
        return self.links.table.sender.tolist(), self.links.table.receiver.tolist()

    @property
    def weights(self) -> dict[str, Tensor]:
        return self.twin.weights

    def __call__(self, y: Tensor, moment: Moment) -> Tensor:
        """Map y0 to yN, (B, neurons), with zeros for agents that are down."""
        self.moment, self.batch = moment, len(y)
        self.sent: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        self.received: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        self.fates: dict[tuple[int, int, int], Tensor] = {}
        self.delays = [self._delays(reply) for reply in (0, 1)]
        parts = [y[:, columns] for columns in self.twin.columns]
        for layer in range(self.twin.layers):
            weights = self.twin.layer(layer)
            for update, (part, share) in enumerate(STEPS[self.net.architecture.integrator.name]):
                parts[part] = parts[part] + share * self.twin.step * self._force(part, parts, weights, layer, update)
        out = y.new_empty(y.shape)
        for columns, value in zip(self.twin.columns, parts, strict=True):
            up = torch.tensor([[not down for down in self._down(agent)] for agent in range(self.agents)]).T
            out = out.index_copy(1, columns, value * up[:, self.agent])
        return out

    def _force(self, part: int, parts: list[Tensor], w: dict[str, Tensor], layer: int, update: int) -> Tensor:
        name = self.net.architecture.name
        if name == "H1":
            return self._gradient(parts[0], w["K"], w["b"], layer, update) @ (w["J"] - w["J"].T).T
        if name == "leapfrog":
            return parts[0] if part == 1 else -self._gradient(parts[1], w["K"], w["b"], layer, update)
        K, b, X = (w["Kp"], w["bp"], w.get("X")) if part == 1 else (w["Kq"], w["bq"], w.get("X"))
        v = self._gradient(parts[1 - part], K, b, layer, update)
        v = v if X is None else v @ (X.T if part == 1 else X)
        return v if part == 1 else -v

    def _gradient(self, x: Tensor, K: Tensor, b: Tensor, layer: int, update: int) -> Tensor:
        """Kᵀ σ(K d + b), d what every agent has of x."""
        seen = self._arrive(x[:, None].expand(-1, self.agents, -1), x, layer, update, 0)
        z = self.twin.sigma(torch.einsum("rc,brc->br", K, seen[:, self.agent]) + b)
        replies = seen.new_zeros(seen.shape).index_add(1, self.agent, z[:, :, None] * K)
        return self._arrive(replies, None, layer, update, 1).sum(dim=1)

    def _arrive(self, sent: Tensor, own: Tensor | None, layer: int, update: int, reply: int) -> Tensor:
        before, received = self.sent[update, reply], self.received[update, reply]
        before.append(self._rounded(sent, reply))
        out = self._filled(received, own, sent, layer)
        delays = self.delays[reply]
        for past in range(layer + 1):
            came = self._delivered(past, update, reply) & (delays == layer - past)
            value = before[past]
            out = torch.where(came[:, :, self.agent], value, out)
            if self.straight:
                out = value + (out - value).detach()
        received.append(out)
        return out

    def _filled(self, received: list[Tensor], own: Tensor | None, like: Tensor, layer: int) -> Tensor:
        if self.links.fill == "own" and own is not None:
            width = int(self.twin.sizes[0])
            return own.view(len(own), self.agents, width).repeat(1, 1, self.agents)
        if self.links.fill in ("hold", "predict") and layer:
            line = self.links.fill == "predict" and layer > 1
            return 2.0 * received[-1] - received[-2] if line else received[-1]
        return torch.zeros_like(like)

    def _rounded(self, sent: Tensor, reply: int) -> Tensor:
        """Round to the nearest of the values that bits can tell, straight through for gradients."""
        out = sent.clone()
        for i, j in self._pairs():
            bits = int(self.links.table.bits[self._row(i, j, reply)])
            if bits:
                slice_ = sent[:, i, self.agent == j]
                largest = slice_.detach().abs().amax(dim=1, keepdim=True)
                levels = 2 ** (bits - 1) - 1
                if bits == 1:
                    rounded = torch.where(slice_.detach() > 0, largest, -largest)
                else:
                    rounded = torch.round(slice_.detach() / largest * levels) / levels * largest
                out[:, i, self.agent == j] = slice_ + (rounded.nan_to_num() - slice_).detach()
        return out

    # -- fates, a message at a time ------------------------------------------------------------------------------------

    def _pairs(self) -> list[tuple[int, int]]:
        """Row agent i and column agent j of every block between agents."""
        return sorted((i, j) for j, i in self.row_of)

    def _row(self, i: int, j: int, reply: int) -> int:
        return self.row_of[(i, j) if reply else (j, i)]

    def _delivered(self, layer: int, update: int, reply: int) -> Tensor:
        if (layer, update, reply) not in self.fates:
            self.fates[layer, update, reply] = self._made(layer, update, reply)
        return self.fates[layer, update, reply]

    def _made(self, layer: int, update: int, reply: int) -> Tensor:
        came = torch.ones(self.batch, self.agents, self.agents, dtype=torch.bool)
        for i, j in self._pairs():
            heard = ~self._lost(j, i, Round(layer, update, 0))
            answered = ~self._lost(i, j, Round(layer, update, 1))
            of_pair = {"exchange": heard, "answer": heard & answered, "none": answered}
            came[:, i, j] = torch.from_numpy(of_pair[self.links.pair] if reply else heard)
        return came

    def _lost(self, sender: int, receiver: int, at: Round) -> np.ndarray:
        row, strength = self.row_of[sender, receiver], self.moment.strength
        loss = min(self.links.table.loss[row] * strength, 1.0)
        burst, lost = self.links.table.burst[row], np.zeros(self.batch, dtype=bool)
        for layer in range(at.layer + 1) if burst > 1 else (at.layer,):
            code = at._replace(layer=layer).code
            drawn = self._uniform(Draw.LOSS, sender, receiver, code) < loss
            renewed = self._uniform(Draw.RENEWAL, sender, receiver, code) < 1 / max(burst * (1 - loss), 1e-12)
            lost = np.where(renewed, drawn, lost) if burst > 1 and layer else drawn
        ends = min(sender, receiver), max(sender, receiver)
        cut = self._uniform(Draw.OUTAGE, *ends) < self.links.table.outage[row] * strength
        return lost | cut | self._down(sender) | self._down(receiver)

    def _down(self, agent: int) -> np.ndarray:
        down = np.full(self.batch, agent in self.links.dead)
        if self.links.agent_outage is not None:
            down |= self._uniform(Draw.AGENT, agent, 0) < self.links.agent_outage[agent] * self.moment.strength
        if self.links.failout and self.moment.training:
            fails = self._uniform(Draw.FAILOUT, 0, 0) < self.links.failout
            down |= fails & ((self._uniform(Draw.VICTIM, 0, 0) * self.agents).astype(int) == agent)
        return down

    def _delays(self, reply: int) -> Tensor:
        delays = torch.zeros(self.batch, self.agents, self.agents, dtype=torch.int64)
        for i, j in self._pairs():
            row, ends = self._row(i, j, reply), (i, j) if reply else (j, i)
            least, most = self.links.table.delay_least[row], self.links.table.delay_most[row]
            delays[:, i, j] = torch.from_numpy(
                least + (self._uniform(Draw.DELAY, *ends) * (most - least + 1)).astype(int)
            )
        return delays

    def _uniform(self, draw: Draw, first: int, second: int, code: int = 0) -> np.ndarray:
        keys = Keys(self.links.seed, draw, np.array([first]), np.array([second]))
        return keys.bits(self.moment, self.batch, code)[0] / 2.0**32
