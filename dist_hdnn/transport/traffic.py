"""Books of messages: a ledger of all, by phase, sender, receiver and bytes, and a record of the last exchanges.

An exchange registers the messages of its round once. Booking a round is then one addition, whatever the number of
messages, and the counts are multiplied out when somebody asks. One ledger holds the sends of one worker, or of all.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from dist_hdnn.topology.ragged import IntArray

if TYPE_CHECKING:
    from dist_hdnn.transport.channel import Channel

Rounds = dict[tuple[int, str, int], int]
"""(registered exchange, phase, bytes per neuron) -> rounds."""
LAST = 256  # exchanges that a record keeps
PHASES = ("forward", "backward", "readout", "metrics", "setup", "optimizer", "check")


@dataclass(frozen=True, eq=False)
class Traffic:
    """Messages and bytes per directed link, sorted by (sender, receiver): four arrays of one length, all int64."""

    sender: IntArray
    receiver: IntArray
    messages: IntArray
    bytes: IntArray


@dataclass(frozen=True, eq=False)
class _Messages:
    """One message per entry. neurons: rows of the state in it."""

    sender: IntArray
    receiver: IntArray
    neurons: IntArray


@dataclass(frozen=True, eq=False)
class _Plan:
    between_workers: _Messages
    between_agents: _Messages | None
    collective: bool


class Ledger:
    """Counts messages. Workers are numbered by rank, agents as in the graph."""

    def __init__(self) -> None:
        self._plans: list[_Plan] = []
        self._rounds: Rounds = {}

    def register(
        self,
        from_worker: ArrayLike,
        to_worker: ArrayLike,
        neurons: ArrayLike,
        agents: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    ) -> int:
        """Register the messages of one round of an exchange, one per entry, and return the number to book it by.

        agents: (from, to, neurons) of the slices, one entry per slice and agent that needs it, also between agents of
        one worker. Raises ValueError for arrays of different length.
        """
        by_agent = None if agents is None else _messages("agents", *agents)
        self._plans.append(_Plan(_messages("workers", from_worker, to_worker, neurons), by_agent, False))
        return len(self._plans) - 1

    def register_collective(self, worker: int, workers: int, values: int) -> int:
        """Register what this worker sends in an all-reduce of `values` numbers, without headers, as `register` does.

        Collectives are no part of `non_neighbour_messages`; `totals` lists them apart.
        """
        to = np.arange(1, workers, dtype=np.int64) if worker == 0 else np.zeros(1, np.int64)
        self._plans.append(_Plan(_Messages(np.full_like(to, worker), to, np.full_like(to, values)), None, True))
        return len(self._plans) - 1

    def book(self, plan: int, phase: str, row_bytes: int, rounds: int = 1) -> None:
        """Count rounds of a registered exchange. row_bytes: bytes per neuron, batch times bytes per value."""
        key = plan, phase, row_bytes
        if key in self._rounds:
            self._rounds[key] += rounds
        elif phase in PHASES:
            self._rounds[key] = rounds
        else:
            raise ValueError(f"ledger: expected phase {', '.join(PHASES)}, got {phase!r}; use one of these")

    @contextmanager
    def aside(self) -> Iterator[Rounds]:
        """Collect the rounds of the block for `book_all` instead of counting them."""
        counted, self._rounds = self._rounds, {}
        try:
            yield self._rounds
        finally:
            self._rounds = counted

    def book_all(self, rounds: Rounds) -> None:
        """Count rounds that were collected aside."""
        for key, number in rounds.items():
            self._rounds[key] = self._rounds.get(key, 0) + number

    def reset(self) -> None:
        """Forget the rounds, not the registered exchanges."""
        self._rounds.clear()

    def totals(self) -> dict[str, dict[str, int]]:
        """Return rounds, messages, bytes and collective messages, for each phase and for "all"."""
        names = ("rounds", "messages", "bytes", "collective_messages")
        totals = {phase: dict.fromkeys(names, 0) for phase in (*PHASES, "all")}
        for (number, phase, row_bytes), rounds in self._rounds.items():
            plan = self._plans[number]
            messages = rounds * len(plan.between_workers.sender)
            amount = rounds * row_bytes * int(plan.between_workers.neurons.sum())
            booked = (rounds, messages, amount, messages if plan.collective else 0)
            for key in (phase, "all"):
                for name, value in zip(names, booked, strict=True):
                    totals[key][name] += value
        return totals

    def between_agents(self) -> tuple[int, int]:
        """Return messages and bytes of the slices that agents send to other agents, on any worker.

        The sum over the workers does not depend on their number. Collectives are left out. An exchange registered
        without agents has one agent per worker.
        """
        messages = amount = 0
        for (number, _, row_bytes), rounds in self._rounds.items():
            plan = self._plans[number]
            if not plan.collective:
                slices = plan.between_workers if plan.between_agents is None else plan.between_agents
                messages += rounds * len(slices.sender)
                amount += rounds * row_bytes * int(slices.neurons.sum())
        return messages, amount

    def per_link(self, phase: str | None = None, agents: bool = False) -> Traffic:
        """Return the traffic between workers, or between agents where registered, in one phase or in all."""
        parts = []
        for (number, booked, row_bytes), rounds in self._rounds.items():
            plan = self._plans[number]
            messages = plan.between_agents if agents else plan.between_workers
            if messages is not None and phase in (None, booked):
                amount = rounds * row_bytes * messages.neurons
                parts.append(np.stack([messages.sender, messages.receiver, np.full_like(amount, rounds), amount]))
        return _summed(np.concatenate(parts, axis=1) if parts else np.zeros((4, 0), np.int64))

    def non_neighbour_messages(self, adjacency: csr_array, owners: ArrayLike | None = None) -> int:
        """Count the messages that went past the links of the graph, collectives left out.

        adjacency: (agents, agents) of the communication graph. owners: (agents,) worker of each agent; when None, agent
        k is worker k. Counted are slices between agents that are not linked and, of exchanges registered without
        agents, messages between workers no agents of which are linked.
        """
        linked = csr_array(adjacency).astype(bool)
        owner = np.arange(linked.shape[0]) if owners is None else np.asarray(owners, np.int64)
        between = csr_array((np.ones(len(owner), bool), (owner, np.arange(len(owner)))))
        worker_linked: Any = (between @ linked @ between.T).astype(bool)
        count = 0
        for (number, _, _), rounds in self._rounds.items():
            plan = self._plans[number]
            if not plan.collective:
                agents = plan.between_agents
                messages, links = (plan.between_workers, worker_linked) if agents is None else (agents, linked)
                count += rounds * _beyond(messages, links)
        return count


def _messages(what: str, sender: ArrayLike, receiver: ArrayLike, neurons: ArrayLike) -> _Messages:
    arrays = [np.array(values, dtype=np.int64).reshape(-1) for values in (sender, receiver, neurons)]
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"ledger: expected {what} from, to and neurons of one length, got {lengths}; give one per message"
        )
    return _Messages(*(array[arrays[2] > 0] for array in arrays))  # an empty buffer sends nothing


def _summed(entries: IntArray) -> Traffic:
    """Add up the entries of each link. entries: (4, n) of sender, receiver, messages, bytes."""
    sender, receiver, *counts = entries
    stride = int(receiver.max(initial=0)) + 1
    links, place = np.unique(sender * stride + receiver, return_inverse=True)  # by sender, then receiver
    added = np.zeros((2, len(links)), np.int64)
    for total, count in zip(added, counts, strict=True):
        np.add.at(total, place, count)
    return Traffic(*np.divmod(links, stride), *added)


def _beyond(messages: _Messages, linked: csr_array) -> int:
    """Count the messages between ends that are not linked."""
    if not len(messages.sender):
        return 0
    if max(messages.sender.max(), messages.receiver.max()) >= linked.shape[0]:
        raise ValueError(f"ledger: messages of more than the {linked.shape[0]} in the graph; pass the right owners")
    return int(len(messages.sender) - np.count_nonzero(linked[messages.sender, messages.receiver]))


@dataclass(slots=True)
class Round:
    """One exchange since its start. where: the sweep's place. started: Unix time. waiting: monotonic time."""

    exchange: Channel
    where: object
    started: float
    waiting: float | None = None  # since when this worker waits for it to end
    ended: bool = False


class Record:
    """The last exchanges of one worker among `size`. waited: seconds that it has waited for each worker.

    Kept while slices travel, so an exchange costs one small object. Words are made when somebody asks.
    """

    def __init__(self, size: int) -> None:
        self.rounds: deque[Round] = deque(maxlen=LAST)
        self.waited = np.zeros(size)  # an array, which compiled code can add to

    def start(self, exchange: Channel, context: object) -> Round:
        """Add an exchange that starts now. context: of the transport, must not change later."""
        entry = Round(exchange, context, time.time())
        self.rounds.append(entry)
        return entry

    def now(self) -> Round | None:
        """Return the exchange that this worker waits for at this moment."""
        last = self.rounds[-1] if self.rounds else None
        return last if last is not None and last.waiting is not None and not last.ended else None

    def as_json(self) -> dict[str, Any]:
        """Return everything, the newest exchange last, with times in seconds since 1970."""
        messages = [
            {
                "exchange": entry.exchange.label,
                "where": "" if entry.where is None else str(entry.where),
                "state": "done" if entry.ended else "started" if entry.waiting is None else "waiting",
                "started": entry.started,
                "sends": [{"to": peer, "bytes": amount} for peer, amount in entry.exchange.sent_bytes],
                "receives": [{"from": peer, "bytes": amount} for peer, amount in entry.exchange.received_bytes],
            }
            for entry in self.rounds
        ]
        return {"waited_for": self.waited.tolist(), "last_exchanges": messages}
