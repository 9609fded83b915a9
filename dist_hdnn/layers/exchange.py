"""Halo exchange: the only two operations through which agents see each other.

    gather       owned slices           -> owned slices + ghosts    neighbour slices come in
    scatter_add  owned slices + ghosts  -> owned slices             contributions go out, their owners sum them

Each is the transpose of the other, so each is the other's backward pass. Both work in place on one tensor whose first
rows are the owned neurons and whose last rows are the ghosts.
Shapes: (owned + ghost neurons, batch); rows are neurons, so a slice is contiguous.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dist_hdnn.layers.operators import offsets, ragged_ranges
from dist_hdnn.topology import BlockPattern, Halo
from dist_hdnn.transport import Channel, Ledger, Transport

IntArray = NDArray[np.int64]


class Exchange(Protocol):
    """What the layers need of an exchange; `phase` ("forward" or "backward") says to which sweep a round is booked.

    ordered: contributions are to be given one by one to `scatter_links` instead of summed to `scatter_add`.
    """

    ordered: bool

    def gather(self, slices: Tensor, phase: str) -> None:
        """Fill the ghost rows of `slices` with their owners' rows."""

    def scatter_add(self, slices: Tensor, phase: str) -> None:
        """Add the ghost rows of `slices` to their owners' rows."""

    def scatter_links(self, contributions: Tensor, out: Tensor, phase: str) -> None:
        """Sum contributions (gathered, B), one run of rows per block, into the owned rows of `out`, in order."""


class SimulatedExchange:
    """All agents in one process: there are no ghosts, so nothing moves, but every round is booked.

    What is booked is what the same agents would send on a network of their own, one agent a worker: in a round each
    agent's slice goes once over every directed off-diagonal entry of the pattern.
    slice_neurons: neurons of each agent's slice (half its width), (agents,).
    """

    ordered = False

    def __init__(self, pattern: BlockPattern, slice_neurons: IntArray, ledger: Ledger) -> None:
        rows, columns = pattern.rows(), pattern.columns
        between = rows != columns
        reader, owner = rows[between], columns[between]
        self.ledger = ledger
        self.idle = not between.any()
        self.gathering = ledger.register(owner, reader, slice_neurons[owner])
        self.scattering = ledger.register(reader, owner, slice_neurons[owner])

    def gather(self, slices: Tensor, phase: str) -> None:
        if not self.idle:
            self.ledger.book(self.gathering, phase, slices.shape[1], slices.element_size())

    def scatter_add(self, slices: Tensor, phase: str) -> None:
        if not self.idle:
            self.ledger.book(self.scattering, phase, slices.shape[1], slices.element_size())

    def scatter_links(self, contributions: Tensor, out: Tensor, phase: str) -> None:
        raise RuntimeError("this exchange sums before it sends, see scatter_add")


class _Buffers(NamedTuple):
    """Memory and channels of one batch size, dtype and device; `own` holds slices of mine, `ghosts` those of others."""

    own: Tensor
    ghosts: Tensor
    gathering: Channel
    scattering: Channel


class HaloExchange:
    """One worker's end: a slice goes to another worker once a round, however many agents there need it.

    gather sends owned slices and receives ghosts; scatter_add sends the ghost rows, each already the sum of what this
    worker's agents contribute, and adds what arrives, peer by peer in ascending order.
    label: for error messages, such as "K".
    """

    ordered = False

    def __init__(
        self,
        halo: Halo,
        pattern: BlockPattern,
        owners: IntArray,
        slice_neurons: IntArray,
        transport: Transport,
        ledger: Ledger,
        label: str,
    ) -> None:
        self.transport, self.ledger, self.label = transport, ledger, label
        own = slice_neurons[halo.owned]
        self.owned = int(own.sum())
        starts = dict(zip(halo.owned.tolist(), offsets(own)[:-1].tolist(), strict=True))
        sent = [agent for _, agents in halo.send for agent in agents.tolist()]
        rows = ragged_ranges(np.array([starts[agent] for agent in sent], np.int64), slice_neurons[sent])
        self.rows = torch.from_numpy(rows)
        self.sends = [(peer, int(slice_neurons[agents].sum())) for peer, agents in halo.send]
        self.receives = [(peer, int(slice_neurons[agents].sum())) for peer, agents in halo.receive]
        self.idle = not (self.sends or self.receives)
        self._buffers: dict[tuple[object, ...], _Buffers] = {}
        self._register(halo, pattern, owners, slice_neurons)

    def gather(self, slices: Tensor, phase: str) -> None:
        if self.idle:
            return
        buffers = self._at(slices)
        torch.index_select(slices, 0, self.rows, out=buffers.own)
        buffers.gathering.start()
        buffers.gathering.wait()
        slices[self.owned :].copy_(buffers.ghosts)
        self.ledger.book(self.gathering, phase, slices.shape[1], slices.element_size())

    def scatter_add(self, slices: Tensor, phase: str) -> None:
        if self.idle:
            return
        buffers = self._at(slices)
        buffers.ghosts.copy_(slices[self.owned :])
        buffers.scattering.start()
        buffers.scattering.wait()
        slices[: self.owned].index_add_(0, self.rows, buffers.own)
        self.ledger.book(self.scattering, phase, slices.shape[1], slices.element_size())

    def scatter_links(self, contributions: Tensor, out: Tensor, phase: str) -> None:
        raise RuntimeError("this exchange sums before it sends, see scatter_add")

    def _at(self, slices: Tensor) -> _Buffers:
        """Buffers for tensors like this one; made by all workers in the same order, because they sweep in step."""
        key = slices.shape[1], slices.dtype, slices.device
        buffers = self._buffers.get(key)
        if buffers is None:
            self.rows = self.rows.to(slices.device)
            own = slices.new_empty(len(self.rows), slices.shape[1])
            ghosts = slices.new_empty(sum(count for _, count in self.receives), slices.shape[1])
            sends, receives = deal(own, self.sends), deal(ghosts, self.receives)
            buffers = self._buffers[key] = _Buffers(
                own,
                ghosts,
                self.transport.channel(sends, receives, f"{self.label} gather"),
                self.transport.channel(receives, sends, f"{self.label} scatter-add"),
            )
        return buffers

    def _register(self, halo: Halo, pattern: BlockPattern, owners: IntArray, slice_neurons: IntArray) -> None:
        """Tell the ledger what this worker sends in a round, between workers and between agents."""
        rows, columns = pattern.rows(), pattern.columns
        crossing = owners[rows] != owners[columns]
        rows, columns = rows[crossing], columns[crossing]
        me = halo.worker
        own_slice, own_row = owners[columns] == me, owners[rows] == me

        def register(messages: list[tuple[int, int]], sender: IntArray, receiver: IntArray, slices: IntArray) -> int:
            peers, neurons = zip(*messages, strict=True) if messages else ((), ())
            agents = (sender, receiver, slice_neurons[slices])
            return self.ledger.register([me] * len(peers), peers, neurons, agents)

        mine = columns[own_slice]
        self.gathering = register(self.sends, mine, rows[own_slice], mine)
        self.scattering = register(self.receives, rows[own_row], columns[own_row], columns[own_row])


def deal(buffer: Tensor, counts: list[tuple[int, int]]) -> list[tuple[int, Tensor]]:
    """A buffer's rows dealt out to peers: views of (count, batch) each."""
    parts = buffer.split([count for _, count in counts]) if counts else ()
    return [(peer, part) for (peer, _), part in zip(counts, parts, strict=True)]
