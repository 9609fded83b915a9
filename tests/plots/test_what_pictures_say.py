"""What the pictures of a run say: their titles, colours, bars and names agree with the figures of the run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

from dist_hdnn.cli import main
from dist_hdnn.data import Sensor
from dist_hdnn.plots.certificate import plot_momentum
from dist_hdnn.plots.curves import plot_curves
from dist_hdnn.plots.drawing import Pictures
from dist_hdnn.plots.graph import plot_graph
from dist_hdnn.plots.labels import NAME_UP_TO, short
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


def test_links_that_carry_the_same_have_one_colour_and_the_title_says_how_much(
    tmp_path: Path, saved: list[Figure]
) -> None:
    graph = named(nx.cycle_graph(8))
    plot_graph(graph, None, None, tmp_path / "traffic.png", link_bytes=np.full(8, 24_000))
    axes = saved[0].axes[0]
    assert not bars(saved[0]) and len(np.unique(links_of(axes).get_colors(), axis=0)) == 1
    assert "24 kB over every link" in axes.get_title()


def test_links_that_carry_more_are_darker_and_thicker(tmp_path: Path, saved: list[Figure]) -> None:
    graph = named(nx.cycle_graph(8))
    carried = np.arange(8) * 1000 + 20_000
    plot_graph(graph, None, None, tmp_path / "traffic.png", link_bytes=carried)
    axes, (bar,) = saved[0].axes[0], bars(saved[0])
    links = links_of(axes)
    assert np.array_equal(links.get_array(), carried) and links.get_clim() == (20_000, 27_000)
    assert (np.diff(links.get_linewidths()) > 0).all() and "over every link" not in axes.get_title()
    assert {"20 kB", "27 kB"} & {label.get_text() for label in bar.get_yticklabels()}


@pytest.mark.parametrize(
    ("accuracy", "title"), [(1.0, "accuracy: 100.0 % of every agent"), (0.5, "accuracy: 50.0 % of every agent")]
)
def test_equal_agents_have_one_colour_and_none_is_the_worst(
    tmp_path: Path, saved: list[Figure], accuracy: float, title: str
) -> None:
    plot_graph(named(nx.cycle_graph(8)), None, np.full(8, accuracy), tmp_path / "graph.png")
    axes = saved[0].axes[0]
    assert not bars(saved[0]) and axes.get_title().endswith(title)
    assert len(np.unique(agents_of(axes).get_facecolors(), axis=0)) == 1


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.992, 1.0, (95, 100)), (0.0, 0.01, (0, 5)), (0.4, 0.9, (40, 90))],
)
def test_the_bar_of_accuracies_spans_five_points_at_least(
    tmp_path: Path, saved: list[Figure], low: float, high: float, shown: tuple[float, float]
) -> None:
    plot_graph(named(nx.cycle_graph(8)), None, np.linspace(low, high, 8), tmp_path / "graph.png")
    (bar,) = bars(saved[0])
    assert bar.get_ylim() == pytest.approx(shown)
    assert f"worst {100 * low:.1f} % (agent 0)" in saved[0].axes[0].get_title()


def test_one_agent_is_neither_mean_nor_worst(tmp_path: Path, saved: list[Figure]) -> None:
    plot_graph(as_graph(nx.empty_graph(1)), None, [0.75], tmp_path / "graph.png")
    assert saved[0].axes[0].get_title().splitlines()[1] == "accuracy: 75.0 %"


def test_an_agent_that_does_not_answer_is_grey(tmp_path: Path, saved: list[Figure]) -> None:
    plot_graph(named(nx.cycle_graph(3)), None, [np.nan, 1.0, 1.0], tmp_path / "graph.png")
    silent, *others = agents_of(saved[0].axes[0]).get_facecolors()
    assert np.ptp(silent[:3]) < 0.01 and all(np.ptp(colour[:3]) > 0.3 for colour in others)


def test_long_names_of_a_kind_can_be_told_apart(tmp_path: Path, saved: list[Figure]) -> None:
    graph = named(nx.cycle_graph(12), LONG + " {}")
    plot_graph(graph, None, np.linspace(0, 1, 12), tmp_path / "graph.png")
    axes = saved[0].axes[0]
    written = {text.get_text() for text in axes.texts}
    assert len(written) == 12 and max(map(len, written)) <= NAME_UP_TO and short(f"{LONG} 7") in written


@pytest.mark.parametrize("seed", range(4))
def test_a_name_stands_by_its_own_node_or_has_a_line_to_it(tmp_path: Path, saved: list[Figure], seed: int) -> None:
    graph = named(nx.gnp_random_graph(40, 0.3, seed=seed), "station {}")
    plot_graph(graph, [Sensor(0, 3, "q")], None, tmp_path / "graph.png")
    axes, canvas = saved[0].axes[0], saved[0].canvas
    nodes = axes.transData.transform(agents_of(axes).get_offsets())
    lines = {tuple(line.get_xydata()[0]) for line in axes.lines}
    assert len(axes.texts) == 40
    for text in axes.texts:
        agent = graph.names.index(text.get_text().split("\n")[0])
        box = text.get_window_extent(canvas.get_renderer())
        beyond = np.maximum(np.maximum(box.min - nodes, nodes - box.max), 0.0)
        nearest = int(np.argmin(np.linalg.norm(beyond, axis=1)))
        assert nearest == agent or tuple(agents_of(axes).get_offsets()[agent]) in lines, text.get_text()


def test_wide_characters_leave_their_node(tmp_path: Path, saved: list[Figure]) -> None:
    graph = named(nx.path_graph(6), "東京都{}")
    Pictures(tmp_path).draw("graph.png", plot_graph, graph, None, None)
    axes = saved[0].axes[0]
    places = agents_of(axes).get_offsets()
    for text in axes.texts:
        assert np.abs(places - np.array(text.get_position())).max(axis=1).min() > 0.05


def test_no_ring_of_a_sensor_is_cut_off(tmp_path: Path, saved: list[Figure]) -> None:
    graph = named(nx.disjoint_union(nx.path_graph(5), nx.empty_graph(2)))
    plot_graph(graph, [Sensor(agent, agent, "q") for agent in range(7)], None, tmp_path / "graph.png")
    axes = saved[0].axes[0]
    assert all(not one.get_clip_on() for one in axes.collections if isinstance(one, PathCollection))
    frame, nodes = axes.get_window_extent(), axes.transData.transform(agents_of(axes).get_offsets())
    assert (nodes > frame.min).all() and (nodes < frame.max).all()


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
    wrong, points = (int(re.search(rf"{what} point \((\d+)\)", legend)[1]) for what in ("wrong test", " test"))
    assert points == 150 and wrong == round((1 - accuracy) * points)


def test_curves_show_validation_where_there_is_one(tmp_path: Path, saved: list[Figure]) -> None:
    history = [{"epoch": e, "loss": 1.0, "train_accuracy": 0.9, "validation_accuracy": 0.7 + 0.1 * e} for e in (0, 1)]
    plot_curves(history, tmp_path / "curves.png")
    lines = {line.get_label(): line.get_ydata() for line in saved[0].axes[1].lines}
    assert list(lines) == ["training points (last 90.00 %)", "validation points (last 80.00 %)"]
    assert lines["validation points (last 80.00 %)"] == pytest.approx([70.0, 80.0])


def test_the_momentum_picture_shows_how_far_the_hamiltonian_moves(tmp_path: Path, saved: list[Figure]) -> None:
    kept = np.tile(np.array([[1.0, -2.0, 3.0]]), (5, 1))
    kept[3] += 1e-6 * kept[0]
    plot_momentum(kept, np.ones((5, 3)), "shared", tmp_path / "momentum.png", "a network")
    left, right = saved[0].axes
    (median,) = left.lines
    assert list(median.get_xdata()) == [1, 2, 3, 4]
    assert median.get_ydata()[2] == pytest.approx(1e-6, rel=1e-3) and max(median.get_ydata()[[0, 1, 3]]) < 1e-15
    assert left.get_yscale() == "log" and "conserved" in left.get_title() and "layer 0" in left.get_ylabel()
