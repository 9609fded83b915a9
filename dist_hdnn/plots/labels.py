"""The names in the picture of a graph: inside the nodes where they fit, else beside, where they hide least."""

import unicodedata

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from dist_hdnn.plots.drawing import plain
from dist_hdnn.plots.figures import INK, VERMILION
from dist_hdnn.plots.positions import Points
from dist_hdnn.topology.graphs import CommunicationGraph

LABELS_UP_TO = 60  # agents
SENSOR_LABELS_UP_TO = 24
NAME_UP_TO = 18  # characters
FARTHER = 2.5  # times the gap between a node and its name, where there is no place for it closer by


def short(name: str) -> str:
    """A name of at most 18 characters: of a longer one the beginning and the end, where names of a kind differ."""
    if len(name) <= NAME_UP_TO:
        return plain(name)
    return plain(f"{name[: NAME_UP_TO // 2 - 1].rstrip()}…{name[-NAME_UP_TO // 2 :].lstrip()}")


def _columns(name: str) -> int:
    """How wide a name is, in columns of a Latin letter."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in name.replace("\\$", "$"))


def write_labels(
    figure: Figure,
    axes: Axes,
    points: Points,
    graph: CommunicationGraph,
    shades: npt.NDArray[np.float64],
    size: float,
    observed: dict[int, str],
) -> None:
    """Short names inside the nodes, long ones beside them, sensors in colour; each where it hides least."""
    sensors = observed if len(observed) <= SENSOR_LABELS_UP_TO else {}
    beside: list[tuple[int, str, str, float]] = []
    diameter = 2.0 * np.sqrt(size / np.pi)
    if graph.agents <= LABELS_UP_TO:
        names = [short(name) for name in graph.names]
        font = min(10.0, 0.55 * diameter, 1.25 * diameter / max(1, *map(_columns, names)))
        if font >= 6.5:
            brightness = shades[:, :3] @ np.array([0.299, 0.587, 0.114])
            for place, name, bright in zip(points, names, brightness, strict=True):
                style = {"ha": "center", "va": "center_baseline", "fontsize": font, "zorder": 5}
                axes.text(place[0], place[1], name, color=INK if bright > 0.5 else "white", **style)
        else:
            beside = [(agent, name, INK, 8.0) for agent, name in enumerate(names) if agent not in sensors]
            sensors = {agent: f"{names[agent]}\n{text}" for agent, text in sensors.items()}
    first = [(agent, text, VERMILION, 9.0) for agent, text in sensors.items()]
    _place_beside(figure, axes, points, graph.links, first + beside, diameter)


def _place_beside(
    figure: Figure,
    axes: Axes,
    points: Points,
    links: npt.NDArray[np.int64],
    labels: list[tuple[int, str, str, float]],
    diameter: float,
) -> None:
    """Write each (agent, text, colour, font size) on that side of its node where it covers least, in order.

    There are twelve sides, near and farther off. A text that is not beside its own node alone gets a line to it.
    """
    if not labels:
        return
    dot = figure.dpi / 72.0
    nodes = axes.transData.transform(points)
    # a few places along each link stand for its ink; 100 000 of them are plenty
    along = np.linspace(0.0, 1.0, int(np.clip(100_000 // max(len(links), 1), 2, 25)))[:, None, None]
    inked = (nodes[links[:, 0]] * (1 - along) + nodes[links[:, 1]] * along).reshape(-1, 2)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg), "new_figure gives every figure an Agg canvas"
    angles = np.tile(np.pi / 6 * np.array([0, 6, 3, 9, 1, 11, 5, 7, 2, 10, 4, 8]), 2)
    near = np.repeat([1.0, FARTHER], 12)
    frame = axes.get_window_extent().padded(4 * dot)
    rim = 0.5 * diameter * dot * np.stack([np.cos(angles), np.sin(angles)], axis=1)[:12]
    discs = np.concatenate([nodes[:, None] + rim, nodes[:, None]], axis=1).reshape(-1, 2)
    taken = np.empty((0, 4))
    for agent, text, colour, font in labels:
        gap = (0.5 * diameter * (1.35 if colour == VERMILION else 1.0) + 5.0) * dot * near
        written = axes.text(0, 0, text, fontsize=font, color=colour, ha="center", va="center", zorder=6)
        written.set(linespacing=1.1, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8})
        half = _half_extent(written, canvas) + 1.0
        # the middle of the text, such that the box just clears the node on that side
        offset = np.stack([np.cos(angles) * (gap + half[0]), np.sin(angles) * (gap + half[1])], axis=1)
        centres = nodes[agent] + offset
        boxes = np.concatenate([centres - half, centres + half], axis=1)
        strange = _nearer_to_another(boxes, nodes, agent)
        cost = 1.0 * _inside(boxes, inked) + 6.0 * _inside(boxes, discs) + 40.0 * _overlaps(boxes, taken)
        outside = (boxes[:, :2] < frame.min).any(axis=1) | (boxes[:, 2:] > frame.max).any(axis=1)
        cost += 12.0 * strange + 6.0 * (near > 1.0) + 500.0 * outside
        best = int(np.argmin(cost + 1e-3 * np.arange(len(angles))))
        x, y = axes.transData.inverted().transform(centres[best])
        written.set_position((float(x), float(y)))
        taken = np.concatenate([taken, boxes[best : best + 1]])
        if strange[best] or near[best] > 1.0:
            axes.plot(*zip(points[agent], (x, y), strict=True), color=colour, linewidth=0.6, zorder=5, clip_on=False)


def _nearer_to_another(boxes: Points, nodes: Points, agent: int) -> npt.NDArray[np.bool_]:
    """For each box of an agent's name whether another node is as near to it, so that it could be taken for its name."""
    beyond = np.maximum(boxes[:, None, :2] - nodes, nodes - boxes[:, None, 2:])  # (boxes, nodes, 2)
    away = np.linalg.norm(np.maximum(beyond, 0.0), axis=2)
    own = away[:, agent].copy()
    away[:, agent] = np.inf
    nearer: npt.NDArray[np.bool_] = away.min(axis=1) < 1.2 * own
    return nearer


def _half_extent(text: Text, canvas: FigureCanvasAgg) -> npt.NDArray[np.float64]:
    box = text.get_window_extent(canvas.get_renderer())  # type: ignore[no-untyped-call]
    return np.array([box.width / 2, box.height / 2])


def _inside(boxes: Points, places: Points) -> Points:
    """For each box (left, bottom, right, top) the number of places in it."""
    inside = (places[None] >= boxes[:, None, :2]).all(axis=2) & (places[None] <= boxes[:, None, 2:]).all(axis=2)
    return np.asarray(inside.sum(axis=1), dtype=np.float64)


def _overlaps(boxes: Points, taken: Points) -> Points:
    """For each box the number of taken boxes it meets."""
    apart = (boxes[:, None, :2] > taken[None, :, 2:]).any(axis=2) | (boxes[:, None, 2:] < taken[None, :, :2]).any(
        axis=2
    )
    return np.asarray((~apart).sum(axis=1), dtype=np.float64)
