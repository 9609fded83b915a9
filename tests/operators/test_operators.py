"""The block-sparse operator against a scalar matrix: products, adjoint identity, weight gradients, any panel size."""

import copy

import networkx as nx
import numpy as np
import pytest
import torch
from networks import GRAPHS, network, quiet_graph, uneven_widths

from dist_hdnn.network.arguments import strict_upper
from dist_hdnn.operators.choice import panels
from dist_hdnn.operators.exchange import Silent
from dist_hdnn.operators.panel_products import PanelProducts
from dist_hdnn.operators.panels import PanelOperator
from dist_hdnn.operators.products import GradientSum, layer_panels, layer_weights
from dist_hdnn.operators.sparsity import ScalarPattern
from dist_hdnn.topology import as_graph, neighbours
from dist_hdnn.topology.ragged import ragged_ranges


def operator_for(name: str, panel_rows: int, widest: int = 3, tiny: int = 0) -> PanelOperator:
    graph = quiet_graph(name)
    pattern = neighbours(graph)
    rows = np.array(list(uneven_widths(graph.agents, 0, widest).values())) // 2
    columns = np.array(list(uneven_widths(graph.agents, 1, widest).values())) // 2
    return PanelOperator(ScalarPattern(pattern.row_start, pattern.columns, rows, columns), panel_rows, tiny=tiny)


def matrix(operator: PanelOperator, weights: torch.Tensor) -> torch.Tensor:
    dense = torch.zeros(operator.rows, operator.column_neurons, dtype=weights.dtype)
    dense[operator.pattern.scalar_rows(), operator.pattern.scalar_columns()] = weights
    return dense


@pytest.mark.parametrize("panel_rows", [1, 4, 16, 1000])
@pytest.mark.parametrize("name", GRAPHS)
def test_products_and_weight_gradient_equal_the_scalar_matrix(name: str, panel_rows: int) -> None:
    operator, batch = operator_for(name, panel_rows), 3
    products = PanelProducts(operator, Silent(), torch.empty(batch, 0, dtype=torch.float64))
    weights = torch.randn(2, operator.entries, dtype=torch.float64)
    bias = torch.randn(2, operator.rows, dtype=torch.float64)
    argument = products.ghosted()
    x = argument.tensor.copy_(torch.randn(operator.column_neurons, batch))
    z = torch.randn(operator.rows, batch, dtype=torch.float64)
    panels = operator.arrange(weights, torch.zeros(2, operator.stored, dtype=torch.float64))
    layer = layer_weights(operator, panels, operator.order_rows(bias))[1]
    rows, u = products.rows(2)
    rows.flat.copy_(z[operator.row_order])
    dense = matrix(operator, weights[1])
    products.affine(layer, argument, u)
    torch.testing.assert_close(u.flat, (dense @ x + bias[1][:, None])[operator.row_order], rtol=0, atol=1e-12)
    products.product(layer, argument, u)
    torch.testing.assert_close(u.flat, (dense @ x)[operator.row_order], rtol=0, atol=1e-12)
    torch.testing.assert_close(products.transposed(layer, rows), dense.T @ z, rtol=0, atol=1e-12)
    panels = torch.ones(1, operator.stored, dtype=torch.float64)
    gradient = GradientSum(layer_panels(operator, panels)[0])
    for _ in range(2):  # the first is written, the second added
        products.weight_gradient([(rows, argument)], gradient)
    expected = 2 * (z @ x.T)[operator.pattern.scalar_rows(), operator.pattern.scalar_columns()]
    torch.testing.assert_close(operator.collect(panels)[0], expected, rtol=0, atol=1e-12)


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
    operator = PanelOperator(ScalarPattern(*arguments, strictly_upper=True), deterministic=ordered)
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
    products = PanelProducts(operator, Silent(), torch.empty(3, 0, dtype=torch.float64))
    x, out = products.ghosted(), products.rows()[0]
    x.tensor.copy_(torch.randn(operator.column_neurons, 3))
    products.product(layer_weights(operator, panels)[0], x, out)
    expected = (matrix(operator, weights[0]) @ x.tensor)[operator.row_order]
    torch.testing.assert_close(out.flat, expected, rtol=0, atol=1e-12)


def test_memory_grows_with_links_and_not_with_agents_squared() -> None:
    def stored(agents: int) -> int:
        ring = np.arange(agents)
        columns = np.sort(np.stack([(ring - 1) % agents, ring, (ring + 1) % agents], axis=1)).ravel()
        ones = np.ones(agents, dtype=np.int64)
        return PanelOperator(ScalarPattern(3 * np.arange(agents + 1), columns, ones, ones)).stored

    assert stored(20_000) < 1.01 * 20 * stored(1_000)
    assert stored(1_000) < 7 * 3 * 1_000


@pytest.mark.parametrize("neurons", [8, 16])
def test_a_hub_with_ten_thousand_neighbours_next_to_leaves_stores_less_than_two_values_a_weight(neurons: int) -> None:
    leaves = 10_000
    pairs = np.stack([np.zeros(leaves, dtype=np.int64), np.arange(1, leaves + 1)], axis=1)
    columns = np.concatenate([np.arange(leaves + 1), pairs.ravel()])
    row_start = np.concatenate([[0], leaves + 1 + 2 * np.arange(leaves + 1)])
    sizes = np.full(leaves + 1, neurons)
    pattern = ScalarPattern(row_start, columns, sizes, sizes)
    assert PanelOperator(pattern).stored < 2 * pattern.entries


@pytest.mark.parametrize("plan", ["torch", "auto"])
def test_a_matrix_is_arranged_once_and_only_as_its_products_need_it(plan: str) -> None:
    net = network(quiet_graph("ring"), plan=plan)
    assert all(operator.panels is None and operator.tiles is None for operator in net.sweep.operators)
    keys = net.state_dict().keys()
    y = torch.zeros(3, net.neurons, dtype=torch.float64)
    expected = net(y)
    operator = net.sweep.spec.graphs[0].K
    arranged = (operator.panels, operator.tiles)
    assert sum(found is not None for found in arranged) == 1
    copied = copy.deepcopy(net)
    assert torch.equal(copied(y), expected) and torch.equal(net(y), expected)
    assert (operator.panels, operator.tiles) == arranged
    assert copied.state_dict().keys() == net.state_dict().keys() == keys


def test_panels_follow_a_network_to_another_device_before_and_after_they_are_made() -> None:
    for first in (False, True):
        net = network(quiet_graph("random"), plan="torch")
        operator = net.sweep.spec.graphs[0].K
        if first:
            panels(operator)
        net.to("meta")
        assert panels(operator, torch.device("meta")).columns.device.type == "meta"


def test_the_matrix_of_a_tiny_network_is_one_panel_whose_columns_are_not_gathered() -> None:
    pattern, sizes = neighbours(as_graph(nx.cycle_graph(16))), np.full(16, 2)
    operator = PanelOperator(ScalarPattern(pattern.row_start, pattern.columns, sizes, sizes))
    assert operator.shapes == [(1, 32, 32)] and operator.columns_in_order
    apart = PanelOperator(ScalarPattern(pattern.row_start, pattern.columns, sizes, sizes), tiny=0)
    assert len(apart.shapes) == 1 and apart.shapes[0][0] == 2 and not apart.columns_in_order


def test_threads_change_no_more_than_rounding() -> None:
    """The GEMMs of PyTorch's BLAS may split a sum over threads; tiles never do, see test_tiles."""
    before = torch.get_num_threads()
    net = network(quiet_graph("hubs"), width=32, layers=2, plan="torch")
    y = torch.randn(128, net.neurons, dtype=torch.float64).requires_grad_()

    def computed() -> list[torch.Tensor]:
        output = net(y)
        return [output.detach(), *torch.autograd.grad(output.sum(), [y, *net.parameters()])]

    try:
        torch.set_num_threads(1)
        alone = computed()
        for count in (2, 3):
            torch.set_num_threads(count)
            for found, expected in zip(computed(), alone, strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()))
    finally:
        torch.set_num_threads(before)


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
