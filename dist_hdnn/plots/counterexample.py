"""The picture of the paper's counterexample: slow oscillations whose sensitivities grow with depth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dist_hdnn.plots.figures import BLUE, GREEN, INK, ORANGE, PURPLE, VERMILION, new_figure, quiet, save

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE)
Floats = npt.NDArray[np.float64]


def plot_counterexample(found: Mapping[float, Floats], orbit: Floats, step: float, path: str | Path) -> Path:
    """The orbit, the entries of ∂y(T)/∂y(T-t) of the first eps, and the norms of all over eps t; the path written.

    found: eps -> (layers, 2, 2), for t = step .. T. orbit: (layers + 1, 2) of the first eps.
    """
    figure = new_figure(12.0, 3.9)
    left, middle, right = figure.subplots(1, 3, width_ratios=(0.8, 1.2, 1.0))
    left.plot(orbit[:, 0], orbit[:, 1], color=BLUE, linewidth=0.8)
    left.plot(*orbit[0], "o", color=VERMILION, markersize=6, label="start")
    left.set_aspect("equal", adjustable="datalim")
    left.set(title="The state keeps its orbit", xlabel="p", ylabel="q")
    left.legend(fontsize=9, frameon=False)
    first = next(iter(found))
    time = step * np.arange(1, len(found[first]) + 1)
    for (i, j), colour in zip(((0, 0), (0, 1), (1, 0), (1, 1)), COLOURS, strict=False):
        middle.plot(time, found[first][:, i, j], color=colour, linewidth=0.9, label=f"({i + 1}, {j + 1})")
    middle.set(title=f"Entries of ∂y(T)/∂y(T-t), ε = {first:g}", xlabel="time before the end, t", ylabel="entry")
    middle.legend(fontsize=9, frameon=False, ncols=2, loc="upper left")
    for (eps, values), colour in zip(found.items(), COLOURS, strict=False):
        time = eps * step * np.arange(1, len(values) + 1)
        right.plot(time, np.linalg.norm(values, 2, axis=(1, 2)), color=colour, linewidth=1.3, label=f"ε = {eps:g}")
    right.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
    right.set_xscale("log")
    right.set_yscale("log")
    right.set(title="Spectral norm: grows like ε t", xlabel="ε t", ylabel="|∂y(T)/∂y(T-t)|")
    right.legend(fontsize=9, frameon=False)
    for axes in (left, middle, right):
        quiet(axes)
    return save(figure, path)
