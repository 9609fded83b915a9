"""Picture of the decision regions of a classifier of points in the plane."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from dist_hdnn.data.checks import Floats
from dist_hdnn.data.dataset import Dataset
from dist_hdnn.plots.drawing import plain
from dist_hdnn.plots.figures import CLASS_COLORS, GREY, INK, new_figure, quiet, save

RIMS_UP_TO = 600  # test points; the rims of more would hide their colors
DARKER = 0.7  # of the class color, for test points
CHUNK = 4096  # points per call of `shares_of`, which bounds the memory of a network with many neurons


def plot_decision(
    shares_of: Callable[[Floats], Floats], dataset: Dataset, path: str | Path, grid: int, accuracy: float
) -> Path:
    """Draw decision regions with training and test points, cross out wrong test points, and return the path.

    shares_of: (n, 2) float64 points -> (n, classes) shares in [0, 1], the largest of which is the answer; regions are
    pale where the network is unsure. grid: points along each axis. accuracy: on the test points, for the title.
    """
    everything = np.concatenate([dataset.train_x, dataset.test_x])
    low, high = everything.min(axis=0), everything.max(axis=0)
    margin = 0.08 * max(float((high - low).max()), 1e-9)
    low, high = low - margin, high + margin
    figure = new_figure(8.0, float(np.clip(5.7 * (high - low)[1] / (high - low)[0], 2.4, 8.0)) + 0.9)
    axes = figure.subplots()
    ticks = [np.linspace(low[axis], high[axis], grid) for axis in (0, 1)]
    plane = np.stack(np.meshgrid(*ticks), axis=-1).reshape(-1, 2)
    shares = _in_chunks(shares_of, plane)
    colors = np.array([to_rgb(CLASS_COLORS[number % len(CLASS_COLORS)]) for number in range(dataset.classes)])
    guess = 1.0 / dataset.classes
    sureness = np.clip((shares.max(axis=1) - guess) / max(1.0 - guess, 1e-12), 0.0, 1.0)  # 0: as good as a guess
    strength = (0.12 + 0.38 * sureness)[:, None]
    shades = (1.0 - strength) + strength * colors[shares.argmax(axis=1)]
    extent = (low[0], high[0], low[1], high[1])
    axes.imshow(shades.reshape(grid, grid, 3), extent=extent, origin="lower", interpolation="bilinear", aspect="equal")
    _draw_boundaries(axes, ticks, shares)
    wrong = np.zeros(0, dtype=bool)
    if len(dataset.test_x):
        wrong = _in_chunks(shares_of, dataset.test_x).argmax(axis=1) != dataset.test_y
    _draw_points(axes, dataset, wrong, colors)
    names = [plain(name) for name in dataset.feature_names]
    axes.set(xlabel=f"{names[0]} (input units)", ylabel=f"{names[1]} (input units)")
    title = f"Decision regions, {plain(dataset.name)}: test accuracy {100.0 * accuracy:.2f} %"
    axes.set_title(title, fontsize=11, color=INK)
    quiet(axes, grid=False)
    handles = _legend(dataset, wrong, colors)
    figure.legend(handles=handles, loc="outside right upper", fontsize=9, frameon=False)
    return save(figure, path)


def _in_chunks(shares_of: Callable[[Floats], Floats], points: Floats) -> Floats:
    return np.concatenate([shares_of(points[start : start + CHUNK]) for start in range(0, len(points), CHUNK)])


def _draw_boundaries(axes: Axes, ticks: list[Floats], shares: Floats) -> None:
    """Draw where the lead of a class over the best other class is 0. shares: (grid * grid, classes)."""
    if shares.shape[1] < 2:
        return
    second, best = np.sort(shares, axis=1)[:, -2:].T[..., None]  # (grid * grid, 1) each
    others = np.where(np.arange(shares.shape[1]) == shares.argmax(axis=1)[:, None], second, best)
    for lead in (shares - others).T:
        if lead.min() < 0.0 < lead.max():
            plane = lead.reshape(len(ticks[1]), len(ticks[0]))
            axes.contour(*ticks, plane, levels=[0.0], colors=INK, linewidths=0.7, alpha=0.6)


def _draw_points(axes: Axes, data: Dataset, wrong: npt.NDArray[np.bool_], colors: Floats) -> None:
    """Draw training points small, test points darker (few: with a rim), and a cross over wrong ones."""
    size = float(np.clip(9000.0 / max(len(data.test_y), 1), 5.0, 36.0))
    rim = 0.7 if len(data.test_y) <= RIMS_UP_TO else 0.0
    (x1, x2), (t1, t2) = data.train_x.T, data.test_x.T
    axes.scatter(x1, x2, s=0.4 * size, c=colors[data.train_y], linewidths=0, zorder=2)
    axes.scatter(t1, t2, s=size, c=DARKER * colors[data.test_y], edgecolors=INK, linewidths=rim, zorder=3)
    axes.scatter(t1[wrong], t2[wrong], s=max(2.5 * size, 22.0), c="black", marker="x", linewidths=1.0, zorder=4)


def _legend(data: Dataset, wrong: npt.NDArray[np.bool_], colors: Floats) -> list[Line2D]:
    rim = INK if len(data.test_y) <= RIMS_UP_TO else "none"
    entries: list[tuple[str, str, float, Any, str]] = [
        *((f"class {number}", "s", 8, tuple(color), "none") for number, color in enumerate(colors)),
        (f"training point ({len(data.train_y)})", "o", 3, "#B5B5B5", "none"),
        (f"test point ({len(data.test_y)})", "o", 6, GREY, rim),
        (f"wrong test point ({int(wrong.sum())})", "x", 6, "black", "black"),
    ]
    return [
        Line2D([], [], ls="", marker=marker, ms=size, label=label, markerfacecolor=face, markeredgecolor=edge)
        for label, marker, size, face, edge in entries
    ]
