"""How a picture of a study tells its points apart: by color along one axis, by marker along a second.

Axes of words come before axes of numbers. An axis of more numbers than there are colors gets a color scale. A line
joins points along an axis of numbers, in its order, where nothing but color varies besides; options in words have no
order, so no line joins them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dist_hdnn.plots.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from dist_hdnn.study.axes import SEED, label_of
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.results import Group

COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY)
MARKERS = "osD^vPX"


@dataclass(frozen=True)
class Marks:
    """What tells the points of a study apart.

    color, marker: names of axes, None where one color or one marker serves all. colors, markers: their values in the
    order of the legend. scale: the colors are a scale of numbers. along: the axis of numbers that lines follow, if any.
    """

    color: str | None
    colors: Sequence[Any]
    scale: bool
    marker: str | None
    markers: Sequence[Any]
    along: str | None

    def color_of(self, value: Any) -> str:
        """The color of a value of the color axis."""
        return BLUE if self.color is None else COLORS[self.colors.index(value) % len(COLORS)]

    def marker_of(self, group: Group) -> str:
        """The marker of a point: of its marker axis, else the one that goes with its color."""
        if self.marker is not None:
            return MARKERS[self.markers.index(group.values[self.marker])]
        if self.color is None or self.scale:
            return MARKERS[0]
        return MARKERS[self.colors.index(group.values[self.color]) % len(MARKERS)]

    def lines(self, groups: Sequence[Group]) -> list[list[Group]]:
        """The points that each line joins, in the order of the axis of numbers."""
        found: dict[Any, list[Group]] = {}
        for group in groups if self.along is not None else ():
            found.setdefault(group.values[str(self.color)], []).append(group)
        return [
            sorted(line, key=lambda group: group.values[str(self.along)]) for line in found.values() if len(line) > 1
        ]


def marks_of(plan: Plan, groups: Sequence[Group]) -> Marks:
    """Choose color, marker and lines for trials of a study's axes; groups: those of the axes, no baselines."""
    names = [axis.name for axis in plan.axes if axis.name != SEED]
    values = {name: list(dict.fromkeys(group.values[name] for group in groups)) for name in names}
    varied = [name for name in names if len(values[name]) > 1]
    few = [name for name in varied if len(values[name]) <= len(COLORS)]
    words = [name for name in few if not numbers(values[name])]
    many = [name for name in varied if name not in few and numbers(values[name])]
    order = [*words, *(name for name in few if name not in words), *many]
    color = plan.colour if plan.colour in varied else next(iter(order), None)
    marker = next((name for name in order if name != color and name in few), None)
    others, scale = [name for name in varied if name != color], color in many
    along = others[0] if len(others) == 1 and not scale and numbers(values[others[0]]) else None
    colors, markers = (values[name] if name is not None else [] for name in (color, marker))
    return Marks(color, colors, scale, marker, markers, along)


def legend_entry(name: str, value: Any) -> str:
    """An option as a legend writes it: words alone, a number with the name of its axis."""
    return value if isinstance(value, str) else f"{name.split('.')[-1]} {label_of(value)}"


def joined(groups: Sequence[Group]) -> bool:
    """Whether the groups of a baseline differ in one number, so that a line may join them."""
    keys = {key for group in groups for key in group.values}
    return len(keys) == 1 and all(numbers(group.values.values()) for group in groups)


def numbers(values: Iterable[Any]) -> bool:
    """Whether all values are numbers."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
