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
from dist_hdnn.topology.ragged import IntArray, offsets


class Segments(NamedTuple):
    """Arguments of a kernel: agents in the order of work, and where each segment reads.

    By agent: order of work, start (first row of its result), segments (its first segment). By segment: row, length (of
    x), weight (its first weight), width (weights from one row of the block to the next). cost: multiply-adds per column
    of x before each position of `order`. Offsets have one entry more than agents. block: the first block of a segment.
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

    def table(self) -> IntArray:
        """Return the addresses of the arrays that kernels read, (7,)."""
        return np.array([array.ctypes.data for array in self[:7]], dtype=np.int64)


class TileOperator:
    """The arrangement of one matrix for tiles, see `sparsity.Arrangement`.

    joined: whether blocks side by side are one segment. interior: number of agents, the first in by_row.order, that
    need no ghost. owned: number of column agents that have rows here; the rest are ghosts.
    """

    rows_in_order = True

    def __init__(self, pattern: ScalarPattern, joined: bool = True) -> None:
        self.rows, self.column_neurons = int(pattern.row_sizes.sum()), int(pattern.column_sizes.sum())
        self.owned = len(pattern.row_sizes)
        agent_start = offsets(pattern.row_widths * pattern.row_sizes)
        self.stored, self.entries = int(agent_start[-1]), pattern.entries
        self.selected = None if pattern.selected is None else torch.from_numpy(pattern.selected)
        self.stored_in_order = self.selected is None
        self.weight_shapes: list[tuple[int, ...]] = [(self.stored,)]
        self.row_shapes: list[tuple[int, ...]] = [(self.rows, 1)]
        self.row_order = torch.arange(self.rows)
        first = agent_start[pattern.block_rows] + pattern.block_start_in_row  # first weight of each block
        self.by_row = _by_row(pattern, first, joined)
        self.by_column = _by_column(pattern, first)
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

    def order_rows(self, rows: Tensor) -> Tensor:
        """Rows stay as they are."""
        return rows

    def restore_rows(self, rows: Tensor) -> Tensor:
        """Rows stay as they are."""
        return rows


def _by_row(pattern: ScalarPattern, first: IntArray, joined: bool) -> Segments:
    """Join blocks side by side in a row whose columns are side by side too into segments, interior agents first."""
    agents = len(pattern.row_sizes)
    column_start, widths = offsets(pattern.column_sizes)[pattern.columns], pattern.column_sizes[pattern.columns]
    # a block begins a segment unless its columns follow those of the block before, in the same row of blocks
    begins = np.ones(len(widths), dtype=bool)
    if joined:
        begins[1:] = (column_start[1:] != (column_start + widths)[:-1]) | (np.diff(pattern.block_rows) != 0)
    heads = np.flatnonzero(begins)
    lengths = np.add.reduceat(widths, heads) if len(heads) else widths  # columns of each segment
    agent = pattern.block_rows[heads]
    needs_ghosts = np.bincount(pattern.block_rows, pattern.columns >= agents, agents) > 0
    order = np.argsort(needs_ghosts, kind="stable")  # False sorts first
    return Segments(
        order,
        offsets(pattern.row_sizes),
        offsets(np.bincount(agent, minlength=agents)),
        column_start[heads],
        lengths,
        first[heads],
        pattern.row_widths[agent],
        offsets((pattern.row_widths * pattern.row_sizes)[order]),
        heads,
    )


def _by_column(pattern: ScalarPattern, first: IntArray) -> Segments:
    """Make one segment per block, by column agent, those of lower row agents first."""
    agents = len(pattern.column_sizes)
    by_column = np.lexsort((pattern.block_rows, pattern.columns))  # the last key sorts first
    rows = pattern.block_rows[by_column]
    weights = pattern.row_sizes[pattern.block_rows] * pattern.column_sizes[pattern.columns]
    return Segments(
        np.arange(agents),
        offsets(pattern.column_sizes),
        offsets(np.bincount(pattern.columns, minlength=agents)),
        offsets(pattern.row_sizes)[rows],
        pattern.row_sizes[rows],
        first[by_column],
        pattern.row_widths[rows],
        offsets(np.bincount(pattern.columns, weights, agents).astype(np.int64)),
        by_column,
    )
