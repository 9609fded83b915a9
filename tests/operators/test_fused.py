"""Fused kernels for thin agents: the bits of the kernels that they stand for, whatever the graph, batch or threads."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from networks import network, quiet_graph, uneven_widths

import dist_hdnn
from dist_hdnn.operators.activations import activation
from dist_hdnn.operators.exchange import Silent
from dist_hdnn.operators.products import GradientSum, MatrixGradients, Saved, Sum, layer_panels, layer_weights
from dist_hdnn.operators.sparsity import ScalarPattern
from dist_hdnn.topology import build_halo, make_partition, neighbours

pytest.importorskip("llvmlite")

from dist_hdnn.operators.tiles import threads
from dist_hdnn.operators.tiles.operator import TileOperator
from dist_hdnn.operators.tiles.products import TileProducts
from dist_hdnn.operators.tiles.readiness import readiness, uniform_rows

TANH = activation("tanh")
GRAPHS = ("one agent", "two strangers", "ring", "star", "torus", "hubs")


@pytest.fixture
def several_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "WORTH", 0)
    yield
    torch.set_num_threads(before)


def scalar_pattern(name: str, size: int, workers: int = 1, worker: int = 0) -> ScalarPattern:
    graph = quiet_graph(name)
    halo = build_halo(neighbours(graph), make_partition(graph, workers), worker)
    columns = np.full(len(halo.agents), size)
    return ScalarPattern(halo.row_start, halo.columns, columns[: len(halo.owned)], columns)


def everything(pattern: ScalarPattern, batch: int, dtype: torch.dtype, fused: bool) -> dict[str, torch.Tensor]:
    """The value of a gradient and its adjoint, each twice, with all that they write."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=dtype, generator=generator)

    operator = TileOperator(pattern)
    products = TileProducts(operator, Silent(operator.rows), torch.empty(batch, 0, dtype=dtype))
    assert products._uniform, "these agents are thin and of one size"
    products._uniform = products._uniform if fused else 0
    products.output.tensor.zero_()
    layer = layer_weights(operator, random(1, operator.stored), random(1, operator.rows))[0]
    x, v = (products.ghosted(random(operator.column_neurons, batch)) for _ in range(2))
    old, new, dx = (random(operator.rows, batch) for _ in range(3))
    z, w = products.rows(2)
    panels, bias = random(1, operator.stored), random(1, operator.rows)
    of_K, of_b = GradientSum(layer_panels(operator, panels)[0]), GradientSum((bias[0],))
    found = {}
    for name, sums in {"elsewhere": Sum(old, 0.3, new), "in place": Sum(old, -0.2, old)}.items():
        assert products.gradient_value(layer, x, TANH, Saved(z), sums) is None
        found[f"new {name}"] = sums.new.clone()
        back = Sum(dx, 1.0, dx)
        assert products.gradient_adjoint(layer, v, 0.7, x, TANH, Saved(z), w, MatrixGradients(of_K, of_b), back) is None
        # ghost rows follow the owned ones, which are memory of the sum here
        found |= {f"{what} {name}": tensor.clone() for what, tensor in (("z", z.flat), ("dx", dx))}
        found |= {f"dK {name}": panels.clone(), f"db {name}": bias.clone()}
        found[f"ghosts {name}"] = products.output.tensor[operator.rows :].clone()
    return found


def check_same_bits(pattern: ScalarPattern, batch: int, dtype: torch.dtype, what: str) -> None:
    expected, found = (everything(pattern, batch, dtype, fused) for fused in (False, True))
    for name, value in expected.items():
        assert torch.equal(found[name], value), f"{name}, {what}"


@pytest.mark.parametrize("name", GRAPHS)
def test_fused_kernels_give_the_bits_of_those_that_they_stand_for(name: str) -> None:
    for size, batch, dtype in (
        (1, 33, torch.float32),
        (2, 33, torch.float32),
        (4, 48, torch.float32),
        (4, 9, torch.float64),
    ):
        check_same_bits(scalar_pattern(name, size), batch, dtype, f"{size} rows, batch {batch}")


@pytest.mark.parametrize("size", [3, 5, 8])
def test_the_same_for_other_sizes(size: int) -> None:
    check_same_bits(scalar_pattern("torus", size), 21, torch.float32, f"{size} rows")


@pytest.mark.parametrize("batch", [0, 1, 2, 5, 16, 31])
def test_the_same_for_batches_that_vectors_do_not_divide(batch: int) -> None:
    check_same_bits(scalar_pattern("hubs", 2), batch, torch.float32, f"batch {batch}")


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_the_same_where_some_columns_are_ghosts(workers: int) -> None:
    for name in ("ring", "hubs"):
        for worker in range(workers):
            pattern = scalar_pattern(name, 2, workers, worker)
            check_same_bits(pattern, 20, torch.float32, f"{name}, worker {worker} of {workers}")


@pytest.mark.parametrize("count", [2, 3, 64])
def test_the_same_on_several_threads(count: int, several_threads: None) -> None:
    for name in ("torus", "star"):
        pattern = scalar_pattern(name, 4)
        torch.set_num_threads(1)
        alone = everything(pattern, 21, torch.float32, fused=True)
        torch.set_num_threads(count)
        for what, value in everything(pattern, 21, torch.float32, fused=True).items():
            assert torch.equal(value, alone[what]), f"{what}, {name}"


def test_the_adjoint_is_the_transpose_of_the_tangent() -> None:
    operator = TileOperator(scalar_pattern("hubs", 3))
    products = TileProducts(operator, Silent(), torch.empty(10, 0, dtype=torch.float64))
    assert products._uniform == 3
    layer = layer_weights(operator, torch.randn(1, operator.stored).double(), torch.randn(1, operator.rows).double())[0]
    x, v, e = (products.ghosted(torch.randn(operator.rows, 10).double()) for _ in range(3))
    z, w = products.rows(2)
    state, dx = torch.zeros(2, operator.rows, 10, dtype=torch.float64)
    products.gradient_value(layer, x, TANH, Saved(z), Sum(state, 1.0, state))
    gradients = [GradientSum((torch.empty(count, dtype=torch.float64),)) for count in (operator.stored, operator.rows)]
    products.gradient_adjoint(layer, v, 1.0, x, TANH, Saved(z), w, MatrixGradients(*gradients), Sum(dx, 1.0, dx))
    tangent = products.gradient_tangent(layer, e, TANH, Saved(z), w)
    torch.testing.assert_close((dx * e.tensor).sum(), (v.tensor * tangent).sum(), rtol=1e-12, atol=1e-12)


def test_only_thin_agents_of_one_size_are_fused() -> None:
    pattern = neighbours(quiet_graph("hubs"))
    agents = len(pattern.row_start) - 1
    for rows, columns, expected in (
        (np.full(agents, 8), np.full(agents, 8), 8),
        (np.full(agents, 9), np.full(agents, 9), 0),
        (np.full(agents, 2), np.full(agents, 4), 0),
        (np.arange(agents) % 2 + 1, np.full(agents, 2), 0),
        (np.zeros(agents, dtype=int), np.zeros(agents, dtype=int), 0),
    ):
        assert uniform_rows(TileOperator(ScalarPattern(pattern.row_start, pattern.columns, rows, columns))) == expected


def test_networks_of_thin_agents_are_fused_and_those_of_ragged_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, fused = quiet_graph("random"), []
    original = TileProducts._fused

    def noted(self: TileProducts, *arguments: object) -> object:
        plan = original(self, *arguments)  # type: ignore[arg-type]
        fused.append(plan is not None)
        return plan

    monkeypatch.setattr(TileProducts, "_fused", noted)
    for width, expected in ((4, True), (uneven_widths(graph.agents, 0, 9), False), (20, False)):
        fused.clear()
        net = network(graph, width=width, layers=2, plan="tiles")
        net(torch.randn(3, net.neurons, dtype=torch.float64)).sum().backward()
        assert len(fused) == 8, "a value and an adjoint of both parts in two layers"
        assert all(fused) is expected and any(fused) is expected


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("cuts", [1, 3])
def test_memory_of_w_is_used_again_only_when_nobody_needs_it(name: str, cuts: int) -> None:
    operator = TileOperator(scalar_pattern(name, 2))
    agents = operator.owned
    parts = np.unique(np.arange(cuts + 1) * agents // cuts).tolist()
    plan = readiness(operator, 2, parts)
    by_column, holds = operator.by_column, {}
    ready = set()
    for begin, end in zip(parts[:-1], parts[1:], strict=True):
        for position in range(begin, end):
            agent = int(operator.by_row.order[position])
            holds[int(plan.slots[agent])] = agent
            for column in plan.columns[plan.ready[position] : plan.ready[position + 1]].tolist():
                ready.add(column)
                for s in range(by_column.segments[column], by_column.segments[column + 1]):
                    assert holds[int(plan.slot_rows[s])] == by_column.row[s] // 2, "w of another agent"
    rest = plan.rest.order.tolist()
    assert sorted([*ready, *rest]) == list(range(agents)) and plan.left == len(rest)
    for column in rest:  # of their own, after all parts
        for s in range(by_column.segments[column], by_column.segments[column + 1]):
            assert holds[int(plan.slot_rows[s])] == by_column.row[s] // 2, "w of another agent"


def test_a_ring_keeps_w_of_a_few_agents_only() -> None:
    pattern = neighbours(dist_hdnn.ring(100))
    sizes = np.full(100, 2)
    operator = TileOperator(ScalarPattern(pattern.row_start, pattern.columns, sizes, sizes))
    plan = readiness(operator, 2, [0, 100])
    assert len(np.unique(plan.slots)) <= 6 and plan.left == 0
