"""Products with layer Jacobians: those of autograd on the dense twin, and each other's adjoint."""

from typing import Any

import pytest
import torch
from networks import FAMILY, PLACEMENTS, network, quiet_graph, uneven_widths

from dist_hdnn.network.dense import DenseTwin
from dist_hdnn.topology.ragged import offsets, ragged_ranges
from dist_hdnn.transport import Transport, run_threads

LAYERS, BATCH = 3, 4


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_push_and_pull_are_the_jacobians_of_the_twin(options: dict[str, Any], activation: str) -> None:
    net = network(quiet_graph("path"), width=4, layers=LAYERS, step=0.4, activation=activation, **options)
    twin = DenseTwin(net)
    generator = torch.Generator().manual_seed(3)
    y, v, w = torch.randn(3, BATCH, net.neurons, generator=generator, dtype=torch.float64)
    with net.linearize(y) as at:
        assert at.layers == LAYERS
        torch.testing.assert_close(at.states(0), y, rtol=0, atol=0)
        torch.testing.assert_close(at.states(LAYERS), net(y).detach(), rtol=0, atol=0)
        for first, last in ((0, LAYERS), (1, 2), (2, 2)):
            state = at.states(first)
            _, pushed = torch.autograd.functional.jvp(lambda x: twin(x, first, last), state, v)  # noqa: B023
            _, pulled = torch.autograd.functional.vjp(lambda x: twin(x, first, last), state, w)  # noqa: B023
            torch.testing.assert_close(at.push(v, first, last), pushed, rtol=0, atol=1e-12)
            torch.testing.assert_close(at.pull(w, last, first), pulled, rtol=0, atol=1e-12)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("options", FAMILY, ids=str)
def test_push_and_pull_are_adjoint_over_all_workers(options: dict[str, Any], workers: int) -> None:
    graph, widths = quiet_graph("grid"), uneven_widths(12)
    neurons = sum(widths.values())
    v, w, y = torch.randn(3, BATCH, neurons, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    starts = offsets(torch.tensor(list(widths.values())).numpy())

    def work(transport: Transport) -> tuple[float, float]:
        net = network(graph, width=widths, layers=2, step=0.4, workers=transport, **options)
        columns = ragged_ranges(starts[net.owned], net.widths)
        with net.linearize(y[:, columns]) as at:
            pushed, pulled = at.push(v[:, columns], 0, 2), at.pull(w[:, columns], 2, 0)
        return float((pushed * w[:, columns]).sum()), float((pulled * v[:, columns]).sum())

    results = torch.tensor(run_threads(workers, work, timeout=60), dtype=torch.float64).sum(0)
    assert abs(results[0] - results[1]) <= 1e-12 * max(1.0, abs(results[0]))


def test_a_linearization_gives_its_memory_back_and_disturbs_no_training_step() -> None:
    net = network(quiet_graph("ring"), layers=LAYERS, **PLACEMENTS["K and X"])
    y = torch.randn(BATCH, net.neurons, dtype=torch.float64)
    output = net(y)
    at = net.linearize(2 * y)
    output.sum().backward()
    kept = net.bp.grad.clone()
    v = torch.randn_like(y)
    before = at.push(v, 0, LAYERS)
    net.zero_grad()
    net(y).sum().backward()
    assert torch.equal(net.bp.grad, kept) and torch.equal(at.push(v, 0, LAYERS), before)
    at.close()
    at.close()
    with pytest.raises(ValueError, match="expected to be open"):
        at.push(v, 0, 1)
    with net.linearize(y) as other, pytest.raises(ValueError, match="expected positions 0 <= first <= last <= 3"):
        other.pull(v, 1, 2)


@pytest.mark.parametrize("transpose", [False, True])
def test_apply_j_is_the_skew_matrix_of_the_field(transpose: bool) -> None:
    for options in FAMILY:
        net = network(quiet_graph("path"), width=4, layers=2, **options)
        v = torch.eye(net.neurons, dtype=torch.float64)
        if len(net.columns) == 1 and not net.architecture.interconnection:
            with pytest.raises(ValueError, match=f"got {net.architecture.name}, which has no J"):
                net.apply_J(v)
            continue
        matrix = torch.zeros(net.neurons, net.neurons, dtype=torch.float64)
        n = len(net.columns[0])
        block = torch.eye(n, dtype=torch.float64)
        if net.architecture.interconnection:
            block = DenseTwin(net).matrix(net.architecture.interconnection)[0]
        if len(net.columns) == 1:
            matrix = block - block.T
        else:
            p, q = (torch.from_numpy(columns) for columns in net.columns)
            matrix[p[:, None], q], matrix[q[:, None], p] = -block.T, block
        matrix = -matrix if transpose else matrix
        torch.testing.assert_close(net.apply_J(v, transpose), v @ matrix.T, rtol=0, atol=1e-14)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "arctan", "sin"])
def test_the_field_is_j_times_the_gradient_of_the_energy(activation: str) -> None:
    for options in FAMILY:
        net = network(quiet_graph("path"), width=4, layers=3, activation=activation, **options)
        y = torch.randn(1, net.neurons, dtype=torch.float64)
        if options["architecture"] not in ("hamiltonian", "MS3", "H1", "leapfrog"):
            with pytest.raises(ValueError, match=f"energy: expected .*got {options['architecture']}"):
                net.energy(y)
            continue
        shifts = 1e-5 * torch.eye(net.neurons, dtype=torch.float64)
        gradient = (net.energy(y + shifts, 1) - net.energy(y - shifts, 1)) / 2e-5
        twin = DenseTwin(net)
        parts = [y[:, columns] for columns in twin.columns]
        field = torch.empty_like(y)
        for part, (columns, force) in enumerate(zip(twin.columns, twin.forces(1), strict=True)):
            field[:, columns] = force(parts[1 - part] if len(parts) == 2 else parts[0]).detach()
        torch.testing.assert_close(net.apply_J(gradient[None]), field, rtol=0, atol=1e-8)


def test_energy_is_the_sum_over_workers_and_names_an_activation_without_integral() -> None:
    graph = quiet_graph("ring")
    y = torch.randn(3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole = network(graph, layers=2)
    state = whole.state_dict()

    def work(transport: Transport) -> torch.Tensor:
        net = network(graph, layers=2, workers=transport)
        net.load_state_dict(state)
        return net.energy(y.view(3, 8, 2)[:, net.owned].reshape(3, -1))

    torch.testing.assert_close(sum(run_threads(3, work, timeout=60)), whole.energy(y), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="expected an activation with a known integral .*got gelu"):
        network(graph, layers=2, activation="gelu").energy(y)
