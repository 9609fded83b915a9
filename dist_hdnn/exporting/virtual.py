"""All agents of an export in one process and on a virtual clock, over links with the same fates as real ones.

    t_i <- c + max over senders j of min(t_j + delay_ji, i's end of round r), which is r deadlines after the start

A slice that arrives after the end of its round is lost, as one that never does; c is the measured time of a round.
Shapes: all samples at once; times and fates (samples,), delays (samples, rounds) in seconds, inf where lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dist_hdnn.exporting.fates import Delays, Floats
from dist_hdnn.exporting.one_agent import Agent, Array, Exchange, Filling
from dist_hdnn.exporting.runtime import Manner


@dataclass
class Outcome:
    """Scores by agent (samples, classes), seconds by agent (samples,), and per sample over all agents the messages
    sent, withheld and filled."""

    scores: dict[int, Array]
    seconds: dict[int, Floats]
    messages: Floats
    withheld: Floats
    filled: Floats


def run_virtually(
    agents: Mapping[int, Agent],
    readings: Array,
    delays: Delays,
    manner: Manner,
    hop: float = 0.0,
) -> Outcome:
    """Answer all rows of readings (samples, all readings). hop: seconds of a round without delay."""
    batch = len(readings)
    runs = {i: agent.answer(readings) for i, agent in agents.items()}
    clock = {i: np.zeros(batch) for i in agents}
    fillings, unheard = {i: Filling(manner.fill) for i in agents}, dict[tuple[int, int, str], dict[int, Array]]()
    outcome = Outcome({}, clock, *(np.zeros(batch) for _ in range(3)))
    got: dict[int, dict[int, Array]] = {}
    last: dict[tuple[int, int], Floats] = {}
    rounds = 0
    while runs:
        at: dict[int, Exchange] = {}
        for i, run in list(runs.items()):
            try:
                at[i] = run.send(got[i]) if rounds else next(run)
            except StopIteration as done:
                outcome.scores[i] = done.value
                del runs[i]
        arrivals: dict[tuple[int, int], Floats] = {}
        for i, each in at.items():
            refused = unheard.get((i, each.update, each.matrix), {}) if each.kind == "scatter_add" else {}
            for j in each.out:
                silent = refused.get(j, np.zeros(batch, dtype=np.bool_))
                arrives = np.maximum(clock[i] + delays[i, j][:, rounds], last.get((i, j), 0.0))
                arrivals[i, j] = np.where(silent, np.inf, arrives)
                last[i, j] = np.where(np.isfinite(arrivals[i, j]), arrivals[i, j], last.get((i, j), 0.0))
                outcome.messages += ~silent
                outcome.withheld += silent
        rounds += 1
        for i, each in at.items():
            closes, got[i], missing = np.maximum(rounds * manner.deadline, clock[i]), {}, {}
            for j in each.sources:
                came = arrivals[j, i] <= closes
                slices = np.where(came, at[j].out[i], fillings[i].instead(each, j, batch))
                got[i][j], missing[j] = slices.astype(agents[i].dtype), ~came
                outcome.filled += ~came
            fillings[i].keep(each, got[i])
            if manner.pair and each.kind == "gather":
                unheard[i, each.update, each.matrix] = missing
        clock |= {i: _after(clock[i], i, each, arrivals, rounds * manner.deadline) + hop for i, each in at.items()}
    outcome.seconds = clock
    return outcome


def _after(clock: Floats, i: int, at: Exchange, arrivals: Mapping[tuple[int, int], Floats], closes: float) -> Floats:
    """Return when the last slice of a round is here, or given up."""
    for j in at.sources:
        clock = np.maximum(clock, np.minimum(arrivals[j, i], np.maximum(closes, clock)))
    return clock


def sensed_by(agent: Agent, features: Floats) -> dict[int, Floats]:
    """Return the raw readings (samples,) that an agent senses, by number: those that give these features exactly."""
    about, w = agent.about["readings"], agent.weights
    sensed: dict[int, Floats] = {}
    for k, (source, feature) in enumerate(zip(about["sources"], about["features"], strict=True)):
        if not w["readings.mark"][k]:
            sensed[source] = features[:, feature] / w["readings.scale"][k] + w["readings.shift"][k]
    for k, (source, feature) in enumerate(zip(about["sources"], about["features"], strict=True)):
        if w["readings.mark"][k] and source in sensed:
            sensed[source] = np.where(features[:, feature] > 0.5, np.nan, sensed[source])
    return sensed


def all_readings(agents: Mapping[int, Agent], features: Floats) -> Floats:
    """Return all readings (samples, readings), those that nobody senses as gaps."""
    sensed: dict[int, Floats] = {}
    for agent in agents.values():
        sensed |= sensed_by(agent, features)
    table = np.full((len(features), max(sensed, default=0) + 1), np.nan)
    for source, values in sensed.items():
        table[:, source] = values
    return table
