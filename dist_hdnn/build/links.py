"""Build the links of a config: one table of all directed links, from the graph's file, the options and their rules."""

from __future__ import annotations

import warnings
from dataclasses import fields
from typing import Any

import numpy as np

from dist_hdnn.build.inputs import agent_number
from dist_hdnn.config import Config
from dist_hdnn.config.links import LinkProperties, LinkRule, LinksConfig
from dist_hdnn.config.paths import user_path
from dist_hdnn.links import units
from dist_hdnn.links.model import Links
from dist_hdnn.links.read import link_data
from dist_hdnn.links.table import LinkTable
from dist_hdnn.topology import CommunicationGraph
from dist_hdnn.topology.ragged import IntArray


def build_links(config: Config, graph: CommunicationGraph) -> Links | None:
    """Build the links of a config; None where its section is empty. Raises ValueError, one line."""
    options = config.links
    if options == LinksConfig():
        return None
    table, notes = link_table(config, graph)
    table.bits_back[table.bits_back == 0] = table.bits[table.bits_back == 0]  # by default as bits
    outage = units.probability(options.agent_outage, "links.agent_outage")
    return Links(
        table,
        graph.agents,
        fill=options.fill,
        pair=options.pair,
        backward=options.backward,
        agent_outage=np.full(graph.agents, outage) if outage else None,
        dead=tuple(agent_number(graph, agent, "links.dead") for agent in options.dead),
        failout=units.probability(options.failout, "links.failout"),
        ramp=options.ramp,
        stochastic=options.rounding == "stochastic",
        strengths=_strengths(options.strengths),
        seed=config.seed if options.seed is None else options.seed,
        notes=tuple(notes),
    )


def link_table(config: Config, graph: CommunicationGraph) -> tuple[LinkTable, list[str]]:
    """Return the links of a graph with their properties: those of the options, then of its file, then of rules.

    The second value says what the file has. Warns of rules that meet no link.
    """
    options, notes = config.links, list[str]()
    table = LinkTable.perfect(graph)
    everything = np.arange(len(table))
    _set(table, everything, options, "links")
    if options.read:
        if config.graph.file is None:
            raise ValueError(
                f"links.read: expected a graph from a file, got the family {config.graph.family}. Set graph.file, or "
                "leave links.read out."
            )
        file = user_path(config.graph.file, "graph.file")
        table, notes = link_data(file, graph, table, options.units, config.graph.format)
    for number, rule in enumerate(options.rules):
        key = f"links.rules[{number}]"
        rows = _selected(table, graph, rule, key)
        if not len(rows):
            warnings.warn(f"{key}: expected to meet some link, got none of {graph.name}; correct it", stacklevel=2)
        _set(table, rows, rule, key)
    return table, notes


def _set(table: LinkTable, rows: IntArray, options: LinkProperties, key: str) -> None:
    """Give these rows the properties that the options name."""
    for name in (field.name for field in fields(LinkProperties)):
        value = getattr(options, name)
        if value is not None:
            for column, number in _read(name, value, f"{key}.{name}").items():
                getattr(table, column)[rows] = number


def _read(name: str, value: Any, key: str) -> dict[str, float]:
    """Return columns of the table and their values. Raises ValueError."""
    if name in ("latency", "jitter"):
        return {name: units.seconds(value, key)}
    if name == "bandwidth":
        return {name: units.bytes_per_second(value, key)}
    if name in ("loss", "outage"):
        return {name: units.probability(value, key)}
    if name == "burst":
        if not 1 <= value < float("inf"):
            raise ValueError(f"{key}: expected a mean number of layers >= 1, got {value:g}. Leave it out for 1.")
        return {name: float(value)}
    if name == "delay":
        least, most = (value, value) if isinstance(value, int) else value if len(value) == 2 else (1, 0)
        if not 0 <= least <= most:
            raise ValueError(f"{key}: expected layers >= 0, or [least, most] of them, got {value}. Write [0, 2].")
        return {"delay_least": least, "delay_most": most}
    if not 1 <= value <= 32:
        raise ValueError(f"{key}: expected 1 to 32 bits per value, got {value}. Leave it out to send what is computed.")
    return {name: value}


def _selected(table: LinkTable, graph: CommunicationGraph, rule: LinkRule, key: str) -> IntArray:
    """Return the rows of the table that a rule is for."""
    chosen = np.ones(len(table), dtype=np.bool_)
    if rule.agents:
        agents = np.array([agent_number(graph, agent, f"{key}.agents") for agent in rule.agents])
        chosen &= np.isin(table.sender, agents) | np.isin(table.receiver, agents)
    if rule.between:
        if len(rule.between) != 2:
            raise ValueError(f"{key}.between: expected two agents, got {len(rule.between)}. Name both ends of a link.")
        i, j = (agent_number(graph, agent, f"{key}.between") for agent in rule.between)
        there = (table.sender == i) & (table.receiver == j)
        back = (table.sender == j) & (table.receiver == i)
        if not there.any():
            raise ValueError(
                f"{key}.between: expected two linked agents, got {rule.between[0]} and {rule.between[1]}, which no "
                f"link of {graph.name} joins. Correct the names."
            )
        chosen &= there if rule.one_way else there | back
    return np.flatnonzero(chosen)


def _strengths(options: dict[str, float]) -> dict[int, float]:
    """Return step -> strength. Raises ValueError for what is no step, and for a negative strength."""
    strengths = {}
    for step, strength in options.items():
        if not str(step).isdigit() or not strength >= 0:
            raise ValueError(
                f"links.strengths: expected gradient steps and factors >= 0, got {step}: {strength:g}. Write "
                "{0: 0.2, 500: 1.0}, for example."
            )
        strengths[int(step)] = float(strength)
    return strengths
