"""Impaired links as one matrix sees them: what its rows receive of slices, and what of their replies arrives.

A block (i, j) of K stands for a link in each direction: in the gather agent i receives the slice of j, in the
scatter-add agent j receives the reply of i. Both are known where row i is owned, so nothing but slices travels.
Everything but rounding is linear in the slices: `arrive` is the map, `pull` its transpose.

    arrive    d_l = m_(l-k) x_(l-k) + (1 - m_(l-k)) f(d_(l-1), d_(l-2))       m delivered, k delay, f fill
    pull      the transpose, from the last layer to the first

Shapes: edge space (edges, B) of one value per block and sample, and (gathered, B) of the neurons of all blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.links.fates import BoolArray, Draw, Keys, Moment, Round, below
from dist_hdnn.links.model import Links, rows_of
from dist_hdnn.operators.panels import PanelOperator
from dist_hdnn.operators.where import Where
from dist_hdnn.topology.ragged import IntArray, offsets, ragged_ranges

KEPT = 2**26  # bytes of the fates of a sweep, beyond which those of earlier rounds are dropped


class Part:
    """A chunk of consecutive blocks. number: of the chunk. edges, rows: its blocks, and the neurons of their slices.

    neurons: of every slice, None where they differ. edge_of_row: block of every neuron, counted from the first.
    """

    def __init__(self, number: int, edges: slice, rows: slice, neurons: int | None, edge_of_row: Tensor) -> None:
        self.number, self.edges, self.rows, self.neurons, self.edge_of_row = number, edges, rows, neurons, edge_of_row

    def expanded(self, of_edges: Tensor) -> Tensor:
        """Repeat values of edges (edges, B) for the neurons of their slices: (gathered, B)."""
        if self.neurons is not None:
            return of_edges[:, None].expand(-1, self.neurons, -1).reshape(len(self.edge_of_row), -1)
        return of_edges.index_select(0, self.edge_of_row)

    def masked(self, slices: Tensor, of_edges: Tensor) -> Tensor:
        """Multiply slices (gathered, B) in place by values of edges (edges, B)."""
        if self.neurons is None:
            return slices.mul_(self.expanded(of_edges))
        slices.view(-1, self.neurons, slices.shape[1]).mul_(of_edges[:, None])
        return slices

    def largest(self, slices: Tensor) -> Tensor:
        """Return the largest absolute value of each slice and sample, for all of its neurons: (gathered, B)."""
        if self.neurons is not None:
            return self.expanded(slices.view(-1, self.neurons, slices.shape[1]).abs().amax(dim=1))
        index = self.edge_of_row[:, None].expand(-1, slices.shape[1])
        most = slices.new_zeros(self.edges.stop - self.edges.start, slices.shape[1])
        return self.expanded(most.scatter_reduce_(0, index, slices.abs(), "amax"))


class Wires:
    """The links of one worker's rows of a matrix.

    row_agents, column_agents: global numbers of the operator's rows and columns. names: of all agents. where: the layer
    and the moment that the matrix serves. rows: of the table, of the links to receivers and of those back.
    """

    def __init__(
        self,
        links: Links,
        operator: PanelOperator,
        row_agents: IntArray,
        column_agents: IntArray,
        names: tuple[str, ...],
        where: Where,
    ) -> None:
        self.links, self.where, pattern = links, where, operator.pattern
        self.order = order = np.argsort(operator.block_start)  # blocks as their rows are gathered
        receiver, sender = row_agents[pattern.block_rows[order]], column_agents[pattern.columns[order]]
        sizes = pattern.column_sizes[pattern.columns[order]]
        self.between = receiver != sender
        self.receiver, self.sender = receiver[self.between], sender[self.between]
        ways = (self.sender, self.receiver), (self.receiver, self.sender)
        self.rows = [rows_of(links.table, *way, names) for way in ways]
        self.neurons = int(sizes[0]) if len(sizes) and (sizes == sizes[0]).all() else None
        self.edges = len(sizes)
        self.edge_of_row = torch.from_numpy(np.repeat(np.arange(self.edges), sizes))
        self.loss_keys, self._delay, self._renewal = (
            [Keys(links.seed, draw, *way) for way in ways] for draw in (Draw.LOSS, Draw.DELAY, Draw.RENEWAL)
        )
        self._outage = Keys(links.seed, Draw.OUTAGE, *np.sort(ways[0], axis=0))  # of both directions
        self._sweep: Hashable = None
        self._fates: dict[Round, Tensor | None] = {}  # of the sweep at hand
        self.cut: list[BoolArray | None] = []  # of both ways
        self._late: dict[int, Tensor] = {}
        self._runs: dict[Hashable, list[BoolArray]] = {}
        self._levels: dict[tuple[int, bool, bool], tuple[Tensor, ...]] = {}
        self._noise: dict[int, Keys] = {}  # of the values of a chunk
        self.own_rows = self._own(operator, receiver, row_agents)

    def delivered(self, moment: Moment, at: Round, batch: int) -> Tensor | None:
        """Tell which messages of a round arrive, (edges, B); None where all do. Own slices always do."""
        self.enter(moment, batch)
        if at not in self._fates:
            fates = self._delivered(moment, at, batch)
            if len(self._fates) * self.edges * batch > KEPT:
                self._fates = {}
            self._fates[at] = fates
        return self._fates[at]

    def enter(self, moment: Moment, batch: int) -> None:
        """Forget the fates of another sweep, and draw what holds for all rounds of this one."""
        sweep = moment, self.links.dead, batch
        if self._sweep != sweep:
            self._sweep, self._fates, self._late, self._runs = sweep, {}, {}, {}
            self.cut = self._cut_off(moment, batch)

    def _cut_off(self, moment: Moment, batch: int) -> list[BoolArray | None]:
        """Tell of both ways which links are down, or have an end that is, (links of the matrix, B); None: none can."""
        down = self.links.down(moment, batch)
        stopped = None if down is None else down[self.sender] | down[self.receiver]
        cuts = []
        for rows in self.rows:
            cut, outage = stopped, self.links.table.outage[rows] * moment.strength
            if outage.any():
                fails = below(self._outage.bits(moment, batch), outage)
                cut = fails if stopped is None else fails | stopped
            cuts.append(cut)
        return cuts

    def _delivered(self, moment: Moment, at: Round, batch: int) -> Tensor | None:
        pair = self.links.pair if at.reply and not at.backward else "none"  # cotangents are no answers
        lost = None if pair == "exchange" else self._lost(moment, at, batch)
        if pair != "none":
            unheard = self._lost(moment, at._replace(reply=0), batch)
            lost = unheard if lost is None else lost if unheard is None else lost | unheard
        if lost is None:
            return None
        delivered = np.ones((self.edges, batch), dtype=np.bool_)
        delivered[self.between] = ~lost
        return torch.from_numpy(delivered)

    def delays(self, moment: Moment, reply: int, batch: int) -> Tensor | None:
        """Return by how many layers each link is late, (edges, B) int64; None where none of the network is."""
        if not self.links.longest_delay:
            return None
        self.enter(moment, batch)
        if reply not in self._late:
            table, rows = self.links.table, self.rows[reply]
            least, most = table.delay_least[rows], table.delay_most[rows]
            bits = self._delay[reply].bits(moment, batch).astype(np.uint64)
            width = (most - least + 1).astype(np.uint64)
            delays = np.zeros((self.edges, batch), dtype=np.int64)
            delays[self.between] = least[:, None] + ((bits * width[:, None]) >> np.uint64(32)).astype(np.int64)
            self._late[reply] = torch.from_numpy(delays)
        return self._late[reply]

    def parts(self, sizes: list[int]) -> list[Part]:
        """Return chunks of blocks, whose slices have this many neurons together."""
        parts, ends = [], offsets(np.array(sizes, dtype=np.int64))
        edge_of_row = self.edge_of_row.numpy()
        for number, (first, last) in enumerate(itertools.pairwise(ends.tolist())):
            edges = slice(int(edge_of_row[first]), int(edge_of_row[last - 1]) + 1) if last > first else slice(0, 0)
            within = torch.from_numpy(edge_of_row[first:last] - edges.start)
            parts.append(Part(number, edges, slice(first, last), self.neurons, within))
        return parts

    def rounding(self, part: Part, moment: Moment, at: Round, slices: Tensor) -> None:
        """Round a chunk's slices in place to the bits of their links, by the largest value of each slice."""
        back, table = bool(at.backward), self.links.table
        if not (table.bits_back if back else table.bits).any() or (back and not moment.training):
            return
        key = part.number, bool(at.reply), back
        if key not in self._levels:
            self._levels[key] = self._levels_of(part, *key[1:])
        rounds, levels, middle = self._levels[key]
        levels, middle = levels.to(slices.dtype), middle.to(slices.dtype)
        scale = part.largest(slices) / levels
        scaled = torch.where(scale > 0, slices / scale, 0.0)
        if self.links.stochastic:
            if part.number not in self._noise:
                self._noise[part.number] = self._keys_of_values(part)
            noise = self._noise[part.number].bits(moment, slices.shape[1], at.code).astype(np.float64) / 2.0**32
            rounded = torch.floor(scaled - middle + torch.from_numpy(noise).to(slices.dtype)) + middle
            rounded.clamp_(-levels, levels)  # a sum that is rounded up may lie outside
        else:
            rounded = torch.round(scaled - middle) + middle
        slices.copy_(torch.where(rounds, rounded * scale, slices))

    def _levels_of(self, part: Part, reply: bool, back: bool) -> tuple[Tensor, ...]:
        """Return of each neuron of a chunk whether it is rounded, its levels, and the middle of them, (gathered, 1).

        A bit tells -1/2 from 1/2, more of them tell -levels .. levels.
        """
        of_edge = np.zeros(self.edges, dtype=np.int64)
        of_edge[self.between] = (self.links.table.bits_back if back else self.links.table.bits)[self.rows[reply]]
        bits = torch.from_numpy(of_edge[part.edges])[part.edge_of_row][:, None]
        many = 2.0 ** (bits - 1).clamp(min=1).double() - 1
        levels = torch.where(bits > 1, many, torch.where(bits == 1, 0.5, 1.0).double())
        return bits > 0, levels, torch.where(levels < 1.0, 0.5, 0.0).double()

    def _keys_of_values(self, part: Part) -> Keys:
        """Return a key for every value of a chunk's slices: the ends of its link and its place in the slice."""
        sizes = np.bincount(self.edge_of_row.numpy(), minlength=self.edges)
        ends = np.zeros((2, self.edges), dtype=np.int64)
        ends[0, self.between], ends[1, self.between] = self.sender, self.receiver
        within = ragged_ranges(np.zeros_like(sizes), sizes)
        first, second = (each[self.edge_of_row.numpy()[part.rows]] for each in ends)
        return Keys(self.links.seed, Draw.ROUNDING, first, second, within[part.rows])

    def likely(self, part: Part, at: Round, like: Tensor, strength: float) -> Tensor:
        """Return 1 / probability that each slice of a chunk arrives, (gathered, 1), for an unbiased backward sweep."""
        arrives = np.ones(self.edges)
        arrives[self.between] = 1.0 - self.links.table.loss[self.rows[at.reply]] * strength
        mine = arrives[part.edges]
        factor = np.where(mine > 0, 1.0 / np.maximum(mine, 1e-12), 0.0)
        return torch.from_numpy(factor).to(like.dtype)[part.edge_of_row][:, None]

    def _lost(self, moment: Moment, at: Round, batch: int) -> BoolArray | None:
        """Tell which messages between agents are lost, (links of the matrix, B); None where none can be."""
        table, rows = self.links.table, self.rows[at.reply]
        probability = table.loss[rows] * moment.strength
        if not probability.any():
            return self.cut[at.reply]
        if (table.burst[rows] > 1).any():
            lost = self._in_runs(moment, at, batch, probability)
        else:
            lost = below(self.loss_keys[at.reply].bits(moment, batch, at.code), probability)
        cut = self.cut[at.reply]
        return lost if cut is None else lost | cut

    def _in_runs(self, moment: Moment, at: Round, batch: int, probability: np.ndarray) -> BoolArray:
        """Tell which messages are lost where losses come in runs: a Gilbert channel, renewed at random.

        In every round a link draws its state anew with probability 1 / (burst (1 - loss)), else it keeps it, so that
        runs have a mean length of `burst`. Time goes by layers, per update and kind of round.
        """
        run = self._runs.setdefault((at.update, at.reply, at.backward), [])
        burst = self.links.table.burst[self.rows[at.reply]]
        renews = np.minimum(1.0, 1.0 / np.maximum(burst * (1.0 - probability), 1e-12))
        while len(run) <= at.layer:
            code = at._replace(layer=len(run)).code
            lost = below(self.loss_keys[at.reply].bits(moment, batch, code), probability)
            if run:
                renewed = below(self._renewal[at.reply].bits(moment, batch, code), renews)
                lost = np.where(renewed, lost, run[-1])
            run.append(lost)
        return run[at.layer]

    def _own(self, operator: PanelOperator, receiver: IntArray, row_agents: IntArray) -> Tensor | None:
        """Return for every gathered neuron the row of the receiver's own one, for the fill `own`."""
        if self.links.fill != "own":
            return None
        if self.neurons is None:
            raise ValueError("links.fill: expected agents of one width with own, got several. Choose zero or hold.")
        starts = offsets(operator.pattern.row_sizes)[:-1][np.searchsorted(row_agents, receiver)]
        return torch.from_numpy(ragged_ranges(starts, np.full(len(starts), self.neurons)))
