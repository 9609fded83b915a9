"""A block-sparse matrix for tiles: weights in canonical order, and integer arrays that say where every block lies.

    by row       for K x: agent i's segments are runs of consecutive columns, in ascending order of agents
    by column    for Kᵀ z: agent j's segments are the blocks (i, j), i ascending, so every result is pulled by one tile

Nothing is padded: an agent of n rows with W weights in each occupies n W weights, whatever its neighbors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dist_hdnn.operators.sparsity import ScalarPattern
from dist_hdnn.topology.ragged import IntArray, offsets, ragged_ranges, starts_in


class Segments(NamedTuple):
    """Arguments of a kernel: agents in the order of work, and where each segment reads.

    By agent: order of work, start (first row of its result), segments (its first segment). By segment: row, length (of
    x), weight (its first weight), width (weights from one row of the block to the next). cost: multiply-adds per column
    of x before each position of `order`. Offsets have one entry more than agents. block: the first block of a segment.
    By agent: far, the segment that reads the highest rows, which no agent before may have read.
    """

    order: IntArray
    start: IntArray
    segments: IntArray
    row: IntArray
    length: IntArray
    weight: IntArray
    width: IntArray
    cost: IntArray
    block: IntArray
    far: IntArray

    def table(self) -> IntArray:
        """Return the addresses of the arrays that kernels read, (7,)."""
        return np.array([array.ctypes.data for array in self[:7]], dtype=np.int64)


class TileOperator:
    """The arrangement of one matrix for tiles, see `sparsity.Arrangement`.

    joined: whether blocks side by side are one segment. order: row agents in the order of their rows, which numbers
    them in `Segments`; the orders of sums and of weights stay canonical. None: as they are. interior: number of agents,
    the first in by_row.order, that need no ghost. owned: number of column agents that have rows here; the rest are
    ghosts.
    """

    rows_of_states: Tensor | None = None

    def __init__(self, pattern: ScalarPattern, joined: bool = True, order: IntArray | None = None) -> None:
        self.rows, self.column_neurons = int(pattern.row_sizes.sum()), int(pattern.column_sizes.sum())
        self.owned = len(pattern.row_sizes)
        agent_start = offsets(pattern.row_widths * pattern.row_sizes)
        self.stored, self.entries = int(agent_start[-1]), pattern.entries
        self.selected = None if pattern.selected is None else torch.from_numpy(pattern.selected)
        self.stored_in_order = self.selected is None
        self.weight_shapes: list[tuple[int, ...]] = [(self.stored,)]
        self.row_shapes: list[tuple[int, ...]] = [(self.rows, 1)]
        self.rows_in_order = self.states_in_order = order is None
        everyone = np.arange(len(pattern.column_sizes))  # ghosts are in order
        if order is not None:
            everyone[: self.owned] = order
        owned = everyone[: self.owned]
        self.row_order = torch.from_numpy(ragged_ranges(offsets(pattern.row_sizes)[owned], pattern.row_sizes[owned]))
        first = agent_start[pattern.block_rows] + pattern.block_start_in_row  # first weight of each block
        self.by_row = _by_row(pattern, first, joined, everyone)
        self.by_column = _by_column(pattern, first, everyone)
        needs_ghosts = np.bincount(pattern.block_rows, pattern.columns >= self.owned, self.owned) > 0
        self.interior = int(self.owned - needs_ghosts.sum())
        self.plans: dict[tuple[int, ...], Any] = {}  # of fused kernels, see `readiness`

    def arrange(self, weights: Tensor, out: Tensor) -> Tensor:
        """Bring canonical weights (layers, entries) to blocks (layers, stored), zero where a block has no weight."""
        return weights.contiguous() if self.selected is None else out.index_copy_(1, self.selected, weights)

    def collect(self, blocks: Tensor, out: Tensor | None = None) -> Tensor:
        """Blocks (layers, stored) -> canonical weights (layers, entries): the adjoint of `arrange`."""
        if self.selected is None:
            return blocks if out is None else out.copy_(blocks)
        return torch.index_select(blocks, 1, self.selected, out=out)

    def order_rows(self, rows: Tensor, of_states: bool = False) -> Tensor:
        """Bring canonical rows (layers, rows) to the order of states."""
        return rows if self.rows_in_order else rows.index_select(1, self.row_order)

    def restore_rows(self, rows: Tensor, of_states: bool = False) -> Tensor:
        """Bring rows in the order of states (layers, rows) to canonical order: the adjoint of `order_rows`."""
        return rows if self.rows_in_order else torch.empty_like(rows).index_copy_(1, self.row_order, rows)


def _by_row(pattern: ScalarPattern, first: IntArray, joined: bool, order: IntArray) -> Segments:
    """Join blocks side by side in a row whose columns are side by side too into segments, interior agents first.

    order: column agents in the order of their rows, the owned ones first.
    """
    agents = len(pattern.row_sizes)
    place = np.argsort(order)[pattern.block_rows]  # number of each block's row agent
    blocks = np.argsort(place, kind="stable")  # agent by agent, the columns of one in canonical order
    place, columns = place[blocks], pattern.columns[blocks]
    column_start, widths = starts_in(order, pattern.column_sizes)[columns], pattern.column_sizes[columns]
    # a block begins a segment unless its columns follow those of the block before, in the same row of blocks
    begins = np.ones(len(widths), dtype=bool)
    if joined:
        begins[1:] = (column_start[1:] != (column_start + widths)[:-1]) | (np.diff(place) != 0)
    heads = np.flatnonzero(begins)
    lengths = np.add.reduceat(widths, heads) if len(heads) else widths  # columns of each segment
    agent, sizes, row_widths = place[heads], pattern.row_sizes[order[:agents]], pattern.row_widths[order[:agents]]
    needs_ghosts = np.bincount(place, columns >= agents, agents) > 0
    work = np.argsort(needs_ghosts, kind="stable")  # False sorts first
    return Segments(
        work,
        offsets(sizes),
        offsets(np.bincount(agent, minlength=agents)),
        column_start[heads],
        lengths,
        first[blocks[heads]],
        row_widths[agent],
        offsets((row_widths * sizes)[work]),
        blocks[heads],
        _far(agent, column_start[heads], agents),
    )


def _by_column(pattern: ScalarPattern, first: IntArray, order: IntArray) -> Segments:
    """Make one segment per block, by column agent, those of lower row agents first. order: as in `_by_row`."""
    agents = len(order)
    columns = np.argsort(order)[pattern.columns]
    by_column = np.lexsort((pattern.block_rows, columns))  # the last key sorts first
    rows = pattern.block_rows[by_column]
    starts = starts_in(order[: len(pattern.row_sizes)], pattern.row_sizes)[rows]
    weights = pattern.row_sizes[pattern.block_rows] * pattern.column_sizes[pattern.columns]
    return Segments(
        np.arange(agents),
        offsets(pattern.column_sizes[order]),
        offsets(np.bincount(columns, minlength=agents)),
        starts,
        pattern.row_sizes[rows],
        first[by_column],
        pattern.row_widths[rows],
        offsets(np.bincount(columns, weights, agents).astype(np.int64)),
        by_column,
        _far(columns[by_column], starts, agents),
    )


def _far(agent: IntArray, row: IntArray, agents: int) -> IntArray:
    """Return each agent's segment with the highest row, any for agents without one. agent: of segments, ascending."""
    highest = np.lexsort((row, agent))
    last = np.cumsum(np.bincount(agent, minlength=agents)) - 1
    return highest[np.maximum(last, 0)] if len(highest) else np.zeros(agents, dtype=np.int64)
