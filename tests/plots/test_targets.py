"""Predicted over true targets, readable whatever the scale of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dist_hdnn.plots.targets import plot_targets


@pytest.mark.parametrize(("targets", "panels"), [(3, 3), (20, 1)])
def test_targets_of_different_scale_are_told_apart(drawn: Any, targets: int, panels: int) -> None:
    scale = np.stack([np.arange(targets) * 100.0, np.geomspace(1e-3, 1e3, targets)])
    standard = np.random.default_rng(0).normal(size=(50, targets))
    true = scale[0] + scale[1] * standard
    names = [f"leak {k}" for k in range(targets)]
    figure = drawn(plot_targets, true, true, title="plant", names=names, scale=scale)
    assert len(figure.axes) == panels
    shown = figure.axes[-1].lines[0].get_xdata()
    if panels > 1:
        assert [axes.get_title() for axes in figure.axes] == names
        np.testing.assert_allclose(shown, true[:, -1])
    else:
        assert "over its training deviation" in figure.axes[0].get_xlabel()
        np.testing.assert_allclose(shown, standard.ravel(), atol=1e-9)


def test_targets_of_one_scale_share_a_picture(drawn: Any) -> None:
    true = np.random.default_rng(0).normal(size=(50, 4))
    figure = drawn(plot_targets, true, true, names=list("abcd"), scale=np.stack([np.zeros(4), np.ones(4)]))
    assert len(figure.axes) == 1
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), true.ravel())
