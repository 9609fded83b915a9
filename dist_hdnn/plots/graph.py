"""Picture of a communication graph: agents, links, sensors, accuracy per agent."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter
from scipy.spatial import cKDTree

from dist_hdnn.data.checks import Floats
from dist_hdnn.data.sensors import Sensor, SensorMap
from dist_hdnn.plots.drawing import plain
from dist_hdnn.plots.figures import BLUE, GREY, INK, SKY, VERMILION, new_figure, save
from dist_hdnn.plots.labels import short, write_labels
from dist_hdnn.plots.positions import Integers, Points, drawing_positions
from dist_hdnn.topology.graphs import CommunicationGraph

LEAST_RANGE = 5.0  # percentage points that the colors of accuracies span
DRAWN_INCHES = 6.0  # about the width that the agents take up


def plot_graph(
    graph: CommunicationGraph,
    sensors: SensorMap | Sequence[Sensor] | None,
    accuracy_per_agent: npt.ArrayLike | None,
    path: str | Path,
    feature_names: Sequence[str] | None = None,
    link_bytes: npt.ArrayLike | None = None,
    measure: str = "accuracy",
) -> Path:
    """Draw the agents and their links, with a ring around sensor agents, and return the path.

    accuracy_per_agent: (agents,) fractions in [0, 1] for the colors (NaN is left gray), or None for one color.
    feature_names: by feature number, by default "feature 0" and so on. link_bytes: (links,) bytes per training step,
    which color and thicken the links. Agent names are written for up to 60 agents. measure: "accuracy", or "r2" when
    the accuracies are R² of a regression.
    """
    accuracy, traffic = (
        None if values is None else np.asarray(values, dtype=np.float64) for values in (accuracy_per_agent, link_bytes)
    )
    points = drawing_positions(graph.links, graph.agents, graph.positions)
    figure, axes = _canvas(points, _varies(accuracy) or _varies(traffic))
    size = _node_size(points)
    _draw_links(axes, points, graph.links, traffic)
    shades = _draw_agents(axes, points, accuracy, size, measure)
    observed = _observed(sensors, feature_names)
    _draw_sensor_rings(axes, points, sorted(observed), size)
    axes.set_title(_title(graph, accuracy, traffic, measure), fontsize=11, color=INK)
    figure.draw_without_rendering()  # settles the transforms that placing labels needs
    write_labels(axes, points, graph, shades, size, observed)
    return save(figure, path)


def _title(graph: CommunicationGraph, accuracy: Floats | None, traffic: Floats | None, measure: str) -> str:
    links = len(graph.links)
    words = f"{plain(graph.name)}: {graph.agents} agent{'s' * (graph.agents != 1)}, {links} link{'s' * (links != 1)}"
    if traffic is not None and len(traffic) and not _varies(traffic):
        words += f"\n{EngFormatter('B')(traffic[0])} over every link in a training step, both directions"
    if accuracy is not None and np.isfinite(accuracy).any():
        name, factor, digits = ("accuracy", 100, ".1f") if measure == "accuracy" else ("R²", 1, ".4f")
        unit = " %" if measure == "accuracy" else ""
        worst, mean = int(np.nanargmin(accuracy)), f"{factor * np.nanmean(accuracy):{digits}}{unit}"
        if not _varies(accuracy):
            words += f"\n{name}: {mean}" + (" of every agent" if np.isfinite(accuracy).sum() > 1 else "")
        else:
            lowest = f"{factor * accuracy[worst]:{digits}}{unit}"
            words += f"\n{name}: mean {mean}, worst {lowest} (agent {short(graph.names[worst])})"
    return words


def _varies(values: Floats | None) -> bool:
    """Return True if there are different finite values, which colors can tell apart."""
    return values is not None and len(np.unique(values[np.isfinite(values)])) > 1


def _canvas(points: Points, color_bar: bool) -> tuple[Figure, Axes]:
    """Make a figure in the shape of the drawing, within limits, with room around it for labels."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.maximum(high - low, max(0.25 * float((high - low).max()), 1e-9))
    ratio = float(np.clip(extent[1] / extent[0], 0.5, 1.15))
    figure = new_figure(8.2 + 0.8 * color_bar, 7.4 * ratio + 1.0)
    axes = figure.subplots()
    middle, half = (low + high) / 2, 0.5 * extent + 0.1 * float(extent.max())
    axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])
    axes.set_aspect("equal", adjustable="box")
    axes.set_axis_off()
    return figure, axes


def _node_size(points: Points) -> float:
    """Return the area of a node in points²: smaller for many agents, and where they stand close together."""
    agents = len(points)
    size = float(np.clip(11000.0 / agents, 6.0, 420.0))
    if agents == 1:
        return size
    nearest = cKDTree(points).query(points, k=2)[0][:, 1]  # (agents,) distance to the nearest other
    inches = DRAWN_INCHES * float(np.quantile(nearest, 0.2)) / max(float(np.ptp(points, axis=0).max()), 1e-9)
    return float(np.clip(np.pi / 4 * (72.0 * inches) ** 2, min(size, 40.0), size))


def _draw_links(axes: Axes, points: Points, links: Integers, traffic: Floats | None) -> None:
    """Draw links straight, or bowed around a third agent, in the color of their traffic where it differs."""
    width = float(np.clip(24.0 / np.sqrt(max(len(links), 1)), 0.25, 1.4))
    opacity = float(np.clip(3000.0 / max(len(links), 1), 0.08, 1.0))
    drawn = list(points[links])
    for number in _hidden(points, links):
        drawn[number] = _bowed(points[links[number, 0]], points[links[number, 1]], points.mean(axis=0))
    if traffic is None or not _varies(traffic):
        color = GREY if traffic is None else BLUE
        collection = LineCollection(drawn, colors=color, linewidths=width, alpha=opacity, zorder=1)
    else:
        scale, widths = Normalize(traffic.min(), traffic.max()), width * (0.6 + 1.6 * traffic / traffic.max())
        collection = LineCollection(drawn, cmap="viridis_r", norm=scale, linewidths=widths, zorder=1)
        collection.set_array(traffic)
        bar = axes.figure.colorbar(collection, ax=axes, shrink=0.75, aspect=28, format=EngFormatter("B"))
        bar.set_label("over the link in a training step, both directions", fontsize=9)
    collection.set_in_layout(False)  # measuring a hundred thousand links takes longer than drawing them
    axes.add_collection(collection, autolim=False)


def _hidden(points: Points, links: Integers) -> list[int]:
    """Return the links that run over a third agent, as those around a torus do, and would hide other links."""
    if len(links) * len(points) > 1_000_000:
        return []
    start, along = points[links[:, 0]], points[links[:, 1]] - points[links[:, 0]]  # (links, 2) each
    squared = np.maximum((along**2).sum(axis=1), 1e-30)
    offset = points[None] - start[:, None]  # (links, agents, 2)
    part = (offset * along[:, None]).sum(axis=2) / squared[:, None]  # share of the way at which an agent is passed
    beside = offset - part[..., None] * along[:, None]
    over = (part > 1e-6) & (part < 1 - 1e-6) & ((beside**2).sum(axis=2) < 1e-6 * squared[:, None])
    return [int(number) for number in np.flatnonzero(over.any(axis=1))]


def _bowed(start: Points, end: Points, middle: Points) -> Points:
    """Return a shallow arc from start to end, (24, 2), that bulges away from the middle of the drawing."""
    part = np.linspace(0.0, 1.0, 24)[:, None]
    across = np.array([start[1] - end[1], end[0] - start[0]])
    side = 1.0 if across @ ((start + end) / 2 - middle) >= 0 else -1.0
    arc: Points = start + part * (end - start) + side * 0.2 * part * (1 - part) * across
    return arc


def _draw_agents(axes: Axes, points: Points, accuracy: Floats | None, size: float, measure: str) -> Floats:
    """Draw the agents and return their colors, (agents, 4)."""
    if accuracy is None or not _varies(accuracy):
        measured = np.ones(len(points), dtype=bool) if accuracy is None else np.isfinite(accuracy)
        shades = np.where(measured[:, None], to_rgba(SKY), to_rgba(GREY))
    else:
        shares = measure == "accuracy"
        values = np.ma.masked_invalid(100.0 * accuracy if shares else accuracy)
        low, high = float(values.min()), float(values.max())
        if shares:  # whole percentages, at least five apart, so that tiny differences look alike
            high = min(100.0, max(math.ceil(high), math.floor(low) + LEAST_RANGE))
            low = min(math.floor(low), high - LEAST_RANGE)
        elif low < 0:  # R² has no lower end, and one bad agent would give all others one color
            low = 0.0 if high > 0 else max(low, high - 1.0)
        below = float(values.min()) < low
        mappable = ScalarMappable(Normalize(low, high), colormaps["viridis"].with_extremes(bad=GREY, under=VERMILION))
        shades = np.asarray(mappable.to_rgba(values), dtype=np.float64)
        extend = "min" if below else "neither"
        bar = axes.figure.colorbar(mappable, ax=axes, shrink=0.75, aspect=28, pad=0.02, extend=extend)
        label = "accuracy of the agent (%)" if shares else "R² of the agent"
        bar.set_label(label + f", below {low:.3g} in one color" * below, fontsize=10)
        bar.outline.set_visible(False)
    edge = 0.8 if size > 30 else 0.0
    style: dict[str, Any] = {"s": size, "edgecolors": "white", "linewidths": edge, "zorder": 2, "clip_on": False}
    axes.scatter(points[:, 0], points[:, 1], c=shades, **style)
    return shades


def _observed(sensors: SensorMap | Sequence[Sensor] | None, names: Sequence[str] | None) -> dict[int, str]:
    """Return for each agent number the features that it observes and the half each one enters, e.g. "x1 → q"."""
    entries = sensors.sensors if isinstance(sensors, SensorMap) else sensors or ()
    texts: dict[int, list[str]] = {}
    for sensor in entries:
        name = f"feature {sensor.feature}" if names is None else plain(names[sensor.feature])
        texts.setdefault(int(sensor.agent), []).append(f"{name} → {sensor.half}")
    return {
        agent: "\n".join(lines[:3]) + (f"\nand {len(lines) - 3} more" if len(lines) > 3 else "")
        for agent, lines in texts.items()
    }


def _draw_sensor_rings(axes: Axes, points: Points, agents: list[int], size: float) -> None:
    """Draw a ring around each of these agents, and a legend that explains it."""
    if not agents:
        return
    ring = max(2.2 * size, 60.0) if size < 200 else 1.7 * size
    style: dict[str, Any] = {"facecolors": "none", "edgecolors": VERMILION, "linewidths": 1.8}
    axes.scatter(points[agents, 0], points[agents, 1], s=ring, zorder=4, clip_on=False, **style)
    handle = Line2D([], [], linestyle="", marker="o", markersize=9, color=VERMILION, fillstyle="none")
    handle.set_markeredgewidth(1.8)
    label = "sensor: feature → half of the agent's state it enters"
    axes.figure.legend([handle], [label], loc="outside lower center", fontsize=9, frameon=False)
