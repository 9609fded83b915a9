"""Pictures of a study: the first objective against bytes per step, density and parameters; means, spread over seeds.

Trials of the axes are coloured by one of them; baselines are drawn in ink, the Pareto front of the study is ringed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from dist_hdnn.report.drawing import Pictures, plain
from dist_hdnn.report.figures import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILION, new_figure, quiet, save
from dist_hdnn.study.axes import SEED, Choice, label_of
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.results import Group, in_bytes, pareto_front

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY)
MARKERS = "osD^vPX"
BASELINE_MARKERS = "*PXh"
PICTURES = ("bytes_per_step", "density", "parameters")  # horizontal axes
IN_WORDS: Mapping[str, tuple[str, float]] = {
    "test_accuracy": ("test accuracy (%)", 100),
    "mean_agent_accuracy": ("test accuracy, mean agent (%)", 100),
    "worst_agent_accuracy": ("test accuracy, worst agent (%)", 100),
    "test_r2": ("test R²", 1),
    "mean_agent_r2": ("test R², mean agent", 1),
    "bytes_per_step": ("bytes per training step, all agents", 1),
    "density": ("pairs of agents that exchange (%)", 100),
    "parameters": ("trained parameters", 1),
    "seconds_per_step": ("seconds per training step", 1),
    "peak_memory_bytes": ("peak memory (bytes)", 1),
    "messages_per_step": ("messages per training step", 1),
    "loss": ("training loss (nats)", 1),
}
"""result -> axis label with unit, factor"""


def plot_study(plan: Plan, groups: Sequence[Group], album: Pictures) -> None:
    """One picture per horizontal axis that the trials have values for."""
    vertical = next(iter(plan.objectives))
    front = pareto_front([group for group in groups if not group.baseline], plan.objectives)
    for name in dict.fromkeys([*PICTURES, *list(plan.objectives)[1:]]):
        able = [group for group in groups if name in group.mean and vertical in group.mean]
        if name != vertical and able:
            album.draw(f"{vertical}_vs_{name}.png", _picture, plan, able, front, name, vertical)


def _picture(plan: Plan, groups: Sequence[Group], front: Sequence[Group], name: str, vertical: str, path: Path) -> Path:
    figure = new_figure(6.5, 4.0)
    axes = figure.subplots()
    own = [group for group in groups if not group.baseline]
    _scale(axes, [group.mean[name] for group in groups], name)
    for number, (label, members) in enumerate(series_of(plan, own).items()):
        style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        _draw(axes, members, name, vertical, plain(label), style, "-" if _one_line(plan) else "")
    names = dict.fromkeys(group.baseline for group in groups if group.baseline)
    for number, baseline in enumerate(names):
        members = [group for group in groups if group.baseline == baseline]
        marker = BASELINE_MARKERS[number % len(BASELINE_MARKERS)]
        _draw(axes, members, name, vertical, plain(baseline), {"color": INK, "marker": marker, "markersize": 8}, ":")
        if len(members) == 1:
            axes.axhline(_scaled(members[0].mean, vertical), color=INK, linewidth=0.8, linestyle=":", zorder=1)
    ringed = [group for group in own if any(group is member for member in front)]
    if len(plan.objectives) > 1 and name in plan.objectives and ringed:
        x, y = ([_scaled(group.mean, key) for group in ringed] for key in (name, vertical))
        axes.scatter(x, y, s=130, facecolors="none", edgecolors=INK, linewidths=1.0, label="Pareto front", zorder=4)
    axes.set_xlabel(_words(name))
    axes.set_ylabel(_words(vertical))
    quiet(axes)
    _spread_note(axes, groups)
    shown = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda pair: pair[1] == "Pareto front")
    figure.legend(*zip(*shown, strict=True), fontsize=8.5, frameon=False, loc="outside upper center", ncols=3)
    return save(figure, path)


def series_of(plan: Plan, groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Groups by the option of the colour axis; a single series, named after the study, when there is no such axis."""
    axis = colour_axis(plan)
    series: dict[str, list[Group]] = {}
    for group in groups:
        series.setdefault(plan.name if axis is None else label_of(group.values[axis]), []).append(group)
    return series


def colour_axis(plan: Plan) -> str | None:
    """The axis that the study file names, else the first one of words."""
    if plan.colour is not None:
        return plan.colour
    for axis in plan.axes:
        words = isinstance(axis, Choice) and all(isinstance(value, str) for value in axis.shown.values())
        if axis.name != SEED and words and isinstance(axis, Choice) and len(axis.options) <= len(COLOURS):
            return axis.name
    return None


def _one_line(plan: Plan) -> bool:
    """Whether a series varies along one axis only, so that a line through its points says something."""
    others = [axis for axis in plan.axes if axis.name not in (SEED, colour_axis(plan))]
    return len(others) == 1


def _draw(
    axes: Axes, groups: Sequence[Group], name: str, vertical: str, label: str, style: dict[str, Any], line: str
) -> None:
    order = sorted(groups, key=lambda group: group.mean[name])
    factor = IN_WORDS.get(vertical, ("", 1.0))[1]
    axes.errorbar(
        [_scaled(group.mean, name) for group in order],
        [_scaled(group.mean, vertical) for group in order],
        yerr=[factor * group.spread[vertical] for group in order],
        label=label,
        linestyle=line,
        linewidth=1.4,
        capsize=3,
        elinewidth=1.0,
        **{"markersize": 5, **style},
    )


def _scaled(values: Mapping[str, float], name: str) -> float:
    return IN_WORDS.get(name, ("", 1.0))[1] * values[name]


def _words(name: str) -> str:
    return IN_WORDS.get(name, (name.replace("_", " "), 1.0))[0]


def _scale(axes: Axes, values: Sequence[float], name: str) -> None:
    """Logarithmic where the values span much, with a strip for zero: a network that sends nothing is a result."""
    positive = [value for value in values if value > 0]
    if name == "density" or not positive or max(positive) < 4 * min(positive):
        axes.xaxis.set_major_locator(MaxNLocator(7))
    elif min(values) < 0 or len(positive) == len(values):
        axes.set_xscale("log")
        _few_ticks(axes, max(positive) / min(positive))
    else:
        first = 10.0 ** math.floor(math.log10(min(positive)))
        axes.set_xscale("symlog", linthresh=first, linscale=0.5)
        axes.set_xlim(-0.15 * first, 1.6 * max(positive))
        decades = [first * 10.0**power for power in range(math.ceil(math.log10(1.6 * max(positive) / first)))]
        steps = (1.0, 2.0, 5.0) if max(positive) < 300 * min(positive) else (1.0,)
        axes.xaxis.set_major_locator(FixedLocator([0.0, *(step * decade for decade in decades for step in steps)]))
        axes.xaxis.set_minor_locator(NullLocator())
    if name.startswith(("bytes", "peak_memory")):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: in_bytes(value)))
    elif name in ("parameters", "messages_per_step"):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _few_ticks(axes: Axes, span: float) -> None:
    """Ticks with numbers at 1, 2 and 5 of a decade, of many decades at 1; the others without."""
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if span < 300 else (1.0,)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _spread_note(axes: Axes, groups: Sequence[Group]) -> None:
    counts = sorted({group.count for group in groups})
    if counts[-1] > 1:
        seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        axes.set_title(f"mean and standard deviation over {seeds} seeds", fontsize=9, color=GREY, loc="right")
