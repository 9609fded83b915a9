"""The execution plan of a block-sparse matrix: which weights form one GEMM, and in which order they are stored.

Row agents with neighbouring numbers are grouped into *panels*: the rows of up to `PANEL_ROWS` neurons against the
union of their neighbours' columns. Panels of one shape form a class, and a class is one batched GEMM. Wide agents get
one panel each (no zero is stored); narrow ones share, because a GEMM of 16 x 20 costs less than sixteen of 1 x 5.
A panel is bounded by its rows and their neighbours; nothing here grows with agents squared, and nothing is masked.

Shapes: `entries` the scalar weights of one layer in canonical order, that is row neuron by row neuron, columns
ascending (scalar CSR data); `row space` the row neurons in panel order, `column space` the neurons that a worker sees.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

IntArray = NDArray[np.int64]

PANEL_ROWS = 16  # measured on 64-1024 agents of 1-8 neurons, batch 128: 8-16 rows a panel are fastest
MAXIMUM_FILL = 6.0  # stored panel values per weight, beyond which panels are halved
MAXIMUM_CLASSES = 8  # more shapes than this and column counts are rounded up to share GEMM calls


def ragged_ranges(starts: IntArray, lengths: IntArray) -> IntArray:
    """Concatenate arange(start, start + length) for every pair, without a Python loop."""
    ends = np.cumsum(lengths)
    within = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    return np.repeat(starts, lengths) + within


def offsets(sizes: IntArray) -> IntArray:
    """Start of every block when blocks of these sizes lie one after the other: (len(sizes) + 1,)."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])


class ScalarPattern:
    """The scalar CSR pattern of a block pattern: every weight's row and column, in canonical order.

    row_start, columns: the block pattern in CSR, row agents x column agents. row_sizes, column_sizes: neurons of each.
    strictly_upper: of a block whose row and column agent have the same number, only entries with row < column count.
    """

    def __init__(
        self,
        row_start: IntArray,
        columns: IntArray,
        row_sizes: IntArray,
        column_sizes: IntArray,
        strictly_upper: bool = False,
    ) -> None:
        self.row_start, self.columns = row_start, columns
        self.row_sizes, self.column_sizes = row_sizes, column_sizes
        self.block_rows = np.repeat(np.arange(len(row_sizes)), np.diff(row_start))
        widths = column_sizes[columns]
        before = offsets(widths)
        self.row_widths = before[row_start[1:]] - before[row_start[:-1]]  # weights in one scalar row of each agent
        self.block_start_in_row = before[:-1] - np.repeat(before[row_start[:-1]], np.diff(row_start))
        self.kept: IntArray | None = None  # of the weights of whole blocks, the numbers of those that count
        if strictly_upper:
            row_in_agent = ragged_ranges(np.zeros_like(row_sizes), row_sizes)
            above = row_in_agent[self.scalar_rows()] < self.expand(np.zeros_like(columns))
            self.kept = np.flatnonzero(above | (self.expand_blocks(self.block_rows - columns) != 0))
        self.entries = int((self.row_widths * row_sizes).sum()) if self.kept is None else len(self.kept)

    def expand(self, block_values: IntArray) -> IntArray:
        """For every weight: its block's value plus the column inside the block; (entries,)."""
        column_in_block = ragged_ranges(np.zeros_like(self.columns), self.column_sizes[self.columns])
        return self._every_row(np.repeat(block_values, self.column_sizes[self.columns]) + column_in_block)

    def expand_blocks(self, block_values: IntArray) -> IntArray:
        """For every weight: its block's value; (entries,)."""
        return self._every_row(np.repeat(block_values, self.column_sizes[self.columns]))

    def _every_row(self, one_row: IntArray) -> IntArray:
        """Repeat what holds for one scalar row of each agent for every row of that agent; (entries,)."""
        agent_start = np.repeat(offsets(self.row_widths)[:-1], self.row_sizes)
        return self._of_kept(one_row[ragged_ranges(agent_start, np.repeat(self.row_widths, self.row_sizes))])

    def _of_kept(self, values: IntArray) -> IntArray:
        return values if self.kept is None else values[self.kept]

    def scalar_rows(self) -> IntArray:
        """Row neuron of every weight; (entries,)."""
        rows = np.repeat(np.arange(int(self.row_sizes.sum())), np.repeat(self.row_widths, self.row_sizes))
        return self._of_kept(rows)

    def scalar_columns(self) -> IntArray:
        """Column neuron of every weight; (entries,)."""
        return self.expand(offsets(self.column_sizes)[self.columns])


class Arrangement(Protocol):
    """How the weights of one matrix lie in memory for the products that use them, called panels throughout.

    rows, column_neurons: neurons of the result and of the argument. stored: values of one layer's panels.
    stored_in_order, rows_in_order: whether panels and rows are in canonical order. row_order: rows in panel order.
    weight_shapes, row_shapes: of the views of one layer's panels and of its bias.
    """

    rows: int
    column_neurons: int
    stored: int
    stored_in_order: bool
    rows_in_order: bool
    row_order: Tensor
    weight_shapes: list[tuple[int, ...]]
    row_shapes: list[tuple[int, ...]]

    def arrange(self, weights: Tensor, out: Tensor) -> Tensor:
        """Canonical weights (layers, entries) -> panels (layers, stored); `out` is zero where a panel has no weight."""

    def collect(self, panels: Tensor, out: Tensor | None = None) -> Tensor:
        """Panels (layers, stored) -> canonical weights (layers, entries): the adjoint of `arrange`."""

    def order_rows(self, rows: Tensor) -> Tensor:
        """Canonical rows (layers, rows) -> panel order."""

    def restore_rows(self, rows: Tensor) -> Tensor:
        """Panel order (layers, rows) -> canonical rows: the adjoint of `order_rows`."""


class BlockOperator(nn.Module):
    """The execution plan of one block-sparse matrix; holds index tensors, never weights.

    row_start, columns: block pattern in CSR, row agents (owned) x column agents (owned, then ghosts).
    row_sizes, column_sizes: neurons of each row and column agent.
    column_agents: global numbers of the column agents; None when they ascend.
    ordered: every agent has its own panel, columns by ascending global number, nothing rounded up: sums then depend
        neither on which worker computes them nor on what else it owns.
    overlap: panels that need no ghost form classes of their own, the first `interior` of all.
    strictly_upper: as in `ScalarPattern`.
    plan: "torch", "tiles" or "auto": which products `layers.plans` binds to it.
    """

    columns: Tensor
    positions: Tensor
    row_order: Tensor

    def __init__(
        self,
        row_start: IntArray,
        columns: IntArray,
        row_sizes: IntArray,
        column_sizes: IntArray,
        panel_rows: int = PANEL_ROWS,
        column_agents: IntArray | None = None,
        ordered: bool = False,
        overlap: bool = False,
        strictly_upper: bool = False,
        plan: str = "auto",
    ) -> None:
        super().__init__()
        self.ordered, self.plan = ordered, plan
        self.tiled: Any = None  # the same matrix for tiles, made by `layers.plans` when first used
        self.pattern = ScalarPattern(row_start, columns, row_sizes, column_sizes, strictly_upper)
        self.rows, self.entries = int(row_sizes.sum()), self.pattern.entries
        self.column_neurons = int(column_sizes.sum())
        order = np.arange(len(column_sizes)) if column_agents is None else np.argsort(column_agents)
        panels = _Plan(self.pattern, 1, order, True) if ordered else _panels(self.pattern, panel_rows, order, overlap)
        self.interior = panels.interior
        self.block_start = panels.block_start
        self.shapes = panels.shapes
        self.stored = panels.stored
        self.weight_shapes: list[tuple[int, ...]] = list(self.shapes)
        self.row_shapes: list[tuple[int, ...]] = [(count, height, 1) for count, height, _ in self.shapes]
        self.gathered = sum(count * columns for count, _, columns in self.shapes)
        self.register_buffer("columns", torch.from_numpy(panels.columns), persistent=False)
        self.register_buffer("positions", torch.from_numpy(panels.positions), persistent=False)
        self.register_buffer("row_order", torch.from_numpy(panels.row_order), persistent=False)
        self.columns_in_order = not ordered and _is_arange(panels.columns, self.column_neurons)
        self.rows_in_order = _is_arange(panels.row_order, self.rows)
        self.stored_in_order = _is_arange(panels.positions, self.stored)

    # -- weights between canonical order and panels: once per sweep, all layers together ----------------------------

    def arrange(self, weights: Tensor, out: Tensor) -> Tensor:
        if self.stored_in_order:
            return weights
        return out.scatter_(1, self.positions.expand_as(weights), weights)

    def collect(self, panels: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.index_select(panels, 1, self.positions, out=out)

    def order_rows(self, rows: Tensor) -> Tensor:
        return rows if self.rows_in_order else rows.index_select(1, self.row_order)

    def restore_rows(self, rows: Tensor) -> Tensor:
        return rows if self.rows_in_order else torch.empty_like(rows).index_copy_(1, self.row_order, rows)


class _Plan:
    """Panels of a pattern: class shapes and the index arrays between canonical and panel order.

    order: column agents in the order in which a panel shows them. exact: no column counts are rounded up.
    overlap: classes of panels that need no ghost come first, `interior` of them.
    """

    def __init__(
        self, pattern: ScalarPattern, panel_rows: int, order: IntArray, exact: bool = False, overlap: bool = False
    ) -> None:
        agents = len(pattern.row_sizes)
        row_offset = offsets(pattern.row_sizes)
        panel_of = row_offset[:-1] // panel_rows if panel_rows > 1 else np.arange(agents)
        panel_of = np.unique(panel_of, return_inverse=True)[1].astype(np.int64)  # numbers without gaps
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
        ghosts = np.bincount(owner, column_agent >= agents, count) if overlap else np.zeros(count)
        needs_ghosts = (ghosts > 0).astype(np.int64)
        order = np.lexsort((np.arange(count), padded, heights, needs_ghosts))
        classes, class_counts = np.unique(
            np.stack([needs_ghosts, heights, padded], axis=1)[order], axis=0, return_counts=True
        )
        self.shapes = [(int(c), int(h), int(w)) for (_, h, w), c in zip(classes, class_counts, strict=True)]
        self.interior = int((classes[:, 0] == 0).sum()) if overlap else 0
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


def _panels(pattern: ScalarPattern, panel_rows: int, order: IntArray, overlap: bool) -> _Plan:
    plan = _Plan(pattern, panel_rows, order, overlap=overlap)
    while panel_rows > 1 and plan.stored > MAXIMUM_FILL * pattern.entries:
        panel_rows //= 2
        plan = _Plan(pattern, panel_rows, order, overlap=overlap)
    return plan


def _rounded(heights: IntArray, widths: IntArray) -> IntArray:
    """Column counts, rounded up by at most a quarter when there are too many different panel shapes."""
    if len(np.unique(heights * (widths.max(initial=0) + 1) + widths)) <= MAXIMUM_CLASSES:
        return widths
    step = 2 ** np.maximum(np.floor(np.log2(np.maximum(widths, 1))).astype(np.int64) - 2, 0)
    rounded: IntArray = -(-widths // step) * step
    return rounded


def _is_arange(index: IntArray, length: int) -> bool:
    return len(index) == length and bool((index == np.arange(length)).all())
