"""Halo exchange: the only two operations through which agents see each other.

    gather       owned slices           -> owned slices + ghosts    neighbor slices come in
    scatter_add  owned slices + ghosts  -> owned slices             contributions go out, their owners sum them

Each is the transpose of the other, so each is the other's backward pass. Both work in place on a `GhostedTensor`.
Shapes: (owned + ghost neurons, batch); rows are neurons, so a slice is contiguous.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.operators.ghosted import GhostedTensor, Links, Work
from dist_hdnn.operators.recording import do
from dist_hdnn.operators.where import Where
from dist_hdnn.topology import BlockPattern, Halo
from dist_hdnn.topology.ragged import IntArray, ragged_ranges, starts_in
from dist_hdnn.transport import Channel, Ledger

MOST_RUNS = 256  # of rows for one peer, beyond which packing them first is as fast
FEW_RUNS = 4  # of rows for one peer, up to which an addition each is faster than one through an index


class Silent:
    """No exchange, for products whose caller exchanges the ghosts. owned: number of owned rows, None for all."""

    moves = False
    links: Links | None = None
    wires: Any = None

    def __init__(self, owned: int | None = None) -> None:
        self.owned = owned

    def ghosted(self, tensor: Tensor) -> GhostedTensor:
        return GhostedTensor(tensor, len(tensor) if self.owned is None else self.owned)

    def memory(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return like.new_empty(shape)

    def gather(self, x: GhostedTensor, meanwhile: Work | None = None) -> None:
        if meanwhile is not None:
            meanwhile()

    def scatter_add(
        self, x: GhostedTensor, meanwhile: Work | None = None, owned: Tensor | None = None, share: float = 1.0
    ) -> None:
        self.gather(x, meanwhile)


class SimulatedExchange(Silent):
    """All agents in one process: there are no ghosts, so nothing moves, but every round is booked.

    The ledger counts the messages that the same agents would send with one agent per worker: in a round each agent's
    slice goes once over every directed off-diagonal entry of the pattern.
    slice_neurons: neurons of each agent's slice (half its width), (agents,). idle: no agent has anything to send.
    """

    def __init__(self, pattern: BlockPattern, slice_neurons: IntArray, ledger: Ledger, where: Where) -> None:
        super().__init__()
        rows, columns = pattern.rows(), pattern.columns
        between = rows != columns
        reader, owner = rows[between], columns[between]
        self.ledger, self.where = ledger, where
        self.idle = not between.any()
        self.gather_entry = ledger.register(owner, reader, slice_neurons[owner])
        self.scatter_entry = ledger.register(reader, owner, slice_neurons[owner])

    def gather(self, x: GhostedTensor, meanwhile: Work | None = None) -> None:
        if not self.idle:
            self.ledger.book(self.gather_entry, self.where.phase, _row_bytes(x.tensor))
        if meanwhile is not None:
            meanwhile()

    def scatter_add(
        self, x: GhostedTensor, meanwhile: Work | None = None, owned: Tensor | None = None, share: float = 1.0
    ) -> None:
        if not self.idle:
            self.ledger.book(self.scatter_entry, self.where.phase, _row_bytes(x.tensor))
        if meanwhile is not None:
            meanwhile()


class _Gathering(NamedTuple):
    """Sends slices, packed first where a peer's are scattered, and receives ghost rows."""

    channel: Channel
    packing: list[tuple[Tensor, Tensor]]  # (rows, where they are packed)
    row_bytes: int


class _Scattering(NamedTuple):
    """Sends ghost rows, and receives what is then added to the slices, peer by peer."""

    channel: Channel
    adding: list[tuple[Tensor | slice, Tensor, Tensor]]  # (owned rows, these rows or all, what to add)
    row_bytes: int


class HaloExchange:
    """One worker's end: a slice goes to another worker once a round, however many agents there need it.

    Ghosts are received where they belong and sent from there, and so are slices that lie side by side; only others are
    packed. scatter_add sends ghost rows, each the sum of the contributions of this worker's agents, and adds the rows
    that arrive, peer by peer in ascending order.
    label: for error messages, such as "K". order: owned agents in the order of their rows; None as they are.
    idle: nothing is sent by or to the agents of this worker.
    """

    def __init__(
        self,
        halo: Halo,
        pattern: BlockPattern,
        owners: IntArray,
        slice_neurons: IntArray,
        ledger: Ledger,
        where: Where,
        label: str,
        order: IntArray | None = None,
    ) -> None:
        assert where.transport is not None, "several workers have a transport"
        self.transport, self.ledger, self.where, self.label = where.transport, ledger, where, label
        self.links: Links | None = None
        self.wires: Any = None
        own = slice_neurons[halo.owned]
        self.owned = int(own.sum())
        starts = starts_in(order, own)
        self.send_rows = []  # for each peer that needs some, the rows of my slices
        for _, agents in halo.send:
            mine = np.searchsorted(halo.owned, agents)
            self.send_rows.append(torch.from_numpy(ragged_ranges(starts[mine], own[mine])))
        self.sends = [(peer, int(slice_neurons[agents].sum())) for peer, agents in halo.send]
        self.receives = [(peer, int(slice_neurons[agents].sum())) for peer, agents in halo.receive]
        self.moves = bool(self.sends or self.receives)
        self._slice_memory: WeakValueDictionary[tuple[object, ...], Tensor] = WeakValueDictionary()
        self._register(halo, pattern, owners, slice_neurons)

    def ghosted(self, tensor: Tensor) -> GhostedTensor:
        return GhostedTensor(tensor, self.owned)

    def memory(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return self.transport.empty(shape, like) if self.moves else like.new_empty(shape)

    def gather(self, x: GhostedTensor, meanwhile: Work | None = None) -> None:
        if not self.moves:
            self._stay(self.gather_entry, x, meanwhile)
            return
        channel, packing, row_bytes = x.gathering or self._bind_gathering(x)
        for rows, packed in packing:
            torch.index_select(x.tensor, 0, rows, out=packed)
        do(channel.start)
        if meanwhile is not None:
            meanwhile()
        do(channel.wait)
        self.ledger.book(self.gather_entry, self.where.phase, row_bytes)

    def scatter_add(
        self, x: GhostedTensor, meanwhile: Work | None = None, owned: Tensor | None = None, share: float = 1.0
    ) -> None:
        if not self.moves:
            self._stay(self.scatter_entry, x, meanwhile)
            return
        channel, adding, row_bytes = x.scattering or self._bind_scattering(x)
        do(channel.start)
        if meanwhile is not None:
            meanwhile()
        do(channel.wait)
        for rows, target, contributions in adding:
            if isinstance(rows, slice):
                (target if owned is None else owned[rows]).add_(contributions, alpha=share)
            else:
                (target if owned is None else owned).index_add_(0, rows, contributions, alpha=share)
        self.ledger.book(self.scatter_entry, self.where.phase, row_bytes)

    def _stay(self, entry: int, x: GhostedTensor, meanwhile: Work | None) -> None:
        """Book a round between agents of this worker alone, where nothing moves."""
        if meanwhile is not None:
            meanwhile()
        if not self.idle:
            self.ledger.book(entry, self.where.phase, _row_bytes(x.tensor))

    def __deepcopy__(self, memo: dict[int, object]) -> HaloExchange:
        return self  # a copied network has the same workers

    def _bind_gathering(self, x: GhostedTensor) -> _Gathering:
        """Make the channel of this tensor's gathers."""
        slices, sends, packing = x.tensor, [], []
        taken: dict[int, list[Tensor]] = {}
        for (peer, packed), rows in zip(self._memory_of_slices(slices), self.send_rows, strict=True):
            direct = not slices.is_cuda and self.transport.takes_runs(peer)
            runs = _runs_of(rows, MOST_RUNS if direct else 1)
            if len(runs) == 1:
                sends.append((peer, slices[runs[0]]))
                continue
            sends.append((peer, packed))
            if runs:
                taken[peer] = [slices[run] for run in runs]
            else:
                packing.append((rows.to(slices.device), packed))
        receives = deal(slices[self.owned :], self.receives)
        channel = self.transport.channel(sends, receives, f"{self.label} gather", taken)
        x.gathering = made = _Gathering(channel, packing, _row_bytes(slices))
        retire_with(x, channel)
        return made

    def _bind_scattering(self, x: GhostedTensor) -> _Scattering:
        """Make the channel of this tensor's scatter-adds."""
        slices = x.tensor
        arrivals, mine = self._memory_of_slices(slices), slices[: self.owned]
        adding: list[tuple[Tensor | slice, Tensor, Tensor]] = []
        for (_, part), rows in zip(arrivals, self.send_rows, strict=True):
            runs = _runs_of(rows, FEW_RUNS)
            if runs:  # an addition each, which a recorded sweep replays without PyTorch
                parts = part.split([run.stop - run.start for run in runs])
                adding += [(run, mine[run], of_run) for run, of_run in zip(runs, parts, strict=True)]
            else:
                adding.append((rows.to(mine.device), mine, part))
        ghosts = deal(slices[self.owned :], self.receives)
        channel = self.transport.channel(ghosts, arrivals, f"{self.label} scatter-add")
        x.scattering = made = _Scattering(channel, adding, _row_bytes(slices))
        retire_with(x, channel)
        return made

    def _memory_of_slices(self, slices: Tensor) -> list[tuple[int, Tensor]]:
        """Return memory for messages to and from my slices, a part per peer, shared by tensors of one shape."""
        key = slices.shape[1], slices.dtype, slices.device
        memory = self._slice_memory.get(key)
        if memory is None:
            memory = self.memory((sum(count for _, count in self.sends), slices.shape[1]), slices)
            self._slice_memory[key] = memory
        return deal(memory, self.sends)

    def _register(self, halo: Halo, pattern: BlockPattern, owners: IntArray, slice_neurons: IntArray) -> None:
        """Tell the ledger what a round sends: this worker to others, and its agents to others, here or elsewhere."""
        rows, columns = pattern.rows(), pattern.columns
        between = rows != columns
        rows, columns = rows[between], columns[between]
        me = halo.worker
        own_slice, own_row = owners[columns] == me, owners[rows] == me
        self.idle = not (own_slice | own_row).any()

        def register(messages: list[tuple[int, int]], sender: IntArray, receiver: IntArray, slices: IntArray) -> int:
            peers, neurons = zip(*messages, strict=True) if messages else ((), ())
            agents = (sender, receiver, slice_neurons[slices])
            return self.ledger.register([me] * len(peers), peers, neurons, agents)

        mine = columns[own_slice]
        self.gather_entry = register(self.sends, mine, rows[own_slice], mine)
        self.scatter_entry = register(self.receives, rows[own_row], columns[own_row], columns[own_row])


def deal(buffer: Tensor, counts: list[tuple[int, int]]) -> list[tuple[int, Tensor]]:
    """Deal a buffer's rows out to peers: views of (count, batch) each."""
    parts = buffer.split([count for _, count in counts]) if counts else ()
    return [(peer, part) for (peer, _), part in zip(counts, parts, strict=True)]


def retire_with(owner: object, channel: Channel) -> None:
    """Retire a channel when its owner is freed.

    The collector frees objects at any moment and in any thread, so a finalizer must not lock or communicate.
    """
    weakref.finalize(owner, channel.retire).atexit = False


def _runs_of(rows: Tensor, most: int) -> list[slice]:
    """Cut rows into runs that lie side by side, in their order; into none if there are more than `most`."""
    cuts = torch.nonzero(rows[1:] - rows[:-1] != 1).flatten()
    if len(cuts) >= most:
        return []
    ends = cuts.tolist()
    first, last = [0, *(end + 1 for end in ends)], [*ends, len(rows) - 1]
    return [slice(int(rows[a]), int(rows[b]) + 1) for a, b in zip(first, last, strict=True)]


def _row_bytes(slices: Tensor) -> int:
    return slices.shape[1] * slices.element_size()
