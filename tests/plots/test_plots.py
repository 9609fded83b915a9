"""Plots: every one is written and non-empty, also for the smallest and largest inputs; wrong input is one line."""

import sys

import matplotlib.image
import numpy as np
import pytest

from dist_hdnn.data import Sensor, SensorMap, default_sensors, from_arrays, swiss_roll
from dist_hdnn.plots.certificate import plot_layers, plot_momentum, plot_norms_over_depth, plot_sensitivity
from dist_hdnn.plots.counterexample import plot_counterexample
from dist_hdnn.plots.curves import plot_curves, plot_gradient_norms
from dist_hdnn.plots.graph import plot_graph
from dist_hdnn.plots.plots import plot_decision, plot_pattern
from dist_hdnn.plots.positions import drawing_positions
from dist_hdnn.topology.graphs import CommunicationGraph
from dist_hdnn.topology.patterns import block_diagonal, dense, neighbours


def links_graph(agents: int, links: list[tuple[int, int]] | np.ndarray, **fields) -> CommunicationGraph:
    ends = np.unique(np.sort(np.asarray(links, dtype=np.int64).reshape(-1, 2), axis=1), axis=0)
    return CommunicationGraph(f"test({agents})", tuple(str(agent) for agent in range(agents)), ends, **fields)


def ring_graph(agents: int) -> CommunicationGraph:
    return links_graph(agents, [(agent, (agent + 1) % agents) for agent in range(agents)])


def random_graph(agents: int, links: int) -> CommunicationGraph:
    ends = np.random.default_rng(0).integers(0, agents, (links, 2))
    return links_graph(agents, ends[ends[:, 0] != ends[:, 1]])


def check_picture(path) -> np.ndarray:
    """The file is a PNG of plausible size with something on it."""
    image = matplotlib.image.imread(path)
    height, width = image.shape[:2]
    assert 400 < height < 2000 and 600 < width < 2000
    inked = (image[..., :3].min(axis=-1) < 0.9).mean()
    assert 0.002 < inked < 0.9
    return image


def history(epochs: int) -> list[dict]:
    return [
        {
            "epoch": e,
            "loss": 0.7 / (e + 1),
            "train_accuracy": 1 - 0.4 / (e + 1),
            "validation_accuracy": 1 - 0.5 / (e + 1),
        }
        for e in range(epochs)
    ]


HISTORIES = {
    "one epoch": history(1),
    "fifty epochs": history(50),
    "loss reaches zero": [*history(3), {"epoch": 3, "loss": 0.0, "train_accuracy": 1.0, "validation_accuracy": 1.0}],
    "loss not finite": [
        *history(3),
        {"epoch": 3, "loss": float("nan"), "train_accuracy": 0.5, "validation_accuracy": 0.5},
    ],
    "never tested": [{"epoch": e, "loss": 1.0, "train_accuracy": 0.5, "validation_accuracy": None} for e in range(3)],
    "only the loss": [{"epoch": e, "loss": -1.0} for e in range(3)],
}


@pytest.mark.parametrize("case", HISTORIES)
def test_curves_are_drawn(tmp_path, case):
    check_picture(plot_curves(HISTORIES[case], tmp_path / "new" / "folder" / "curves.png"))


def test_curves_of_no_epoch_are_a_one_line_error(tmp_path):
    with pytest.raises(ValueError, match="training curves: expected a history of at least one epoch, got none; train"):
        plot_curves([], tmp_path / "curves.png")


GRAPHS = {
    "one agent": links_graph(1, []),
    "two agents": links_graph(2, [(0, 1)]),
    "no links": links_graph(7, []),
    "ring": ring_graph(8),
    "complete": links_graph(10, [(i, j) for i in range(10) for j in range(i)]),
    "parts": links_graph(9, [(0, 1), (1, 2), (3, 4), (5, 6), (6, 7), (5, 7)]),
    "in one place": links_graph(4, [(0, 1), (2, 3)], positions=np.zeros((4, 2))),
    "positions": links_graph(4, [(0, 1), (2, 3)], positions=np.array([[5.0, 50], [5.0, 50], [9, 48], [2, 49]])),
    "sixty": random_graph(60, 100),
    "seven hundred": random_graph(700, 900),
    "two thousand": random_graph(2000, 3000),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_graphs_are_drawn_with_accuracies_and_sensors(tmp_path, case):
    graph = GRAPHS[case]
    widths = np.full(graph.agents, 2)
    sensors = SensorMap(default_sensors(2, widths), widths, 2)
    accuracy = np.linspace(0.5, 1.0, graph.agents)
    check_picture(plot_graph(graph, sensors, accuracy, tmp_path / "graph.png", ("x1", "x2")))


def test_graphs_are_drawn_without_accuracies_and_with_odd_ones(tmp_path):
    graph = ring_graph(8)
    check_picture(plot_graph(graph, None, None, tmp_path / "plain.png"))
    check_picture(plot_graph(graph, [], np.ones(8), tmp_path / "equal.png"))
    crowd = [Sensor(feature, 3, "p", feature) for feature in range(9)]
    check_picture(plot_graph(graph, crowd, np.full(8, np.nan), tmp_path / "unknown.png"))


def test_long_names_and_many_sensors_are_drawn(tmp_path):
    graph = random_graph(40, 60)
    named = CommunicationGraph("towns", tuple(f"a rather long name {i}" for i in range(40)), graph.links)
    check_picture(plot_graph(named, [Sensor(i, i, "q") for i in range(30)], np.ones(40), tmp_path / "towns.png"))


def test_accuracies_of_another_number_of_agents_are_a_one_line_error(tmp_path):
    with pytest.raises(ValueError, match=r"expected one accuracy for each of the 8 agents, got shape \(3,\); give"):
        plot_graph(ring_graph(8), None, [0.1, 0.2, 0.3], tmp_path / "graph.png")


@pytest.mark.parametrize("case", [case for case in GRAPHS if case != "seven hundred"])
def test_drawn_agents_are_apart_and_the_layout_repeats(case):
    graph = GRAPHS[case]
    points = drawing_positions(graph.links, graph.agents, graph.positions)
    assert points.shape == (graph.agents, 2) and np.isfinite(points).all()
    assert np.array_equal(points, drawing_positions(graph.links, graph.agents, graph.positions))
    assert len(np.unique(points, axis=0)) == graph.agents


def test_a_ring_is_drawn_round_and_a_path_straight():
    ring = drawing_positions(ring_graph(20).links, 20)
    radii = np.hypot(*(ring - ring.mean(axis=0)).T)
    assert np.ptp(radii) < 0.02 * radii.mean()
    path = drawing_positions(np.array([(i, i + 1) for i in range(9)]), 10)
    assert np.allclose(np.abs(np.diff(path[:, 0])), 1.0, atol=0.02) and np.ptp(path[:, 1]) < 0.1


PATTERNS = {
    "one agent": block_diagonal(1),
    "ring": neighbours(GRAPHS["ring"]),
    "sixty": neighbours(GRAPHS["sixty"]),
    "two thousand": neighbours(GRAPHS["two thousand"]),
    "dense": dense(600),
}


@pytest.mark.parametrize("case", PATTERNS)
def test_patterns_are_drawn(tmp_path, case):
    check_picture(plot_pattern(PATTERNS[case], tmp_path / "pattern.png", "Block pattern of K"))


def test_the_picture_of_a_pattern_has_its_blocks(tmp_path):
    image = check_picture(plot_pattern(block_diagonal(2), tmp_path / "pattern.png"))
    own = np.abs(image[..., :3] - np.array([0x00, 0x72, 0xB2]) / 255).max(axis=-1) < 0.02
    rows, columns = np.nonzero(own[: int(0.88 * len(own))])  # above the legend
    upper_left = (rows < rows.mean()) & (columns < columns.mean())
    assert abs(upper_left.mean() - 0.5) < 0.02  # two of four blocks, on the diagonal


def side_of(points: np.ndarray) -> np.ndarray:
    return (points[:, 0] > 0).astype(np.int64)


def sure_of(points: np.ndarray) -> np.ndarray:
    right = 1 / (1 + np.exp(-4 * points[:, 0]))
    return np.stack([1 - right, right], axis=1)


@pytest.mark.parametrize(("predict", "samples"), [(side_of, 8), (sure_of, 8000)])
def test_decision_regions_are_drawn(tmp_path, predict, samples):
    check_picture(plot_decision(predict, swiss_roll(samples), tmp_path / "decision.png"))


def test_decision_regions_of_ten_classes_are_drawn(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    data = from_arrays(points, np.arange(200) // 20, name="sectors", split="alternate")
    check_picture(plot_decision(lambda p: np.arctan2(p[:, 1], p[:, 0]) // 0.7 + 5, data, tmp_path / "ten.png"))
    check_picture(plot_decision(lambda p: np.zeros(len(p)), data, tmp_path / "constant.png"))


def test_decision_regions_refuse_other_data_and_other_answers(tmp_path):
    lines = from_arrays(np.zeros((4, 3)), [0, 1, 0, 1], name="lines", split="last")
    with pytest.raises(ValueError, match="decision regions of lines: expected 2 features, got 3; only plane data"):
        plot_decision(side_of, lines, tmp_path / "decision.png")
    with pytest.raises(
        ValueError, match=r"expected predict to return \(\d+,\) classes .* got shape \(\d+, 5\); return one"
    ):
        plot_decision(lambda p: np.zeros((len(p), 5)), swiss_roll(8), tmp_path / "decision.png")
    with pytest.raises(ValueError, match="expected classes 0 .. 1 from predict, got 7 .. 7; return class numbers"):
        plot_decision(lambda p: np.full(len(p), 7), swiss_roll(8), tmp_path / "decision.png")


def test_pyplot_is_never_used():
    assert "matplotlib.pyplot" not in sys.modules or sys.modules["matplotlib.pyplot"].get_fignums() == []


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("layers", [1, 40])
def test_sensitivities_are_drawn(tmp_path, layers, exact):
    smallest, bound = np.linspace(0.9, 3, layers), [None if j > 20 else 10.0**j for j in range(layers)]
    check_picture(plot_sensitivity(smallest, 5 * smallest, bound, tmp_path / "norms.png", "a network", exact))


def test_norms_that_collapse_are_drawn_beside_those_that_do_not(tmp_path):
    depth = np.arange(1, 65)
    curves = {"flat": np.stack([np.ones(64), 2.0 * np.ones(64)]), "falling": 1e-8 ** np.stack([depth + 1.0, depth])}
    check_picture(plot_norms_over_depth({"before": curves, "after": curves}, tmp_path / "story.png", "64 layers"))


@pytest.mark.parametrize("small", [True, False])
def test_layers_are_drawn_with_and_without_J_and_eigenvalues(tmp_path, small):
    residuals = [1e-16, 0.0, 3e-15] if small else None
    eigenvalues = np.exp(1j * np.linspace(0, 3, 12)).reshape(3, 4) if small else None
    limit = 2.0 if small else None
    singular = ([0.5, 0.4, 0.5], [2.0, 2.5, 2.0])
    path = tmp_path / "layers.png"
    check_picture(plot_layers(residuals, 1e-12, singular, [0.5, 1.0, 3.0], limit, eigenvalues, path, "a network"))


def test_momenta_are_drawn(tmp_path):
    hamiltonian = np.random.default_rng(0).normal(size=(9, 5))
    check_picture(plot_momentum(hamiltonian, np.abs(hamiltonian) + 0.1, 4, tmp_path / "momentum.png", "a network"))


def test_gradient_norms_are_drawn(tmp_path):
    norms = np.abs(np.random.default_rng(0).normal(size=(7, 16)))
    norms[3, 4], norms[5, 5] = 0.0, np.nan
    check_picture(plot_gradient_norms(norms, tmp_path / "gradients.png"))
    check_picture(plot_gradient_norms(np.zeros((1, 1)), tmp_path / "one.png"))


def test_the_counterexample_is_drawn(tmp_path):
    values = np.random.default_rng(0).normal(size=(50, 2, 2))
    orbit = np.random.default_rng(1).normal(size=(51, 2))
    check_picture(plot_counterexample({1.0: values, 0.1: values}, orbit, 0.05, tmp_path / "counter.png"))
