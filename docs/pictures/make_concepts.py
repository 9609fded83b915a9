"""Draws the pictures of docs/concepts.md; patterns and halos are the library's own.

    python docs/pictures/make_concepts.py [FOLDER]

All are 7.6 inches wide with type of 11 points and more, which reads well 560 pixels wide.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from dist_hdnn.plots.figures import BLUE, GREEN, GREY, INK, ORANGE, PALE, SKY, VERMILION, new_figure, save
from dist_hdnn.topology import CommunicationGraph, Halo, as_graph, build_halo, build_pattern, from_mapping

LINKS = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 5), (3, 4), (4, 6), (5, 6), (3, 6)]
PLACES = np.array([(0.0, 1.0), (1.1, 1.75), (1.1, 0.25), (2.6, 2.0), (3.8, 2.05), (2.7, 0.0), (3.9, 0.35)])
OWNERS = {0: 0, 1: 0, 2: 0, 3: 1, 4: 1, 5: 2, 6: 2}
COLORS = (BLUE, ORANGE, GREEN)  # of workers 0, 1, 2
LIGHT = ("#D6E6F1", "#FBEBCB", "#CDEBE2")
SIZE = 0.27  # of an agent


def main(folder: Path) -> None:
    graph = as_graph(nx.Graph(LINKS))
    save(graph_and_pattern(graph), folder / "concept_graph.png")
    save(owned_and_ghosts(graph), folder / "concept_halo.png")
    save(adjoint_exchanges(graph), folder / "concept_exchange.png")
    save(four_rounds(), folder / "concept_rounds.png")


def graph_and_pattern(graph: CommunicationGraph) -> Figure:
    """The communication graph beside the block pattern of K, with one agent and its row marked in both."""
    figure = new_figure(7.6, 3.7)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    marked = 1
    near = {int(j) for i, j in graph.links if i == marked} | {int(i) for i, j in graph.links if j == marked}
    for i, j in graph.links:
        hot = marked in (i, j)
        left.plot(*PLACES[[i, j]].T, color=VERMILION if hot else GREY, linewidth=2.6 if hot else 1.6, zorder=1)
    for agent in range(graph.agents):
        color = VERMILION if agent == marked else SKY if agent in near else PALE
        draw_agent(left, PLACES[agent], str(agent), color)
    bare(left, (-0.5, 4.3), (-0.95, 2.95))
    left.set_title("communication graph", fontsize=13, color=INK)
    pattern = build_pattern(graph, "neighbours").to_scipy().toarray()
    for i, j in np.argwhere(pattern):
        color = (VERMILION if i == j else SKY) if i == marked else BLUE if i == j else PALE
        right.add_patch(Rectangle((j + 0.05, i + 0.05), 0.9, 0.9, facecolor=color, edgecolor="none"))
    right.add_patch(Rectangle((0, marked), graph.agents, 1, fill=False, edgecolor=VERMILION, linewidth=1.6))
    right.add_patch(Rectangle((0, 0), graph.agents, graph.agents, fill=False, edgecolor=GREY, linewidth=1.0))
    bare(right, (-0.2, graph.agents + 0.2), (graph.agents + 0.2, -0.75))
    for k in range(graph.agents):
        right.text(k + 0.5, -0.35, str(k), ha="center", va="center", fontsize=11, color=INK)
        right.text(-0.35, k + 0.5, str(k), ha="center", va="center", fontsize=11, color=INK)
    right.set_title("blocks of K", fontsize=13, color=INK)
    return figure


def owned_and_ghosts(graph: CommunicationGraph) -> Figure:
    """The agents shared out to three workers; worker 0's ghosts, and how its memory is laid out."""
    figure = new_figure(7.6, 3.7)
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    halo = halo_of(graph, 0)
    for worker in range(3):
        draw_region(left, PLACES[[a for a, owner in OWNERS.items() if owner == worker]], worker)
    for i, j in graph.links:
        left.plot(*PLACES[[i, j]].T, color=GREY, linewidth=1.6, zorder=1)
    for agent, owner in OWNERS.items():
        draw_agent(left, PLACES[agent], str(agent), COLORS[owner], "white")
        if agent in halo.ghosts:
            left.add_patch(Circle(PLACES[agent], SIZE + 0.11, fill=False, ec=VERMILION, lw=2.2, ls=(0, (3, 1.6))))
    for worker, (x, y) in enumerate([(0.35, -0.42), (3.2, 2.78), (3.3, -0.72)]):
        left.text(x, y, f"worker {worker}", ha="center", va="center", fontsize=12, color=COLORS[worker])
    bare(left, (-0.65, 4.6), (-0.95, 3.0))
    draw_memory(right, halo)
    return figure


def draw_memory(axes: Axes, halo: Halo) -> None:
    """The rows of a worker's state: owned agents, then ghosts."""
    agents = halo.agents
    for row, agent in enumerate(agents):
        owner, ghost = OWNERS[int(agent)], row >= len(halo.owned)
        y = -row - 0.35 * ghost
        draw_slice(axes, (0, y), int(agent), owner, ghost, 1.7)
        if ghost:
            axes.text(1.9, y + 0.4, f"from worker {owner}", fontsize=11, va="center", color=INK)
    axes.text(1.9, 0.4 - (len(halo.owned) - 1) / 2, "owned", fontsize=12, va="center", color=COLORS[0])
    axes.text(0, -len(agents) - 0.1, "ghosts (the halo)", fontsize=12, va="center", color=VERMILION)
    axes.text(0, 1.35, "memory of worker 0", fontsize=13, va="center", color=INK)
    bare(axes, (-0.2, 4.3), (-len(agents) - 0.6, 1.7))


def adjoint_exchanges(graph: CommunicationGraph) -> Figure:
    """gather beside scatter_add: the same arrows, turned round."""
    figure = new_figure(7.6, 4.2)
    titles = ("gather:  ghosts are filled", "scatter_add:  ghosts are added up")
    for forward, axes in zip((True, False), figure.subplots(1, 2), strict=True):
        for side, worker in enumerate((0, 1)):
            halo, x = halo_of(graph, worker), 3.1 * side
            for row, agent in enumerate(halo.agents):
                ghost = row >= len(halo.owned)
                draw_slice(axes, (x, place_of(row, halo)), int(agent), OWNERS[int(agent)], ghost, 1.5)
            axes.text(x + 0.75, 1.2, f"worker {worker}", fontsize=12, ha="center", color=COLORS[worker])
        first, second = halo_of(graph, 0), halo_of(graph, 1)
        draw_message(axes, (3.1, place_of(0, second)), (1.5, place_of(3, first)), forward)
        draw_message(axes, (1.5, place_of(1, first)), (3.1, place_of(2, second)), forward)
        bare(axes, (-0.15, 4.75), (-4.5, 1.75))
        axes.set_title(titles[0 if forward else 1], fontsize=13, color=INK)
    figure.supxlabel(r"$\langle\,$gather $x,\ v\,\rangle\ =\ \langle\, x,\ $scatter_add $v\,\rangle$", fontsize=13)
    return figure


def four_rounds() -> Figure:
    """One symplectic layer as two rows of four steps; messages travel in the first and the third of each."""
    figure = new_figure(7.6, 3.9)
    axes = figure.subplots()
    halves = (
        (r"gather $q$", r"$z = \sigma(K_q\,q + b_q)$", r"scatter_add $K_q^\top z$", r"$p^+\! = p - h\,X^\top v$"),
        (r"gather $p^+$", r"$z = \sigma(K_p\,p^+\! + b_p)$", r"scatter_add $K_p^\top z$", r"$q^+\! = q + h\,X v$"),
    )
    for half, texts in enumerate(halves):
        for step, text in enumerate(texts):
            x, y = 3.05 * step, -3.1 * half
            talks = step in (0, 2)
            style = {"facecolor": "#FDF3DF" if talks else "#E8F1F8", "edgecolor": ORANGE if talks else BLUE}
            axes.add_patch(
                FancyBboxPatch((x, y), 2.7, 2.3, boxstyle="round,pad=0.0,rounding_size=0.18", lw=1.4, **style)
            )
            axes.text(x + 1.35, y + 0.42, text, ha="center", va="center", fontsize=11.5, color=INK)
            draw_three(axes, (x + 1.35, y + 1.45), step)
            if talks:
                label = f"round {2 * half + step // 2 + 1}"
                axes.text(x + 0.12, y + 2.36, label, fontsize=11, va="bottom", color=INK)
            if step < 3:
                axes.add_patch(arrow((x + 2.72, y + 1.15), (x + 3.04, y + 1.15), GREY, 12))
    bare(axes, (-0.15, 12.0), (-3.2, 2.9))
    return figure


def draw_three(axes: Axes, center: tuple[float, float], step: int) -> None:
    """An agent between two neighbors: slices come in, it computes, contributions go out, it adds them up."""
    x, y = center
    for place in (-0.95, 0.0, 0.95):
        busy = step in (1, 3) and place == 0
        axes.add_patch(Circle((x + place, y), 0.25, facecolor=BLUE if busy else SKY, edgecolor="white", zorder=3))
    for side in (-1, 1):
        outer, inner = (x + 0.68 * side, y), (x + 0.27 * side, y)
        if step == 0:
            axes.add_patch(arrow(outer, inner, VERMILION, 13))
        elif step == 2:
            axes.add_patch(arrow(inner, outer, VERMILION, 13))
        else:
            axes.plot((inner[0], outer[0]), (y, y), color=GREY, linewidth=1.2, zorder=1)


def draw_agent(axes: Axes, place: np.ndarray, name: str, color: str, ink: str = INK) -> None:
    axes.add_patch(Circle(tuple(place), SIZE, facecolor=color, edgecolor="white", linewidth=1.2, zorder=3))
    ink = "white" if color == VERMILION else ink
    axes.text(*place, name, ha="center", va="center_baseline", fontsize=12, color=ink, zorder=4)


def draw_region(axes: Axes, places: np.ndarray, worker: int) -> None:
    """A soft background behind a worker's agents: thick round lines between them."""
    for k, start in enumerate(places):
        for end in places[k:]:
            line = np.stack([start, end])
            axes.plot(*line.T, color=LIGHT[worker], linewidth=58, solid_capstyle="round", zorder=0)


def draw_slice(axes: Axes, corner: tuple[float, float], agent: int, owner: int, ghost: bool, width: float) -> None:
    """One agent's rows: filled where they are owned, outlined in the owner's color where they are a ghost."""
    style = {"facecolor": "white", "edgecolor": COLORS[owner], "linestyle": (0, (3, 1.6))}
    if not ghost:
        style = {"facecolor": COLORS[owner], "edgecolor": COLORS[owner]}
    axes.add_patch(Rectangle(corner, width, 0.8, linewidth=1.8, **style))
    x, y = corner[0] + width / 2, corner[1] + 0.4
    color = COLORS[owner] if ghost else "white"
    axes.text(x, y, f"agent {agent}", ha="center", va="center_baseline", fontsize=11.5, color=color)


def draw_message(axes: Axes, owner: tuple[float, float], ghost: tuple[float, float], forward: bool) -> None:
    """An arrow from the owner's rows to a ghost's, or back; (edge, bottom) of both rows."""
    start, end = ((x, y + 0.4) for x, y in ((owner, ghost) if forward else (ghost, owner)))
    axes.add_patch(arrow(start, end, VERMILION, 16))
    if not forward:
        side = 0.28 if owner[0] > ghost[0] else -0.28
        axes.text(end[0] - side, end[1] + 0.34, "+", fontsize=15, color=VERMILION, ha="center", va="center")


def arrow(start: Sequence[float], end: Sequence[float], color: str, size: float) -> FancyArrowPatch:
    style = {"arrowstyle": "-|>", "mutation_scale": size, "shrinkA": 1.0, "shrinkB": 1.0}
    return FancyArrowPatch(tuple(start), tuple(end), color=color, linewidth=1.8, zorder=5, **style)


def place_of(row: int, halo: Halo) -> float:
    """Height of a row of a worker's memory; ghosts lie a little apart."""
    return -row - 0.35 * (row >= len(halo.owned))


def halo_of(graph: CommunicationGraph, worker: int) -> Halo:
    return build_halo(build_pattern(graph, "neighbours"), from_mapping(graph, OWNERS, 3), worker)


def bare(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    axes.set(xlim=x, ylim=y)
    axes.set_aspect("equal")
    axes.set_axis_off()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
