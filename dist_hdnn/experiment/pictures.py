"""The pictures of a run: curves, graph, traffic, pattern, gradient norms, decision regions."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import one_hot

from dist_hdnn.build import assembly
from dist_hdnn.config import Config
from dist_hdnn.data import Dataset
from dist_hdnn.ends.readout import LocalReadout
from dist_hdnn.inspection.timing import timelines
from dist_hdnn.network.layout import Layout
from dist_hdnn.plots.curves import plot_curves, plot_gradient_norms
from dist_hdnn.plots.decision import plot_decision
from dist_hdnn.plots.drawing import Pictures, plain
from dist_hdnn.plots.graph import plot_graph
from dist_hdnn.plots.pattern import plot_pattern
from dist_hdnn.plots.targets import plot_targets
from dist_hdnn.plots.timeline import MOST_AGENTS, plot_timeline
from dist_hdnn.run.files import measure_of
from dist_hdnn.training.checkpoints.weights_file import FINAL, load_weights
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.evaluation import Evaluation, evaluation_batch
from dist_hdnn.training.loop import Epoch

GRID, COARSEST = 240, 40  # points along each axis of the decision regions, and at least
PLOT_WORK = 2_000_000_000  # neurons x layers x points, beyond which decision regions have fewer points


def plot_run(
    album: Pictures,
    config: Config,
    data: Dataset,
    model: AgentClassifier,
    history: Sequence[Epoch],
    result: Evaluation,
    over_links: NDArray[np.int64] | None,
) -> None:
    """Draw every picture that a run has data for.

    album: in a folder of the run directory, which has the weights. model: this worker's part. result: on the test
    points. over_links: messages and bytes of a step, (links, 2), None where unknown.
    """
    network, names = model.network, data.feature_names
    graph, per_agent, sensors = network.graph, None, None
    if model.sensors is not None:
        sensors = assembly.build_sensors(config, graph, network.ownership.all_widths, data)
    if isinstance(model.readout, LocalReadout) and result.per_agent is not None and (data.own or not data.regression):
        per_agent = np.full(graph.agents, np.nan)
        per_agent[model.readout.output_agents] = result.per_agent

    def whole() -> AgentClassifier:
        if network.ownership.alone:
            return model
        everything = assembly.build_classifier(config, data)
        load_weights(everything, album.folder.parent / FINAL)
        return everything

    album.draw("curves.png", plot_curves, [asdict(record) for record in history], measure=measure_of(data))
    album.draw("graph.png", plot_graph, graph, sensors, per_agent, feature_names=names, measure=measure_of(data))
    if over_links is not None:
        traffic = {"feature_names": names, "link_bytes": over_links[:, 1]}
        album.draw("traffic.png", plot_graph, graph, sensors, None, **traffic)
    if graph.agents <= MOST_AGENTS:
        album.draw("timeline.png", _draw_timeline, config, network.layout, data.outputs)
    album.draw("pattern.png", plot_pattern, network.K_patterns[0])
    logged = [record.gradient_norms for record in history if record.gradient_norms is not None]
    gradients = [norms for norms in logged if len(norms) == len(logged[-1])]  # levels before had fewer layers
    if gradients:
        album.draw("gradients.png", plot_gradient_norms, np.array(gradients))
    if data.regression:
        album.draw("targets.png", _draw_targets, data, model, whole, result)
    if data.features == 2 and not data.own and not data.regression:
        album.draw("decision.png", _draw_decision, data, model, whole, result.accuracy)


def _draw_timeline(config: Config, layout: Layout, outputs: int, path: Path) -> None:
    """Draw when agents compute and wait for an answer, where the links state times."""
    lines = timelines(config, layout, outputs)
    if lines is not None:
        plot_timeline(lines[0], layout.graphs[0].names, path)


@torch.no_grad()
def _draw_targets(
    data: Dataset, model: AgentClassifier, whole: Callable[[], AgentClassifier], result: Evaluation, path: Path
) -> None:
    """Draw predicted over true targets of the test points. Print a line instead if it would take minutes."""
    if int(model.network.ownership.all_widths.sum()) * model.network.layers * len(data.test_x) > PLOT_WORK:
        print(f"{path.name} is left out: its points would take minutes", file=sys.stderr)
        return
    trained = whole()
    parameter = next(trained.network.parameters())
    points = torch.from_numpy(data.test_x).to(parameter.device, parameter.dtype)
    parts = [trained.readout.predict(trained(part)) for part in points.split(evaluation_batch(trained))]
    predicted = data.preparation.answers(torch.cat(parts).cpu().numpy())
    true = data.preparation.answers(data.test_y)
    words = f"{plain(data.name)}: test points, R² {result.accuracy:.4f}"
    trained_on = data.preparation.answers(data.train_y).reshape(len(data.train_y), -1)
    spread = np.nanstd(trained_on, axis=0)
    scale = np.stack([np.nanmean(trained_on, axis=0), np.where(spread > 0, spread, 1.0)])
    plot_targets(true, predicted.reshape(true.shape), path, words, data.target_names, scale)


def _draw_decision(
    data: Dataset, model: AgentClassifier, whole: Callable[[], AgentClassifier], accuracy: float, path: Path
) -> None:
    """Draw decision regions, with fewer points for a large network. Print a line instead if it would take minutes."""
    work = int(model.network.ownership.all_widths.sum()) * model.network.layers  # of one point
    evaluated = len(data.train_x) + len(data.test_x)  # points
    affordable = max(math.isqrt(PLOT_WORK // work), min(COARSEST, math.isqrt(evaluated)))
    if affordable < COARSEST:
        longer = f"{COARSEST**2 / max(evaluated, 1):.0f} times as long as the evaluation of its data"
        print(f"{path.name} is left out: its {COARSEST} x {COARSEST} points would take {longer}", file=sys.stderr)
        return
    trained = whole()
    plot_decision(lambda points: _shares(trained, points), data, path, min(GRID, affordable), accuracy)


@torch.no_grad()
def _shares(model: AgentClassifier, points: Any) -> Any:
    """Map points (n, 2) to class shares (n, classes), the largest of which is the network's answer.

    Shares are the softmax of the scores. Where several agents answer, they are the votes of the agents, and half a vote
    for the mean softmax, which breaks ties as the evaluation does.
    """
    parameter = next(model.network.parameters())
    parts = torch.from_numpy(points).to(parameter.device, parameter.dtype).split(evaluation_batch(model))
    scores = torch.cat([model(part) for part in parts])
    shares = scores.double().softmax(dim=-1)
    if shares.ndim == 3:  # (n, agents, classes)
        agents = shares.shape[1]
        votes = one_hot(scores.argmax(dim=-1), shares.shape[2]).sum(dim=1) * (agents > 1)
        shares = (votes + 0.5 * shares.mean(dim=1)) / (agents * (agents > 1) + 0.5)
    return shares.cpu().numpy()
