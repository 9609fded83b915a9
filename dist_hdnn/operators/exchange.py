"""Halo exchange: the only two operations through which agents see each other.

    gather       owned slices           -> owned slices + ghosts    neighbour slices come in
    scatter_add  owned slices + ghosts  -> owned slices             contributions go out, their owners sum them

Each is the transpose of the other, so each is the other's backward pass. Both work in place on one tensor whose first
rows are the owned neurons and whose last rows are the ghosts.
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

from dist_hdnn.topology import BlockPattern, Halo
from dist_hdnn.topology.ragged import IntArray, offsets, ragged_ranges
from dist_hdnn.transport import Channel, Ledger, Transport

Work = Callable[[], None]


class Exchange(Protocol):
    """What the layers need of an exchange; `phase` ("forward" or "backward") says to which sweep a round is booked.

    meanwhile: work that touches no ghost row, done while slices travel.
    moves: whether slices travel; where not, rounds are counted alone.
    ordered: contributions are to be given one by one to `scatter_links` instead of summed to `scatter_add`.
    """

    ordered: bool
    moves: bool

    def gather(self, slices: Tensor, phase: str, meanwhile: Work | None = None) -> None:
        """Fill the ghost rows of `slices` with their owners' rows."""

    def scatter_add(
        self, slices: Tensor, phase: str, meanwhile: Work | None = None, owned: Tensor | None = None, share: float = 1.0
    ) -> None:
        """Add the ghost rows of `slices` to their owners' rows.

        owned: where the owned rows are, if not before the ghosts. share: how much of others' contributions they take.
        """

    def scatter_links(self, contributions: Tensor, out: Tensor, phase: str) -> None:
        """Sum contributions (gathered, B), one run of rows per block, into the owned rows of `out`, in order."""


class SimulatedExchange:
    """All agents in one process: there are no ghosts, so nothing moves, but every round is booked.

    What is booked is what the same agents would send on a network of their own, one agent a worker: in a round each
    agent's slice goes once over every directed off-diagonal entry of the pattern.
    slice_neurons: neurons of each agent's slice (half its width), (agents,).
    """

    ordered = moves = False

    def __init__(self, pattern: BlockPattern, slice_neurons: IntArray, ledger: Ledger) -> None:
        rows, columns = pattern.rows(), pattern.columns
        between = rows != columns
        reader, owner = rows[between], columns[between]
        self.ledger = ledger
        self.idle = not between.any()
        self.gathering = ledger.register(owner, reader, slice_neurons[owner])
        self.scattering = ledger.register(reader, owner, slice_neurons[owner])

    def gather(self, slices: Tensor, phase: str, meanwhile: Work | None = None) -> None:
        if not self.idle:
            self.ledger.book(self.gathering, phase, _row_bytes(slices))
        if meanwhile is not None:
            meanwhile()

    def scatter_add(
        self, slices: Tensor, phase: str, meanwhile: Work | None = None, owned: Tensor | None = None, share: float = 1.0
    ) -> None:
        if not self.idle:
            self.ledger.book(self.scattering, phase, _row_bytes(slices))
        if meanwhile is not None:
            meanwhile()

    def scatter_links(self, contributions: Tensor, out: Tensor, phase: str) -> None:
        raise RuntimeError("this exchange sums before it sends, see scatter_add")


class Silent:
    """No exchange, for products whose ghosts are exchanged by who uses them."""

    ordered = moves = False

    def gather(self, slices: Tensor, phase: str, meanwhile: Work | None = None) -> None:
        if meanwhile is not None:
            meanwhile()

    def scatter_add(
        self, slices: Tensor, phase: str, meanwhile: Work | None = None, owned: Tensor | None = None, share: float = 1.0
    ) -> None:
        self.gather(slices, phase, meanwhile)

    def scatter_links(self, contributions: Tensor, out: Tensor, phase: str) -> None:
        raise RuntimeError("this exchange sums nothing")


class Rebooked:
    """An exchange for computations that run again; `booking.phase`, if set, is the sweep that they belong to."""

    def __init__(self, inner: Exchange, booking: Booking) -> None:
        self.inner, self.booking, self.ordered, self.moves = inner, booking, inner.ordered, inner.moves

    def gather(self, slices: Tensor, phase: str, meanwhile: Work | None = None) -> None:
        self.inner.gather(slices, self.booking.phase or phase, meanwhile)

    def scatter_add(
        self, slices: Tensor, phase: str, meanwhile: Work | None = None, owned: Tensor | None = None, share: float = 1.0
    ) -> None:
        self.inner.scatter_add(slices, self.booking.phase or phase, meanwhile, owned, share)

    def scatter_links(self, contributions: Tensor, out: Tensor, phase: str) -> None:
        self.inner.scatter_links(contributions, out, self.booking.phase or phase)


class Booking:
    """The phase to book all rounds to, or None for what each computation says."""

    phase: str | None = None


class _Gathering(NamedTuple):
    """A tensor's channel: sends its slices, packed first where a peer's are scattered, and receives its ghost rows."""

    channel: Channel
    packing: list[tuple[Tensor, Tensor]]  # (rows, where they are packed)
    row_bytes: int


class _Scattering(NamedTuple):
    """A tensor's channel: sends its ghost rows, and receives what is then added to its slices, peer by peer."""

    channel: Channel
    adding: list[tuple[Tensor | slice, Tensor, Tensor]]  # (owned rows, these rows or all, what to add)
    row_bytes: int


class HaloExchange:
    """One worker's end: a slice goes to another worker once a round, however many agents there need it.

    Nothing is copied that need not be: ghosts are received where they belong and sent from there, and so are slices
    that lie side by side. Channels are bound to the tensor they were made for, so a sweep gathers and sums in tensors
    that it keeps; its channels are retired when a tensor is freed.
    scatter_add sends the ghost rows, each already the sum of what this worker's agents contribute, and adds what
    arrives, peer by peer in ascending order.
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
        starts = offsets(own)[:-1]
        self.rows = []  # for each peer that needs some, the rows of my slices
        for _, agents in halo.send:
            mine = np.searchsorted(halo.owned, agents)
            self.rows.append(torch.from_numpy(ragged_ranges(starts[mine], own[mine])))
        self.sends = [(peer, int(slice_neurons[agents].sum())) for peer, agents in halo.send]
        self.receives = [(peer, int(slice_neurons[agents].sum())) for peer, agents in halo.receive]
        self.idle = not (self.sends or self.receives)
        self.moves = not self.idle
        self._gatherings: dict[int, _Gathering] = {}  # by id of the tensor
        self._scatterings: dict[int, _Scattering] = {}
        self._landings: WeakValueDictionary[tuple[object, ...], Tensor] = WeakValueDictionary()
        self._register(halo, pattern, owners, slice_neurons)

    def gather(self, slices: Tensor, phase: str, meanwhile: Work | None = None) -> None:
        if self.idle:
            self._stay(self.gathering, slices, phase, meanwhile)
            return
        channel, packing, row_bytes = self._gatherings.get(id(slices)) or self._bind_gathering(slices)
        for rows, packed in packing:
            torch.index_select(slices, 0, rows, out=packed)
        channel.start()
        if meanwhile is not None:
            meanwhile()
        channel.wait()
        self.ledger.book(self.gathering, phase, row_bytes)

    def scatter_add(
        self, slices: Tensor, phase: str, meanwhile: Work | None = None, owned: Tensor | None = None, share: float = 1.0
    ) -> None:
        if self.idle:
            self._stay(self.scattering, slices, phase, meanwhile)
            return
        channel, adding, row_bytes = self._scatterings.get(id(slices)) or self._bind_scattering(slices)
        channel.start()
        if meanwhile is not None:
            meanwhile()
        channel.wait()
        for rows, target, contributions in adding:
            if isinstance(rows, slice):
                (target if owned is None else owned[rows]).add_(contributions, alpha=share)
            else:
                (target if owned is None else owned).index_add_(0, rows, contributions, alpha=share)
        self.ledger.book(self.scattering, phase, row_bytes)

    def scatter_links(self, contributions: Tensor, out: Tensor, phase: str) -> None:
        raise RuntimeError("this exchange sums before it sends, see scatter_add")

    def _stay(self, plan: int, slices: Tensor, phase: str, meanwhile: Work | None) -> None:
        """A round between agents of this worker alone: nothing moves, but it is booked."""
        if meanwhile is not None:
            meanwhile()
        if self.linked:
            self.ledger.book(plan, phase, _row_bytes(slices))

    def __deepcopy__(self, memo: dict[int, object]) -> HaloExchange:
        return self  # a copied network has the same workers

    def _bind_gathering(self, slices: Tensor) -> _Gathering:
        """A channel for this tensor; made by all workers in the same order, because they sweep in step."""
        sends, packing = [], []
        for (peer, packed), rows in zip(self._landing(slices), self.rows, strict=True):
            if _is_run(rows):
                sends.append((peer, _rows(slices, int(rows[0]), int(rows[-1]) + 1)))
            else:
                sends.append((peer, packed))
                packing.append((rows.to(slices.device), packed))
        receives = deal(_rows(slices, self.owned, len(slices)), self.receives)
        channel = self.transport.channel(sends, receives, f"{self.label} gather")
        self._gatherings[id(slices)] = bound = _Gathering(channel, packing, _row_bytes(slices))
        retire_with(slices, self._gatherings)
        return bound

    def _bind_scattering(self, slices: Tensor) -> _Scattering:
        """The same for the way back."""
        landing, mine = self._landing(slices), _rows(slices, 0, self.owned)
        adding: list[tuple[Tensor | slice, Tensor, Tensor]] = []
        for (_, part), rows in zip(landing, self.rows, strict=True):
            if _is_run(rows):
                run = slice(int(rows[0]), int(rows[-1]) + 1)
                adding.append((run, mine[run], part))
            else:
                adding.append((rows.to(mine.device), mine, part))
        ghosts = deal(_rows(slices, self.owned, len(slices)), self.receives)
        channel = self.transport.channel(ghosts, landing, f"{self.label} scatter-add")
        self._scatterings[id(slices)] = bound = _Scattering(channel, adding, _row_bytes(slices))
        retire_with(slices, self._scatterings)
        return bound

    def _landing(self, slices: Tensor) -> list[tuple[int, Tensor]]:
        """Memory for what travels to and from my slices, a part for each peer; tensors of one shape share it."""
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
    """A buffer's rows dealt out to peers: views of (count, batch) each."""
    parts = buffer.split([count for _, count in counts]) if counts else ()
    return [(peer, part) for (peer, _), part in zip(counts, parts, strict=True)]


def retire_with(tensor: Tensor, bound: dict[int, Any]) -> None:
    """When `tensor` is freed, forget what is bound to its id and retire the channel.

    The collector frees tensors at any moment and in any thread, so a finalizer must not lock or communicate.
    """
    key = id(tensor)
    weakref.finalize(tensor, lambda: bound.pop(key).channel.retire()).atexit = False


def _rows(slices: Tensor, start: int, stop: int) -> Tensor:
    """These rows, as a view of the memory alone: an ordinary view would keep `slices` from being freed."""
    batch = slices.shape[1]
    where = slices.storage_offset() + start * batch
    return slices.new_empty(0).set_(slices.untyped_storage(), where, (stop - start, batch), (batch, 1))


def _is_run(rows: Tensor) -> bool:
    """Whether these ascending rows lie side by side."""
    return int(rows[-1] - rows[0]) + 1 == len(rows)


def _row_bytes(slices: Tensor) -> int:
    return slices.shape[1] * slices.element_size()
