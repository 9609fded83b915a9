"""Options of the links: how slices are delayed, lost, rounded and replaced on their way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class LinkProperties:
    """Properties that links can have: of all of them, or of those that a rule selects."""

    latency: float | str | None = None
    """time that a message takes, such as 5 ms; like bandwidth it changes predicted and emulated times, no number"""
    jitter: float | str | None = None
    """standard deviation of the latency in emulations"""
    bandwidth: float | str | None = None
    """such as 1 Gbit/s; a number is in bit/s (default: no limit)"""
    loss: float | str | None = None
    """probability that a slice is lost, such as 0.3 or 30 %, in both sweeps; it is not sent again"""
    burst: float | None = None
    """mean length of a run of lost slices, in layers, at least 1 / (1 - loss) (default: losses are independent)"""
    delay: int | list[int] | None = None
    """layers by which slices are late, or [least, most], drawn per link and sample"""
    bits: int | None = None
    """bits per value that travels forward, 1 to 32 (default: as computed)"""
    bits_back: int | None = None
    """bits per value that travels backward in training (default: as bits)"""
    outage: float | str | None = None
    """probability that a link is down for a whole sample, in both directions"""


@dataclass
class LinkRule(LinkProperties):
    """Other properties for some links. Of several rules that meet a link the last one that names a property wins."""

    agents: list[int | str] | None = None
    """links that end at one of these agents (default, without between: all links)"""
    between: list[int | str] | None = None
    """two agents: the link between them"""
    where: dict[str, str] | None = None
    """attribute of the file of the links -> its text: links that have all of these, such as {type: fibre}"""
    one_way: bool = False
    """with between: only from the first to the second agent"""


@dataclass
class LinksConfig(LinkProperties):
    """The links between agents; perfect by default."""

    read: bool = False
    """take latency, jitter, bandwidth and loss from the file of the graph, where it has them: docs/graphs.md. What it
    has counts instead of the properties here; rules count instead of both"""
    file: str | None = None
    """another file with these links, for read and for rules with where (default: that of the graph)"""
    units: dict[str, str] = field(default_factory=dict)
    """attribute of the file -> unit of its bare numbers, such as capacity: Mbit/s, where the file has none"""
    rounding: Literal["nearest", "stochastic"] = "nearest"
    """how values are rounded to bits"""
    agent_outage: float | str = 0.0
    """probability that an agent is down for a whole sample: it sends and answers nothing"""
    dead: list[int | str] = field(default_factory=list)
    """agents that are always down"""
    failout: float | str = 0.0
    """probability, in training alone, that one agent drawn at random is down for a sample"""
    fill: Literal["zero", "own", "hold", "predict"] = "zero"
    """in place of a lost slice: zero, with which gradients still cannot vanish; the receiver's own; the last one that
    came; or the line through the last two"""
    pair: Literal["exchange", "answer", "none"] = "answer"
    """answer: who did not hear a neighbor does not answer it; exchange: nor is an answer lost by itself, which keeps
    layers symplectic; none: answers and slices are lost independently"""
    backward: Literal["matched", "independent"] = "matched"
    """matched: the exact gradient of the impaired network; independent: cotangents are lost anew, as on real links"""
    ramp: Literal["full", "uniform", "grow"] = "full"
    """strength of all probabilities in training: full, drawn from 0 to full for every step, or growing to full"""
    strengths: dict[str, float] = field(default_factory=dict)
    """gradient step -> factor of all probabilities from there on; evaluations have the last one"""
    rules: list[LinkRule] = field(default_factory=list)
    """other properties for some links"""
    seed: int | None = None
    """of all fates (default: seed)"""

    @property
    def from_file(self) -> bool:
        """Whether link data, or attributes that rules ask for, are read from a file."""
        return self.read or any(rule.where is not None for rule in self.rules)
