"""Impaired links of a network: their table, how lost slices are filled, and where in time the next sweep is."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from dist_hdnn.links.fates import BoolArray, Draw, FloatArray, Keys, Moment, below
from dist_hdnn.links.table import LinkTable
from dist_hdnn.topology.ragged import IntArray

Fill = Literal["zero", "own", "hold", "predict"]
Backward = Literal["matched", "independent"]
Ramp = Literal["full", "uniform", "grow"]
Pair = Literal["exchange", "answer", "none"]
WITH_MEMORY = ("hold", "predict")


@dataclass(eq=False)
class Links:
    """The links that the slices of a network travel over, in both sweeps.

    table: every directed link. agents: their number. fill: the value in place of a lost slice: "zero", the receiver's
    "own" slice, the last one that came ("hold"), or the line through the last two ("predict"); replies know no own
    value and are then zero. pair: "answer": an agent that did not hear another does not answer it in that update;
    "exchange": nor is an answer lost by itself, as if slice and answer were one exchange, which keeps the map
    symplectic; "none": answers do not depend on slices. backward: "matched" is the exact adjoint of the impaired
    forward sweep; in an "independent" one cotangents are lost anew, each by itself, and those that arrive are scaled
    up by 1 / (1 - loss): without bursts they are right in the mean.
    agent_outage: probability that an agent is down for a whole sample, (agents,). dead: agents that are always down.
    failout: probability, in training, that one agent drawn at random is down for a sample.
    ramp: strength of all probabilities in training: "full", drawn from 0 to 1 for every step ("uniform"), or growing
    with the steps to 1 ("grow"), for which `steps` says how many there are. stochastic: round values up or down at
    random, so that they are right in the mean. strengths: {step: strength from this step on}, besides the ramp;
    evaluations have the last. Neither ramp nor strengths change failout.
    seed: of all fates. notes: what was read from a file, for reports.

    step, first, copies: where the next sweep is, see `at`.
    """

    table: LinkTable
    agents: int
    fill: Fill = "zero"
    pair: Pair = "answer"
    backward: Backward = "matched"
    agent_outage: FloatArray | None = None
    dead: tuple[int, ...] = ()
    failout: float = 0.0
    ramp: Ramp = "full"
    stochastic: bool = False
    strengths: dict[int, float] = field(default_factory=dict)
    seed: int = 0
    notes: tuple[str, ...] = ()
    steps: int | None = None
    step: int = 0
    first: int = 0
    copies: int = 1

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("fill", self.fill, get_args(Fill)),
            ("pair", self.pair, get_args(Pair)),
            ("backward", self.backward, get_args(Backward)),
            ("ramp", self.ramp, get_args(Ramp)),
        ):
            if value not in choices:
                raise ValueError(f"links.{name}: expected one of {', '.join(choices)}, got '{value}'. Choose one.")
        self._check_numbers()
        if not 0 <= self.seed < 2**55:
            raise ValueError(f"links.seed: expected an integer from 0 to 2**55 - 1, got {self.seed}. Choose another.")
        if self.backward == "independent" and self.has_memory:
            raise ValueError(
                "links.backward: expected matched with the fills hold and predict and with delays, whose adjoint "
                "remembers too, got independent. Choose matched, or fill zero without delays."
            )

    def _check_numbers(self) -> None:
        """Raise ValueError for numbers that cannot be."""
        table, agents = self.table, self.agents
        if not isinstance(table, LinkTable):
            raise ValueError(f"links: expected a LinkTable, got {type(table).__name__}. Make one of the graph.")
        for column in fields(table):
            values = getattr(table, column.name)
            if not isinstance(values, np.ndarray) or values.shape != (len(table.sender),):
                raise ValueError(
                    f"links: {column.name}: expected an array of {len(table.sender)} links, got {values!r:.60}. Write "
                    f"table.{column.name}[:] = ... for all of them."
                )
        outage = np.zeros(agents) if self.agent_outage is None else np.asarray(self.agent_outage)
        share, most = "probabilities from 0 to 1", np.iinfo(np.int64).max
        for name, values, low, high, expected in (
            ("loss", table.loss, 0, 1, share),
            ("outage", table.outage, 0, 1, share),
            ("burst", table.burst, 1, np.inf, "mean numbers of layers >= 1"),
            ("delay", table.delay_least, 0, most, "layers >= 0"),
            ("delay", table.delay_most - table.delay_least, 0, most, "the least before the most"),
            ("bits", table.bits, 0, 32, "0 to 32 bits, 0 for all"),
            ("bits_back", table.bits_back, 0, 32, "0 to 32 bits, 0 for all"),
            ("failout", np.array([self.failout]), 0, 1, "a probability from 0 to 1"),
            ("dead", np.array(self.dead), 0, agents - 1, f"agents from 0 to {agents - 1}"),
            ("agent_outage", outage, 0, 1, f"{agents} {share}"),
            ("strengths", np.array(list(self.strengths.values()), dtype=np.float64), 0, 1, "factors from 0 to 1"),
            ("latency", table.latency, 0, np.inf, "seconds >= 0"),
            ("jitter", table.jitter, 0, np.inf, "seconds >= 0"),
            ("bandwidth", table.bandwidth, np.finfo(np.float64).tiny, np.inf, "bytes per second > 0"),
        ):
            wrong = ~((values >= low) & (values <= high))
            if wrong.any() or (name == "agent_outage" and len(values) != agents):
                got = values[wrong][0] if wrong.any() else f"{len(values)} of them"
                raise ValueError(f"links: {name}: expected {expected}, got {got}. Correct it.")

    def at(self, step: int | None = None, first: int | None = None, copies: int | None = None) -> None:
        """Say where the next sweep is: number of the gradient step or repetition, and of the batch's first sample.

        copies: consecutive rows of an evaluation that are one sample. A training sweep counts the steps on by itself;
        an evaluation keeps its step.
        """
        self.step = self.step if step is None else step
        self.first = self.first if first is None else first
        self.copies = self.copies if copies is None else copies

    def moment(self, training: bool) -> Moment:
        """Return the moment of the next sweep, and count a training step on."""
        first, copies = (0, 1) if training else (self.first, self.copies)
        moment = Moment(training, self.step, first, self._strength(training), copies)
        self.step += training
        return moment

    @property
    def impairs(self) -> bool:
        """Whether any slice may arrive as another than it was sent, or not at all."""
        table = self.table
        some = [table.loss, table.outage, table.delay_most, table.bits, table.bits_back]
        return any(bool((each > 0).any()) for each in some) or self.stops_agents

    @property
    def stops_agents(self) -> bool:
        """Whether an agent may be down."""
        outage = self.agent_outage is not None and bool((self.agent_outage > 0).any())
        return outage or bool(self.dead) or self.failout > 0

    @property
    def has_memory(self) -> bool:
        """Whether what a receiver sees depends on earlier layers, so that a state alone does not determine the next."""
        return self.fill in WITH_MEMORY or self.longest_delay > 0

    @property
    def only_lose(self) -> bool:
        """Whether a slice arrives as it was sent or is zero, and cotangents likewise."""
        table = self.table
        rounds = bool(table.bits.any()) or bool(table.bits_back.any())
        return self.fill == "zero" and self.backward == "matched" and not (rounds or self.longest_delay)

    @property
    def keeps_symplectic(self) -> bool:
        """Whether layers stay symplectic whatever is lost: zero in place of it, and a slice is lost with its answer.

        Values of few bits are no smooth function of their slices.
        """
        table = self.table
        if self.has_memory or bool(table.bits.any()):
            return False
        loses, cuts = bool(table.loss.any()), bool(table.outage.any())
        back = table.outage[table.find(table.receiver, table.sender)]
        together = self.pair == "exchange" or (not loses and bool((back == table.outage).all()))
        return together and (self.fill == "zero" or not (loses or cuts or self.stops_agents))

    @property
    def longest_delay(self) -> int:
        """The most layers that a slice may be late."""
        return int(self.table.delay_most.max(initial=0))

    def down(self, moment: Moment, batch: int) -> BoolArray | None:
        """Tell which agents are down for which sample, (agents, B); None where all are up."""
        if not self.stops_agents:
            return None
        down = np.zeros((self.agents, batch), dtype=np.bool_)
        down[list(self.dead)] = True
        if self.agent_outage is not None:
            down |= below(self._agents.bits(moment, batch), self.agent_outage * moment.strength)
        if self.failout and moment.training:
            fails, victim = (keys.bits(moment, batch) for keys in self._failing)
            hit = below(fails, np.array([self.failout]))[0]
            chosen = (victim[0].astype(np.uint64) * np.uint64(self.agents)) >> np.uint64(32)
            down[chosen[hit].astype(np.int64), np.flatnonzero(hit)] = True
        return down

    @cached_property
    def _agents(self) -> Keys:
        agents = np.arange(self.agents)
        return Keys(self.seed, Draw.AGENT, agents, np.zeros_like(agents))

    @cached_property
    def _failing(self) -> tuple[Keys, Keys]:
        one = np.zeros(1, dtype=np.int64)
        return Keys(self.seed, Draw.FAILOUT, one, one), Keys(self.seed, Draw.VICTIM, one, one)

    def _strength(self, training: bool) -> float:
        begun = [step for step in self.strengths if step <= self.step or not training]
        strength = self.strengths[max(begun)] if begun else 1.0
        if not training or self.ramp == "full":
            return strength
        if self.ramp == "uniform":
            one = np.zeros(1, dtype=np.int64)
            bits = Keys(self.seed, Draw.STRENGTH, one, one).bits(Moment(True, self.step), 1)
            return strength * float(bits[0, 0]) / 2.0**32
        return strength * min(1.0, self.step / max(self.steps or 1, 1))


def rows_of(table: LinkTable, sender: IntArray, receiver: IntArray, names: tuple[str, ...]) -> IntArray:
    """Return the row of each directed link sender -> receiver. Raises ValueError where agents are not linked."""
    try:
        return table.find(sender, receiver)
    except KeyError as error:
        i, j = error.args[0]
        raise ValueError(
            f"links: expected a pattern that couples linked agents only, got a block of {names[j]} and {names[i]}, "
            "which no link joins. Choose network.K.kind neighbours."
        ) from None
