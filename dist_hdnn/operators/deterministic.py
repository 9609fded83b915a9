"""Sums whose bits do not depend on who owns what: contributions travel one per link and are summed in order.

The ordinary scatter-add sums what a worker's agents contribute to a ghost before it leaves, so rounding depends on the
partition. Here every block's contribution goes out by itself, and an owner adds all it gets for an agent in ascending
order of the contributing agents, its own and others' alike. More bytes, the same numbers on any number of workers.

Other places that keep bits equal: `choice` (no tiles), `panels` (a panel per agent, columns ascending), `activations`
(whole blocks), `network.time_course` (sums layer by layer), `ends.lift`, `ends.image_lift` and `ends.readout` (one
agent at a time, sums over agents ascending), `training.own_loop` (norms of global tensors), `training.loop` (no fused
optimizer), and, in every mode, `network.keyed_random` and `data.batches`.
Shapes: contributions (gathered, B) as products leave them, one run of rows per block.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.operators.exchange import deal
from dist_hdnn.operators.panels import PanelOperator
from dist_hdnn.operators.where import Where
from dist_hdnn.topology import BlockPattern
from dist_hdnn.topology.ragged import IntArray, offsets, ragged_ranges
from dist_hdnn.transport import Channel, Ledger


class _Buffers(NamedTuple):
    """Memory and channel of one batch size, dtype and device."""

    sent: Tensor
    received: Tensor
    channel: Channel


class OrderedSum:
    """The sum of contributions link by link, in ascending order of agents, see `Links`.

    operator: deterministic panels of this worker's rows. pattern, owners, sizes: the whole pattern, every agent's
    worker and the rows of its slice. column_agents: global number of each of the operator's column agents.
    """

    def __init__(
        self,
        operator: PanelOperator,
        pattern: BlockPattern,
        owners: IntArray,
        sizes: IntArray,
        column_agents: IntArray,
        ledger: Ledger,
        where: Where,
        label: str,
    ) -> None:
        self.transport, self.ledger, self.where, self.label = where.transport, ledger, where, label
        rank = 0 if self.transport is None else self.transport.rank
        owned = np.flatnonzero(owners == rank)
        row, column = owned[operator.pattern.block_rows], column_agents[operator.pattern.columns]  # agents of a block
        start = operator.block_start
        rows, columns = pattern.rows(), pattern.columns
        arriving = (owners[rows] != rank) & (owners[columns] == rank)
        from_row, from_column = _sorted(rows[arriving], columns[arriving], owners[rows[arriving]])
        leaving = owners[column] != rank
        order = np.lexsort((row[leaving], column[leaving], owners[column[leaving]]))  # as the receiver sorts them
        to_column = column[leaving][order]
        self._send_rows = torch.from_numpy(ragged_ranges(start[leaving][order], sizes[to_column]))
        self._sends = _counts(owners[to_column], sizes[to_column])
        self._receives = _counts(owners[from_row], sizes[from_column])
        # what arrives lies after the `gathered` rows of this worker's own contributions
        arriving_start = operator.gathered + offsets(sizes[from_column])[:-1]
        all_rows = np.concatenate([row[~leaving], from_row])
        all_columns = np.concatenate([column[~leaving], from_column])
        all_starts = np.concatenate([start[~leaving], arriving_start])
        order = np.lexsort((all_rows, all_columns))  # by the agent that is added to, then by the contributing one
        target = offsets(sizes[owned])[:-1][np.searchsorted(owned, all_columns[order])]
        lengths = sizes[all_columns[order]]
        self._source = torch.from_numpy(ragged_ranges(all_starts[order], lengths))
        self._target = torch.from_numpy(ragged_ranges(target, lengths))
        self._buffers: dict[tuple[object, ...], _Buffers] = {}
        weakref.finalize(self, _retire, self._buffers).atexit = False
        self._entry = self._registered(rank, row, column, sizes)

    def sum(self, contributions: Tensor, out: Tensor) -> None:
        """Sum all contributions to the owned rows `out`, (neurons, B), in order."""
        if contributions.device != self._source.device:
            self._source, self._target, self._send_rows = (
                index.to(contributions.device) for index in (self._source, self._target, self._send_rows)
            )
        everything = contributions
        if self._sends or self._receives:
            buffers = self._at(contributions)
            torch.index_select(contributions, 0, self._send_rows, out=buffers.sent)
            buffers.channel.start()
            buffers.channel.wait()
            everything = torch.cat([contributions, buffers.received])
        out.zero_().index_add_(0, self._target, everything.index_select(0, self._source))
        if self._entry is not None:
            self.ledger.book(self._entry, self.where.phase, contributions.shape[1] * contributions.element_size())

    def __deepcopy__(self, memo: dict[int, object]) -> OrderedSum:
        return self  # a copied network has the same workers

    def _at(self, like: Tensor) -> _Buffers:
        key = like.shape[1], like.dtype, like.device
        buffers = self._buffers.get(key)
        if buffers is None:
            assert self.transport is not None, "several workers have a transport"
            sent = like.new_empty(sum(count for _, count in self._sends), like.shape[1])
            received = self.transport.empty((sum(count for _, count in self._receives), like.shape[1]), like)
            channel = self.transport.channel(
                deal(sent, self._sends), deal(received, self._receives), f"{self.label} ordered scatter-add"
            )
            buffers = self._buffers[key] = _Buffers(sent, received, channel)
        return buffers

    def _registered(self, rank: int, row: IntArray, column: IntArray, sizes: IntArray) -> int | None:
        """Register what a round sends: every contribution to another agent, and what leaves this worker."""
        sent = row != column
        agents = row[sent], column[sent], sizes[column[sent]]
        if self.transport is None:
            return self.ledger.register(*agents) if sent.any() else None
        peers, neurons = zip(*self._sends, strict=True) if self._sends else ((), ())
        return self.ledger.register([rank] * len(peers), peers, neurons, agents)


def _retire(buffers: dict[tuple[object, ...], _Buffers]) -> None:
    """Finalize a sum, without locks and messages."""
    for _, _, channel in buffers.values():
        channel.retire()


def _sorted(rows: IntArray, columns: IntArray, workers: IntArray) -> tuple[IntArray, IntArray]:
    """Sort links by (worker, column, row), the order in which their contributions travel."""
    order = np.lexsort((rows, columns, workers))
    return rows[order], columns[order]


def _counts(workers: IntArray, rows: IntArray) -> list[tuple[int, int]]:
    """Count the rows that go to or come from each worker, ascending."""
    numbers, inverse = np.unique(workers, return_inverse=True)
    totals = np.bincount(inverse, rows, len(numbers)).astype(np.int64)
    return list(zip(numbers.tolist(), totals.tolist(), strict=True))
