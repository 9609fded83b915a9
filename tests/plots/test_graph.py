"""The picture of a graph: its title, colors, bars and names agree with the figures of the run."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from dist_hdnn.data import Sensor, SensorMap, default_sensors
from dist_hdnn.plots.drawing import Pictures
from dist_hdnn.plots.figures import INK, VERMILION
from dist_hdnn.plots.graph import plot_graph
from dist_hdnn.plots.labels import NAME_UP_TO, short
from dist_hdnn.plots.positions import drawing_positions
from dist_hdnn.topology import as_graph
from dist_hdnn.topology.graphs import CommunicationGraph

LONG = "measuring station of the town number"


def named(graph: nx.Graph, names: str = "{}") -> CommunicationGraph:
    return as_graph(nx.relabel_nodes(graph, {node: names.format(node) for node in graph}))


def bars(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]


def links_of(axes: Axes) -> LineCollection:
    return next(one for one in axes.collections if isinstance(one, LineCollection))


def agents_of(axes: Axes) -> PathCollection:
    return next(one for one in axes.collections if isinstance(one, PathCollection))


GRAPHS = {
    "one agent": nx.empty_graph(1),
    "two agents": nx.path_graph(2),
    "no links": nx.empty_graph(7),
    "complete": nx.complete_graph(10),
    "parts": nx.Graph([(0, 1), (1, 2), (3, 4), (5, 6), (6, 7), (5, 7)]),
    "sixty": nx.gnm_random_graph(60, 100, seed=0),
    "two thousand": nx.gnm_random_graph(2000, 3000, seed=0),
}


@pytest.mark.filterwarnings("ignore:graph")
@pytest.mark.parametrize("case", GRAPHS)
def test_a_picture_has_all_agents_links_sensors_and_accuracies(drawn: Any, case: str) -> None:
    graph = named(GRAPHS[case])
    widths, accuracy = np.full(graph.agents, 2), np.linspace(0.5, 1.0, graph.agents)
    sensors = SensorMap(default_sensors(2, widths), widths, 2)
    figure = drawn(plot_graph, graph, sensors, accuracy, feature_names=("x1", "x2"))
    axes = figure.axes[0]
    places = agents_of(axes).get_offsets()
    assert np.array_equal(places, drawing_positions(graph.links, graph.agents, graph.positions))
    drawn_links = [(segment[0], segment[-1]) for segment in links_of(axes).get_segments()]
    assert np.array_equal(np.array(drawn_links).reshape(-1, 2, 2), places[graph.links])
    links = len(graph.links)
    words = f"{graph.agents} agent{'s' * (graph.agents > 1)}, {links} link{'s' * (links != 1)}"
    assert axes.get_title().splitlines()[0] == f"graph: {words}"
    rings = [one for one in axes.collections if isinstance(one, PathCollection)][1]
    assert np.array_equal(rings.get_offsets(), places[sorted({sensor.agent for sensor in sensors.sensors})])
    assert to_hex(rings.get_edgecolors()[0]) == VERMILION.lower()
    written = " ".join(text.get_text() for text in axes.texts)
    assert "x1 → " in written and "x2 → " in written
    assert figure.legends[0].get_texts()[0].get_text() == "sensor: feature → half of the agent's state it enters"
    if graph.agents > 1:
        assert bars(figure)[0].get_ylabel() == "accuracy of the agent (%)"
        assert "mean 75.0 %, worst 50.0 % (agent 0)" in axes.get_title()
        shades = agents_of(axes).get_facecolors()
        assert np.allclose(shades, colormaps["viridis"](np.linspace(0, 1, graph.agents)), atol=0.02)


def test_links_that_run_over_an_agent_are_bowed(drawn: Any) -> None:
    graph = as_graph(nx.path_graph(3))
    ends = np.array([(0, 1), (0, 2), (1, 2)])
    line = CommunicationGraph("line", graph.names, ends, positions=np.array([[0.0, 0], [1, 0], [2, 0]]))
    bends = [np.ptp(segment[:, 1]) for segment in links_of(drawn(plot_graph, line, None, None).axes[0]).get_segments()]
    assert bends[1] > 0.05 and bends[0] == bends[2] == 0


def test_a_crowd_of_sensors_is_named_in_short(drawn: Any) -> None:
    crowd = [Sensor(feature, 3, "p", feature) for feature in range(9)]
    figure = drawn(plot_graph, as_graph(nx.cycle_graph(8)), crowd, np.full(8, np.nan))
    (words,) = (text.get_text() for text in figure.axes[0].texts if "feature" in text.get_text())
    assert words == "feature 0 → p\nfeature 1 → p\nfeature 2 → p\nand 6 more" and not bars(figure)


def test_links_that_carry_the_same_have_one_color_and_the_title_says_how_much(drawn: Any) -> None:
    graph = named(nx.cycle_graph(8))
    figure = drawn(plot_graph, graph, None, None, link_bytes=np.full(8, 24_000))
    axes = figure.axes[0]
    assert not bars(figure) and len(np.unique(links_of(axes).get_colors(), axis=0)) == 1
    assert "24 kB over every link" in axes.get_title()


def test_links_that_carry_more_are_darker_and_thicker(drawn: Any) -> None:
    graph = named(nx.cycle_graph(8))
    carried = np.arange(8) * 1000 + 20_000
    figure = drawn(plot_graph, graph, None, None, link_bytes=carried)
    axes, (bar,) = figure.axes[0], bars(figure)
    links = links_of(axes)
    assert np.array_equal(links.get_array(), carried) and links.get_clim() == (20_000, 27_000)
    assert (np.diff(links.get_linewidths()) > 0).all() and "over every link" not in axes.get_title()
    assert {"20 kB", "27 kB"} & {label.get_text() for label in bar.get_yticklabels()}


@pytest.mark.parametrize(
    ("accuracy", "title"), [(1.0, "accuracy: 100.0 % of every agent"), (0.5, "accuracy: 50.0 % of every agent")]
)
def test_equal_agents_have_one_color_and_none_is_the_worst(drawn: Any, accuracy: float, title: str) -> None:
    figure = drawn(plot_graph, named(nx.cycle_graph(8)), None, np.full(8, accuracy))
    axes = figure.axes[0]
    assert not bars(figure) and axes.get_title().endswith(title)
    assert len(np.unique(agents_of(axes).get_facecolors(), axis=0)) == 1


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.992, 1.0, (95, 100)), (0.0, 0.01, (0, 5)), (0.4, 0.9, (40, 90))],
)
def test_the_bar_of_accuracies_spans_five_points_at_least(
    drawn: Any, low: float, high: float, shown: tuple[float, float]
) -> None:
    figure = drawn(plot_graph, named(nx.cycle_graph(8)), None, np.linspace(low, high, 8))
    (bar,) = bars(figure)
    assert bar.get_ylim() == pytest.approx(shown)
    assert f"worst {100 * low:.1f} % (agent 0)" in figure.axes[0].get_title()


def test_one_agent_is_neither_mean_nor_worst(drawn: Any) -> None:
    figure = drawn(plot_graph, as_graph(nx.empty_graph(1)), None, [0.75])
    assert figure.axes[0].get_title().splitlines()[1] == "accuracy: 75.0 %"


def test_an_agent_that_does_not_answer_is_grey(drawn: Any) -> None:
    figure = drawn(plot_graph, named(nx.cycle_graph(3)), None, [np.nan, 1.0, 1.0])
    silent, *others = agents_of(figure.axes[0]).get_facecolors()
    assert np.ptp(silent[:3]) < 0.01 and all(np.ptp(color[:3]) > 0.3 for color in others)


def test_long_names_of_a_kind_can_be_told_apart(drawn: Any) -> None:
    graph = named(nx.cycle_graph(12), LONG + " {}")
    figure = drawn(plot_graph, graph, None, np.linspace(0, 1, 12))
    axes = figure.axes[0]
    written = {text.get_text() for text in axes.texts}
    assert len(written) == 12 and max(map(len, written)) <= NAME_UP_TO and short(f"{LONG} 7") in written


@pytest.mark.parametrize("seed", range(4))
def test_a_name_stands_near_its_node_with_a_line_to_it_and_covers_no_other(drawn: Any, seed: int) -> None:
    graph = named(nx.gnp_random_graph(40, 0.1, seed=seed), "station {}")
    figure = drawn(plot_graph, graph, [Sensor(0, 3, "q")], None)
    figure.draw_without_rendering()  # saving had another resolution
    axes = figure.axes[0]
    places = agents_of(axes).get_offsets()
    nodes, frame = axes.transData.transform(places), axes.get_window_extent().padded(6 * figure.dpi / 72)
    boxes = {str(text.get_text()): Text.get_window_extent(text) for text in axes.texts}
    assert {words.split("\n")[0] for words in boxes} == set(graph.names) and len(axes.texts) == 40
    for text in axes.texts:
        agent = graph.names.index(text.get_text().split("\n")[0])
        assert isinstance(text, Annotation) and np.array_equal(text.xy, places[agent]), "where its line ends"
        box = boxes[text.get_text()]
        away = np.linalg.norm(np.maximum(np.maximum(box.min - nodes[agent], nodes[agent] - box.max), 0.0))
        assert 0 < away < 40 * figure.dpi / 72 and (box.min > frame.min).all() and (box.max < frame.max).all()
    crossed = [(a, b) for a, b in combinations(boxes, 2) if boxes[a].shrunk(0.9, 0.7).overlaps(boxes[b])]
    assert len(crossed) <= 2, crossed


def test_short_names_stand_in_their_nodes_in_a_color_that_can_be_read(drawn: Any) -> None:
    axes = drawn(plot_graph, named(nx.cycle_graph(8)), None, np.linspace(0, 1, 8)).axes[0]
    places, shades = agents_of(axes).get_offsets(), agents_of(axes).get_facecolors()
    assert [text.get_text() for text in axes.texts] == [str(agent) for agent in range(8)]
    assert np.array_equal([text.get_position() for text in axes.texts], places)
    brightness, written = shades[:, :3].mean(axis=1), [to_hex(text.get_color()) for text in axes.texts]
    assert written[int(brightness.argmin())] == "#ffffff" and written[int(brightness.argmax())] == INK


def test_many_agents_have_no_names(drawn: Any) -> None:
    assert not drawn(plot_graph, named(nx.cycle_graph(61)), None, None).axes[0].texts


def test_wide_characters_leave_their_node(tmp_path: Path, saved: list[Figure]) -> None:
    graph = named(nx.path_graph(6), "東京都{}")
    Pictures(tmp_path).draw("graph.png", plot_graph, graph, None, None)
    assert len(saved[0].axes[0].texts) == 6 and all(isinstance(text, Annotation) for text in saved[0].axes[0].texts)


def test_no_ring_of_a_sensor_is_cut_off(drawn: Any) -> None:
    graph = named(nx.disjoint_union(nx.path_graph(5), nx.empty_graph(2)))
    figure = drawn(plot_graph, graph, [Sensor(agent, agent, "q") for agent in range(7)], None)
    axes = figure.axes[0]
    assert all(not one.get_clip_on() for one in axes.collections if isinstance(one, PathCollection))
    frame, nodes = axes.get_window_extent(), axes.transData.transform(agents_of(axes).get_offsets())
    assert (nodes > frame.min).all() and (nodes < frame.max).all()


def test_one_bad_agent_leaves_the_colors_of_the_others_apart(drawn: Any) -> None:
    explained = np.array([-50.0, 0.5, 0.9, 0.99])
    figure = drawn(plot_graph, named(nx.path_graph(4)), None, explained, measure="r2")
    (bar,) = bars(figure)
    assert bar.get_ylabel() == "R² of the agent, below 0 in one color"
    shades = agents_of(figure.axes[0]).get_facecolors()
    assert to_hex(shades[0]) == VERMILION.lower()
    np.testing.assert_allclose(shades[1:], colormaps["viridis"](explained[1:] / 0.99))
