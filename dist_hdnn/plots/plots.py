"""Pictures of what was trained: the block pattern of K and the decision regions of a two-dimensional problem."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap, LogNorm, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator

from dist_hdnn.data.checks import Floats, Integers
from dist_hdnn.data.dataset import Dataset
from dist_hdnn.plots.curves import plot_curves
from dist_hdnn.plots.drawing import plain
from dist_hdnn.plots.figures import BLUE, CLASS_COLOURS, GREY, INK, ORANGE, PALE, VERMILION, new_figure, quiet, save
from dist_hdnn.plots.graph import plot_graph
from dist_hdnn.topology.patterns import BlockPattern

__all__ = ["plot_curves", "plot_decision", "plot_graph", "plot_pattern"]

SQUARES_UP_TO = 200  # agents; beyond, a block is so small that it is drawn as a marker
MARKERS_UP_TO = 200_000  # entries; beyond, entries are counted in cells
GRID = 240  # points along each axis of the decision regions
RIMS_UP_TO = 600  # test points; the rims of more would hide their colours
DARKER = 0.7  # of the class colour, for test points
CHUNK = 4096  # points predicted at once, which bounds the memory of a network with many neurons


def plot_pattern(pattern: BlockPattern, path: str | Path, title: str = "Block pattern of K") -> Path:
    """Draw which blocks of a (agents x agents) block matrix may be non-zero; the path written.

    Row i are the neurons agent i computes, column j the neurons of agent j it reads. Own blocks and coupling blocks
    differ in colour. Up to 200 agents blocks are squares, beyond that markers, and beyond 200 000 entries a count map.
    """
    figure = new_figure(6.2, 6.6)
    axes = figure.subplots()
    rows, columns = np.asarray(pattern.rows()), np.asarray(pattern.columns)
    coupling_colour = ORANGE if pattern.agents <= SQUARES_UP_TO else VERMILION  # markers need the stronger one
    if pattern.agents <= SQUARES_UP_TO:
        _draw_squares(axes, rows, columns, pattern.agents, coupling_colour)
    elif pattern.entries <= MARKERS_UP_TO:
        own = rows == columns
        axes.plot(columns[~own], rows[~own], "s", color=coupling_colour, markersize=2.0, markeredgewidth=0)
        axes.plot(columns[own], rows[own], "s", color=BLUE, markersize=2.0, markeredgewidth=0)
    else:
        _draw_counts(axes, rows, columns, pattern.agents)
    _agent_axes(axes, pattern.agents)
    own_blocks = int((rows == columns).sum())
    coupling = pattern.entries - own_blocks
    axes.set_title(
        f"{title} ({pattern.kind})\n{pattern.entries} of {pattern.agents}² blocks, density {pattern.density:.3g}",
        fontsize=11,
        color=INK,
    )
    if pattern.entries <= MARKERS_UP_TO:
        handles = [
            Patch(color=BLUE, label=f"own block ({own_blocks})"),
            Patch(color=coupling_colour, label=f"coupling block ({coupling})"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return save(figure, path)


def _draw_squares(axes: Axes, rows: Integers, columns: Integers, agents: int, coupling_colour: str) -> None:
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    squares = np.stack([columns, rows], axis=1)[:, None, :] + corners
    colours = np.where(rows == columns, BLUE, coupling_colour)
    axes.add_collection(PolyCollection(list(squares), facecolors=list(colours), edgecolors="none", antialiased=False))
    if agents <= 64:
        axes.set_xticks(np.arange(agents + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(agents + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=PALE, linewidth=0.5)
        axes.tick_params(which="minor", length=0)


def _draw_counts(axes: Axes, rows: Integers, columns: Integers, agents: int) -> None:
    """Entries counted in at most 500 x 500 cells, on a logarithmic scale."""
    cells = min(agents, 500)
    counts = np.bincount((rows * cells // agents) * cells + columns * cells // agents, minlength=cells * cells)
    shown = np.ma.masked_equal(counts.reshape(cells, cells), 0)
    top = max(int(counts.max()), 2)
    image = axes.imshow(
        shown,
        cmap="viridis_r",
        norm=LogNorm(1, top),
        extent=(-0.5, agents - 0.5, agents - 0.5, -0.5),
        interpolation="nearest",
    )
    figure = axes.get_figure()
    assert figure is not None, "the axes were made by a figure"
    bar = figure.colorbar(image, ax=axes, shrink=0.75, aspect=28)
    bar.set_label(f"non-zero blocks per cell of {agents / cells:.3g} x {agents / cells:.3g} agents", fontsize=9)


def _agent_axes(axes: Axes, agents: int) -> None:
    axes.set_xlim(-0.5, agents - 0.5)
    axes.set_ylim(agents - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.set(xlabel="agent j whose neurons are read", ylabel="agent i who computes")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(list(range(agents))) if agents <= 16 else MaxNLocator(8, integer=True))
    axes.tick_params(which="major", labelsize=9, color=GREY)
    for spine in axes.spines.values():
        spine.set_color(GREY)


def plot_decision(
    predict: Callable[[Floats], npt.ArrayLike],
    dataset: Dataset,
    path: str | Path,
    grid: int = GRID,
    accuracy: float | None = None,
) -> Path:
    """Decision regions in the plane with training and test points; wrong test points are crossed out.

    predict: (n, 2) float64 points -> (n,) classes, or (n, classes) probabilities, which also shade the regions: pale
    where the network is unsure. grid: points along each axis. accuracy: on the test points, for the title (None: that
    of predict). The path written. ValueError when the data are not
    two-dimensional or predict returns another shape.
    """
    if dataset.features != 2:
        raise ValueError(
            f"decision regions of {dataset.name}: expected 2 features, got {dataset.features}; "
            "only plane data can be drawn"
        )
    everything = np.concatenate([dataset.train_x, dataset.test_x])
    low, high = everything.min(axis=0), everything.max(axis=0)
    margin = 0.08 * max(float((high - low).max()), 1e-9)
    low, high = low - margin, high + margin
    figure = new_figure(8.0, float(np.clip(5.7 * (high - low)[1] / (high - low)[0], 2.4, 8.0)) + 0.9)
    axes = figure.subplots()
    ticks = [np.linspace(low[axis], high[axis], grid) for axis in (0, 1)]
    plane = np.stack(np.meshgrid(*ticks), axis=-1).reshape(-1, 2)
    classes, sureness, leads = _predicted(predict, plane, dataset.classes)
    colours = _colours(dataset.classes)
    strength = (0.12 + 0.38 * sureness)[:, None]
    shades = (1.0 - strength) + strength * colours[classes]
    extent = (low[0], high[0], low[1], high[1])
    axes.imshow(shades.reshape(grid, grid, 3), extent=extent, origin="lower", interpolation="bilinear", aspect="equal")
    _draw_boundaries(axes, ticks, leads.reshape(grid, grid, dataset.classes))
    answers, *_ = _predicted(predict, dataset.test_x, dataset.classes)
    wrong = answers != dataset.test_y
    _draw_points(axes, dataset, wrong, colours)
    share = 100.0 * (accuracy if accuracy is not None else float(1.0 - wrong.mean()) if len(wrong) else float("nan"))
    names = [plain(name) for name in dataset.feature_names]
    axes.set(xlabel=f"{names[0]} (input units)", ylabel=f"{names[1]} (input units)")
    axes.set_title(f"Decision regions, {plain(dataset.name)}: test accuracy {share:.2f} %", fontsize=11, color=INK)
    quiet(axes, grid=False)
    handles = _decision_legend(dataset, wrong, colours)
    figure.legend(handles=handles, loc="outside right upper", fontsize=9, frameon=False)
    return save(figure, path)


def _predicted(
    predict: Callable[[Floats], npt.ArrayLike], points: Floats, classes: int
) -> tuple[Integers, Floats, Floats]:
    """Class, sureness in [0, 1] (0: as good as a guess) and lead of every class over the best other one, (n, classes),
    of each point, asked for in chunks."""
    if len(points) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros((0, classes))
    answers = [np.asarray(predict(points[start : start + CHUNK])) for start in range(0, len(points), CHUNK)]
    answer = np.concatenate(answers)
    if answer.shape == (len(points),):
        chosen, sureness = answer.astype(np.int64), np.ones(len(points))
        shares = (chosen[:, None] == np.arange(classes)).astype(np.float64)
    elif answer.shape == (len(points), classes):
        chosen, shares = answer.argmax(axis=1), answer.astype(np.float64)
        sureness = np.clip((answer.max(axis=1) - 1.0 / classes) / (1.0 - 1.0 / classes), 0.0, 1.0)
    else:
        raise ValueError(
            f"decision regions: expected predict to return ({len(points)},) classes or ({len(points)}, {classes}) "
            f"probabilities, got shape {answer.shape}; return one answer per point"
        )
    if len(chosen) and (chosen.min() < 0 or chosen.max() >= classes):
        raise ValueError(
            f"decision regions: expected classes 0 .. {classes - 1} from predict, got {chosen.min()} .. "
            f"{chosen.max()}; return class numbers or probabilities"
        )
    best = shares.max(axis=1, keepdims=True)
    second = np.sort(shares, axis=1)[:, -2:-1] if classes > 1 else best
    others = np.where(np.arange(classes) == shares.argmax(axis=1)[:, None], second, best)
    return chosen, np.nan_to_num(sureness), shares - others


def _colours(classes: int) -> npt.NDArray[np.float64]:
    """(classes, 3) colours; beyond ten classes they repeat."""
    palette = ListedColormap([CLASS_COLOURS[number % len(CLASS_COLOURS)] for number in range(classes)])
    return np.array([to_rgb(palette(number)) for number in range(classes)])


def _draw_boundaries(axes: Axes, ticks: list[Floats], leads: Floats) -> None:
    """leads: of every class, (grid, grid, classes); a class begins where its lead is 0."""
    for lead in np.moveaxis(leads, -1, 0):
        if lead.min() < 0.0 < lead.max():
            axes.contour(*ticks, lead, levels=[0.0], colors=INK, linewidths=0.7, alpha=0.6)


def _draw_points(axes: Axes, data: Dataset, wrong: npt.NDArray[np.bool_], colours: npt.NDArray[np.float64]) -> None:
    """Training points small and plain, test points darker (few: with a rim, many: without), wrong ones crossed out."""
    size = float(np.clip(9000.0 / max(len(data.test_y), 1), 5.0, 36.0))
    rim = 0.7 if len(data.test_y) <= RIMS_UP_TO else 0.0
    (x1, x2), (t1, t2) = data.train_x.T, data.test_x.T
    axes.scatter(x1, x2, s=0.4 * size, c=colours[data.train_y], linewidths=0, zorder=2)
    axes.scatter(t1, t2, s=size, c=DARKER * colours[data.test_y], edgecolors=INK, linewidths=rim, zorder=3)
    axes.scatter(t1[wrong], t2[wrong], s=max(2.5 * size, 22.0), c="black", marker="x", linewidths=1.0, zorder=4)


def _decision_legend(data: Dataset, wrong: npt.NDArray[np.bool_], colours: npt.NDArray[np.float64]) -> list[Line2D]:
    def entry(label: str, marker: str, size: float, face: object, rim: object) -> Line2D:
        handle = Line2D([], [], linestyle="", marker=marker, markersize=size, label=label)
        handle.set(markerfacecolor=face, markeredgecolor=rim)
        return handle

    rim = INK if len(data.test_y) <= RIMS_UP_TO else "none"
    shown = [entry(f"class {number}", "s", 8, tuple(colours[number]), "none") for number in range(data.classes)]
    shown.append(entry(f"training point ({len(data.train_y)})", "o", 3, "#B5B5B5", "none"))
    shown.append(entry(f"test point ({len(data.test_y)})", "o", 6, GREY, rim))
    shown.append(entry(f"wrong test point ({int(wrong.sum())})", "x", 6, "black", "black"))
    return shown
