"""Pictures of a study: the first objective against bytes per step, density, parameters and numbers of links.

Points are means, bars the spread over seeds. Color tells one axis apart and the marker a second one. Axes of words come
before axes of numbers, and an axis of more numbers than there are colors has a color scale. A line joins points along
an axis of numbers where only the color varies besides. Baselines are drawn in ink, networks that fall into parts are
hollow, the Pareto front is ringed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from dist_hdnn.plots.drawing import Pictures, plain
from dist_hdnn.plots.figures import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILION, new_figure, quiet, save
from dist_hdnn.study.axes import SEED, label_of
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.results import Group, in_bytes, pareto_front, quantity

COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY)
MARKERS = "osD^vPX"
BASELINE_MARKERS = "*PXh"
PICTURES = ("bytes_per_step", "density", "parameters")  # horizontal axes
Handles = dict[str, Any]  # text of a legend's entry -> its sign


@dataclass(frozen=True)
class Marks:
    """Marks that tell the points of a study apart.

    color, marker: names of axes, None where one color or one marker serves all. colors, markers: of their values, in
    the order of the legend. scale: of the colors, where they stand for many numbers. along: the axis of numbers that
    lines follow, if any.
    """

    color: str | None
    colors: Mapping[Any, Any]
    scale: Normalize | None
    marker: str | None
    markers: Mapping[Any, str]
    along: str | None

    def color_of(self, group: Group) -> Any:
        """Return the color of a point."""
        return BLUE if self.color is None else self.colors[group.values[self.color]]

    def marker_of(self, group: Group) -> str:
        """Return the marker of a point: of its marker axis, else the one that goes with its color."""
        if self.marker is not None:
            return self.markers[group.values[self.marker]]
        return MARKERS[0] if self.color is None else self.markers[group.values[self.color]]


def marks_of(plan: Plan, groups: Sequence[Group]) -> Marks:
    """Choose color, marker and lines for the trials of a study's axes, without baselines."""
    names = [axis.name for axis in plan.axes if axis.name != SEED]
    values = {name: list(dict.fromkeys(group.values[name] for group in groups)) for name in names}
    varied = [name for name in names if len(values[name]) > 1]
    few = [name for name in varied if len(values[name]) <= len(COLORS)]
    many = [name for name in varied if name not in few and numbers(values[name])]
    order = [*sorted(few, key=lambda name: numbers(values[name])), *many]  # words first
    color = plan.colour if plan.colour in varied else next(iter(order), None)
    marker = next((name for name in order if name != color and name in few), None)
    others, shades = [name for name in varied if name != color], values.get(str(color), [])
    scale = None
    colors = {value: COLORS[number % len(COLORS)] for number, value in enumerate(shades)}
    if color in many:  # logarithmic where the numbers span more than 1 to 20
        low, high = min(shades), max(shades)
        scale = LogNorm(low, high) if low > 0 and high > 20 * low else Normalize(low, high)
        colors = {value: colormaps["viridis"](scale(value)) for value in shades}
    along = others[0] if len(others) == 1 and scale is None and numbers(values[others[0]]) else None
    shaped = values.get(str(marker), [] if scale else shades)
    markers = {value: MARKERS[number % len(MARKERS)] for number, value in enumerate(shaped)}
    markers |= {} if scale is None or marker is not None else dict.fromkeys(shades, MARKERS[0])
    return Marks(color, colors, scale, marker, markers, along)


def plot_study(plan: Plan, groups: Sequence[Group], album: Pictures) -> None:
    """Draw one picture per horizontal axis that the trials have values for, also axes of numbers below `links`."""
    vertical = next(iter(plan.objectives))
    front = pareto_front(groups, plan.objectives)
    for name in dict.fromkeys([*PICTURES, *list(plan.objectives)[1:]]):
        complete = [group for group in groups if name in group.mean and vertical in group.mean]
        if name != vertical and complete:
            album.draw(f"{vertical}_vs_{name}.png", _picture, plan, complete, front, name, vertical)
    own = [group for group in groups if not group.baseline and vertical in group.mean]
    for name in (axis.name for axis in plan.axes if axis.name.startswith("links.")):
        if own and numbers(group.values[name] for group in own):
            placed = [replace(group, mean={**group.mean, name: group.values[name]}) for group in own]
            album.draw(f"{vertical}_vs_{name}.png", _picture, plan, placed, front, name, vertical)


def _picture(plan: Plan, groups: Sequence[Group], front: Sequence[Group], name: str, vertical: str, path: Path) -> Path:
    """Draw the objective `vertical` against `name`, and return the path."""
    figure = new_figure(6.5, 4.0)
    axes = figure.subplots()
    own = [group for group in groups if not group.baseline]
    _scale(axes, [group.mean[name] for group in groups], name)
    marks = marks_of(plan, own)
    handles = _draw_own(axes, own, marks, name, vertical)
    handles |= _draw_baselines(axes, [group for group in groups if group.baseline], name, vertical)
    if any(map(_parted, groups)):
        hollow = Line2D([], [], linestyle="", marker="o", markersize=6, color=GREY, markerfacecolor="white")
        handles["hollow: agents in parts"] = hollow
    ringed = [group for group in own if any(group is member for member in front)]
    if len(plan.objectives) > 1 and name in plan.objectives and ringed:
        x, y = ([_scaled(group.mean, key) for group in ringed] for key in (name, vertical))
        ring = axes.scatter(x, y, s=130, facecolors="none", edgecolors=INK, linewidths=1.0, zorder=4)
        handles["Pareto front"] = ring
    axes.set_xlabel(quantity(name).label)
    axes.set_ylabel(quantity(vertical).label)
    quiet(axes)
    _spread_note(axes, groups)
    if handles:
        words = [plain(entry) for entry in handles]
        figure.legend(handles.values(), words, fontsize=8.5, frameon=False, loc="outside upper center", ncols=3)
    return save(figure, path)


def _draw_own(axes: Axes, groups: Sequence[Group], marks: Marks, name: str, vertical: str) -> Handles:
    """Draw the trials of the study's axes and return their legend."""
    handles: Handles = {}
    if marks.along is not None:
        for value, color in marks.colors.items():
            line = [group for group in groups if group.values[str(marks.color)] == value]
            line.sort(key=lambda group: group.values[str(marks.along)])
            _join(axes, line, name, vertical, color, "-")
    for group in groups:
        _point(axes, group, name, vertical, {"color": marks.color_of(group), "marker": marks.marker_of(group)})
    if marks.scale is not None:
        bar = axes.figure.colorbar(ScalarMappable(marks.scale, "viridis"), ax=axes, aspect=28)
        bar.set_label(plain(marks.color), fontsize=9)
    elif marks.color is not None:
        for value, color in marks.colors.items():
            shape = MARKERS[0] if marks.marker is not None else marks.markers[value]
            handles[legend_entry(marks.color, value)] = _handle(color, shape)
    if marks.marker is not None:
        for value, shape in marks.markers.items():
            handles[legend_entry(marks.marker, value)] = _handle(GREY, shape)
    return handles


def _draw_baselines(axes: Axes, groups: Sequence[Group], name: str, vertical: str) -> Handles:
    """Draw the baselines with a marker each, and a dotted level through a single point, and return their legend."""
    handles: Handles = {}
    for number, baseline in enumerate(dict.fromkeys(group.baseline for group in groups)):
        members = [group for group in groups if group.baseline == baseline]
        marker = BASELINE_MARKERS[number % len(BASELINE_MARKERS)]
        for group in members:
            _point(axes, group, name, vertical, {"color": INK, "marker": marker, "markersize": 8})
        if len(members) == 1:
            axes.axhline(_scaled(members[0].mean, vertical), color=INK, linewidth=0.8, linestyle=":", zorder=1)
        elif joined(members):
            order = sorted(members, key=lambda group: next(iter(group.values.values())))
            _join(axes, order, name, vertical, INK, ":")
        handles[baseline] = _handle(INK, marker)
    return handles


def _handle(color: str, marker: str) -> Line2D:
    """Make the sign of a legend's entry."""
    return Line2D([], [], linestyle="", marker=marker, markersize=6, color=color)


def _parted(group: Group) -> bool:
    """Return True, for a hollow point, if the agents fall into parts that never exchange anything."""
    return group.mean.get("components", 1.0) > 1


def _point(axes: Axes, group: Group, name: str, vertical: str, style: Mapping[str, Any]) -> None:
    """Draw the mean of a group with its standard deviation."""
    axes.errorbar(
        [_scaled(group.mean, name)],
        [_scaled(group.mean, vertical)],
        yerr=[quantity(vertical).factor * group.spread[vertical]],
        linestyle="",
        capsize=3,
        elinewidth=1.0,
        **{"markersize": 5, **({"markerfacecolor": "white"} if _parted(group) else {}), **style},
    )


def _join(axes: Axes, groups: Sequence[Group], name: str, vertical: str, color: str, line: str) -> None:
    """Draw a line through the means of groups."""
    x, y = ([_scaled(group.mean, key) for group in groups] for key in (name, vertical))
    axes.plot(x, y, linestyle=line, linewidth=1.4, color=color, zorder=1.5)


def _scaled(values: Mapping[str, float], name: str) -> float:
    return quantity(name).factor * values[name]


def _scale(axes: Axes, values: Sequence[float], name: str) -> None:
    """Scale the horizontal axis: logarithmic above a span of 4, with a strip for zero, a network that sends nothing."""
    positive = [value for value in values if value > 0]
    few = not positive or max(positive) < 300 * min(positive)
    steps = (1.0, 2.0, 5.0) if few else (1.0,)  # of a decade, at which ticks have numbers
    if name == "density" or name.startswith("links.") or not positive or max(positive) < 4 * min(positive):
        axes.xaxis.set_major_locator(MaxNLocator(7))
    elif min(values) < 0 or len(positive) == len(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=steps))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        first = 10.0 ** math.floor(math.log10(min(positive)))
        axes.set_xscale("symlog", linthresh=first, linscale=0.5)
        axes.set_xlim(-0.15 * first, 1.6 * max(positive))
        decades = [first * 10.0**power for power in range(math.ceil(math.log10(1.6 * max(positive) / first)))]
        axes.xaxis.set_major_locator(FixedLocator([0.0, *(step * decade for decade in decades for step in steps)]))
        axes.xaxis.set_minor_locator(NullLocator())
    if name.startswith(("bytes", "peak_memory")):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: in_bytes(value)))
    elif name in ("parameters", "messages_per_step"):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _spread_note(axes: Axes, groups: Sequence[Group]) -> None:
    """Note the number of seeds over which the points are means."""
    counts = sorted({group.count for group in groups})
    if counts[-1] > 1:
        seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        axes.set_title(f"mean and standard deviation over {seeds} seeds", fontsize=9, color=GREY, loc="right")


def legend_entry(name: str, value: Any) -> str:
    """Write an option for a legend: words alone, a number with the name of its axis."""
    return value if isinstance(value, str) else f"{name.split('.')[-1]} {label_of(value)}"


def joined(groups: Sequence[Group]) -> bool:
    """Return True if the groups of a baseline differ in one number, so that a line may join them."""
    keys = {key for group in groups for key in group.values}
    return len(keys) == 1 and all(numbers(group.values.values()) for group in groups)


def numbers(values: Iterable[Any]) -> bool:
    """Return True if all values are numbers."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
