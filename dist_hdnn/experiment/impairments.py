"""The points of robustness curves: one impairment at a time, each with several values.

loss      slices are lost, each by itself          burst     the same losses in runs of a mean length
outage    links are down for whole samples         delay     slices are late by some layers
dead      one agent is down                        bits      values travel with few bits
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dist_hdnn.build.inputs import agent_number
from dist_hdnn.config import LinksConfig
from dist_hdnn.links import units
from dist_hdnn.topology import CommunicationGraph

DEFAULTS = {
    "loss": "0,0.1,0.2,0.3,0.6",
    "burst": "2,4,8",
    "outage": "0.1,0.3",
    "delay": "1,2,0-2",
    "bits": "8,4,3,2",
    "dead": "each",
}
"""Kind of impairment -> its values."""
BURST_LOSS = 0.3
"""The loss of all points of `burst`."""
MOST_DEAD = 32
"""The most agents that `dead=each` tries."""


@dataclass(frozen=True)
class Case:
    """One point of a curve.

    value: a number, or of `delay` the layers and of `dead` the agent in words. links: options of the network on which
    it is measured, None without any impairment. strength: factor of their probabilities. dead: agents that are down.
    random: repetitions differ.
    """

    kind: str
    value: float | str
    links: LinksConfig | None
    strength: float = 1.0
    dead: tuple[int, ...] = ()
    random: bool = True


def cases_of(kind: str, text: str, graph: CommunicationGraph, base: LinksConfig, seed: int) -> list[Case]:
    """Return the points of one kind. text: its values, with commas. base: fill, pairing and rounding of all points.

    seed: chooses agents where `each` would be too many. Raises ValueError, one line.
    """
    words = [word.strip() for word in text.split(",")]
    if kind == "dead":
        return _dead(words, graph, base, seed)
    return [_case(kind, word, base, f"robustness: --{kind}") for word in words]


def _case(kind: str, word: str, base: LinksConfig, key: str) -> Case:
    if kind in ("loss", "outage"):
        share = units.probability(word, key)
        whole = replace(base, loss=1.0) if kind == "loss" else replace(base, outage=1.0)
        return Case(kind, share, whole if share else None, strength=share)
    if kind == "burst":
        length = _number(word, key, 1.0, "a mean number of layers >= 1")
        return Case(kind, length, replace(base, loss=BURST_LOSS, burst=length))
    if kind == "delay":
        least, dash, most = word.partition("-")
        bounds = [int(_number(each, key, 0, "layers, or least-most as 0-2")) for each in (least, most or least)]
        if bounds[0] > bounds[1]:
            raise ValueError(f"{key}: expected least-most, got {word!r}; write 0-2")
        return Case(kind, word, replace(base, delay=bounds) if bounds[1] else None, random=bool(dash))
    bits = int(_number(word, key, 1, "1 to 32 bits"))
    if bits > 32:
        raise ValueError(f"{key}: expected 1 to 32 bits, got {word!r}; such as 4")
    return Case(kind, bits, replace(base, bits=bits), random=base.rounding == "stochastic")


def _number(word: str, key: str, least: float, expected: str) -> float:
    try:
        number = float(word) if isinstance(least, float) else int(word)
    except ValueError:
        number = least - 1
    if not least <= number < 1e9:
        raise ValueError(f"{key}: expected {expected}, got {word!r}; separate values by commas")
    return number


def _dead(words: Sequence[str], graph: CommunicationGraph, base: LinksConfig, seed: int) -> list[Case]:
    """Return a case per agent that is down."""
    if words == ["each"]:
        agents = list(range(graph.agents))
        if graph.agents > MOST_DEAD:
            agents = sorted(np.random.default_rng(seed).choice(graph.agents, MOST_DEAD, replace=False).tolist())
    else:
        agents = [agent_number(graph, int(word) if word.isdecimal() else word, "robustness: --dead") for word in words]
    links = replace(base, dead=[0])  # an agent by its number; the case says which
    return [Case("dead", str(graph.names[agent]), links, dead=(agent,), random=False) for agent in agents]
