"""Accuracy over impaired links: a panel per impairment, with the band of the repetitions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from dist_hdnn.plots.drawing import plain
from dist_hdnn.plots.figures import BLUE, GREEN, GREY, INK, SKY, VERMILION, new_figure, quiet, save

LABELS = {
    "loss": "slices lost (%)",
    "burst": "mean run of lost slices (layers)",
    "outage": "links down (%)",
    "delay": "slices late (layers)",
    "bits": "bits per value",
    "dead": "agent that is down",
}
NAMED = 16  # agents; more names than that run into each other


def plot_robustness(result: Mapping[str, Any], path: str | Path, title: str) -> Path:
    """Draw the figures of `robustness.robustness_of_run`, one panel per impairment, and return the path."""
    curves = {kind: points for kind, points in result["curves"].items() if points}
    columns = min(3, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = new_figure(3.1 * columns + 0.5, 2.5 * rows + 0.5)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    scale = 100.0 if result["measure"] == "accuracy" else 1.0
    for axes, (kind, points) in zip(panels, curves.items(), strict=False):
        words = LABELS[kind] + (f", {100 * result['burst_loss']:g} % lost" if kind == "burst" else "")
        _panel(axes, kind, points, result["unimpaired"], scale)
        axes.set_xlabel(words, fontsize=9)
        quiet(axes)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    figure.supylabel("test accuracy (%)" if result["measure"] == "accuracy" else "test R²", fontsize=9)
    figure.suptitle(f"{plain(title)}: one impairment at a time, fill {result['fill']}", fontsize=11, color=INK)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    return save(figure, path)


def _panel(
    axes: Axes, kind: str, points: Sequence[Mapping[str, Any]], perfect: Mapping[str, Any], scale: float
) -> None:
    """Draw the curve of one impairment: over numbers where values are probabilities, else side by side."""
    factor = 100.0 if kind in ("loss", "outage") else None
    if factor:
        points = sorted(points, key=lambda point: float(point["value"]))
        if points[0]["value"]:
            points = [{"value": 0.0, **perfect}, *points]
    places = [factor * point["value"] if factor else number for number, point in enumerate(points)]

    def values(of: Any) -> list[float]:
        return [math.nan if (value := of(point)) is None else scale * value for point in points]

    line = "none" if kind == "dead" else "-"
    axes.axhline(
        scale * (perfect["mean"] if perfect["mean"] is not None else math.nan),
        color=GREY,
        linewidth=1.0,
        linestyle="--",
        label="no impairment",
    )
    low, high = values(lambda p: _extreme(p, min)), values(lambda p: _extreme(p, max))
    axes.fill_between(places, low, high, color=SKY, alpha=0.45, linewidth=0, label="repetitions, least to most")
    drawn = {"mean": ("agents together" if "mean_agent" in perfect else "mean", "o", BLUE)}
    if "mean_agent" in perfect:
        drawn |= {"mean_agent": ("mean agent", "s", GREEN), "worst_agent": ("worst agent", "v", VERMILION)}
    for key, (label, marker, color) in drawn.items():
        marks: dict[str, Any] = {"linestyle": line, "marker": marker, "markersize": 4, "color": color}
        axes.plot(places, values(lambda point, key=key: point.get(key)), label=label, **marks)
    if not factor:
        step = math.ceil(len(points) / NAMED)
        names = [
            plain(f"{point['value']:g}" if isinstance(point["value"], float) else point["value"]) for point in points
        ]
        turned = kind == "dead" and max(map(len, names)) * len(names[::step]) > 24
        axes.set_xticks(places[::step], names[::step], rotation=90 if turned else 0, fontsize=9)


def _extreme(point: Mapping[str, Any], which: Any) -> float | None:
    defined = [value for value in point["each"] if value is not None]
    extreme: float | None = which(defined) if defined else None
    return extreme
