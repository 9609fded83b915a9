"""The pictures of a run and of its certificate hold the numbers of the files beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

from dist_hdnn.cli import main

TRAIN = ["train", "--data.samples=200", "--train.epochs=3", "--network.layers=3", "--train.log_gradients=true"]


def lines(axes: Axes) -> list[list[float]]:
    """The values of the lines of the legend, in its order."""
    return [list(line.get_ydata()) for line in axes.lines if not str(line.get_label()).startswith("_")]


def figure_of(figures: list[Figure], title: str) -> Figure:
    (found,) = (figure for figure in figures if figure.axes[0].get_title().startswith(title))
    return found


@pytest.mark.filterwarnings("ignore")
def test_the_pictures_of_a_run_hold_its_numbers(tmp_path: Path, saved: list[Figure]) -> None:
    run = tmp_path / "run"
    options = ["--graph.family=star", "--graph.agents=6", "--readout.kind=local", "--data.validation_fraction=0.2"]
    assert main([*TRAIN, *options, f"--output={run}"]) == 0
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    left, right = figure_of(saved, "Loss").axes
    assert lines(left) == [[epoch["loss"] for epoch in epochs]]
    shown = [[100 * epoch[f"{which}_accuracy"] for epoch in epochs] for which in ("train", "validation")]
    assert lines(right)[:2] == [pytest.approx(values) for values in shown]
    (image,) = figure_of(saved, "Gradient norms").axes[0].images
    assert np.array_equal(image.get_array(), np.array([epoch["gradient_norms"] for epoch in epochs]).T)
    graph, traffic = (figure for figure in saved if figure.axes[0].get_title().startswith("star(6): 6 agents, 5 links"))
    assert f"mean {100 * summary['mean_agent_accuracy']:.1f} %" in graph.axes[0].get_title()
    carried = [link[3] for link in summary["link_traffic"]]
    (links,) = (one for one in traffic.axes[0].collections if isinstance(one, LineCollection))
    assert len(links.get_segments()) == len(carried) == 5 and len(set(carried)) == 1
    assert f"{carried[0] / 1000:g} kB over every link" in traffic.axes[0].get_title()
    pattern = figure_of(saved, "Block pattern of K").axes[0]
    assert "16 of 6² blocks" in pattern.get_title() and len(pattern.collections[0].get_paths()) == 6 + 2 * 5


@pytest.mark.filterwarnings("ignore")
def test_the_pictures_of_a_certificate_hold_its_figures(tmp_path: Path, saved: list[Figure]) -> None:
    run = tmp_path / "run"
    assert main([*TRAIN, "--plots=false", f"--output={run}"]) == 0 and not saved
    assert main(["certify", str(run), "--samples=8"]) == 0
    figures: dict[str, Any] = json.loads((run / "certificate.json").read_text())
    (sensitivity,) = figure_of(saved, "hamiltonian, 16 neurons, 8 test points").axes
    norms = figures["sensitivity"]
    assert lines(sensitivity)[:3] == [norms["upper_bound"], norms["largest"], norms["smallest"]]
    residuals, singular, rates, eigenvalues, _ = figure_of(saved, "Symplecticity").axes
    spectrum, stability = figures["spectrum"], figures["stability"]
    assert list(residuals.lines[0].get_ydata()) == [max(value, 1e-18) for value in figures["symplecticity"]["layers"]]
    assert lines(singular) == [spectrum["largest_singular_value"], spectrum["smallest_singular_value"]]
    assert lines(rates)[0] == stability["h_omega"] and lines(rates)[1][0] == stability["limit"]
    (points,) = (one for one in eigenvalues.collections if isinstance(one, PathCollection))
    radii = np.linalg.norm(points.get_offsets(), axis=1).reshape(3, 16).max(axis=1)
    assert radii == pytest.approx(spectrum["spectral_radius"])
    drift, gradient = figure_of(saved, "Hamiltonian p").axes
    assert len(lines(drift)[0]) == 3 and len(lines(gradient)[0]) == 4
    largest, smallest = (figures["momentum"]["gradient_norm"][which] for which in ("largest", "smallest"))
    corners = gradient.collections[0].get_paths()[0].vertices
    for layer, (low, high) in enumerate(zip(smallest, largest, strict=True)):
        values = corners[corners[:, 0] == layer, 1]
        assert (values.min(), values.max()) == (low, high)
