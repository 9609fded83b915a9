"""The pictures that benchmarks draw for the documents, by what their axes hold."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a benchmark by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module


def lines(axes: Axes) -> dict[str, np.ndarray]:
    """Label -> (points, 2) of every line."""
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}


def test_norms_that_collapse_are_drawn_beside_those_that_do_not(
    benchmark: Callable[[str], ModuleType], saved: list[Figure], tmp_path: Path
) -> None:
    depth = np.arange(1, 65)
    flat, falling = np.stack([np.ones(64), 4.0 * np.ones(64)]), 1e-8 ** np.stack([depth + 1.0, depth])
    curves = {"flat": flat, "falling": falling}
    benchmark("gradients").plot({"before": curves, "after": curves}, tmp_path / "gradients.png", "64 layers")
    assert [axes.get_title() for axes in saved[0].axes] == ["before", "after"]
    for axes in saved[0].axes:
        shown = lines(axes)
        assert np.array_equal(shown["flat"], np.stack([depth, np.full(64, 2.0)], axis=1)), "the geometric mean"
        assert (np.diff(shown["falling"][:, 1]) <= 0).all() and axes.get_ylim()[0] == 1e-20
        assert axes.get_yscale() == "log" and axes.get_xlabel() == "layers back from the output, j"
    first, second = saved[0].axes
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["flat", "falling"]
    assert first.get_ylabel() and not second.get_ylabel()


def test_the_counterexample_shows_orbit_entries_and_norms(
    benchmark: Callable[[str], ModuleType], saved: list[Figure], tmp_path: Path
) -> None:
    values = np.random.default_rng(0).normal(size=(50, 2, 2))
    orbit = np.random.default_rng(1).normal(size=(51, 2))
    benchmark("counterexample").plot({1.0: values, 0.1: 2 * values}, orbit, 0.05, tmp_path / "counterexample.png")
    left, middle, right = saved[0].axes
    assert np.array_equal(left.lines[0].get_xydata(), orbit) and np.array_equal(lines(left)["start"], orbit[:1])
    assert np.allclose(lines(middle)["(1, 2)"], np.stack([0.05 * np.arange(1, 51), values[:, 0, 1]], axis=1))
    assert [text.get_text() for text in middle.get_legend().get_texts()] == ["(1, 1)", "(1, 2)", "(2, 1)", "(2, 2)"]
    norms = np.linalg.norm(values, 2, axis=(1, 2))
    assert np.allclose(lines(right)["ε = 1"][:, 1], norms) and np.allclose(lines(right)["ε = 0.1"][:, 1], 2 * norms)
    assert np.allclose(lines(right)["ε = 0.1"][:, 0], 0.005 * np.arange(1, 51)), "over ε t"
    assert (right.get_xscale(), right.get_yscale()) == ("log", "log")
    assert (left.get_xlabel(), left.get_ylabel()) == ("p", "q") and middle.get_xlabel() == "time before the end, t"
