"""Halo exchange: the only two operations through which agents see each other.

    gather       owned slices           -> owned slices + ghosts    neighbor slices come in
    scatter_add  owned slices + ghosts  -> owned slices             contributions go out, their owners sum them

Each is the transpose of the other, so each is the other's backward pass. Both work in place on a `GhostedTensor`.
Shapes: (owned + ghost neurons, batch); rows are neurons, so a slice is contiguous.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.operators.where import Where
from dist_hdnn.topology import BlockPattern, Halo
from dist_hdnn.topology.ragged import IntArray, offsets, ragged_ranges
from dist_hdnn.transport import Channel, Ledger

Work = Callable[[], None]


class GhostedTensor:
    """A tensor in column space: owned rows first, ghost rows last, with the channels that an exchange bound to it.

    tensor: (owned + ghost neurons, B). owned: its owned rows, a view. chunks: its views for batched GEMMs, where
    products need no copy of it. Channels live as long as this object; they are made by the first exchange, by all
    workers in the same order, because all sweep in step.
    """

    __slots__ = ("__weakref__", "chunks", "gathering", "owned", "scattering", "tensor")

    def __init__(self, tensor: Tensor, owned: int) -> None:
        self.tensor, self.owned = tensor, tensor[:owned]
        self.gathering: _Gathering | None = None
        self.scattering: _Scattering | None = None
        self.chunks: list[Any] = []

    @classmethod
    def without_ghosts(cls, owned: Tensor) -> GhostedTensor:
        """Wrap owned rows that no exchange touches."""
        return cls(owned, len(owned))


class Exchange(Protocol):
    """What products need of an exchange.

    moves: whether slices travel; where not, rounds are only counted.
    links: sums contributions link by link where bits must not depend on the partition, see `deterministic`; else None.
    """

    moves: bool
    links: Links | None

    def ghosted(self, tensor: Tensor) -> GhostedTensor:
        """Bind (owned + ghost neurons, B) to this exchange."""

    def gather(self, x: GhostedTensor, meanwhile: Work | None = None) -> None:
        """Fill the ghost rows with their owners' rows. X forward, Xᵀ backward.

        meanwhile: work that touches no ghost row, done while slices travel.
        """

    def scatter_add(
        self, x: GhostedTensor, meanwhile: Work | None = None, owned: Tensor | None = None, share: float = 1.0
    ) -> None:
        """Add the ghost rows to their owners' rows. Xᵀ forward, X backward.

        owned: where the owned rows are, if not before the ghosts. share: factor of what other workers contribute.
        """


class Links(Protocol):
    """The sum of contributions in ascending order of the contributing agents, whatever worker they come from."""

    def sum(self, contributions: Tensor, out: Tensor) -> None:
        """Sum contributions (gathered, B), one run of rows per block, into owned rows (neurons, B)."""


class Silent:
    """No exchange, for products whose ghosts are exchanged by their user. owned: None for all rows."""

    moves = False
    links: Links | None = None

    def __init__(self, owned: int | None = None) -> None:
        self.owned = owned

    def ghosted(self, tensor: Tensor) -> GhostedTensor:
        return GhostedTensor(tensor, len(tensor) if self.owned is None else self.owned)

    def gather(self, x: GhostedTensor, meanwhile: Work | None = None) -> None:
        if meanwhile is not None:
            meanwhile()

    def scatter_add(
        self, x: GhostedTensor, meanwhile: Work | None = None, owned: Tensor | None = None, share: float = 1.0
    ) -> None:
        self.gather(x, meanwhile)


class SimulatedExchange(Silent):
    """All agents in one process: there are no ghosts, so nothing moves, but every round is booked.

    Booked is what the same agents would send on a network of their own, one agent per worker: in a round each agent's
    slice goes once over every directed off-diagonal entry of the pattern.
    slice_neurons: neurons of each agent's slice (half its width), (agents,).
    """

    def __init__(self, pattern: BlockPattern, slice_neurons: IntArray, ledger: Ledger, where: Where) -> None:
        super().__init__()
        rows, columns = pattern.rows(), pattern.columns
        between = rows != columns
        reader, owner = rows[between], columns[between]
        self.ledger, self.where = ledger, where
        self.idle = not between.any()
        self.gathering = ledger.register(owner, reader, slice_neurons[owner])
        self.scattering = ledger.register(reader, owner, slice_neurons[owner])

    def gather(self, x: GhostedTensor, meanwhile: Work | None = None) -> None:
        if not self.idle:
            self.ledger.book(self.gathering, self.where.phase, _row_bytes(x.tensor))
        if meanwhile is not None:
            meanwhile()

    def scatter_add(
        self, x: GhostedTensor, meanwhile: Work | None = None, owned: Tensor | None = None, share: float = 1.0
    ) -> None:
        if not self.idle:
            self.ledger.book(self.scattering, self.where.phase, _row_bytes(x.tensor))
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

    Nothing is copied that need not be: ghosts are received where they belong and sent from there, and so are slices
    that lie side by side.
    scatter_add sends the ghost rows, each already the sum of what this worker's agents contribute, and adds what
    arrives, peer by peer in ascending order.
    label: for error messages, such as "K".
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
    ) -> None:
        assert where.transport is not None, "several workers have a transport"
        self.transport, self.ledger, self.where, self.label = where.transport, ledger, where, label
        self.links: Links | None = None
        own = slice_neurons[halo.owned]
        self.owned = int(own.sum())
        starts = offsets(own)[:-1]
        self.rows = []  # for each peer that needs some, the rows of my slices
        for _, agents in halo.send:
            mine = np.searchsorted(halo.owned, agents)
            self.rows.append(torch.from_numpy(ragged_ranges(starts[mine], own[mine])))
        self.sends = [(peer, int(slice_neurons[agents].sum())) for peer, agents in halo.send]
        self.receives = [(peer, int(slice_neurons[agents].sum())) for peer, agents in halo.receive]
        self.moves = bool(self.sends or self.receives)
        self._landings: WeakValueDictionary[tuple[object, ...], Tensor] = WeakValueDictionary()
        self._register(halo, pattern, owners, slice_neurons)

    def ghosted(self, tensor: Tensor) -> GhostedTensor:
        return GhostedTensor(tensor, self.owned)

    def gather(self, x: GhostedTensor, meanwhile: Work | None = None) -> None:
        if not self.moves:
            self._stay(self.gathering, x, meanwhile)
            return
        channel, packing, row_bytes = x.gathering or self._bind_gathering(x)
        for rows, packed in packing:
            torch.index_select(x.tensor, 0, rows, out=packed)
        channel.start()
        if meanwhile is not None:
            meanwhile()
        channel.wait()
        self.ledger.book(self.gathering, self.where.phase, row_bytes)

    def scatter_add(
        self, x: GhostedTensor, meanwhile: Work | None = None, owned: Tensor | None = None, share: float = 1.0
    ) -> None:
        if not self.moves:
            self._stay(self.scattering, x, meanwhile)
            return
        channel, adding, row_bytes = x.scattering or self._bind_scattering(x)
        channel.start()
        if meanwhile is not None:
            meanwhile()
        channel.wait()
        for rows, target, contributions in adding:
            if isinstance(rows, slice):
                (target if owned is None else owned[rows]).add_(contributions, alpha=share)
            else:
                (target if owned is None else owned).index_add_(0, rows, contributions, alpha=share)
        self.ledger.book(self.scattering, self.where.phase, row_bytes)

    def _stay(self, plan: int, x: GhostedTensor, meanwhile: Work | None) -> None:
        """Book a round between agents of this worker alone; nothing moves."""
        if meanwhile is not None:
            meanwhile()
        if self.linked:
            self.ledger.book(plan, self.where.phase, _row_bytes(x.tensor))

    def __deepcopy__(self, memo: dict[int, object]) -> HaloExchange:
        return self  # a copied network has the same workers

    def _bind_gathering(self, x: GhostedTensor) -> _Gathering:
        """Make the channel of this tensor's gathers."""
        slices, sends, packing = x.tensor, [], []
        for (peer, packed), rows in zip(self._landing(slices), self.rows, strict=True):
            if _is_run(rows):
                sends.append((peer, slices[int(rows[0]) : int(rows[-1]) + 1]))
            else:
                sends.append((peer, packed))
                packing.append((rows.to(slices.device), packed))
        receives = deal(slices[self.owned :], self.receives)
        channel = self.transport.channel(sends, receives, f"{self.label} gather")
        x.gathering = _Gathering(channel, packing, _row_bytes(slices))
        retire_with(x, channel)
        return x.gathering

    def _bind_scattering(self, x: GhostedTensor) -> _Scattering:
        """Make the channel of this tensor's scatter-adds."""
        slices = x.tensor
        landing, mine = self._landing(slices), slices[: self.owned]
        adding: list[tuple[Tensor | slice, Tensor, Tensor]] = []
        for (_, part), rows in zip(landing, self.rows, strict=True):
            if _is_run(rows):
                run = slice(int(rows[0]), int(rows[-1]) + 1)
                adding.append((run, mine[run], part))
            else:
                adding.append((rows.to(mine.device), mine, part))
        ghosts = deal(slices[self.owned :], self.receives)
        channel = self.transport.channel(ghosts, landing, f"{self.label} scatter-add")
        x.scattering = _Scattering(channel, adding, _row_bytes(slices))
        retire_with(x, channel)
        return x.scattering

    def _landing(self, slices: Tensor) -> list[tuple[int, Tensor]]:
        """Return memory for what travels to and from my slices, a part per peer; tensors of one shape share it."""
        key = slices.shape[1], slices.dtype, slices.device
        landing = self._landings.get(key)
        if landing is None:
            landing = slices.new_empty(sum(count for _, count in self.sends), slices.shape[1])
            self._landings[key] = landing
        return deal(landing, self.sends)

    def _register(self, halo: Halo, pattern: BlockPattern, owners: IntArray, slice_neurons: IntArray) -> None:
        """Tell the ledger what a round sends: this worker to others, and its agents to others, here or elsewhere."""
        rows, columns = pattern.rows(), pattern.columns
        between = rows != columns
        rows, columns = rows[between], columns[between]
        me = halo.worker
        own_slice, own_row = owners[columns] == me, owners[rows] == me
        self.linked = bool((own_slice | own_row).any())

        def register(messages: list[tuple[int, int]], sender: IntArray, receiver: IntArray, slices: IntArray) -> int:
            peers, neurons = zip(*messages, strict=True) if messages else ((), ())
            agents = (sender, receiver, slice_neurons[slices])
            return self.ledger.register([me] * len(peers), peers, neurons, agents)

        mine = columns[own_slice]
        self.gathering = register(self.sends, mine, rows[own_slice], mine)
        self.scattering = register(self.receives, rows[own_row], columns[own_row], columns[own_row])


def deal(buffer: Tensor, counts: list[tuple[int, int]]) -> list[tuple[int, Tensor]]:
    """Deal a buffer's rows out to peers: views of (count, batch) each."""
    parts = buffer.split([count for _, count in counts]) if counts else ()
    return [(peer, part) for (peer, _), part in zip(counts, parts, strict=True)]


def retire_with(owner: object, channel: Channel) -> None:
    """Retire a channel when its owner is freed.

    The collector frees objects at any moment and in any thread, so a finalizer must not lock or communicate.
    """
    weakref.finalize(owner, channel.retire).atexit = False


def _is_run(rows: Tensor) -> bool:
    """Tell whether these ascending rows lie side by side."""
    return int(rows[-1] - rows[0]) + 1 == len(rows)


def _row_bytes(slices: Tensor) -> int:
    return slices.shape[1] * slices.element_size()
