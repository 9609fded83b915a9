"""Curves of training: loss, accuracies in percent and gradient norms, by what the axes hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from dist_hdnn.plots.curves import MARKERS_UP_TO, plot_curves, plot_gradient_norms
from dist_hdnn.plots.figures import BLUE, GREEN, VERMILION


def history(epochs: int, **last: float | None) -> list[dict[str, float | None]]:
    entries: list[dict[str, float | None]] = [
        {"epoch": e, "loss": 0.7 / (e + 1), "train_accuracy": 1 - 0.4 / (e + 1), "validation_accuracy": 0.7 + 0.1 * e}
        for e in range(epochs)
    ]
    entries[-1].update(last)
    return entries


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """Label -> x and y of the lines that the legend names."""
    named = {str(line.get_label()): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == list(named) if legend else not named
    return {label: (list(line.get_xdata()), list(line.get_ydata())) for label, line in named.items()}


def test_curves_hold_the_loss_and_the_accuracies_in_percent(drawn: Any) -> None:
    left, right = drawn(plot_curves, history(2, test_accuracy=0.5)).axes
    assert (left.get_title(), left.get_ylabel(), left.get_yscale()) == ("Loss", "training loss (nats)", "log")
    assert lines(left) == {"training loss (last 0.35)": ([0, 1], [0.7, 0.35])}
    assert (right.get_title(), right.get_ylabel()) == ("Accuracy", "correctly classified points (%)")
    assert left.get_xlabel() == right.get_xlabel() == "epoch"
    shown = lines(right)
    assert list(shown) == [
        "training points (last 80.00 %)",
        "validation points (last 80.00 %)",
        "test points (last 50.00 %)",
    ]
    assert [x for x, _ in shown.values()] == [[0, 1], [0, 1], [1]]
    assert [y for _, y in shown.values()] == [pytest.approx(y) for y in ([60, 80], [70, 80], [50])]
    assert [to_hex(line.get_color()) for line in right.lines] == [c.lower() for c in (BLUE, GREEN, VERMILION)]
    low, high = right.get_ylim()
    assert low < 50 and 100 < high < 110


def test_curves_of_a_regression_hold_shares_of_the_variance(drawn: Any) -> None:
    left, right = drawn(plot_curves, history(2), measure="r2").axes
    assert left.get_ylabel() == "mean squared error"
    assert (right.get_title(), right.get_ylabel()) == ("R²", "explained share of the variance")
    assert lines(right)["training points (last 0.8000)"] == ([0, 1], pytest.approx([0.6, 0.8]))


@pytest.mark.parametrize(
    ("epochs", "last", "scale", "drawn_losses"),
    [
        (1, {}, "log", 1),
        (50, {}, "log", 50),
        (4, {"loss": 0.0}, "symlog", 4),
        (4, {"loss": float("nan")}, "log", 3),
        (1, {"loss": -1.0}, "linear", 1),
    ],
)
def test_a_loss_is_drawn_where_it_is_finite_and_logarithmic_where_it_can_be(
    drawn: Any, epochs: int, last: dict[str, float], scale: str, drawn_losses: int
) -> None:
    left, _ = drawn(plot_curves, history(epochs, **last)).axes
    ((epoch, losses),) = lines(left).values()
    assert left.get_yscale() == scale and len(losses) == drawn_losses and epoch == list(range(drawn_losses))
    assert (left.lines[0].get_marker() == "o") == (drawn_losses <= MARKERS_UP_TO)
    low, high = left.get_xlim()
    assert low < 0 and high > drawn_losses - 1


def test_what_was_never_measured_has_no_line(drawn: Any) -> None:
    for epochs in (1, 3):
        history = [{"epoch": e, "loss": 1.0, "validation_accuracy": None} for e in range(epochs)]
        left, right = drawn(plot_curves, history).axes
        assert lines(left) and not lines(right)


def test_gradient_norms_are_colors_over_epochs_and_layers(drawn: Any) -> None:
    norms = np.abs(np.random.default_rng(0).normal(size=(7, 16)))
    norms[3, 4], norms[5, 5] = 0.0, np.nan
    axes, bar = drawn(plot_gradient_norms, norms).axes
    (image,) = axes.images
    shown = image.get_array()
    assert shown.shape == (16, 7) and tuple(image.get_extent()) == (0.5, 7.5, 0.5, 16.5) and image.origin == "lower"
    assert np.array_equal(np.argwhere(np.ma.getmaskarray(shown)), [[4, 3], [5, 5]])
    assert shown[2, 6] == norms[6, 2]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "layer") and "of a layer" in bar.get_ylabel()
    assert image.get_clim() == (norms[norms > 0].min(), np.nanmax(norms)) and bar.get_yscale() == "log"


def test_gradients_that_are_all_zero_are_a_picture_without_colors(drawn: Any) -> None:
    (image,) = drawn(plot_gradient_norms, np.zeros((1, 1))).axes[0].images
    assert np.ma.getmaskarray(image.get_array()).all()
