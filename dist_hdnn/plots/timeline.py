"""When agents compute, wait and send: a bar per agent over the time of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dist_hdnn.links.cost import Timeline
from dist_hdnn.plots.figures import BLUE, INK, ORANGE, VERMILION, new_figure, quiet, save

MOST_AGENTS, MOST_ROUNDS = 32, 64  # bars beyond that are thinner than a line
WAITING = "#e8e8e8"


def plot_timeline(line: Timeline, names: Sequence[str], path: str | Path, title: str = "predicted answer") -> Path:
    """Draw a timeline and return the path. Lines are the messages that delay the end."""
    agents = min(len(names), MOST_AGENTS)
    rounds = min(len(line.ready), MOST_ROUNDS)
    whole = rounds == len(line.ready)
    factor, unit = (1e3, "ms") if line.seconds < 1.0 else (1.0, "s")
    figure = new_figure(7.2, 0.26 * agents + 1.7)
    axes = figure.subplots()
    begin, ready, end = factor * line.begin, factor * line.ready, factor * line.end
    until = float(end.max() if whole else begin[rounds].max())
    least = until / 500  # so that the shortest computing is seen
    for agent in range(agents):
        axes.broken_barh([(0.0, until)], (agent - 0.35, 0.7), color=WAITING, linewidth=0)
        bars = [(begin[r, agent], max(ready[r, agent] - begin[r, agent], least)) for r in range(rounds)]
        if whole:
            bars.append((begin[-1, agent], max(end[agent] - begin[-1, agent], least)))
        axes.broken_barh(bars, (agent - 0.35, 0.7), color=BLUE, linewidth=0)
        sending = [(factor * line.sent[r, agent], factor * line.rounds[r].port[agent]) for r in range(rounds)]
        axes.broken_barh(sending, (agent + 0.1, 0.25), color=ORANGE, linewidth=0)
    for r, row in line.path:
        sender, receiver = int(line.table.sender[row]), int(line.table.receiver[row])
        if r < rounds and max(sender, receiver) < agents:
            times = factor * line.sent[r, sender], begin[r + 1, receiver]
            axes.plot(times, (sender, receiver), color=VERMILION, linewidth=1.2, solid_capstyle="round")
    axes.plot([], [], color=BLUE, linewidth=6, label="computes")
    axes.plot([], [], color=ORANGE, linewidth=3, label="sends")
    axes.plot([], [], color=WAITING, linewidth=6, label="waits")
    axes.plot([], [], color=VERMILION, linewidth=1.2, label="message that delays the end")
    axes.set_xlim(0.0, until)
    axes.set_ylim(agents - 0.4, -0.6)
    axes.set_yticks(np.arange(agents), list(names[:agents]), fontsize=8)
    axes.set_ylabel("agent", fontsize=9)
    axes.set_xlabel(
        f"time ({unit})" + ("" if whole else f", the first {rounds} of {len(line.ready)} rounds"), fontsize=9
    )
    quiet(axes)
    figure.suptitle(f"{title}: {factor * line.seconds:.3g} {unit}, {line.waiting:.0%} waiting", fontsize=11, color=INK)
    figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return save(figure, path)
