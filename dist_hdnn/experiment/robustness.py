"""Robustness of a run: its accuracy on the test data over links that lose, delay and round slices, and without agents.

One impairment at a time, over a grid of values, each with fates of several repetitions; all else is perfect. The same
fates serve all values of a curve: a slice that is lost at 10 % is lost at 20 %, too.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dist_hdnn.build import assembly
from dist_hdnn.config import Config, LinksConfig, forget_workers
from dist_hdnn.config.checks import validate
from dist_hdnn.data import Dataset
from dist_hdnn.ends.readout import LocalReadout
from dist_hdnn.experiment.impairments import BURST_LOSS, DEFAULTS, Case, cases_of
from dist_hdnn.experiment.resume import warn_of_other_data
from dist_hdnn.experiment.tasks import split_tensors, units_of, useful_threads
from dist_hdnn.plots.drawing import pictures
from dist_hdnn.printing import Sections
from dist_hdnn.run.directory import config_of_run
from dist_hdnn.run.files import measure_of
from dist_hdnn.training.checkpoints.weights_file import load_weights
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.evaluation import evaluate, evaluation_batch

FILE = "robustness.json"
POINT = 0.01  # a drop that counts
CURVES = ("loss", "outage")  # whose values are probabilities


def robustness_of_run(
    directory: Path,
    values: Mapping[str, str],
    repetitions: int = 3,
    samples: int | None = None,
    fill: str | None = None,
) -> dict[str, Any]:
    """Measure a trained run over impaired links, and write robustness.json and plots/robustness.png beside it.

    values: kind of impairment -> its values in words, see `impairments`; empty for all kinds with their defaults.
    samples: of the test data, spread evenly, None for all. fill: in place of lost slices, by default that of the run.
    Raises ValueError, one line, also for an architecture whose links cannot be impaired; CheckpointError when the
    weights are unusable.
    """
    config = config_of_run(directory)
    forget_workers(config, {})
    trained = config.links
    base = LinksConfig(fill=trained.fill, pair=trained.pair, rounding=trained.rounding, seed=trained.seed)
    if fill is not None:
        base = replace(base, fill=fill)  # type: ignore[arg-type]  # a wrong one is refused by `Links`
    config = replace(config, links=LinksConfig(), network=replace(config.network, memory="store"))
    validate(config)
    data = assembly.build_dataset(config)
    warn_of_other_data(directory, data)
    trial = _Trial(config, data, directory, samples)
    graph = trial.model.network.graph
    chosen = values or DEFAULTS
    cases = [case for kind, text in chosen.items() for case in cases_of(kind, text, graph, base, config.seed)]
    if "bits" in chosen and trial.model.network.layout.sizes.max() == 1:
        warnings.warn("bits: slices of one neuron travel exactly, as the largest value of a slice does", stacklevel=2)
    points = trial.measured(cases, repetitions)
    curves = {kind: [point for point in points if point["impairment"] == kind] for kind in chosen}
    result = {
        "run": str(directory),
        "measure": measure_of(data),
        "samples": len(trial.labels),
        "repetitions": repetitions,
        "fill": base.fill,
        "pair": base.pair,
        "unimpaired": trial.perfect,
        "curves": curves,
        "figures": {kind: curve_figures(curves[kind], trial.perfect) for kind in CURVES if kind in curves},
    }
    if "burst" in curves:
        result["burst_loss"] = BURST_LOSS
    if "dead" in curves:
        result["dead"] = _dead_figures(curves["dead"], graph.agents)
    (directory / FILE).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with pictures(directory / "plots") as album:
        from dist_hdnn.plots.robustness import plot_robustness  # matplotlib, half a second

        album.draw("robustness.png", plot_robustness, result, title=config.name)
    return result


class _Trial:
    """A trained model with its test data, and the same weights over any links."""

    def __init__(self, config: Config, data: Dataset, directory: Path, samples: int | None) -> None:
        self.config, self.unit = config, units_of(data)
        self.model = assembly.build_classifier(config, data)
        load_weights(self.model, directory)
        points, labels = split_tensors(config, data, "test")
        chosen = np.linspace(0, len(points) - 1, min(samples or len(points), len(points))).round().astype(np.int64)
        index = torch.from_numpy(np.unique(chosen)).to(points.device)
        self.points, self.labels = points[index], labels[index]
        batch = min(len(self.labels), evaluation_batch(self.model))
        torch.set_num_threads(config.train.threads or useful_threads(self.model, batch))
        self.perfect: dict[str, Any] = {}

    def measured(self, cases: Sequence[Case], repetitions: int) -> list[dict[str, Any]]:
        """Return the figures of each case, and note those without impairment in `perfect`."""
        counts = [(repetitions if case.random else 1) if case.links else 0 for case in cases]
        points, links, model = [], None, self.model
        with _progress() as bar:
            task = bar.add_task("evaluating", total=1 + sum(counts))
            for case, count in zip(cases, counts, strict=True):
                if case.links is not None and case.links != links:
                    links, model = case.links, self._over(case.links)  # first, to refuse what has no such links
                if not self.perfect:
                    self.perfect = self._figures(self.model, 1, lambda: bar.advance(task))
                figures = self.perfect
                if case.links is not None:
                    impaired = model.network.links
                    assert impaired is not None, "the case impairs links"
                    impaired.strengths, impaired.dead = {0: case.strength}, case.dead
                    figures = self._figures(model, count, lambda: bar.advance(task))
                points.append({"impairment": case.kind, "value": case.value, **figures})
        return points

    def _over(self, links: LinksConfig) -> AgentClassifier:
        """Return the model over these links, with the same weights and ends."""
        network = assembly.build_network(replace(self.config, links=links)).to(self.points.device)
        network.load_state_dict(self.model.network.state_dict())
        ends = self.model
        return AgentClassifier(ends.sensors, network, ends.readout, ends.initial_state, ends.learned_lift)

    def _figures(self, model: AgentClassifier, repetitions: int, advance: Any) -> dict[str, Any]:
        """Return mean, worst and each repetition, None where undefined, and where agents answer themselves theirs.

        mean_agent, worst_agent: of the agents' means over the repetitions, without agents that are down.
        """
        results = []
        for repetition in range(repetitions):
            results.append(evaluate(model, self.points, self.labels, self.unit, repetition))
            advance()
        each = [result.accuracy for result in results]
        figures: dict[str, Any] = {"mean": _defined(fmean(each)), "worst": _defined(min(each))}
        figures["each"] = [_defined(value) for value in each]
        readout = model.readout
        if isinstance(readout, LocalReadout):
            by_agent = np.array([result.per_agent for result in results], dtype=np.float64).mean(axis=0)
            defined = np.flatnonzero(np.isfinite(by_agent))
            if len(defined):
                worst = int(defined[by_agent[defined].argmin()])
                figures["mean_agent"] = float(by_agent[defined].mean())
                figures["worst_agent"] = float(by_agent[worst])
                figures["worst_agent_name"] = str(model.network.graph.names[readout.output_agents[worst]])
        return figures


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True)
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def curve_figures(points: Sequence[Mapping[str, Any]], perfect: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a curve over probabilities says in two numbers.

    one_point_at: the probability at which the mean has dropped by one point, by lines between points; None where it
    does not within the curve. area: the area under the curve divided by the largest probability, thus a mean.
    """
    curve = {0.0: perfect["mean"]} | {point["value"]: point["mean"] for point in points}
    at = np.array(sorted(curve))
    means = np.array([np.nan if curve[x] is None else curve[x] for x in at])
    if len(at) < 2 or not np.isfinite(means).all():
        return {"one_point_at": None, "area": None}
    limit, crossing = means[0] - POINT, None
    below = np.flatnonzero(means <= limit + 1e-12)
    if len(below):
        right = int(below[0])
        share = (means[right - 1] - limit) / (means[right - 1] - means[right])
        crossing = float(at[right - 1] + share * (at[right] - at[right - 1]))
    return {"one_point_at": crossing, "area": float(np.trapezoid(means, at) / at[-1])}


def _dead_figures(points: Sequence[Mapping[str, Any]], agents: int) -> dict[str, Any]:
    """Return mean and worst over the agents that were down, one at a time."""
    means = {point["value"]: point["mean"] for point in points if point["mean"] is not None}
    worst = min(means, key=lambda name: means[name], default=None)
    return {
        "agents": len(points),
        "of": agents,
        "mean": fmean(means.values()) if means else None,
        "worst": None if worst is None else means[worst],
        "worst_agent_down": worst,
    }


def robustness_sections(result: Mapping[str, Any]) -> Sections:
    """Return the figures of a run as sections, a row per point."""

    def say(value: float | None) -> str:
        if value is None:
            return "undefined"
        return f"{100 * value:.2f} %" if result["measure"] == "accuracy" else f"{value:.4f}"

    def row(figures: Mapping[str, Any]) -> str:
        words = f"{say(figures['mean']):>9}"
        if len(figures["each"]) > 1:
            words += f"   worst of {len(figures['each'])} {say(figures['worst']):>9}"
        if "mean_agent" in figures:
            worst = f"{say(figures['worst_agent'])} ({figures['worst_agent_name']})"
            words += f"   mean agent {say(figures['mean_agent']):>9}   worst agent {worst}"
        return words

    measured_on = f"{result['samples']}, {result['repetitions']} repetitions"
    rules = f"{result['fill']}, pairing {result['pair']}"
    head = [("test points", measured_on), ("fill", rules), ("no impairment", row(result["unimpaired"]))]
    sections: Sections = {result["run"]: head}
    for kind, points in result["curves"].items():
        rows = [(_label(kind, point["value"]), row(point)) for point in points]
        figures = result["figures"].get(kind)
        if figures and figures["area"] is not None:
            at, last = figures["one_point_at"], max(point["value"] for point in points)
            rows.append(("one point lost", f"beyond {100 * last:g} %" if at is None else f"at {100 * at:.3g} %"))
            rows.append(("area", f"{say(figures['area'])}, the mean from 0 to {100 * last:g} %"))
        sections[_title(kind, result)] = rows
    if "dead" in result["curves"]:
        dead = result["dead"]
        which = f" when {dead['worst_agent_down']} is down" if dead["worst_agent_down"] is not None else ""
        tried = f"{dead['agents']} of {dead['of']} agents, one at a time"
        sections[_title("dead", result)] += [
            ("mean", f"{say(dead['mean']):>9}   {tried}"),
            ("worst", f"{say(dead['worst']):>9}  {which}"),
        ]
    return sections


def _label(kind: str, value: Any) -> str:
    if kind in CURVES:
        return f"{100 * value:g} %"
    value = f"{value:g}" if isinstance(value, float) else value
    return {"burst": f"runs of {value}", "delay": f"{value} layers", "bits": f"{value} bits"}.get(
        kind, f"agent {value}"
    )


def _title(kind: str, result: Mapping[str, Any]) -> str:
    return {
        "loss": "loss of slices",
        "burst": f"loss of {100 * BURST_LOSS:g} % in runs",
        "outage": "links down for whole samples",
        "delay": "late slices",
        "bits": "bits per value",
        "dead": "one agent down",
    }[kind]
