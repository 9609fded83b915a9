"""Link data from graph files and networkx graphs: what every link has, and how many have it."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dist_hdnn.links.dialects import SECONDS_PER_KM, TEXTS, LinkReader, Reading
from dist_hdnn.links.table import FloatArray, LinkTable
from dist_hdnn.topology import CommunicationGraph, LinkRecords, link_records
from dist_hdnn.topology.ragged import IntArray

EARTH_KM = 6371.0
LABEL = "label "
KEPT = "attributes"  # of a link in a file that a run has written
COORDINATES = "coordinates (5 µs/km)"
Bundle = list[dict[str, Reading]]  # of the parallel links of one row of the table


def link_data(
    source: str | os.PathLike[str] | Any,
    graph: CommunicationGraph,
    onto: LinkTable | None = None,
    units: Mapping[str, str] | None = None,
    format: str | None = None,
) -> tuple[LinkTable, list[str]]:
    """Read latency, jitter, bandwidth, loss and burst of the links of a graph, and say how many have them.

    source: path of a graph file, in `format` or by its suffix, or a networkx graph, directed or not, with attributes.
    onto: a table whose values stay where the source has none, by default that of perfect links; it is not changed.
    units: attribute -> the unit of its bare numbers, such as {"capacity": "Mbit/s"}, where the source has none.
    Return the table and lines for the user: coverage first, then what was not read and why.
    Raises ValueError, in one line, for a source of another graph, a link that the graph does not have, a value that is
    none, two that disagree, and an attribute that has a unit on some links only.
    """
    records = link_records(source, graph, format)
    base = LinkTable.perfect(graph) if onto is None else onto
    table = base.taken(np.arange(len(base)))
    reader = LinkReader(records.facts, units or {})
    bundles: list[Bundle] = [[] for _ in range(len(table))]
    notes = [Counter[str]() for _ in range(len(table))]  # attributes without a unit, and labels without a speed
    for record, rows in zip(records.links, _rows(table, records, graph), strict=True):
        where = f"{records.source}: link {graph.names[record.one]!r} - {graph.names[record.other]!r}"
        readings = reader.read(record.attributes, where)
        label = next((str(record.attributes[name]) for name in TEXTS if record.attributes.get(name)), "")
        for row in rows:
            bundles[row].append(readings)
            notes[row].update(reader.no_unit)
            if label and "bandwidth" not in readings:
                notes[row][f"{LABEL}{label}"] += 1
    reader.check_units()
    coverage = _fill(table, bundles, _distances(table, records))
    in_pairs = all(record.both for record in records.links)
    counted = np.flatnonzero(table.sender < table.receiver) if in_pairs else np.arange(len(table))
    noun = "links" if in_pairs else "directed links"
    lines = [_coverage_line(coverage, bundles, counted.tolist(), noun)]
    return table, lines + _unread(coverage["bandwidth"], notes, counted.tolist(), noun)


def link_attributes(
    source: str | os.PathLike[str], graph: CommunicationGraph, names: Sequence[str], format: str | None = None
) -> list[dict[str, str]]:
    """Return what a file says of these attributes, as text, for every row of a link table. Raises as `link_data`."""
    table, records = LinkTable.perfect(graph), link_records(source, graph, format)
    found: list[dict[str, str]] = [{} for _ in range(len(table))]
    for record, rows in zip(records.links, _rows(table, records, graph), strict=True):
        given = {**record.attributes, **record.attributes.get(KEPT, {})}
        for row in rows:
            found[row].update({name: str(given[name]) for name in names if name in given})
    return found


def as_json(table: LinkTable, graph: CommunicationGraph, attributes: Sequence[Mapping[str, str]] | None = None) -> str:
    """Return what `link_data` reads of a table, value by value, as a directed graph in node-link form.

    attributes: of every row, for `link_attributes`.
    """
    columns = {
        "latency": table.latency,
        "jitter": table.jitter,
        "bandwidth": 8 * table.bandwidth,
        "loss": table.loss,
        "burst": table.burst,
    }
    edges = []
    for row, (one, other) in enumerate(zip(table.sender.tolist(), table.receiver.tolist(), strict=True)):
        values = {name: float(column[row]) for name, column in columns.items() if np.isfinite(column[row])}
        kept = {KEPT: attributes[row]} if attributes else {}
        edges.append({"source": graph.names[one], "target": graph.names[other], **values, **kept})
    facts = {"latency_unit": "s", "jitter_unit": "s", "bandwidth_unit": "bit/s"}
    nodes = [{"id": name} for name in graph.names]
    return json.dumps({"directed": True, "multigraph": False, "graph": facts, "nodes": nodes, "edges": edges})


def _rows(table: LinkTable, records: LinkRecords, graph: CommunicationGraph) -> list[tuple[int, ...]]:
    """Return the rows of the table of every record: there, and back where it holds for both directions."""
    ends: IntArray = np.array([(record.one, record.other) for record in records.links], dtype=np.int64).reshape(-1, 2)
    try:
        there, back = table.find(*ends.T), table.find(*ends.T[::-1])
    except KeyError as error:
        one, other = (graph.names[agent] for agent in error.args[0])
        raise ValueError(
            f"{records.source}: expected links of {graph.name}, got link data of {one!r} - {other!r}, which it does "
            "not have. Remove it, or read the graph from the same source."
        ) from None
    pairs = zip(records.links, there.tolist(), back.tolist(), strict=True)
    return [(row, reverse) if record.both else (row,) for record, row, reverse in pairs]


def _distances(table: LinkTable, records: LinkRecords) -> FloatArray:
    """Return (directed links,): great-circle distance in km, NaN where an end has no coordinates."""
    one, other = (np.radians(records.degrees[agents]) for agents in (table.sender, table.receiver))
    half = (other - one) / 2  # of longitude, latitude
    chord = np.sin(half[:, 1]) ** 2 + np.cos(one[:, 1]) * np.cos(other[:, 1]) * np.sin(half[:, 0]) ** 2
    distance: FloatArray = 2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(chord, 0, 1)))
    return distance


def _fill(table: LinkTable, bundles: Sequence[Bundle], distances: FloatArray) -> dict[str, list[str | None]]:
    """Write what the source has into the table. Return quantity -> where it is from, per row.

    Of parallel links, bandwidths add up, links without one counting as the mean of the others; latency is the least,
    jitter the largest, loss and burst are means.
    """
    merge = {"latency": min, "jitter": max, "bandwidth": sum, "loss": np.mean, "burst": np.mean}
    coverage: dict[str, list[str | None]] = {name: [None] * len(bundles) for name in merge}
    for row, bundle in enumerate(bundles):
        for name, combine in merge.items():
            readings = [readings[name] for readings in bundle if name in readings]
            if readings:
                value = float(combine([reading.value for reading in readings]))  # type: ignore[operator]
                scale = len(bundle) / len(readings) if name == "bandwidth" else 1.0
                getattr(table, name)[row] = value * scale
                coverage[name][row] = readings[0].source
        if coverage["latency"][row] is None and np.isfinite(distances[row]):
            table.latency[row] = distances[row] * SECONDS_PER_KM
            coverage["latency"][row] = COORDINATES
    return coverage


def _coverage_line(
    coverage: Mapping[str, Sequence[str | None]], bundles: Sequence[Bundle], counted: list[int], noun: str
) -> str:
    """Return how many of the counted rows have each quantity, and from where."""
    parts: list[str] = []
    for name in ("bandwidth", "latency", "jitter", "loss"):
        sources = Counter(coverage[name][row] for row in counted)
        without = sources.pop(None, 0)
        if not sources and name in ("jitter", "loss"):
            continue
        text = f"{name} of {len(counted) - without} of {len(counted)}" + (f" {noun}" if not parts else "")
        if len(sources) == 1:
            text += f" from {next(iter(sources))}"
        elif sources:
            text += " (" + ", ".join(f"{count} from {source}" for source, count in sources.most_common()) + ")"
        if without and sources:
            text += f", {without} without"
        having = (sum(name in readings for readings in bundles[row]) for row in counted)
        partial = sum(0 < count < len(bundles[row]) for row, count in zip(counted, having, strict=True))
        if name == "bandwidth" and partial:
            text += f", {partial} scaled up from a part of their parallel links"
        parts.append(text)
    return "; ".join(parts)


def _unread(bandwidth: Sequence[str | None], notes: Sequence[Counter[str]], counted: list[int], noun: str) -> list[str]:
    """Return a line for every attribute without a unit, and one for the labels that name no speed."""
    no_unit, labels = Counter[str](), Counter[str]()
    for row in counted:
        no_unit.update({name for name in notes[row] if not name.startswith(LABEL)})
        if bandwidth[row] is None:
            labels.update({name.removeprefix(LABEL) for name in notes[row] if name.startswith(LABEL)})
    lines = [
        f"{name} of {count} of {len(counted)} {noun} is not read, as it has no unit; give {name}_unit"
        for name, count in sorted(no_unit.items())
    ]
    if labels:
        count, text = labels.total(), labels.most_common(1)[0][0]
        texts = "texts of links without bandwidth name" if count > 1 else "text of links without bandwidth names"
        lines.append(f"{count} {texts} no speed, such as '{text}'")
    return lines
