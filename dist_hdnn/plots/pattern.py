"""Picture of a block pattern: the agents whose neurons each agent reads."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator

from dist_hdnn.plots.figures import BLUE, GREY, INK, ORANGE, PALE, VERMILION, new_figure, save
from dist_hdnn.plots.positions import Integers
from dist_hdnn.topology.patterns import BlockPattern

SQUARES_UP_TO = 200  # agents; beyond, a block is so small that it is drawn as a marker
MARKERS_UP_TO = 200_000  # entries; beyond, entries are counted in cells
CELLS = 500  # along each axis


def plot_pattern(pattern: BlockPattern, path: str | Path, title: str = "Block pattern of K") -> Path:
    """Draw which blocks of an (agents x agents) block matrix may be non-zero, and return the path.

    Row i are the neurons that agent i computes, column j the neurons of agent j that it reads. Own blocks and coupling
    blocks differ in color.
    """
    figure = new_figure(6.2, 6.6)
    axes = figure.subplots()
    rows, columns, agents = np.asarray(pattern.rows()), np.asarray(pattern.columns), pattern.agents
    own = rows == columns
    coupling_color = ORANGE if agents <= SQUARES_UP_TO else VERMILION  # markers need the stronger one
    if agents <= SQUARES_UP_TO:
        corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        squares = np.stack([columns, rows], axis=1)[:, None, :] + corners  # (entries, 4 corners, 2)
        colors = list(np.where(own, BLUE, coupling_color))
        axes.add_collection(PolyCollection(list(squares), facecolors=colors, edgecolors="none", antialiased=False))
    elif pattern.entries <= MARKERS_UP_TO:
        axes.plot(columns[~own], rows[~own], "s", color=coupling_color, markersize=2.0, markeredgewidth=0)
        axes.plot(columns[own], rows[own], "s", color=BLUE, markersize=2.0, markeredgewidth=0)
    else:
        _draw_counts(axes, rows, columns, agents)
    _agent_axes(axes, agents)
    blocks = f"{pattern.entries} of {agents}² blocks, density {pattern.density:.3g}"
    axes.set_title(f"{title} ({pattern.kind})\n{blocks}", fontsize=11, color=INK)
    if pattern.entries <= MARKERS_UP_TO:
        handles = [
            Patch(color=BLUE, label=f"own block ({int(own.sum())})"),
            Patch(color=coupling_color, label=f"coupling block ({int((~own).sum())})"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return save(figure, path)


def _draw_counts(axes: Axes, rows: Integers, columns: Integers, agents: int) -> None:
    """Count the entries in at most 500 x 500 cells, on a logarithmic scale."""
    cells = min(agents, CELLS)
    cell = (rows * cells // agents) * cells + columns * cells // agents  # row by row
    counts = np.bincount(cell, minlength=cells * cells).reshape(cells, cells)
    image = axes.imshow(
        np.ma.masked_equal(counts, 0),
        cmap="viridis_r",
        norm=LogNorm(1, max(int(counts.max()), 2)),
        extent=(-0.5, agents - 0.5, agents - 0.5, -0.5),
        interpolation="nearest",
    )
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.75, aspect=28)
    bar.set_label(f"non-zero blocks per cell of {agents / cells:.3g} x {agents / cells:.3g} agents", fontsize=9)


def _agent_axes(axes: Axes, agents: int) -> None:
    """Number the agents from the upper left corner, with grid lines between few of them."""
    axes.set_xlim(-0.5, agents - 0.5)
    axes.set_ylim(agents - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.set(xlabel="agent j whose neurons are read", ylabel="agent i who computes")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(list(range(agents))) if agents <= 16 else MaxNLocator(8, integer=True))
        if agents <= 64:
            axis.set_minor_locator(FixedLocator(list(np.arange(agents + 1) - 0.5)))
    if agents <= 64:
        axes.grid(which="minor", color=PALE, linewidth=0.5)
        axes.tick_params(which="minor", length=0)
    axes.tick_params(which="major", labelsize=9, color=GREY)
    for spine in axes.spines.values():
        spine.set_color(GREY)
