"""A block-sparse matrix: where its weights are, and how they may be arranged in memory for its products.

Shapes: `entries` the scalar weights of one layer in canonical order, that is row neuron by row neuron, columns
ascending (scalar CSR data); `row space` the row neurons in the order of an arrangement, `column space` the neurons
that a worker sees.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from dist_hdnn.topology.ragged import IntArray, offsets, ragged_ranges


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
        self.selected: IntArray | None = None  # numbers of the entries above the diagonal among those of whole blocks
        if strictly_upper:
            row_in_agent = ragged_ranges(np.zeros_like(row_sizes), row_sizes)
            above = row_in_agent[self.scalar_rows()] < self.expand(np.zeros_like(columns))
            self.selected = np.flatnonzero(above | (self.expand_blocks(self.block_rows - columns) != 0))
        self.entries = int((self.row_widths * row_sizes).sum()) if self.selected is None else len(self.selected)

    def expand(self, block_values: IntArray) -> IntArray:
        """Return for every weight its block's value plus the column inside the block, (entries,)."""
        column_in_block = ragged_ranges(np.zeros_like(self.columns), self.column_sizes[self.columns])
        return self._every_row(np.repeat(block_values, self.column_sizes[self.columns]) + column_in_block)

    def expand_blocks(self, block_values: IntArray) -> IntArray:
        """Return for every weight its block's value, (entries,)."""
        return self._every_row(np.repeat(block_values, self.column_sizes[self.columns]))

    def _every_row(self, one_row: IntArray) -> IntArray:
        """Repeat the values of one scalar row of each agent for every row of that agent, (entries,)."""
        agent_start = np.repeat(offsets(self.row_widths)[:-1], self.row_sizes)
        return self._of_selected(one_row[ragged_ranges(agent_start, np.repeat(self.row_widths, self.row_sizes))])

    def _of_selected(self, values: IntArray) -> IntArray:
        return values if self.selected is None else values[self.selected]

    def scalar_rows(self) -> IntArray:
        """Return the row neuron of every weight, (entries,)."""
        rows = np.repeat(np.arange(int(self.row_sizes.sum())), np.repeat(self.row_widths, self.row_sizes))
        return self._of_selected(rows)

    def scalar_columns(self) -> IntArray:
        """Return the column neuron of every weight, (entries,)."""
        return self.expand(offsets(self.column_sizes)[self.columns])


class Arrangement(Protocol):
    """The order in memory of one matrix's weights for its products, called panels throughout.

    rows, column_neurons: neurons of the result and of the argument. stored: values of one layer's panels.
    stored_in_order, rows_in_order, states_in_order: whether panels, rows and states are in canonical order.
    row_order: rows in panel order. rows_of_states: the row of a state for every row in panel order, None where these
    orders are the same. weight_shapes, row_shapes: of the views of one layer's panels and of its bias.
    """

    rows: int
    column_neurons: int
    stored: int
    stored_in_order: bool
    rows_in_order: bool
    states_in_order: bool
    row_order: Tensor
    weight_shapes: list[tuple[int, ...]]
    row_shapes: list[tuple[int, ...]]

    def arrange(self, weights: Tensor, out: Tensor) -> Tensor:
        """Bring canonical weights (layers, entries) to panels (layers, stored), whose zeros stay zero."""

    def collect(self, panels: Tensor, out: Tensor | None = None) -> Tensor:
        """Bring panels (layers, stored) to canonical weights (layers, entries): the adjoint of `arrange`."""

    @property
    def rows_of_states(self) -> Tensor | None:
        """Where to find each row in panel order among the rows of a state."""

    def order_rows(self, rows: Tensor, of_states: bool = False) -> Tensor:
        """Bring canonical rows (layers, rows) to panel order, or to the order of states."""

    def restore_rows(self, rows: Tensor, of_states: bool = False) -> Tensor:
        """Bring rows (layers, rows) to canonical order: the adjoint of `order_rows`."""


class BlockOperator(nn.Module):
    """One block-sparse matrix without its weights, which `choice` arranges when products first need it.

    row_start, columns: block pattern in CSR, row agents (owned) x column agents (owned, then ghosts).
    row_sizes, column_sizes: neurons of each row and column agent.
    column_agents: global numbers of the column agents; None when they ascend.
    deterministic: of its panels, see `PanelOperator`. strictly_upper: as in `ScalarPattern`. by_link: whether every
    block is kept apart, since slices that travel for it may be lost. order: row agents in the order in which states
    have their rows, see `topology.locality`; None as they are.
    products: "torch", "tiles" or "auto": which products `choice.bind` takes.
    """

    def __init__(
        self,
        row_start: IntArray,
        columns: IntArray,
        row_sizes: IntArray,
        column_sizes: IntArray,
        column_agents: IntArray | None = None,
        deterministic: bool = False,
        strictly_upper: bool = False,
        products: str = "auto",
        by_link: bool = False,
        order: IntArray | None = None,
    ) -> None:
        super().__init__()
        self.deterministic, self.products, self.by_link, self.order = deterministic, products, by_link, order
        self.pattern = ScalarPattern(row_start, columns, row_sizes, column_sizes, strictly_upper)
        self.column_agents = column_agents
        self.rows, self.entries = int(row_sizes.sum()), self.pattern.entries
        self.column_neurons = int(column_sizes.sum())
        self.panels: Any = None  # its two arrangements; the panels are a module, so that they follow this one's device
        self.tiles: Any = None
