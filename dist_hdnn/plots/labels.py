"""Names of agents in the picture of a graph, inside the nodes or beside them."""

import unicodedata
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dist_hdnn.data.checks import Floats
from dist_hdnn.plots.drawing import plain
from dist_hdnn.plots.figures import INK, VERMILION
from dist_hdnn.plots.positions import Integers, Points
from dist_hdnn.topology.graphs import CommunicationGraph

LABELS_UP_TO = 60  # agents
SENSOR_LABELS_UP_TO = 24
NAME_UP_TO = 18  # characters
FARTHER = 2.5  # gap between a node and its name where there is no room close by, in gaps
NODE, TEXT, FAR, OUTSIDE = 6.0, 40.0, 6.0, 500.0  # costs of a side, in places of links that a text covers
BOX = np.stack(np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 4)), axis=-1).reshape(-1, 2)  # stands for a text


def short(name: str) -> str:
    """Shorten a name to 18 characters, keeping beginning and end, where names of one kind differ."""
    if len(name) <= NAME_UP_TO:
        return plain(name)
    return plain(f"{name[: NAME_UP_TO // 2 - 1].rstrip()}…{name[-NAME_UP_TO // 2 :].lstrip()}")


def _columns(name: str) -> int:
    """Count the columns of a name, in widths of a Latin letter."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in name.replace("\\$", "$"))


def write_labels(
    axes: Axes, points: Points, graph: CommunicationGraph, shades: Floats, size: float, observed: dict[int, str]
) -> None:
    """Write short names inside the nodes or long ones beside them, and the features of sensors in color.

    shades: (agents, 4) colors of the nodes. size: area of a node in points². observed: text by number of an agent.
    """
    sensors = observed if len(observed) <= SENSOR_LABELS_UP_TO else {}
    beside: list[tuple[int, str, str, float]] = []
    diameter = 2.0 * np.sqrt(size / np.pi)
    if graph.agents <= LABELS_UP_TO:
        names = [short(name) for name in graph.names]
        font = min(10.0, 0.55 * diameter, 1.25 * diameter / max(1, *map(_columns, names)))
        if font >= 6.5:
            brightness = shades[:, :3] @ np.array([0.299, 0.587, 0.114])
            for place, name, bright in zip(points, names, brightness, strict=True):
                style = {"ha": "center", "va": "center_baseline", "fontsize": font, "zorder": 5}
                axes.text(place[0], place[1], name, color=INK if bright > 0.5 else "white", **style)
        else:
            beside = [(agent, name, INK, 8.0) for agent, name in enumerate(names) if agent not in sensors]
            sensors = {agent: f"{names[agent]}\n{text}" for agent, text in sensors.items()}
    first = [(agent, text, VERMILION, 9.0) for agent, text in sensors.items()]
    if first or beside:
        _write_beside(axes, points, graph.links, first + beside, diameter)


def _write_beside(
    axes: Axes, points: Points, links: Integers, labels: list[tuple[int, str, str, float]], diameter: float
) -> None:
    """Write each (agent, text, color, font size) on that side of its node where it covers least, with a line to it.

    Ink is a cloud of points with weights: places along links, nodes, texts that are already written. diameter: of a
    node, in points. Everything else is in pixels.
    """
    dot = axes.figure.dpi / 72.0
    nodes = axes.transData.transform(points)
    # 100 000 places along all links are plenty
    along = np.linspace(0.0, 1.0, int(np.clip(100_000 // max(len(links), 1), 2, 25)))[:, None, None]
    over_links = (nodes[links[:, 0]] * (1 - along) + nodes[links[:, 1]] * along).reshape(-1, 2)
    angles = np.tile(np.pi / 6 * np.array([0, 6, 3, 9, 1, 11, 5, 7, 2, 10, 4, 8]), 2)  # twelve sides, near and far
    sides, far = np.stack([np.cos(angles), np.sin(angles)], axis=1), np.repeat([1.0, FARTHER], 12)[:, None]
    discs = (nodes[:, None] + 0.5 * diameter * dot * np.concatenate([sides[:12], [[0.0, 0.0]]])).reshape(-1, 2)
    ink, weight = np.concatenate([over_links, discs]), np.repeat([1.0, NODE], [len(over_links), len(discs)])
    frame = axes.get_window_extent().padded(4 * dot)
    style: dict[str, Any] = {"ha": "center", "va": "center", "linespacing": 1.1, "zorder": 6}
    style["bbox"] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    arrow = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": diameter / 2}
    for agent, text, color, font in labels:
        style |= {"textcoords": "offset points", "arrowprops": {**arrow, "color": color}}
        written = axes.annotate(text, points[agent], xytext=(0, 0), fontsize=font, color=color, **style)
        half = np.asarray(written.get_window_extent().size) / 2 + 1.0
        gap = (0.5 * diameter * (1.35 if color == VERMILION else 1.0) + 5.0) * dot * far  # a sensor has a ring
        offsets = sides * (gap + half)  # (sides, 2): the box just clears the node
        low, high = nodes[agent] + offsets - half, nodes[agent] + offsets + half
        covered = ((ink >= low[:, None]) & (ink <= high[:, None])).all(axis=2)  # (sides, ink)
        outside = (low < frame.min).any(axis=1) | (high > frame.max).any(axis=1)
        cost = covered @ weight + FAR * (far[:, 0] > 1) + OUTSIDE * outside
        best = int(np.argmin(cost + 1e-3 * np.arange(len(sides))))  # earlier sides first among equals
        written.set_position((float(offsets[best, 0]) / dot, float(offsets[best, 1]) / dot))
        ink = np.concatenate([ink, low[best] + 2 * half * BOX])
        weight = np.concatenate([weight, np.full(len(BOX), TEXT)])
