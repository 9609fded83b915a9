"""The block-sparse operator against a scalar matrix: products, adjoint identity, weight gradients, any panel size."""

import numpy as np
import pytest
import torch
from networks import GRAPHS, quiet_graph, uneven_widths

from dist_hdnn.layers.exchange import Work
from dist_hdnn.layers.operators import ScalarPattern, ragged_ranges
from dist_hdnn.layers.panel_products import PanelProducts
from dist_hdnn.layers.panels import PanelOperator
from dist_hdnn.layers.products import layer_panels, layer_weights
from dist_hdnn.model.arguments import strict_upper
from dist_hdnn.topology import neighbours


def operator_for(name: str, panel_rows: int, widest: int = 3, tiny: int = 0) -> PanelOperator:
    graph = quiet_graph(name)
    pattern = neighbours(graph)
    rows = np.array(list(uneven_widths(graph.agents, 0, widest).values())) // 2
    columns = np.array(list(uneven_widths(graph.agents, 1, widest).values())) // 2
    return PanelOperator(ScalarPattern(pattern.row_start, pattern.columns, rows, columns), panel_rows, tiny=tiny)


class Still:
    """An exchange for operators without ghosts."""

    ordered = False

    def gather(self, slices: torch.Tensor, phase: str, meanwhile: Work | None = None) -> None:
        if meanwhile is not None:
            meanwhile()

    scatter_add = gather

    def scatter_links(self, contributions: torch.Tensor, out: torch.Tensor, phase: str) -> None: ...


def matrix(operator: PanelOperator, weights: torch.Tensor) -> torch.Tensor:
    dense = torch.zeros(operator.rows, operator.column_neurons, dtype=weights.dtype)
    dense[operator.pattern.scalar_rows(), operator.pattern.scalar_columns()] = weights
    return dense


@pytest.mark.parametrize("panel_rows", [1, 4, 16, 1000])
@pytest.mark.parametrize("name", GRAPHS)
def test_products_and_weight_gradient_equal_the_scalar_matrix(name: str, panel_rows: int) -> None:
    operator, batch = operator_for(name, panel_rows), 3
    products = PanelProducts(operator, Still(), torch.empty(batch, 0, dtype=torch.float64))
    weights = torch.randn(2, operator.entries, dtype=torch.float64)
    bias = torch.randn(2, operator.rows, dtype=torch.float64)
    x = torch.randn(operator.column_neurons, batch, dtype=torch.float64)
    z = torch.randn(operator.rows, batch, dtype=torch.float64)
    panels = operator.arrange(weights, torch.zeros(2, operator.stored, dtype=torch.float64))
    layer = layer_weights(operator, panels, operator.order_rows(bias))[1]
    rows, u = products.rows(2)
    rows.flat.copy_(z[operator.row_order])
    dense = matrix(operator, weights[1])
    products.affine(layer, x, u, "forward")
    torch.testing.assert_close(u.flat, (dense @ x + bias[1][:, None])[operator.row_order], rtol=0, atol=1e-12)
    products.product(layer, x, u, "forward")
    torch.testing.assert_close(u.flat, (dense @ x)[operator.row_order], rtol=0, atol=1e-12)
    torch.testing.assert_close(products.transposed(layer, rows, "forward"), dense.T @ z, rtol=0, atol=1e-12)
    gradient = torch.ones(1, operator.stored, dtype=torch.float64)
    for accumulate in (False, True):
        products.weight_gradient([(rows, x)], layer_panels(operator, gradient)[0], accumulate)
    expected = 2 * (z @ x.T)[operator.pattern.scalar_rows(), operator.pattern.scalar_columns()]
    torch.testing.assert_close(operator.collect(gradient)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", GRAPHS)
def test_arrange_and_collect_are_adjoint_and_lossless(name: str) -> None:
    operator = operator_for(name, 16)
    weights = torch.randn(3, operator.entries, dtype=torch.float64)
    panels = operator.arrange(weights, torch.zeros(3, operator.stored, dtype=torch.float64))
    assert torch.equal(operator.collect(panels), weights)
    rows = torch.randn(3, operator.rows)
    assert torch.equal(operator.restore_rows(operator.order_rows(rows)), rows)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_strictly_upper_pattern_keeps_the_entries_above_the_diagonal_of_whole_blocks(
    name: str, ordered: bool
) -> None:
    graph = quiet_graph(name)
    pattern = strict_upper(neighbours(graph), "K")
    sizes = np.array(list(uneven_widths(graph.agents, 0).values())) // 2
    arguments = pattern.row_start, pattern.columns, sizes, sizes
    operator = PanelOperator(ScalarPattern(*arguments, strictly_upper=True), ordered=ordered)
    whole = ScalarPattern(*arguments)
    rows, columns = whole.scalar_rows(), whole.scalar_columns()
    above = rows < columns
    np.testing.assert_array_equal(operator.pattern.scalar_rows(), rows[above])
    np.testing.assert_array_equal(operator.pattern.scalar_columns(), columns[above])
    np.testing.assert_array_equal(
        operator.pattern.expand_blocks(whole.columns), whole.expand_blocks(whole.columns)[above]
    )
    assert operator.entries == above.sum()
    weights = torch.randn(2, operator.entries, dtype=torch.float64)
    panels = operator.arrange(weights, torch.zeros(2, operator.stored, dtype=torch.float64))
    assert torch.equal(operator.collect(panels), weights)
    products = PanelProducts(operator, Still(), torch.empty(3, 0, dtype=torch.float64))
    x = torch.randn(operator.column_neurons, 3, dtype=torch.float64)
    out = products.rows()[0]
    products.product(layer_weights(operator, panels)[0], x, out, "forward")
    expected = (matrix(operator, weights[0]) @ x)[operator.row_order]
    torch.testing.assert_close(out.flat, expected, rtol=0, atol=1e-12)


def test_memory_grows_with_links_and_not_with_agents_squared() -> None:
    def stored(agents: int) -> int:
        ring = np.arange(agents)
        columns = np.sort(np.stack([(ring - 1) % agents, ring, (ring + 1) % agents], axis=1)).ravel()
        ones = np.ones(agents, dtype=np.int64)
        return PanelOperator(ScalarPattern(3 * np.arange(agents + 1), columns, ones, ones)).stored

    assert stored(20_000) < 1.01 * 20 * stored(1_000)
    assert stored(1_000) < 7 * 3 * 1_000


def test_wide_agents_store_no_zeros_and_copy_no_weights_on_a_ring() -> None:
    agents = np.arange(8)
    columns = np.sort(np.stack([(agents - 1) % 8, agents, (agents + 1) % 8], axis=1)).ravel()
    sizes = np.full(8, 16)
    operator = PanelOperator(ScalarPattern(3 * np.arange(9), columns, sizes, sizes))
    assert operator.shapes == [(8, 16, 48)]
    weights = torch.randn(2, operator.entries)
    assert operator.arrange(weights, torch.empty(0)) is weights


def test_ragged_ranges_concatenates_ranges_and_skips_empty_ones() -> None:
    assert ragged_ranges(np.array([5, 2, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert ragged_ranges(np.array([], dtype=np.int64), np.array([], dtype=np.int64)).tolist() == []
