"""Arrange a block-sparse matrix in panels for batched GEMMs: which weights form one GEMM, and in which order.

Row agents with consecutive numbers are grouped into *panels*: the rows of up to `PANEL_ROWS` neurons against the
union of their neighbors' columns. Panels of one shape form a class; a class, cut into chunks whose columns stay in the
cache, is one batched GEMM a chunk. Wide agents get one panel each (no zero is stored); narrow ones share, because a
GEMM of 16 x 20 costs less than sixteen of 1 x 5; the matrix of a tiny network is one panel, whose columns need not be
gathered. Otherwise a panel is bounded by its rows and their neighbors: nothing grows with agents squared, and nothing
is masked.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.operators.indexed import Indexed
from dist_hdnn.operators.sparsity import ScalarPattern
from dist_hdnn.topology.ragged import IntArray, offsets, ragged_ranges, starts_in

PANEL_ROWS = 16  # measured on 64-1024 agents of 1-8 neurons, batch 128: 8-16 rows a panel are fastest
TINY = 64 * 64  # values of a matrix that is one panel: fewer calls, and no columns to gather
MAXIMUM_FILL = 6.0  # stored panel values per weight, beyond which panels are halved
HUB = 8  # times the mean number of columns, from which on an agent has a panel of its own
MAXIMUM_CLASSES = 8  # more shapes than this and column counts are rounded up to share GEMM calls
CHUNK = 2048  # gathered rows at a time: 1 MB at batch 128 in float32; more calls cost more than the cache gains


class PanelOperator(Indexed):
    """Panels of a pattern, see `sparsity.Arrangement`: index tensors, never weights.

    order: column agents in the order in which panels show them; None when they ascend.
    deterministic: every agent has its own panel, columns by ascending global number, nothing rounded up: sums then
        depend neither on which worker computes them nor on what else it owns.
    chunk: gathered rows at a time. rows: row agents in the order in which states have their rows; None as they are.
    shapes: of every chunk, (panels, rows, columns).
    """

    columns: Tensor
    positions: Tensor
    row_order: Tensor
    state_order: Tensor
    state_rows: Tensor

    def __init__(
        self,
        pattern: ScalarPattern,
        panel_rows: int = PANEL_ROWS,
        order: IntArray | None = None,
        deterministic: bool = False,
        tiny: int = TINY,
        chunk: int = CHUNK,
        rows: IntArray | None = None,
    ) -> None:
        super().__init__()
        self.pattern = pattern
        self.rows, self.entries = int(pattern.row_sizes.sum()), pattern.entries
        self.column_neurons = int(pattern.column_sizes.sum())
        as_they_are = np.arange(len(pattern.column_sizes))
        order = as_they_are if order is None else order
        if deterministic:
            panels = PanelLayout(pattern, 1, order, exact=True)
        elif self.rows * self.column_neurons <= tiny:
            panels = PanelLayout(pattern, max(self.rows, 1), as_they_are)
        else:
            panels = _panels(pattern, panel_rows, order)
        self.block_start = panels.block_start
        self.stored = panels.stored
        self.shapes = _chunks(panels.shapes, chunk)
        self.weight_shapes: list[tuple[int, ...]] = list(self.shapes)
        self.row_shapes: list[tuple[int, ...]] = [(count, height, 1) for count, height, _ in self.shapes]
        self.gathered = sum(count * columns for count, _, columns in self.shapes)
        place = ragged_ranges(starts_in(rows, pattern.row_sizes), pattern.row_sizes)  # of canonical rows in a state
        everyone = np.arange(len(pattern.column_sizes))  # ghosts come last, as they are
        if rows is not None:
            everyone[: len(rows)] = rows
        column_place = ragged_ranges(starts_in(everyone, pattern.column_sizes), pattern.column_sizes)
        state_columns, state_rows = column_place[panels.columns], place[panels.row_order]
        self.keep_index("columns", torch.from_numpy(state_columns))
        self.keep_index("positions", torch.from_numpy(panels.positions))
        self.keep_index("row_order", torch.from_numpy(panels.row_order))
        self.keep_index("state_order", torch.from_numpy(np.argsort(place)))
        self.keep_index("state_rows", torch.from_numpy(state_rows))
        self.columns_in_order = not deterministic and _is_arange(state_columns, self.column_neurons)
        self.rows_in_order = _is_arange(panels.row_order, self.rows)
        self.states_in_order = rows is None
        self._as_states = _is_arange(state_rows, self.rows)
        self.stored_in_order = _is_arange(panels.positions, self.stored)

    # -- weights between canonical order and panels: once per sweep, all layers together ----------------------------

    def arrange(self, weights: Tensor, out: Tensor) -> Tensor:
        """Bring canonical weights (layers, entries) to panels (layers, stored), whose zeros stay zero."""
        if self.stored_in_order:
            return weights
        return out.scatter_(1, self.positions.expand_as(weights), weights)

    def collect(self, panels: Tensor, out: Tensor | None = None) -> Tensor:
        """Bring panels (layers, stored) to canonical weights (layers, entries): the adjoint of `arrange`."""
        return torch.index_select(panels, 1, self.positions, out=out)

    @property
    def rows_of_states(self) -> Tensor | None:
        """Where to find each row in panel order among the rows of a state, (rows,); None if in the same place."""
        return None if self._as_states else self.state_rows

    def order_rows(self, rows: Tensor, of_states: bool = False) -> Tensor:
        """Bring canonical rows (layers, rows) to panel order, or to the order of states."""
        order = self._order(of_states)
        return rows if order is None else rows.index_select(1, order)

    def restore_rows(self, rows: Tensor, of_states: bool = False) -> Tensor:
        """Bring rows (layers, rows) to canonical order: the adjoint of `order_rows`."""
        order = self._order(of_states)
        return rows if order is None else torch.empty_like(rows).index_copy_(1, order, rows)

    def _order(self, of_states: bool) -> Tensor | None:
        if of_states:
            return None if self.states_in_order else self.state_order
        return None if self.rows_in_order else self.row_order


def _chunks(classes: list[tuple[int, int, int]], gathered: int) -> list[tuple[int, int, int]]:
    """Cut classes (panels, rows, columns) into pieces of up to `gathered` rows."""
    cut = []
    for count, rows, columns in classes:
        most = max(1, gathered // max(columns, 1))
        cut += [(min(most, count - first), rows, columns) for first in range(0, count, most)]
    return cut


class PanelLayout:
    """Panels of a pattern: class shapes and the index arrays between canonical and panel order.

    order: column agents in the order in which a panel shows them. exact: no column counts are rounded up.
    """

    def __init__(self, pattern: ScalarPattern, panel_rows: int, order: IntArray, exact: bool = False) -> None:
        agents = len(pattern.row_sizes)
        row_offset = offsets(pattern.row_sizes)
        panel_of = _panel_numbers(pattern.row_widths, row_offset[:-1] // panel_rows, panel_rows)
        count = int(panel_of[-1]) + 1 if agents else 0
        heights = np.bincount(panel_of, pattern.row_sizes, count).astype(np.int64)
        # the union of column agents of each panel, ascending
        agents_seen = max(len(pattern.column_sizes), 1)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        keys = panel_of[pattern.block_rows] * agents_seen + rank[pattern.columns]
        union, inverse = np.unique(keys, return_inverse=True)
        owner, column_agent = union // agents_seen, order[union % agents_seen]
        sizes = pattern.column_sizes[column_agent]
        widths = np.bincount(owner, sizes, count).astype(np.int64)
        padded = widths if exact else _rounded(heights, widths)
        # classes of equal shape, larger panels last; panels ascending inside a class
        order = np.lexsort((np.arange(count), padded, heights))
        classes, class_counts = np.unique(np.stack([heights, padded], axis=1)[order], axis=0, return_counts=True)
        self.shapes = [(int(c), int(h), int(w)) for (h, w), c in zip(classes, class_counts, strict=True)]
        place = np.empty(count, dtype=np.int64)
        weight_start, column_start = (np.empty(count, dtype=np.int64) for _ in range(2))
        place[order] = np.arange(count)
        weight_start[order] = offsets((heights * padded)[order])[:-1]
        column_start[order] = offsets(padded[order])[:-1]
        self.stored = int((heights * padded).sum())
        # gathered columns: padding points at column 0 with zero weight
        union_start = offsets(widths)[:-1]
        within = offsets(sizes)[:-1] - union_start[owner]  # column of a union member inside its panel
        self.columns = np.zeros(int(padded.sum()), dtype=np.int64)
        scalar_columns = ragged_ranges(offsets(pattern.column_sizes)[column_agent], sizes)
        self.columns[ragged_ranges(column_start[owner] + within, sizes)] = scalar_columns
        self.block_start = (column_start[owner] + within)[inverse]  # first gathered row of every block
        # rows in panel order
        agent_order = np.argsort(place[panel_of], kind="stable")
        self.row_order = ragged_ranges(row_offset[:-1][agent_order], pattern.row_sizes[agent_order])
        # every weight's place in its panel
        row_in_panel = np.arange(int(row_offset[-1])) - np.repeat(offsets(heights)[:-1][panel_of], pattern.row_sizes)
        scalar_panel = np.repeat(panel_of, pattern.row_sizes)
        row_base = weight_start[scalar_panel] + row_in_panel * padded[scalar_panel]
        scalar_rows = pattern.scalar_rows()
        self.positions = row_base[scalar_rows] + pattern.expand(within[inverse])


def _panel_numbers(widths: IntArray, windows: IntArray, panel_rows: int) -> IntArray:
    """Number the panel of every agent, ascending: agents of one window share one, but a hub is alone.

    widths: columns that an agent's rows meet. A hub meets more than others in its panel could share without storing
    more zeros than weights of their own.
    """
    hubs = (widths > HUB * widths.mean()) & (widths > HUB * panel_rows) if len(widths) else widths > 0
    starts = np.ones(len(widths), dtype=bool)
    if panel_rows > 1:
        starts[1:] = (np.diff(windows) != 0) | hubs[1:] | hubs[:-1]
    return np.cumsum(starts) - 1


def _panels(pattern: ScalarPattern, panel_rows: int, order: IntArray) -> PanelLayout:
    layout = PanelLayout(pattern, panel_rows, order)
    while panel_rows > 1 and layout.stored > MAXIMUM_FILL * pattern.entries:
        panel_rows //= 2
        layout = PanelLayout(pattern, panel_rows, order)
    return layout


def _rounded(heights: IntArray, widths: IntArray) -> IntArray:
    """Round column counts up, by at most a quarter, when there are too many different panel shapes."""
    if len(np.unique(heights * (widths.max(initial=0) + 1) + widths)) <= MAXIMUM_CLASSES:
        return widths
    step = 2 ** np.maximum(np.floor(np.log2(np.maximum(widths, 1))).astype(np.int64) - 2, 0)
    rounded: IntArray = -(-widths // step) * step
    return rounded


def _is_arange(index: IntArray, length: int) -> bool:
    return len(index) == length and bool((index == np.arange(length)).all())
