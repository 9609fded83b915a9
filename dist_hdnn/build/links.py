"""Build the links of a config: one table of all directed links, from the graph's file, the options and their rules."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from dist_hdnn.build.inputs import agent_number
from dist_hdnn.config import Config
from dist_hdnn.config.links import LinkProperties, LinkRule, LinksConfig
from dist_hdnn.config.paths import user_path
from dist_hdnn.links import units
from dist_hdnn.links.model import Links
from dist_hdnn.links.read import as_json, link_attributes, link_data
from dist_hdnn.links.table import LinkTable
from dist_hdnn.topology import CommunicationGraph
from dist_hdnn.topology.ragged import IntArray


def build_links(config: Config, graph: CommunicationGraph) -> Links | None:
    """Build the links of a config; None where its section is empty. Raises ValueError, one line."""
    options = config.links
    if options == LinksConfig():
        return None
    table, notes = link_table(config, graph)
    _warn_of_idle(options, table)
    table.bits_back[table.bits_back == 0] = table.bits[table.bits_back == 0]  # by default as bits
    outage = units.probability(options.agent_outage, "links.agent_outage")
    return Links(
        table,
        graph.agents,
        fill=options.fill,
        pair=options.pair,
        backward=options.backward,
        agent_outage=np.full(graph.agents, outage) if outage else None,
        dead=tuple(sorted({agent_number(graph, agent, "links.dead") for agent in options.dead})),
        failout=units.probability(options.failout, "links.failout"),
        ramp=options.ramp,
        stochastic=options.rounding == "stochastic",
        strengths=_strengths(options.strengths),
        seed=config.seed if options.seed is None else options.seed,
        notes=tuple(notes),
    )


def _warn_of_idle(options: LinksConfig, table: LinkTable) -> None:
    """Warn of options that change nothing without another one."""
    for name, idle, needs in (
        ("burst", bool((table.burst > 1).any() and not table.loss.any()), "losses; set links.loss"),
        ("rounding", options.rounding == "stochastic" and not table.bits.any(), "few bits; set links.bits"),
        ("units", bool(options.units) and not options.read, "a file that is read; set links.read"),
    ):
        if idle:
            warnings.warn(f"links.{name} has no effect without {needs}, or leave it out", stacklevel=3)


def link_table(config: Config, graph: CommunicationGraph) -> tuple[LinkTable, list[str]]:
    """Return the links of a graph with their properties: those of the options, then of its file, then of rules.

    The second value says what the file has. Warns of rules that meet no link.
    """
    options, notes = config.links, list[str]()
    table = LinkTable.perfect(graph)
    everything = np.arange(len(table))
    _set(table, everything, options, "links")
    if options.file is not None and not options.from_file:
        raise ValueError("links.file: expected links.read or a rule with where, got neither. Set links.read=true.")
    if options.read:
        table, notes = _of_file(config, graph, table)
    for number, rule in enumerate(options.rules):
        key = f"links.rules[{number}]"
        rows = _selected(table, config, graph, rule, key)
        if not len(rows):
            warnings.warn(f"{key}: expected to meet some link, got none of {graph.name}; correct it", stacklevel=2)
        _set(table, rows, rule, key)
    return table, notes


def _of_file(config: Config, graph: CommunicationGraph, table: LinkTable) -> tuple[LinkTable, list[str]]:
    """Return the table with what the file of the links has, which must not contradict an option."""
    options, (file, format) = config.links, _file(config, "links.read")
    read, notes = link_data(file, graph, table, options.units, format)
    said = LinkTable.perfect(graph)
    _set(said, np.arange(len(said)), options, "links")
    for name in ("latency", "jitter", "bandwidth", "loss", "burst"):
        before, after = getattr(said, name), getattr(read, name)
        different = np.flatnonzero(before != after)
        if getattr(options, name) is not None and len(different):
            sender, receiver = (graph.names[each[different[0]]] for each in (read.sender, read.receiver))
            raise ValueError(
                f"links.{name}: expected one source, got {getattr(options, name)} there and another value in {file}, "
                f"first for {sender} - {receiver}. Leave the option out, or write a rule, which overrides the file."
            )
    columns = [(getattr(table, each.name), getattr(read, each.name)) for each in fields(read)]
    if len(read) and all(np.array_equal(*pair) for pair in columns):
        warnings.warn(f"links.read: expected link data in {file}, got none: {notes[0]}", stacklevel=4)
    return read, notes


def _file(config: Config, key: str) -> tuple[Path, str | None]:
    """Return the file of the links and its format. key: the option that needs it. Raises ValueError without a file."""
    if config.links.file is not None:
        return user_path(config.links.file, "links.file"), None
    if config.graph.file is None:
        raise ValueError(
            f"{key}: expected a graph from a file, got the family {config.graph.family}. Set graph.file or links.file, "
            f"or leave {key} out."
        )
    return user_path(config.graph.file, "graph.file"), config.graph.format


def kept_links(config: Config, graph: CommunicationGraph) -> str | None:
    """Return what a run keeps of the file of its links: properties before rules, and attributes that rules ask for."""
    options = config.links
    if not options.from_file:
        return None
    of_all = replace(options, rules=[], file=options.file if options.read else None)
    table, _ = link_table(replace(config, links=of_all), graph)
    file, format = _file(config, "links.read")
    names = sorted({name for rule in options.rules for name in rule.where or ()})
    return as_json(table, graph, link_attributes(file, graph, names, format))


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


def _selected(table: LinkTable, config: Config, graph: CommunicationGraph, rule: LinkRule, key: str) -> IntArray:
    """Return the rows of the table that a rule is for."""
    chosen = np.ones(len(table), dtype=np.bool_)
    if rule.one_way and not rule.between:
        raise ValueError(f"{key}.one_way: expected between, got none. Name the two agents, the sender first.")
    if all(getattr(rule, field.name) is None for field in fields(LinkProperties)):
        raise ValueError(f"{key}: expected a property such as loss, got none. Write what these links have.")
    if rule.where is not None:
        file, format = _file(config, f"{key}.where")
        links = link_attributes(file, graph, list(rule.where), format)
        for name in rule.where:
            if not any(name in link for link in links):
                raise ValueError(f"{key}.where: expected an attribute of links in {file}, got {name}. Correct it.")
        chosen &= np.array([link == rule.where for link in links], dtype=np.bool_)
    if rule.agents is not None:
        agents = np.array([agent_number(graph, agent, f"{key}.agents") for agent in rule.agents])
        chosen &= np.isin(table.sender, agents) | np.isin(table.receiver, agents)
    if rule.between is not None:
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
    """Return step -> strength. Raises ValueError for what is no step, and for a strength outside 0 to 1."""
    strengths = {}
    for step, strength in options.items():
        if not str(step).isdecimal() or not 0 <= strength <= 1:
            raise ValueError(
                f"links.strengths: expected gradient steps and factors from 0 to 1, got {step}: {strength:g}. Write "
                "{0: 0.2, 500: 1.0}, for example."
            )
        strengths[int(step)] = float(strength)
    return strengths
