"""Pictures of a study, by what matplotlib was told to draw: points, colors, markers, lines and the legend."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from dist_hdnn.config import Config
from dist_hdnn.plots.drawing import Pictures
from dist_hdnn.plots.figures import INK
from dist_hdnn.study import plots
from dist_hdnn.study.axes import Axis, Choice, Range, Trial
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.results import Group, figure, in_bytes, quantity, spoken

AIMS = {"validation_accuracy": "maximize", "bytes_per_step": "minimize"}


def choice(name: str, *values: Any) -> Choice:
    labels = {str(value): value for value in values}
    return Choice(name, {label: {name: value} for label, value in labels.items()}, labels)


def plan_of(axes: Sequence[Axis], colour: str | None = None, baselines: Sequence[Trial] = ()) -> Plan:
    return Plan("tiny", dataclasses.asdict(Config()), axes, baselines, "grid", None, 0, AIMS, None, None, colour)


def group(values: dict[str, Any], accuracy: float, sent: float, baseline: str = "") -> Group:
    mean = {"validation_accuracy": accuracy, "bytes_per_step": sent, "parameters": 10.0}
    return Group(baseline, values, 2, mean, {"validation_accuracy": 0.01})


def grid_of(first: str, firsts: Sequence[Any], second: str, seconds: Sequence[Any]) -> list[Group]:
    """Accuracy falls along the second axis, bytes do not follow its order."""
    sent = [300.0, 100.0, 200.0, 50.0]
    return [
        group({first: one, second: other}, 0.9 - 0.1 * m - 0.01 * n, sent[n] + m)
        for m, one in enumerate(firsts)
        for n, other in enumerate(seconds)
    ]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def draw(plan: Plan, groups: Sequence[Group]) -> tuple[Axes, list[str]]:
        figures: list[Figure] = []

        def keep(figure: Figure, path: Path) -> Path:
            figures.append(figure)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"")
            return path

        monkeypatch.setattr(plots, "save", keep)
        album = Pictures(tmp_path / "plots")
        plots.plot_study(plan, groups, album)
        assert album.failed == {} and [path.stem for path in album.drawn] == [
            "validation_accuracy_vs_bytes_per_step",
            "validation_accuracy_vs_parameters",
        ]
        legend = figures[0].legends[0].get_texts() if figures[0].legends else []
        return figures[0].axes[0], [text.get_text() for text in legend]

    return draw


def points(axes: Axes) -> list[tuple[float, float, str, str]]:
    """(x, y, color, marker) of every point."""
    lines = [line for line in axes.get_lines() if line.get_marker() not in ("None", "", "_")]
    shown = [(line.get_xdata(), line.get_ydata(), line) for line in lines]
    return [(x[0], y[0], to_hex(line.get_color()).upper(), str(line.get_marker())) for x, y, line in shown]


def joins(axes: Axes) -> list[list[float]]:
    """The x of every line between points, in its order."""
    lines = [line for line in axes.get_lines() if line.get_marker() in ("None", "") and line.get_linestyle() == "-"]
    return [list(line.get_xdata()) for line in lines if len(line.get_xdata()) > 1]


def test_numbers_have_a_color_and_a_legend_entry_each_when_they_are_the_only_axis(drawn: Any) -> None:
    groups = [group({"network.layers": n}, 0.5 + n / 100, 10.0 * n) for n in (2, 4, 8)]
    axes, legend = drawn(plan_of([choice("network.layers", 2, 4, 8), choice("seed", 0, 1)]), groups)
    assert legend == ["layers 2", "layers 4", "layers 8", "Pareto front"]
    assert len({color for _, _, color, _ in points(axes)}) == 3 == len({marker for *_, marker in points(axes)})
    assert [(x, round(y)) for x, y, *_ in points(axes)] == [(20.0, 52), (40.0, 54), (80.0, 58)]
    assert joins(axes) == []
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "bytes per training step, all agents",
        "validation accuracy (%)",
    )


def test_lines_join_numbers_in_their_order_and_never_words(drawn: Any) -> None:
    families, widths = ("ring", "grid"), (2, 4, 8)
    by_number = grid_of("graph.family", families, "network.width", widths)
    axes, legend = drawn(plan_of([choice("graph.family", *families), choice("network.width", *widths)]), by_number)
    assert legend == ["ring", "grid", "width 2", "width 4", "width 8", "Pareto front"]
    assert joins(axes) == [[300.0, 100.0, 200.0], [301.0, 101.0, 201.0]]
    assert len({color for _, _, color, _ in points(axes)}) == 2 and len({mark for *_, mark in points(axes)}) == 3
    patterns = ("none", "half", "all")
    by_word = grid_of("graph.family", families, "pattern", patterns)
    axes, legend = drawn(plan_of([choice("graph.family", *families), choice("pattern", *patterns)]), by_word)
    assert joins(axes) == [] and legend[:5] == ["ring", "grid", *patterns]


def test_two_axes_of_numbers_are_told_apart_by_color_and_marker(drawn: Any) -> None:
    groups = grid_of("network.layers", (2, 4), "network.width", (8, 2, 4))
    axes, legend = drawn(plan_of([choice("network.layers", 2, 4), choice("network.width", 8, 2, 4)]), groups)
    assert legend == ["layers 2", "layers 4", "width 8", "width 2", "width 4", "Pareto front"]
    assert joins(axes) == [[100.0, 200.0, 300.0], [101.0, 201.0, 301.0]], "by width: 2, 4, 8"
    assert len({(color, marker) for _, _, color, marker in points(axes)}) == 6


def test_the_axis_that_the_study_file_names_gives_the_colors(drawn: Any) -> None:
    groups = grid_of("graph.family", ("ring", "grid"), "network.width", (2, 4, 8))
    axes = [choice("graph.family", "ring", "grid"), choice("network.width", 2, 4, 8)]
    picture, legend = drawn(plan_of(axes, "network.width"), groups)
    assert legend[:5] == ["width 2", "width 4", "width 8", "ring", "grid"] and joins(picture) == []
    assert len({color for _, _, color, _ in points(picture)}) == 3


def test_many_numbers_have_a_color_scale_with_the_name_of_the_axis(drawn: Any) -> None:
    groups = [group({"network.step": 0.1 + n / 20}, 0.5 + n / 100, 10.0 * n) for n in range(1, 12)]
    axes, legend = drawn(plan_of([Range("network.step", 0.1, 1.0)]), groups)
    assert legend == ["Pareto front"] and joins(axes) == []
    assert [other.get_ylabel() for other in axes.figure.axes[1:]] == ["network.step"]
    assert len({color for _, _, color, _ in points(axes)}) == 11


def test_baselines_are_ink_and_joined_only_along_numbers(drawn: Any) -> None:
    own = [group({"graph.family": name}, 0.9, 10.0 + n) for n, name in enumerate(("ring", "grid"))]
    wide = [group({"network.width": width}, 0.8, 5.0 * width, "dense") for width in (4, 2)]
    other = [group({"pattern": name}, 0.7, 7.0, "named") for name in ("a", "b")]
    alone = [group({}, 0.6, 8.0, "alone")]
    axes, legend = drawn(plan_of([choice("graph.family", "ring", "grid")]), [*own, *wide, *other, *alone])
    assert legend == ["ring", "grid", "dense", "named", "alone", "Pareto front"]
    assert sum(color == INK for _, _, color, _ in points(axes)) == 5
    dotted = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert sorted(list(line.get_ydata()) for line in dotted) == [[60.0, 60.0], [80.0, 80.0]]
    assert [list(line.get_xdata()) for line in dotted if line.get_ydata()[0] == 80.0] == [[10.0, 20.0]]


def test_networks_that_fall_into_parts_are_hollow_and_the_legend_says_so(drawn: Any) -> None:
    groups = [group({"pattern": name}, 0.9, 10.0 + n) for n, name in enumerate(("half", "all"))]
    plan = plan_of([choice("pattern", "half", "all")])
    assert "hollow: agents in parts" not in drawn(plan, groups)[1]
    parted = [
        dataclasses.replace(one, mean={**one.mean, "components": c}) for one, c in zip(groups, (2.5, 1.0), strict=True)
    ]
    axes, legend = drawn(plan, parted)
    assert legend == ["half", "all", "hollow: agents in parts", "Pareto front"]
    faces = [line.get_markerfacecolor() for line in axes.get_lines() if line.get_marker() in "os"]
    assert len(faces) == 2 and (faces[0] == "white") and (faces[1] != "white")


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (96_000, "96 kB"), (1.5e9, "1.5 GB"), (2e15, "2e+03 TB")]
)
def test_bytes_in_words(value: float, text: str) -> None:
    assert in_bytes(value) == text


@pytest.mark.parametrize(
    ("name", "value", "heading", "cell", "line"),
    [
        ("test_accuracy", 0.98765, "test accuracy (%)", "98.77", "test accuracy 98.77 %"),
        (
            "validation_mean_agent_accuracy",
            1.0,
            "validation mean agent (%)",
            "100.00",
            "validation mean agent 100.00 %",
        ),
        ("worst_agent_r2", -0.5, "worst agent R²", "-0.5000", "worst agent R² -0.5000"),
        ("bytes_per_step", 1228800.0, "bytes/step", "1,228,800", "bytes/step 1,228,800"),
        ("seconds_per_step", 0.00123, "time/step (ms)", "1.23", "time/step 1.23 ms"),
        ("components", 3.6667, "parts", "3.7", "parts 3.7"),
        ("diameter", 4.0, "diameter", "4", "diameter 4"),
        ("peak_memory_bytes", 2.5e6, "memory", "2.5 MB", "memory 2.5 MB"),
        ("something_else", 0.25, "something else", "0.2500", "something else 0.2500"),
    ],
)
def test_a_result_in_words(name: str, value: float, heading: str, cell: str, line: str) -> None:
    assert (quantity(name).heading, figure(name, value), spoken(name, value)) == (heading, cell, line)


def test_numbers_of_links_are_a_horizontal_axis(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures: dict[str, Figure] = {}

    def keep(figure: Figure, path: Path) -> Path:
        figures[path.stem] = figure
        return path

    monkeypatch.setattr(plots, "save", keep)
    fills, losses = ("zero", "own"), (0, 0.1, 0.3)
    plan = plan_of([choice("links.fill", *fills), choice("links.loss", *losses)])
    plots.plot_study(plan, grid_of("links.fill", fills, "links.loss", losses), Pictures(tmp_path))
    assert "validation_accuracy_vs_links.fill" not in figures
    axes = figures["validation_accuracy_vs_links.loss"].axes[0]
    assert sorted({round(float(x), 2) for x, *_ in points(axes)}) == [0.0, 0.1, 0.3] and axes.get_xscale() == "linear"
