"""Predicted time, bytes and joules of a sample or a batch on agents that work in rounds over their links.

    t_i(r+1) = max(t_i(r) + c_i(r), max over senders j of t_j(r) + c_j(r) + latency_ji + bytes_ji / bandwidth_ji)

c_i is what agent i computes before it sends, its multiplications and additions over a rate. With `serial` an agent has
one sending port: its messages leave one after the other, by the receiver's number. Every message arrives and is waited
for. Shapes: agents (agents,), messages of a round (links of its matrix,), rows of a LinkTable (directed links,).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from dist_hdnn.links.table import EXACT, FloatArray, LinkTable
from dist_hdnn.topology.patterns import BlockPattern
from dist_hdnn.topology.ragged import IntArray, offsets


class Round(NamedTuple):
    """One exchange of slices over a coupling.

    reply: contributions go back to the agents that own them, rather than slices to those that need them. work: products
    with each coupling that an agent computes before it sends, for itself and all that it has heard. slices: in one
    message. backward: of the backward sweep.
    """

    coupling: int
    reply: bool
    work: tuple[float, ...]
    slices: int = 1
    backward: bool = False


@dataclass(frozen=True, eq=False)
class Coupling:
    """A matrix between agents. sizes: neurons of the slice of every agent, (agents,)."""

    pattern: BlockPattern
    sizes: IntArray

    @cached_property
    def entries(self) -> tuple[IntArray, IntArray]:
        """Row and column agent of every block between different agents."""
        rows, columns = self.pattern.rows(), self.pattern.columns
        between = rows != columns
        return rows[between], columns[between]

    @cached_property
    def arithmetic(self) -> FloatArray:
        """Multiplications and additions of a product with an agent's block row, for one sample: (agents,)."""
        blocks = self.sizes[self.pattern.rows()] * self.sizes[self.pattern.columns]
        of_row = np.bincount(self.pattern.rows(), 2.0 * blocks, minlength=self.pattern.agents)
        return of_row.astype(np.float64)


class Work(NamedTuple):
    """Rounds in order, and the products after the last one, as in `Round.work`."""

    couplings: Sequence[Coupling]
    rounds: Sequence[Round]
    rest: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Agents:
    """What agents and their radios do.

    rate: multiplications and additions per second, of all agents or (agents,). per_round: seconds of an agent in every
    round besides. serial: one sending port per agent. header: bytes of a message besides its values.
    joules_per_bit, joules_per_message: of a message, at both ends together. watts: of an agent that computes.
    """

    rate: float | FloatArray = 1e9
    per_round: float = 0.0
    serial: bool = False
    header: int = 0
    joules_per_bit: float = 0.0
    joules_per_message: float = 0.0
    watts: float = 0.0


@dataclass(frozen=True, eq=False)
class Timeline:
    """Predicted times of all agents, in seconds since the start.

    rounds: the messages of every round. begin: start of every round, and of the rest, (rounds + 1, agents). ready,
    sent: end of a round's computing, and when its first message leaves, (rounds, agents). end: (agents,). messages,
    bytes, wire_bytes: per directed link, (rows of the table,), bytes as the ledger counts them, then with headers and
    the links' bits per value. path: (round, row) of the messages that the last agent to end has waited for, newest
    first. path_seconds: their time on each link, sending port included, (rows,). joules: of messages and computing.
    """

    table: LinkTable
    rounds: list[Messages]
    begin: FloatArray
    ready: FloatArray
    sent: FloatArray
    end: FloatArray
    messages: IntArray
    bytes: IntArray
    wire_bytes: IntArray
    path: list[tuple[int, int]]
    path_seconds: FloatArray
    joules: float

    @property
    def seconds(self) -> float:
        """Time until the last agent has ended."""
        return float(self.end.max(initial=0.0))

    @property
    def computing(self) -> FloatArray:
        """Seconds that every agent computes, (agents,)."""
        computing: FloatArray = (self.ready - self.begin[:-1]).sum(axis=0) + self.end - self.begin[-1]
        return computing

    @property
    def waiting(self) -> float:
        """Share of the time in which agents wait for messages, or for others to end, mean over the agents."""
        return float(1.0 - self.computing.mean() / self.seconds) if self.seconds else 0.0

    def critical_link(self) -> tuple[int, int, float] | None:
        """Return sender, receiver and share of the time of the link that delays the end most; None if none does."""
        if not self.path:
            return None
        row = int(self.path_seconds.argmax())
        share = float(self.path_seconds[row] / self.seconds) if self.seconds else 0.0
        return int(self.table.sender[row]), int(self.table.receiver[row]), share


def timeline(
    work: Work, table: LinkTable, agents: Agents | None = None, batch: int = 1, value_bytes: int = 4
) -> Timeline:
    """Predict a sample, or a batch whose samples travel together. Raises ValueError for messages beyond the links."""
    agents, count = agents or Agents(), work.couplings[0].pattern.agents
    begin, ready = np.zeros((len(work.rounds) + 1, count)), np.zeros((len(work.rounds), count))
    sent = ready if not agents.serial else np.zeros_like(ready)
    made: dict[tuple[int, bool, int, bool], Messages] = {}
    computing = {
        products: _seconds(work.couplings, products, agents, batch) for products in {each.work for each in work.rounds}
    }
    port = np.zeros(count)
    for r, each in enumerate(work.rounds):
        key = each.coupling, each.reply, each.slices, each.backward
        if key not in made:
            made[key] = Messages(work.couplings[each.coupling], each, table, agents, (batch, value_bytes))
        messages = made[key]
        messages.rounds += 1
        np.add(begin[r], computing[each.work], out=ready[r])
        if agents.serial:
            np.maximum(ready[r], port, out=sent[r])
            port = sent[r] + messages.port
        begin[r + 1] = ready[r]
        if len(messages.rows):
            arrived = np.maximum.reduceat(sent[r][messages.sender] + messages.delay, messages.starts)
            begin[r + 1][messages.hearing] = np.maximum(ready[r][messages.hearing], arrived)
    end = begin[-1] + _seconds(work.couplings, work.rest, agents, batch) - agents.per_round
    number, plain, wire = (np.zeros(len(table), dtype=np.int64) for _ in range(3))
    for kind in made.values():
        number[kind.rows] += kind.rounds
        plain[kind.rows] += kind.rounds * kind.bytes
        wire[kind.rows] += kind.rounds * kind.wire_bytes
    rounds = [made[each.coupling, each.reply, each.slices, each.backward] for each in work.rounds]
    path, path_seconds = _path(rounds, begin, ready, sent, int(end.argmax()), len(table))
    joules = 8.0 * agents.joules_per_bit * wire.sum() + agents.joules_per_message * number.sum()
    joules += agents.watts * ((ready - begin[:-1]).sum() + (end - begin[-1]).sum())
    return Timeline(table, rounds, begin, ready, sent, end, number, plain, wire, path, path_seconds, float(joules))


class Messages:
    """The messages of a kind of round, one per link of its matrix, sorted by receiver.

    delay: seconds from a sender's first send to the arrival. port: seconds that its port, or the slowest of its ports,
    is busy, (agents,).
    hearing: agents that hear any, starts: their first message. bytes, wire_bytes: of a message. rounds: of this kind.
    """

    def __init__(
        self, coupling: Coupling, each: Round, table: LinkTable, agents: Agents, size: tuple[int, int]
    ) -> None:
        i, j = coupling.entries
        sender, receiver = (i, j) if each.reply else (j, i)
        order = np.lexsort((sender, receiver))
        self.sender, self.receiver, self.rounds = sender[order], receiver[order], 0
        try:
            self.rows = table.find(self.sender, self.receiver)
        except KeyError as missing:
            raise ValueError(
                "cost: expected messages over links alone, got one between agents {} and {}, which are not linked. "
                "Choose the pattern neighbours, or add the link.".format(*missing.args[0])
            ) from None
        values = coupling.sizes[j][order] * each.slices
        self.bytes = values * (size[0] * size[1])
        self.wire_bytes = agents.header + _wire_bytes(values, each, table, self.rows, *size)
        count = coupling.pattern.agents
        heard = np.bincount(self.receiver, minlength=count)
        self.hearing = np.flatnonzero(heard)
        self.starts = offsets(heard)[:-1][self.hearing]
        carried = self.wire_bytes / table.bandwidth[self.rows]
        self.delay, self.port = table.latency[self.rows] + carried, np.zeros(count)
        np.maximum.at(self.port, self.sender, carried)
        if agents.serial:
            by_sender = np.lexsort((self.receiver, self.sender))
            first = offsets(np.bincount(self.sender, minlength=count))
            left = np.concatenate([np.zeros(1), np.cumsum(carried[by_sender])])
            self.delay[by_sender] = table.latency[self.rows[by_sender]] + left[1:] - left[first[self.sender[by_sender]]]
            self.port = np.diff(left[first])


def _wire_bytes(
    values: IntArray, each: Round, table: LinkTable, rows: IntArray, batch: int, value_bytes: int
) -> IntArray:
    """Return the bytes of the values of every message. Rounded values travel with the largest one of their slice."""
    bits = (table.bits_back if each.backward else table.bits)[rows]
    rounded = -(-values * bits * batch // 8) + each.slices * batch * value_bytes
    wire: IntArray = np.where(bits == EXACT, values * batch * value_bytes, rounded)
    return wire


def _seconds(couplings: Sequence[Coupling], products: tuple[float, ...], agents: Agents, batch: int) -> FloatArray:
    """Return what every agent computes in a round, (agents,)."""
    arithmetic = np.zeros(couplings[0].pattern.agents)
    for coupling, times in zip(couplings, products, strict=False):
        arithmetic += times * coupling.arithmetic
    return batch * arithmetic / agents.rate + agents.per_round


def _path(
    rounds: list[Messages], begin: FloatArray, ready: FloatArray, sent: FloatArray, last: int, links: int
) -> tuple[list[tuple[int, int]], FloatArray]:
    """Trace what the last agent has waited for back to the start."""
    path, seconds, agent = list[tuple[int, int]](), np.zeros(links), last
    for r in reversed(range(len(rounds))):
        if begin[r + 1, agent] <= ready[r, agent]:
            continue  # it has waited for nobody
        messages = rounds[r]
        low, high = np.searchsorted(messages.receiver, [agent, agent + 1])
        heard = slice(low, high)
        latest = low + int((sent[r][messages.sender[heard]] + messages.delay[heard]).argmax())
        path.append((r, int(messages.rows[latest])))
        agent = int(messages.sender[latest])
        seconds[messages.rows[latest]] += begin[r + 1, messages.receiver[latest]] - ready[r, agent]
    return path, seconds
