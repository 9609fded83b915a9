"""Real targets against what the network predicts for them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from dist_hdnn.data.checks import Floats
from dist_hdnn.plots.drawing import plain
from dist_hdnn.plots.figures import BLUE, INK, VERMILION, new_figure, quiet, save

MOST_POINTS = 20_000  # beyond which an even share is drawn
PANELS = 9  # targets of different scale up to which each has a panel
ALIKE = 5.0  # largest ratio of the deviation of all targets together and of one that is seen among them


def plot_targets(
    true: Floats,
    predicted: Floats,
    path: str | Path,
    title: str = "",
    names: Sequence[str] = (),
    scale: Floats | None = None,
) -> Path:
    """Draw predicted over true targets, (n,) or (n, targets), with the line on which both are equal.

    Targets of one scale share a picture in their own units. Up to 9 of different scales have a panel each, more are
    drawn as (target - mean) / deviation. Pairs with a NaN are left out.
    names: of the targets. scale: mean and deviation of each over the training points, (2, targets).
    """
    true, predicted = (values.reshape(len(values), -1) for values in (true, predicted))
    targets, unit = true.shape[1], ""
    if scale is None or targets == 1 or _alike(*scale):
        pairs = [("", true.ravel(), predicted.ravel())]
    elif targets <= PANELS:
        pairs = [(plain(name), true[:, k], predicted[:, k]) for k, name in enumerate(names)]
    else:
        standard = [((values - scale[0]) / scale[1]).ravel() for values in (true, predicted)]
        pairs = [("", standard[0], standard[1])]
        unit = "\n(minus its training mean, over its training deviation)"
    columns = min(len(pairs), 3)
    rows = -(-len(pairs) // columns)
    figure = new_figure(5.2 if columns == 1 else 3.6 * columns, 4.8 if columns == 1 else 3.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, t, p) in zip(panels, pairs, strict=False):
        _draw(axes, t, p, legend=axes is panels[0])
        axes.locator_params(axis="x", nbins=5)
        axes.set(xlabel=f"true target{unit}", ylabel=f"predicted target{unit}")
        axes.set_title(name, fontsize=10, color=INK)
        quiet(axes)
    for axes in panels[len(pairs) :]:
        axes.set_axis_off()
    if len(pairs) == 1:
        panels[0].set_title(title, fontsize=11, color=INK)
    else:
        figure.suptitle(title, fontsize=11, color=INK)
    return save(figure, path)


def _alike(mean: Floats, deviation: Floats) -> bool:
    """Tell whether every target is seen to vary in a picture of all of them."""
    together = np.sqrt(np.mean(deviation**2) + np.var(mean))
    return bool(together <= ALIKE * np.min(deviation))


def _draw(axes: Axes, true: Floats, predicted: Floats, legend: bool) -> None:
    there = np.flatnonzero(np.isfinite(true) & np.isfinite(predicted))
    shown = there[:: max(1, -(-len(there) // MOST_POINTS))]
    few = len(shown) <= 2000
    axes.plot(true[shown], predicted[shown], "o", color=BLUE, markersize=3 if few else 1.5, alpha=0.5 if few else 0.2)
    ends = [float(np.min(true[shown], initial=np.inf)), float(np.max(true[shown], initial=-np.inf))]
    if ends[0] <= ends[1]:
        axes.plot(ends, ends, "-", color=VERMILION, linewidth=1.2, label="predicted = true")
        if legend:
            axes.legend(fontsize=9, frameon=False, loc="upper left")
