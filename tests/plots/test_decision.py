"""The picture of decision regions: colors of classes, boundaries, points, wrong points and the accuracy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from dist_hdnn.cli import main
from dist_hdnn.data import from_arrays, swiss_roll
from dist_hdnn.plots.decision import DARKER, plot_decision
from dist_hdnn.plots.figures import CLASS_COLORS

Floats = npt.NDArray[np.float64]
COLORS = np.array([to_rgb(color) for color in CLASS_COLORS])


def sharp(points: Floats) -> Floats:
    """Class 1 right of x = 0, for sure."""
    return np.eye(2)[(points[:, 0] > 0).astype(np.int64)]


def gradual(points: Floats) -> Floats:
    right = 1 / (1 + np.exp(-4 * points[:, 0]))
    return np.stack([1 - right, right], axis=1)


def scatters(figure: Figure) -> list[PathCollection]:
    return [one for one in figure.axes[0].collections if isinstance(one, PathCollection)]


def square(count: int = 40) -> Any:
    """Points of the square from -1 to 1, of class 1 above y = 0, every second one for tests."""
    points = np.random.default_rng(0).uniform(-1, 1, (count, 2))
    return from_arrays(points, (points[:, 1] > 0).astype(np.int64), name="a_square", split="alternate")


def test_regions_have_the_colors_of_their_classes_paler_where_the_network_is_unsure(drawn: Any) -> None:
    data = square()
    images = [
        drawn(plot_decision, shares, data, grid=41, accuracy=0.5).axes[0].images[0] for shares in (sharp, gradual)
    ]
    sure, unsure = (image.get_array() for image in images)
    left, right = sure[0, 0], sure[0, -1]
    assert np.allclose(left, 0.5 + 0.5 * COLORS[0]) and np.allclose(right, 0.5 + 0.5 * COLORS[1])
    assert (sure[:, :20] == left).all() and (sure[:, 21:] == right).all()
    assert (np.diff(unsure[0, :20].sum(axis=1)) > 0).all(), "paler towards the boundary"
    everything = np.concatenate([data.train_x, data.test_x])
    x0, x1, y0, y1 = images[0].get_extent()
    assert images[0].origin == "lower" and (everything > [x0, y0]).all() and (everything < [x1, y1]).all()


def test_a_line_runs_where_the_answer_changes(drawn: Any) -> None:
    axes = drawn(plot_decision, gradual, square(), grid=40, accuracy=0.5).axes[0]
    contours = [one for one in axes.collections if not isinstance(one, PathCollection)]
    places = np.concatenate([path.vertices for one in contours for path in one.get_paths()])
    assert len(places) >= 40 and np.allclose(places[:, 0], 0, atol=1e-3)


def test_points_have_the_colors_of_their_classes_and_wrong_ones_a_cross(drawn: Any) -> None:
    data = square()
    figure = drawn(plot_decision, sharp, data, grid=20, accuracy=0.5)
    train, test, wrong = scatters(figure)
    assert np.array_equal(train.get_offsets(), data.train_x) and np.array_equal(test.get_offsets(), data.test_x)
    assert np.allclose(train.get_facecolors()[:, :3], COLORS[data.train_y])
    assert np.allclose(test.get_facecolors()[:, :3], DARKER * COLORS[data.test_y])
    crossed = data.test_x[sharp(data.test_x).argmax(axis=1) != data.test_y]
    assert 0 < len(crossed) < 20 and np.array_equal(wrong.get_offsets(), crossed)
    (legend,) = figure.legends
    words = ["class 0", "class 1", "training point (20)", "test point (20)", f"wrong test point ({len(crossed)})"]
    assert [text.get_text() for text in legend.get_texts()] == words
    axes = figure.axes[0]
    assert axes.get_title() == "Decision regions, a_square: test accuracy 50.00 %"
    assert axes.get_xlabel().endswith(" (input units)") and axes.get_ylabel().endswith(" (input units)")


def test_many_test_points_have_no_rims(drawn: Any) -> None:
    rims = [
        scatters(drawn(plot_decision, sharp, swiss_roll(samples), grid=20, accuracy=0.5))[1].get_linewidths()[0]
        for samples in (8, 8000)
    ]
    assert rims[0] > 0 and rims[1] == 0


def test_ten_classes_have_ten_colors(drawn: Any) -> None:
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    data = from_arrays(points, np.arange(200) // 20, name="sectors", split="alternate")

    def sectors(p: Floats) -> Floats:
        return np.eye(10)[(np.arctan2(p[:, 1], p[:, 0]) // (np.pi / 5) % 10).astype(np.int64)]

    figure = drawn(plot_decision, sectors, data, grid=50, accuracy=1.0)
    assert len(np.unique(np.round(figure.axes[0].images[0].get_array().reshape(-1, 3), 6), axis=0)) == 10
    constant = drawn(plot_decision, lambda p: np.eye(10)[np.zeros(len(p), dtype=np.int64)], data, grid=9, accuracy=0.1)
    assert len(constant.axes[0].collections) == len(scatters(constant)), "no boundary"


@pytest.mark.parametrize("kind", ["local", "sum", "agents"])
def test_the_decision_picture_and_the_summary_say_the_same_accuracy(
    kind: str, tmp_path: Path, saved: list[Figure]
) -> None:
    more = ["--readout.agents=[1, 4, 6]"] if kind == "agents" else []
    short_run = ["--train.epochs=2", "--data.samples=300", "--network.layers=3", f"--readout.kind={kind}", *more]
    run = tmp_path / "run"
    assert main(["train", *short_run, f"--output={run}"]) == 0
    accuracy = json.loads((run / "summary.json").read_text())["test_accuracy"]
    (picture,) = (one for one in saved if one.axes[0].get_title().startswith("Decision regions"))
    assert picture.axes[0].get_title().endswith(f"test accuracy {100 * accuracy:.2f} %")
    legend = " ".join(text.get_text() for text in picture.legends[0].get_texts())
    found = [re.search(rf"{what} point \((\d+)\)", legend) for what in ("wrong test", " test")]
    wrong, points = (int(match[1]) for match in found if match)
    assert points == 150 and wrong == round((1 - accuracy) * points)
