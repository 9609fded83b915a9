"""Products by register tiles: the numbers of a scalar matrix, and bits that depend on neither tiles nor threads."""

from typing import Any

import numpy as np
import pytest
import torch
from networks import FAMILY, GRAPHS, network, quiet_graph, uneven_widths

import dist_hdnn
from dist_hdnn.network.arguments import strict_upper
from dist_hdnn.operators import choice
from dist_hdnn.operators.activations import activation
from dist_hdnn.operators.exchange import Silent
from dist_hdnn.operators.panel_products import PanelProducts
from dist_hdnn.operators.panels import PanelOperator
from dist_hdnn.operators.products import GradientSum, Rows, Saved, Sum, layer_panels, layer_weights
from dist_hdnn.operators.sparsity import ScalarPattern
from dist_hdnn.topology import build_halo, make_partition, neighbours

pytest.importorskip("llvmlite")

from dist_hdnn.operators.tiles import threads
from dist_hdnn.operators.tiles.operator import TileOperator
from dist_hdnn.operators.tiles.products import TileProducts
from dist_hdnn.operators.tiles.vectors import lanes

TANH = activation("tanh")
ULPS = {torch.float32: 2.0, torch.float64: 4.5}  # 1e-15 in float64


def pattern_for(name: str, widest: int = 9, upper: bool = False) -> ScalarPattern:
    graph = quiet_graph(name)
    pattern = strict_upper(neighbours(graph), "K") if upper else neighbours(graph)
    rows = np.array(list(uneven_widths(graph.agents, 0, widest).values())) // 2
    columns = rows if upper else np.array(list(uneven_widths(graph.agents, 1, widest).values())) // 2
    return ScalarPattern(pattern.row_start, pattern.columns, rows, columns, upper)


def matrix(pattern: ScalarPattern, weights: torch.Tensor) -> torch.Tensor:
    dense = torch.zeros(int(pattern.row_sizes.sum()), int(pattern.column_sizes.sum()), dtype=weights.dtype)
    dense[pattern.scalar_rows(), pattern.scalar_columns()] = weights
    return dense


def everything(pattern: ScalarPattern, batch: int, dtype: torch.dtype) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Every product by tiles, and by the scalar matrix."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=dtype, generator=generator)

    operator = TileOperator(pattern)
    products = TileProducts(operator, Silent(), torch.empty(batch, 0, dtype=dtype))
    weights, bias = random(2, pattern.entries), random(2, operator.rows)
    of_x, of_v = products.ghosted(), products.ghosted()
    x, v = (of.tensor.copy_(random(operator.column_neurons, batch)) for of in (of_x, of_v))
    blocks = operator.arrange(weights, torch.zeros(2, operator.stored, dtype=dtype))
    layer = layer_weights(operator, blocks, operator.order_rows(bias))[1]
    dense, b = matrix(pattern, weights[1]), bias[1][:, None]
    u, z, g, w = products.rows(4)
    found = {}
    products.affine(layer, of_x, u)
    found["affine"] = u.flat, dense @ x + b
    products.activated(layer, of_x, TANH, Saved(z))
    found["activated"] = z.flat, torch.tanh(dense @ x + b)
    products.product(layer, of_v, g)
    found["product"] = g.flat, dense @ v
    products.sloped(layer, of_v, 1.0, TANH, Saved(z), w)
    found["sloped"] = w.flat, (dense @ v) * (1 - z.flat**2)
    transposed = products.transposed(layer, z)
    assert transposed is not None
    found["transposed"] = transposed, dense.T @ z.flat
    old, total = v.clone(), v.clone()
    assert products.transposed(layer, z, Sum(old, 0.3, total)) is None
    found["a sum elsewhere"] = total, v + 0.3 * (dense.T @ z.flat)
    assert products.transposed(layer, z, Sum(old, 0.3, old)) is None
    found["a sum in place"] = old, total
    at = pattern.scalar_rows(), pattern.scalar_columns()
    for name, pairs, times in (("one pair", [(z, of_v)], 1), ("two pairs", [(z, of_v), (w, of_x)], 2)):
        panels = torch.full((1, operator.stored), 7.0, dtype=dtype)
        gradient = GradientSum(layer_panels(operator, panels)[0])
        for _ in range(times):  # the first is written, the second added
            products.weight_gradient(pairs, gradient)
        expected = sum((rows.flat @ columns.tensor.T for rows, columns in pairs), torch.zeros_like(dense))
        found[name] = operator.collect(panels)[0], times * expected[at]
    return found


@pytest.mark.parametrize("batch", [1, 3, 4, 9, 33])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_product_equals_the_scalar_matrix(name: str, batch: int) -> None:
    for product, (found, expected) in everything(pattern_for(name), batch, torch.float64).items():
        assert torch.allclose(found, expected, rtol=0, atol=1e-12), product


@pytest.mark.parametrize("upper", [False, True])
def test_every_product_in_float32_and_on_strictly_upper_patterns(upper: bool) -> None:
    for batch in (5, 16, 40):
        found = everything(pattern_for("random", upper=upper), batch, torch.float32)
        for product, (value, expected) in found.items():
            torch.testing.assert_close(
                value, expected, rtol=1e-4, atol=1e-4, msg=lambda text, p=product: f"{p}: {text}"
            )


@pytest.mark.parametrize("dtype", ULPS)
def test_tanh_is_as_exact_as_promised_over_all_magnitudes_and_for_special_values(dtype: torch.dtype) -> None:
    special = torch.tensor([0.0, torch.inf, -torch.inf, torch.nan], dtype=dtype)
    sizes = torch.logspace(-30, 2, 200_001, dtype=torch.float64).to(dtype)
    x = torch.cat([sizes, -sizes, torch.linspace(-10, 10, 400_001, dtype=torch.float64).to(dtype), special])
    one = np.ones(1, dtype=np.int64)
    operator = TileOperator(ScalarPattern(np.array([0, 1]), np.zeros(1, dtype=np.int64), one, one))
    products = TileProducts(operator, Silent(), x[:, None])
    z = products.rows()[0]
    weights = layer_weights(operator, torch.ones(1, 1, dtype=dtype), torch.zeros(1, 1, dtype=dtype))[0]
    products.activated(weights, products.ghosted(x[None]), TANH, Saved(z))
    exact = np.tanh(x[:-4].numpy().astype(np.longdouble))
    unit = np.spacing(np.abs(exact).astype(x.numpy().dtype)).astype(np.longdouble)
    error = np.abs(z.flat[0, :-4].numpy() - exact)[exact != 0] / unit[exact != 0]
    assert error.max() <= ULPS[dtype]
    assert z.flat[0, -4:-1].tolist() == [0.0, 1.0, -1.0] and z.flat[0, -1].isnan()


def test_bits_depend_neither_on_threads_nor_on_where_work_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern, before = pattern_for("random"), torch.get_num_threads()
    alone = everything(pattern, 21, torch.float32)
    monkeypatch.setattr(threads, "WORTH", 0)
    try:
        for count in (2, 3, 64):
            torch.set_num_threads(count)
            for product, (value, _) in everything(pattern, 21, torch.float32).items():
                assert torch.equal(value, alone[product][0]), f"{product} on {count} threads"
    finally:
        torch.set_num_threads(before)


def test_threads_give_a_network_and_its_gradients_the_same_bits() -> None:
    before = torch.get_num_threads()
    net = network(quiet_graph("hubs"), width=48, layers=2, plan="tiles")
    y = torch.randn(128, net.neurons, dtype=torch.float64).requires_grad_()
    assert sum(stage.K.entries for stage in net.sweep.spec.graphs) * 128 > threads.WORTH, "worth a second thread"

    def computed() -> list[torch.Tensor]:
        output = net(y)
        return [output.detach(), *torch.autograd.grad(output.sum(), [y, *net.parameters()])]

    try:
        torch.set_num_threads(1)
        alone = computed()
        for count in (2, 3):
            torch.set_num_threads(count)
            assert all(torch.equal(a, b) for a, b in zip(computed(), alone, strict=True)), f"{count} threads"
    finally:
        torch.set_num_threads(before)


def test_bits_of_rows_do_not_depend_on_who_else_is_owned() -> None:
    """K x and the weight gradient; the sum of Kᵀ z is made by several workers, in an order of theirs."""
    graph, batch = quiet_graph("random"), 21
    pattern, partition = neighbours(graph), make_partition(graph, 3)
    sizes = np.full(graph.agents, 5)
    whole = ScalarPattern(pattern.row_start, pattern.columns, sizes, sizes)
    weights, x = torch.randn(1, whole.entries), torch.randn(int(sizes.sum()), batch)

    def rows_of(scalar: ScalarPattern, mine: torch.Tensor, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        operator = TileOperator(scalar)
        products = TileProducts(operator, Silent(), torch.empty(batch, 0))
        out, gradient = products.rows()[0], torch.empty(1, operator.stored)
        argument = products.ghosted(x[columns])
        products.product(layer_weights(operator, weights[:, mine])[0], argument, out)
        products.weight_gradient([(out, argument)], GradientSum(layer_panels(operator, gradient)[0]))
        return out.flat, gradient

    neurons = torch.arange(len(x)).view(-1, 5)
    everyone, gradients = rows_of(whole, torch.arange(whole.entries), neurons.ravel())
    for worker in range(3):
        halo = build_halo(pattern, partition, worker)
        owned = torch.from_numpy(partition.owned(worker))
        part = ScalarPattern(halo.row_start, halo.columns, sizes[owned], sizes[halo.agents])
        mine = torch.isin(torch.from_numpy(whole.scalar_rows()), neurons[owned].ravel()).nonzero().ravel()
        out, gradient = rows_of(part, mine, neurons[torch.from_numpy(halo.agents)].ravel())
        assert torch.equal(out, everyone[neurons[owned].ravel()])
        assert torch.equal(gradient, gradients[:, mine])


@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_both_plans_compute_the_same_network(options: dict[str, Any]) -> None:
    graph = quiet_graph("random")
    width = uneven_widths(graph.agents, 0, 9)
    y = torch.randn(5, sum(width.values()), dtype=torch.float64)
    outputs, gradients = [], []
    for plan in ("torch", "tiles"):
        net = network(graph, width=width, layers=2, plan=plan, **options)
        x = y.clone().requires_grad_()
        output = net(x)
        outputs.append(output.detach())
        gradients.append(torch.autograd.grad(output.square().sum(), [x, *net.parameters()]))
    # sums in another order; layers with X and yoshida4's negative steps amplify their roundings
    for tiles, panels in zip([outputs[1], *gradients[1]], [outputs[0], *gradients[0]], strict=True):
        torch.testing.assert_close(tiles, panels, rtol=0, atol=5e-12 * max(1.0, float(panels.abs().max())))


def test_a_hub_with_ten_thousand_neighbours_needs_no_padding() -> None:
    leaves = 10_000
    columns = np.concatenate(
        [np.arange(leaves + 1), np.stack([np.zeros(leaves, int), np.arange(1, leaves + 1)], 1).ravel()]
    )
    row_start = np.concatenate([[0], leaves + 1 + 2 * np.arange(leaves + 1)])
    ones = np.ones(leaves + 1, dtype=np.int64)
    pattern = ScalarPattern(row_start, columns, ones, ones)
    operator = TileOperator(pattern)
    assert operator.stored == pattern.entries == 3 * leaves + 1
    products = TileProducts(operator, Silent(), torch.empty(8, 0, dtype=torch.float64))
    weights, x = torch.randn(1, pattern.entries, dtype=torch.float64), torch.randn(leaves + 1, 8, dtype=torch.float64)
    out = products.rows()[0]
    products.product(layer_weights(operator, weights)[0], products.ghosted(x), out)
    torch.testing.assert_close(out.flat[0], weights[0, : leaves + 1] @ x, rtol=0, atol=1e-10)
    back = products.transposed(layer_weights(operator, weights)[0], Rows(x, ()))
    assert back is not None
    first = torch.cat([weights[0, :1], weights[0, leaves + 1 :: 2]])
    torch.testing.assert_close(back[0], first @ x, rtol=0, atol=1e-10)


def test_vectors_are_as_wide_as_the_batch_allows() -> None:
    assert [lanes(8, batch) for batch in (1, 2, 3)] == [1, 2, 2]
    assert lanes(4, 1000) == 2 * lanes(8, 1000)


def test_without_llvmlite_auto_takes_panels_and_tiles_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "available", lambda: False)
    graph = dist_hdnn.ring(4)
    net = network(graph, layers=1)
    stage = net.sweep.spec.graphs[0]
    assert isinstance(choice.bind(stage.K, stage.K_exchange, torch.empty(3, 0)), PanelProducts)
    with pytest.raises(ValueError, match="tiles need llvmlite, which is not installed"):
        network(graph, layers=1, plan="tiles")


def test_a_plan_is_checked_and_auto_leaves_deterministic_networks_to_panels() -> None:
    with pytest.raises(ValueError, match="products: expected one of auto, torch, tiles, got fast"):
        network(dist_hdnn.ring(4), plan="fast")
    with pytest.raises(ValueError, match="with deterministic, got tiles"):
        network(dist_hdnn.ring(4), plan="tiles", deterministic=True)
    assert network(dist_hdnn.ring(4), deterministic=True).plan == "torch"
    assert network(dist_hdnn.ring(4)).plan == "tiles"
    stage = network(dist_hdnn.ring(4), deterministic=True).sweep.spec.graphs[0]
    assert isinstance(choice.arrangement(stage.K, torch.empty(3, 0)), PanelOperator)
    stage = network(dist_hdnn.ring(4)).sweep.spec.graphs[0]
    assert isinstance(choice.arrangement(stage.K, torch.empty(3, 0)), TileOperator)
    assert isinstance(choice.arrangement(stage.K, torch.empty(3, 0, dtype=torch.bfloat16)), PanelOperator)
