"""Curves of a training run: loss, accuracies and gradient norms over the epochs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from dist_hdnn.data.checks import Floats
from dist_hdnn.plots.figures import BLUE, GREEN, INK, VERMILION, new_figure, quiet, save, whole_numbers

History = Sequence[Mapping[str, float | int | None]]

MARKERS_UP_TO = 25  # epochs; more markers than that hide the line
SCORES = (
    ("train_accuracy", "training points", BLUE, "-"),
    ("validation_accuracy", "validation points", GREEN, "-."),
    ("test_accuracy", "test points", VERMILION, "--"),
)


def plot_curves(history: History, path: str | Path, measure: str = "accuracy") -> Path:
    """Draw training loss (left) and accuracies (right) over the epochs, and return the path.

    history: one mapping per epoch with the keys epoch, loss, and train_, validation_ and test_accuracy, as fractions
    in [0, 1]. A key that is missing, None or not finite leaves a gap. measure: "accuracy", or "r2" when the accuracies
    are R² of a regression.
    """
    figure = new_figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    classes = measure == "accuracy"
    losses = _draw(left, history, "loss", "training loss (last {:.3g})", color=BLUE)
    _loss_scale(left, losses)
    left.set(title="Loss", xlabel="epoch", ylabel="training loss (nats)" if classes else "mean squared error")
    scale, last = (100.0, "(last {:.2f} %)") if classes else (1.0, "(last {:.4f})")
    bottom = 0.99 * scale
    for key, name, color, style in SCORES:
        values = _draw(right, history, key, f"{name} {last}", scale, color=color, linestyle=style)
        bottom = min([*values, bottom])
    titles = ("Accuracy", "correctly classified points (%)") if classes else ("R²", "explained share of the variance")
    right.set(title=titles[0], xlabel="epoch", ylabel=titles[1])
    right.set_ylim(bottom - 0.06 * (scale - bottom), scale + 0.06 * (scale - bottom))
    for axes in (left, right):
        quiet(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if len(history) == 1 and axes.lines:
            axes.set_xlim(*(axes.dataLim.intervalx + np.array([-1.0, 1.0])))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=9, frameon=False, loc="best")
    return save(figure, path)


def _draw(axes: Axes, history: History, key: str, label: str, scale: float = 1.0, **style: Any) -> list[float]:
    """Draw the finite values of a key over their epochs and return them. label: with a place for the last value."""
    points = [(entry.get("epoch", number), entry.get(key)) for number, entry in enumerate(history)]
    kept = [(epoch, scale * value) for epoch, value in points if value is not None and math.isfinite(value)]
    if not kept:
        return []
    epochs, values = map(list, zip(*kept, strict=True))
    marker = "o" if len(values) <= MARKERS_UP_TO else ""
    axes.plot(epochs, values, marker=marker, markersize=4, linewidth=1.6, label=label.format(values[-1]), **style)
    return values


def _loss_scale(axes: Axes, values: list[float]) -> None:
    """Set a logarithmic scale, with a linear strip around zero for a loss that reached 0 or below."""
    positive = [value for value in values if value > 0]
    if not positive:
        axes.axhline(0.0, color=INK, linewidth=0.5)
    elif len(positive) < len(values):
        axes.set_yscale("symlog", linthresh=min(positive))
    else:
        axes.set_yscale("log")
        if max(positive) < 3 * min(positive):  # less than half a decade: the decades alone would leave no tick
            axes.set_ylim(min(positive) / 2, max(positive) * 2)


def plot_gradient_norms(norms: Floats, path: str | Path) -> Path:
    """Draw the norm of every layer's weight gradient over training as colors, and return the path.

    norms: (epochs, layers).
    """
    figure = new_figure(7.2, 4.2)
    axes = figure.subplots()
    positive = norms[np.isfinite(norms) & (norms > 0)]
    low, high = (float(positive.min()), float(positive.max())) if len(positive) else (0.1, 1.0)
    epochs, layers = norms.shape
    image = axes.imshow(
        np.ma.masked_less_equal(norms.T, 0),
        norm=LogNorm(low, max(high, 1.001 * low)),
        cmap="viridis",
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(0.5, epochs + 0.5, 0.5, layers + 0.5),
    )
    words = "|∂L/∂(K, b)| of a layer, r.m.s. over the epoch's steps"
    figure.colorbar(image, ax=axes, aspect=28).set_label(words, fontsize=9)
    axes.set(title="Gradient norms over training", xlabel="epoch", ylabel="layer")
    whole_numbers(axes.xaxis, axes.yaxis)
    quiet(axes, grid=False)
    return save(figure, path)
