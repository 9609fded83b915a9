"""Impaired links in words, for `inspect`, and in figures, for summary.json."""

from __future__ import annotations

from typing import Any

from dist_hdnn.links.fates import FloatArray
from dist_hdnn.links.model import Links
from dist_hdnn.topology.ragged import IntArray


def figures_of(links: Links) -> dict[str, Any]:
    """Return what impairs slices, means over all links of both directions, and the choices that act on it.

    kinds: names of what is impaired. loss, outage, burst: means. delay: least and most layers. bits: least and most
    of the links that round. agent_outage: mean. dead: number of agents.
    """
    table = links.table
    figures: dict[str, Any] = {}
    for name, share in (("loss", table.loss), ("outage", table.outage)):
        if share.any():
            figures[name] = float(share.mean())
    if table.loss.any() and (table.burst > 1).any():
        figures["burst"] = float(table.burst.mean())
    if table.delay_most.any():
        figures["delay"] = [int(table.delay_least.min()), int(table.delay_most.max())]
    for name, column in (("bits", table.bits), ("bits_back", table.bits_back)):
        if column.any():
            figures[name] = _bounds(column)
    if links.agent_outage is not None and links.agent_outage.any():
        figures["agent_outage"] = float(links.agent_outage.mean())
    if links.dead:
        figures["dead"] = len(links.dead)
    if links.failout:
        figures["failout"] = links.failout
    choices = {"fill": links.fill, "pair": links.pair, "backward": links.backward, "ramp": links.ramp}
    return {"kinds": [name for name in figures if name != "burst"], **figures, **choices}


def in_words(links: Links) -> str:
    """Say in a line what impairs slices, such as "loss 30 %, fill zero, pair answer"."""
    table, figures = links.table, figures_of(links)
    words = [f"{name} {_shares(getattr(table, name))}" for name in ("loss", "outage") if name in figures]
    if "burst" in figures:
        words.append(f"in runs of {figures['burst']:g} layers")
    if "delay" in figures:
        words.append(f"{_span(figures['delay'])} layers late")
    if "bits" in figures:
        words.append(f"{_span(figures['bits'])} bits")
    if "bits_back" in figures and figures["bits_back"] != figures.get("bits"):
        words.append(f"{_span(figures['bits_back'])} bits back")
    if "agent_outage" in figures:
        words.append(f"agents down {_percent(figures['agent_outage'])}")
    if "dead" in figures:
        words.append(f"dead agents {figures['dead']}")
    if "failout" in figures:
        words.append(f"failout {_percent(figures['failout'])}")
    words += [f"{name} {figures[name]}" for name in ("fill", "pair")]
    words += [f"{name} {figures[name]}" for name, usual in _USUAL.items() if figures[name] != usual]
    return ", ".join(words)


_USUAL = {"backward": "matched", "ramp": "full"}


def _shares(column: FloatArray) -> str:
    least, most, mean = float(column.min()), float(column.max()), float(column.mean())
    return _percent(mean) if least == most else f"{_percent(mean)} in the mean ({_percent(least)} to {_percent(most)})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _bounds(column: IntArray) -> list[int]:
    some = column[column > 0]
    return [int(some.min()), int(some.max())]


def _span(bounds: list[int]) -> str:
    return str(bounds[0]) if bounds[0] == bounds[1] else f"{bounds[0]} to {bounds[1]}"
