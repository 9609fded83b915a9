"""Real targets against what the network predicts for them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from dist_hdnn.plots.figures import BLUE, INK, VERMILION, new_figure, quiet, save

MOST_POINTS = 20_000  # beyond which an even share is drawn


def plot_targets(
    true: npt.NDArray[np.floating], predicted: npt.NDArray[np.floating], path: str | Path, title: str = ""
) -> Path:
    """Draw predicted over true targets, (n,) each in their own units, with the line on which both are equal.

    Pairs with a NaN are left out.
    """
    there = np.flatnonzero(np.isfinite(true) & np.isfinite(predicted))
    shown = there[:: max(1, -(-len(there) // MOST_POINTS))]
    figure = new_figure(5.2, 4.8)
    axes = figure.subplots()
    few = len(shown) <= 2000
    axes.plot(true[shown], predicted[shown], "o", color=BLUE, markersize=3 if few else 1.5, alpha=0.5 if few else 0.2)
    ends = [float(np.min(true[shown], initial=np.inf)), float(np.max(true[shown], initial=-np.inf))]
    if ends[0] <= ends[1]:
        axes.plot(ends, ends, "-", color=VERMILION, linewidth=1.2, label="predicted = true")
        axes.legend(fontsize=9, frameon=False, loc="upper left")
    axes.set(xlabel="true target", ylabel="predicted target")
    axes.set_title(title, fontsize=11, color=INK)
    quiet(axes)
    return save(figure, path)
