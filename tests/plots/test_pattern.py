"""The picture of a block pattern: which entries it shows, in which color."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from dist_hdnn.plots.figures import BLUE, ORANGE, VERMILION
from dist_hdnn.plots.pattern import plot_pattern
from dist_hdnn.topology import as_graph
from dist_hdnn.topology.patterns import BlockPattern, block_diagonal, dense, neighbours

PATTERNS = {
    "one agent": block_diagonal(1),
    "two agents alone": block_diagonal(2),
    "ring": neighbours(as_graph(nx.cycle_graph(8))),
    "sixty": neighbours(as_graph(nx.connected_watts_strogatz_graph(60, 4, 0.3, seed=0))),
    "three hundred": neighbours(as_graph(nx.connected_watts_strogatz_graph(300, 4, 0.3, seed=0))),
}
Entries = set[tuple[int, int]]


def squares(axes: Axes) -> dict[str, Entries]:
    """Color -> (row, column) of the squares of that color, each of side 1 around its entry."""
    (collection,) = axes.collections
    shown: dict[str, Entries] = {}
    for path, color in zip(collection.get_paths(), collection.get_facecolor(), strict=True):
        corners = path.vertices[:4]
        assert np.array_equal(np.ptp(corners, axis=0), [1, 1])
        column, row = corners.mean(axis=0)
        shown.setdefault(to_hex(color), set()).add((int(row), int(column)))
    return shown


def markers(axes: Axes) -> dict[str, Entries]:
    return {
        to_hex(line.get_color()): {(int(row), int(column)) for column, row in line.get_xydata()} for line in axes.lines
    }


@pytest.mark.parametrize("case", PATTERNS)
def test_a_pattern_shows_its_entries_and_tells_own_blocks_from_coupling(drawn: Any, case: str) -> None:
    pattern: BlockPattern = PATTERNS[case]
    figure = drawn(plot_pattern, pattern)
    (axes,) = figure.axes
    entries = {(int(i), int(j)) for i, j in zip(pattern.rows(), pattern.columns, strict=True)}
    own, coupling = {(i, j) for i, j in entries if i == j}, {(i, j) for i, j in entries if i != j}
    many = pattern.agents > 200
    expected = {BLUE.lower(): own, (VERMILION if many else ORANGE).lower(): coupling}
    shown = markers(axes) if many else squares(axes)
    assert shown == {color: cells for color, cells in expected.items() if cells}
    agents = pattern.agents
    assert axes.get_xlim() == (-0.5, agents - 0.5) and axes.get_ylim() == (agents - 0.5, -0.5), "row 0 at the top"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("agent j whose neurons are read", "agent i who computes")
    assert f"{len(entries)} of {agents}² blocks, density {len(entries) / agents**2:.3g}" in axes.get_title()
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words == [f"own block ({len(own)})", f"coupling block ({len(coupling)})"]


def test_of_many_entries_cells_are_counted(drawn: Any) -> None:
    axes, bar = drawn(plot_pattern, dense(600)).axes
    (image,) = axes.images
    counts = image.get_array()
    assert (
        counts.shape == (500, 500)
        and counts.sum() == 600**2
        and tuple(image.get_extent()) == (-0.5, 599.5, 599.5, -0.5)
    )
    assert bar.get_ylabel() == "non-zero blocks per cell of 1.2 x 1.2 agents"
