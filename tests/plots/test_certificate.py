"""The pictures of a certificate: curves, bounds, limits and units, by what the axes hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection

from dist_hdnn.plots.certificate import plot_layers, plot_momentum, plot_sensitivity


def lines(axes: Axes) -> dict[str, np.ndarray]:
    """Label -> (points, 2) of the lines that a legend names."""
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}


def band(axes: Axes) -> np.ndarray:
    """Lower and upper edge of the shaded range at each x, (2, points)."""
    (shade,) = (one for one in axes.collections if isinstance(one, PolyCollection))
    corners = shade.get_paths()[0].vertices
    return np.array([[f(corners[corners[:, 0] == x, 1]) for x in np.unique(corners[:, 0])] for f in (min, max)])


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("layers", [1, 40])
def test_sensitivities_stand_between_their_bounds(drawn: Any, layers: int, exact: bool) -> None:
    smallest, bound = np.linspace(0.9, 3, layers), [None if j > 20 else 10.0**j for j in range(layers)]
    figure = drawn(plot_sensitivity, smallest, 5 * smallest, bound, title="a network", exact=exact)
    (axes,) = figure.axes
    shown = lines(axes)
    assert np.array_equal(shown["smallest of the samples"], np.stack([np.arange(1, layers + 1), smallest], axis=1))
    assert np.array_equal(shown["largest of the samples"][:, 1], 5 * smallest)
    upper = shown["upper bound from the weights"][:, 1]
    assert np.array_equal(np.isnan(upper), [value is None for value in bound])
    assert np.array_equal(upper[~np.isnan(upper)], [value for value in bound if value is not None])
    assert (shown["1: below it gradients vanish"][:, 1] == 1).all()
    assert len(axes.get_legend().get_texts()) == 4 and axes.get_yscale() == "log" and axes.get_title() == "a network"
    assert axes.get_xlabel() == "layers back from the output, j"
    assert axes.get_ylabel().endswith("(spectral norm)" if exact else "(spectral norm, by probes from below)")
    low, high = axes.get_ylim()
    assert low < 0.9 and high > 5 * smallest.max() * (layers > 1)


def test_layers_show_residuals_singular_values_step_sizes_and_eigenvalues(drawn: Any) -> None:
    residuals, rates, singular = [1e-16, 0.0, 3e-15], [0.5, 1.0, 3.0], ([0.5, 0.4, 0.5], [2.0, 2.5, 2.0])
    eigenvalues = np.exp(1j * np.linspace(0, 3, 12)).reshape(3, 4)
    figure = drawn(plot_layers, residuals, 1e-12, singular, rates, 2.0, eigenvalues, title="a network")
    first, second, third, fourth, bar = figure.axes
    assert np.array_equal(first.lines[0].get_xydata(), [[1, 1e-16], [2, 1e-18], [3, 3e-15]])
    assert (lines(first)["allowed: 1e-12"][:, 1] == 1e-12).all() and first.get_yscale() == "log"
    assert np.array_equal(lines(second)["largest"], [[1, 2.0], [2, 2.5], [3, 2.0]])
    assert np.array_equal(lines(second)["smallest"][:, 1], singular[0]) and second.get_yscale() == "log"
    assert np.array_equal(lines(third)["bound from the weights"][:, 1], rates)
    assert (lines(third)["limit of the scheme: 2"][:, 1] == 2.0).all() and third.get_ylim()[0] == 0
    (points,) = (one for one in fourth.collections if isinstance(one, PathCollection))
    assert np.allclose(points.get_offsets() @ [1, 1j], eigenvalues.ravel())
    assert len(np.unique(points.get_facecolors(), axis=0)) == 3 and bar.get_ylabel() == "layer"
    assert np.allclose(np.linalg.norm(fourth.lines[0].get_xydata(), axis=1), 1), "the unit circle"
    assert [axes.get_xlabel() for axes in (first, second, third)] == ["layer"] * 3
    units = [axes.get_ylabel() for axes in (first, second, third)]
    assert units == ["|M J Mᵀ - J| / |M|²", "over all samples", "h ω (step x frequency)"]


def test_layers_say_what_has_no_residual_no_limit_and_no_eigenvalues(drawn: Any) -> None:
    figure = drawn(plot_layers, None, 1e-12, ([0.5], [2.0]), [0.5], None, None, title="a network")
    first, _, third, fourth = figure.axes
    words = [axes.texts[0].get_text() for axes in (first, fourth)]
    assert words == ["not symplectic: no residual", "eigenvalues: for small networks only"]
    assert list(lines(third)) == ["bound from the weights"]


@pytest.mark.parametrize(
    ("time", "words"), [("shared", "conserved up to the scheme's error"), (4, "weights vary in time")]
)
def test_momenta_show_how_far_the_hamiltonian_moves_and_the_range_of_the_gradients(
    drawn: Any, time: str | int, words: str
) -> None:
    kept = np.tile(np.array([[1.0, -2.0, 3.0]]), (5, 1))
    kept[3] += 1e-6 * kept[0]
    norms = np.random.default_rng(0).uniform(0.1, 1, (5, 3))
    left, right = drawn(plot_momentum, kept, norms, time, title="a network").axes
    (median,) = lines(left).values()
    assert np.array_equal(median[:, 0], [1, 2, 3, 4])
    assert median[2, 1] == pytest.approx(1e-6, rel=1e-3) and max(median[[0, 1, 3], 1]) < 1e-15
    assert left.get_yscale() == "log" and words in left.get_title() and "layer 0" in left.get_ylabel()
    assert np.array_equal(lines(right)["median"], np.stack([np.arange(5), np.median(norms, axis=1)], axis=1))
    assert np.array_equal(band(right), [norms.min(axis=1), norms.max(axis=1)])
    assert right.get_yscale() == "log" and "|∂L/∂y$_j$|" in right.get_ylabel()
    assert left.get_xlabel() == right.get_xlabel() == "layer"
