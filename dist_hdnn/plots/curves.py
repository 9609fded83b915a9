"""Curves of a training run: loss, accuracy and gradient norms over the epochs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from dist_hdnn.plots.figures import BLUE, GREEN, INK, VERMILION, new_figure, quiet, save

History = Sequence[Mapping[str, float | int | None]]

MARKERS_UP_TO = 25  # epochs; more markers than that hide the line


def plot_curves(history: History, path: str | Path, measure: str = "accuracy") -> Path:
    """Training loss (left, logarithmic) and accuracies (right, percent) over the epochs; the path written.

    history: one mapping per epoch with the keys epoch, loss, and train_, validation_ and test_accuracy, as fractions
    in [0, 1]. A key that is missing, None or not finite leaves a gap. measure: "accuracy", or "r2" when the accuracies
    are R² of a regression. ValueError for an empty history.
    """
    if len(history) == 0:
        raise ValueError("training curves: expected a history of at least one epoch, got none; train before plotting")
    figure = new_figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    loss = _series(history, "loss")
    _draw(left, loss, "training loss", BLUE, "-", f"{loss[1][-1]:.3g}" if loss[1] else "")
    _loss_scale(left, loss[1])
    left.set(
        title="Loss", xlabel="epoch", ylabel="training loss (nats)" if measure == "accuracy" else "mean squared error"
    )
    scale, unit = (100.0, " %") if measure == "accuracy" else (1.0, "")
    for key, name, colour, style in (
        ("train_accuracy", "training points", BLUE, "-"),
        ("validation_accuracy", "validation points", GREEN, "-."),
        ("test_accuracy", "test points", VERMILION, "--"),
    ):
        epochs, values = _series(history, key)
        shown = [scale * value for value in values]
        last = f"{shown[-1]:.{2 if unit else 4}f}{unit}" if shown else ""
        _draw(right, (epochs, shown), name, colour, style, last)
    titles = ("Accuracy", "correctly classified points (%)") if unit else ("R²", "explained share of the variance")
    right.set(title=titles[0], xlabel="epoch", ylabel=titles[1])
    values = [
        scale * v
        for key in ("train_accuracy", "validation_accuracy", "test_accuracy")
        for v in _series(history, key)[1]
    ]
    bottom = min([*values, 0.99 * scale])
    right.set_ylim(bottom - 0.06 * (scale - bottom), scale + 0.06 * (scale - bottom))
    for axes in (left, right):
        quiet(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if len(history) == 1:
            axes.set_xlim(*(axes.dataLim.intervalx + np.array([-1.0, 1.0])))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=9, frameon=False, loc="best")
    return save(figure, path)


def _series(history: History, key: str) -> tuple[list[float], list[float]]:
    """Epochs and finite values of one key."""
    points = [(entry.get("epoch", number), entry.get(key)) for number, entry in enumerate(history)]
    kept = [(float(e), float(v)) for e, v in points if e is not None and v is not None and math.isfinite(v)]
    return [epoch for epoch, _ in kept], [value for _, value in kept]


def _draw(axes: Axes, series: tuple[list[float], list[float]], name: str, colour: str, style: str, last: str) -> None:
    epochs, values = series
    if not values:
        return
    marker = "o" if len(values) <= MARKERS_UP_TO else ""
    label = f"{name} (last {last})"
    axes.plot(epochs, values, style, color=colour, marker=marker, markersize=4, linewidth=1.6, label=label)


def _loss_scale(axes: Axes, values: list[float]) -> None:
    """Logarithmic where it can be: a loss that reached 0 or below gets a linear strip around zero."""
    positive = [value for value in values if value > 0]
    if not positive:
        axes.axhline(0.0, color=INK, linewidth=0.5)
    elif len(positive) < len(values):
        axes.set_yscale("symlog", linthresh=min(positive))
    else:
        axes.set_yscale("log")
        if max(positive) < 3 * min(positive):  # less than half a decade: the decades alone would leave no tick
            axes.set_ylim(min(positive) / 2, max(positive) * 2)


def plot_gradient_norms(norms: npt.NDArray[np.float64], path: str | Path) -> Path:
    """Norm of every layer's weight gradient over training as colours: norms (epochs, layers); the path written."""
    figure = new_figure(7.2, 4.2)
    axes = figure.subplots()
    positive = norms[np.isfinite(norms) & (norms > 0)]
    low, high = (float(positive.min()), float(positive.max())) if len(positive) else (0.1, 1.0)
    scale = LogNorm(low, max(high, 1.001 * low))
    epochs, layers = norms.shape
    image = axes.imshow(
        np.ma.masked_less_equal(norms.T, 0),
        norm=scale,
        cmap="viridis",
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(0.5, epochs + 0.5, 0.5, layers + 0.5),
    )
    bar = figure.colorbar(image, ax=axes, aspect=28)
    bar.set_label("|∂L/∂(K, b)| of a layer, r.m.s. over the epoch's steps", fontsize=9)
    axes.set(title="Gradient norms over training", xlabel="epoch", ylabel="layer")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    quiet(axes, grid=False)
    return save(figure, path)
