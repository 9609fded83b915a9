"""The arguments of a network, checked and in one form: graphs, widths, patterns, a skew J, renamed options."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.dynamics.architectures import Architecture
from dist_hdnn.sweep.execution import DEFAULT, Execution
from dist_hdnn.topology import BlockPattern, CommunicationGraph, as_graph
from dist_hdnn.topology.ragged import IntArray, offsets

WAVE_SHARE = 0.97  # c, the share of the stability limit that a wave starts with
OTHER = (
    "graph width layers step activation K X shared_x seed initial initial_scale dtype device workers partition "
    "architecture integrator gamma J time execution"
).split()
"""Arguments of HDNN, for the nearest name of a misspelled one."""


def agent_widths(graph: CommunicationGraph, width: int | Mapping[Any, int], halves: bool = True) -> IntArray:
    """Neurons of every agent, (agents,), from one even number or a mapping agent -> even number that names every agent.

    halves: whether the state has two halves; with one part, widths may be odd. Raises ValueError for another, zero or
    negative width, an unknown agent, or an agent without a width.
    """
    if isinstance(width, Mapping):
        widths = np.zeros(graph.agents, dtype=np.int64)
        for agent, value in width.items():
            number = graph.index_of(agent)
            if widths[number]:
                raise ValueError(
                    f"network.width: expected one width for each agent, got another of {graph.names[number]!r}, "
                    f"{agent!r}; drop one"
                )
            widths[number] = _checked_width(value, f"agent {agent}", halves)
        if not widths.all():
            missing = [graph.names[i] for i in np.flatnonzero(widths == 0)[:5]]
            raise ValueError(
                f"network.width: expected a width for each of the {graph.agents} agents, got none for "
                f"{(widths == 0).sum()} of them, first {', '.join(missing)}. Add them, or give one number for all."
            )
        return widths
    return np.full(graph.agents, _checked_width(width, "every agent", halves), dtype=np.int64)


def _checked_width(value: int, who: str, halves: bool) -> int:
    if not halves and not isinstance(value, bool) and int(value) == value and value >= 1:
        return int(value)
    if isinstance(value, bool) or int(value) != value or value < 2 or value % 2:
        raise ValueError(
            f"network.width: expected an even number of neurons, at least 2, for {who} (half are p, half are q), "
            f"got {value}. Use {max(2, int(value) + 1)} for example."
        )
    return int(value)


def check_depth(layers: int, step: float) -> None:
    """Raise ValueError unless there is a whole number of layers, and time passes in them."""
    if isinstance(layers, bool) or not isinstance(layers, int | np.integer):
        raise ValueError(f"network.layers: expected a whole number, got {layers!r}. Use 16, for example.")
    if layers < 1:
        raise ValueError(f"network.layers: expected at least 1, got {layers}. Set a positive number of layers.")
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"network.step: expected a positive number, got {step}. Set a step such as 0.5.")


def wave_factor(architecture: Architecture, step: float, initial: str, initial_scale: float, usual: float) -> float:
    """Return the factor of K with the initial values "wave"; 0 with "random".

    Two matrices: q⁺ - 2 q + q⁻ = -4 c Â⁴ q, up to four hops per layer; leapfrog: -4 c Â² q, up to two. Both are stable
    for c < 1 on every graph, because |Â|₂ = 1. Raises ValueError for another architecture or a scale beside it.
    """
    if initial not in ("random", "wave"):
        raise ValueError(f"network.initial: expected random or wave, got '{initial}'. Choose one of these.")
    if initial == "random":
        return 0.0
    if architecture.name not in ("hamiltonian", "MS3", "leapfrog") or architecture.interconnection:
        raise ValueError(
            "network.initial: expected the architecture hamiltonian without X, MS3 or leapfrog for wave, got "
            f"{architecture.name}{' with X' if architecture.interconnection else ''}. Choose random."
        )
    if initial_scale != usual:
        raise ValueError(
            f"network.initial_scale: expected nothing with initial=wave, whose scale is the limit of stability, got "
            f"{initial_scale}. Leave it out."
        )
    if len(architecture.matrices) == 2:
        return math.sqrt(2.0 / step) * float(WAVE_SHARE**0.25)
    return math.sqrt(WAVE_SHARE) * 2.0 / step


def with_renamed(execution: Execution | None, renamed: Mapping[str, Any]) -> Execution:
    """Return the execution, None for the default, with what was given by the former names, which warns.

    Raises TypeError for another type, an unknown name, or a name that is given in both ways.
    """
    if execution is not None and not isinstance(execution, Execution):
        raise TypeError(
            f"HDNN: expected execution to be a dist_hdnn.Execution, got {type(execution).__name__}; "
            'pass Execution(memory="recompute"), for example'
        )
    current = {field.name: field.name for field in fields(Execution)}
    known = {"plan": "products", "overlap": "", **current}
    for name in renamed:
        if name not in known or name == "products":
            near = difflib.get_close_matches(name, [*known, *OTHER], 1)
            remedy = f"did you mean {near[0]}?" if near and near[0] != name else "see help(dist_hdnn.HDNN)"
            if name == "products":
                remedy = "use execution=Execution(products=...)"
            raise TypeError(f"HDNN: got an unexpected argument {name!r}; {remedy}")
    if renamed and execution is not None:
        raise TypeError(f"HDNN: expected {', '.join(renamed)} inside execution=Execution(...), got both; move it there")
    values = {known[name]: value for name, value in renamed.items() if known[name]}
    if renamed:
        new = ", ".join(f"{name}={value!r}" for name, value in values.items())
        warnings.warn(
            f"HDNN: {', '.join(renamed)} moved; use execution=Execution({new})"
            + (". overlap has no effect: tiles always compute while slices travel" if "overlap" in renamed else ""),
            DeprecationWarning,
            stacklevel=3,
        )
    return replace(execution or DEFAULT, **values)


def list_of_graphs(graph: Any, layers: int) -> list[CommunicationGraph]:
    """List the graphs that the layers cycle through, from one or a list. Raises ValueError, also for one too many."""
    graphs = [as_graph(g) for g in graph] if isinstance(graph, list | tuple) else [as_graph(graph)]
    if not graphs:
        raise ValueError("graph: expected at least one graph, got an empty list. Pass a graph such as ring(8).")
    if len(graphs) > layers:
        raise ValueError(
            f"graph: expected at most one graph for each of the {layers} layers, which cycle through them, got "
            f"{len(graphs)}. Drop {len(graphs) - layers} of them, or raise layers."
        )
    for other in graphs[1:]:
        if other.names != graphs[0].names:
            raise ValueError(
                f"graph: expected graphs on the same agents, got {graphs[0].agents} agents in {graphs[0].name} and "
                f"{other.agents} in {other.name}, or other names. Give every graph of the list the same nodes."
            )
    return graphs


def pattern_name(spec: Any) -> str:
    """Return the kind of a pattern that is given by name, such as "neighbours", else "given"."""
    if isinstance(spec, Mapping):
        spec = spec.get("kind")
    return spec if isinstance(spec, str) else "given"


def strict_upper(pattern: BlockPattern, which: str) -> BlockPattern:
    """Return the blocks (i, j), i <= j, of a skew matrix's pattern. Raises ValueError if (j, i) is missing."""
    rows, columns = pattern.rows(), pattern.columns
    if not pattern.contains(pattern.transpose()):
        raise ValueError(
            f"network.{which}: expected a symmetric pattern for a skew matrix, got {pattern.kind} with a block (i, j) "
            "but no block (j, i). Use a symmetric pattern such as neighbours."
        )
    above = rows <= columns
    counts = np.bincount(rows[above], minlength=pattern.agents)
    return BlockPattern(offsets(counts), columns[above], f"{pattern.kind}, upper")


def skew_entries(J: Any, pattern: BlockPattern, sizes: IntArray) -> tuple[IntArray, NDArray[np.float64]]:
    """Return keys row * neurons + column and values of a skew J above the diagonal, dense or scipy sparse.

    sizes: neurons of every agent. Raises ValueError for another shape, a J that is not skew, or an entry off `pattern`.
    """
    neurons = int(sizes.sum())
    if hasattr(J, "tocsr"):
        sparse = J.tocsr().tocoo()  # sums entries given twice
        shape, entries = sparse.shape, (sparse.row, sparse.col, sparse.data)
    else:
        dense = np.asarray(J, dtype=np.float64)
        shape, places = dense.shape, np.nonzero(np.atleast_1d(dense))
        entries = (places[0], places[-1], dense[places] if dense.ndim else dense)
    if tuple(shape) != (neurons, neurons):
        raise ValueError(
            f"network.J: expected a skew matrix of {neurons} x {neurons}, one row per neuron, got {tuple(shape)}. "
            "Order its rows agent by agent."
        )
    rows, columns = (np.asarray(places, np.int64) for places in entries[:2])
    values = np.asarray(entries[2], dtype=np.float64)
    present = values != 0
    rows, columns, values = rows[present], columns[present], values[present]
    keys, mirrored = rows * neurons + columns, columns * neurons + rows
    order, back = np.argsort(keys), np.argsort(mirrored)
    if not (np.array_equal(keys[order], mirrored[back]) and np.array_equal(values[order], -values[back])):
        raise ValueError("network.J: expected a skew matrix, J = -Jᵀ, got another. Use (J - Jᵀ) / 2 for example.")
    agent = np.repeat(np.arange(len(sizes)), sizes)
    blocks = pattern.rows() * len(sizes) + pattern.columns
    stray = ~np.isin(agent[rows] * len(sizes) + agent[columns], blocks)
    if stray.any():
        i, j = int(rows[stray][0]), int(columns[stray][0])
        raise ValueError(
            f"network.J: expected entries on the pattern {pattern.kind} of X alone, got {int(stray.sum())} others, "
            f"first ({i}, {j}) between agents {agent[i]} and {agent[j]}. Give X the pattern that J needs."
        )
    above = order[rows[order] < columns[order]]
    return keys[above], values[above]
