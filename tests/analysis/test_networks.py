"""What theory promises of real networks up to depth 256, before and after training; and what it does not promise."""

import math
import warnings
from typing import Any

import networkx as nx
import pytest
import torch
from networks import network

import dist_hdnn
from dist_hdnn.analysis.bounds import spectral_bounds
from dist_hdnn.analysis.measurements import Measurements, layer_matrices, measure, one_interconnection
from dist_hdnn.analysis.momentum import momentum
from dist_hdnn.analysis.sensitivity import exact_norms
from dist_hdnn.analysis.vectors import Space
from dist_hdnn.network.dense import DenseTwin
from dist_hdnn.transport import Transport, run_threads

RING = nx.cycle_graph(4)
SYMPLECTIC: dict[str, dict[str, Any]] = {
    "hamiltonian": {},
    "hamiltonian, X within agents": {"X": "block_diagonal"},
    "hamiltonian, X over links": {"K": "block_diagonal", "X": "neighbours"},
    "hamiltonian, both over links": {"X": "neighbours"},
    "hamiltonian, Störmer-Verlet": {"integrator": "stormer_verlet", "X": "neighbours"},
    "hamiltonian, Yoshida": {"integrator": "yoshida4", "X": "neighbours"},
    "MS3": {"architecture": "MS3"},
    "MS3, Störmer-Verlet": {"architecture": "MS3", "integrator": "stormer_verlet"},
    "MS3, Yoshida": {"architecture": "MS3", "integrator": "yoshida4"},
    "leapfrog": {"architecture": "leapfrog"},
}
DETERMINANT_ONE: dict[str, dict[str, Any]] = {
    "MS1": {"architecture": "MS1"},
    "verlet": {"architecture": "verlet"},
    **SYMPLECTIC,
}
NO_PROMISE: dict[str, dict[str, Any]] = {
    "H1": {"architecture": "H1"},
    "MS2": {"architecture": "MS2"},
    "antisymmetric": {"architecture": "antisymmetric", "gamma": 0.3},
    "near_identity": {"architecture": "near_identity"},
    "resnet": {"architecture": "resnet"},
    "mlp": {"architecture": "mlp"},
}


def measured(options: dict[str, Any], layers: int, step: float = 0.1, exact_up_to: int = 256) -> Measurements:
    net = network(RING, layers=layers, step=step, **options)
    y = torch.randn(3, net.neurons, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return measure(net, y, Space(net.ownership), seed=0, exact_up_to=exact_up_to)


@pytest.mark.parametrize("layers", [1, 16, 256])
@pytest.mark.parametrize("case", SYMPLECTIC)
def test_layers_and_networks_are_symplectic(case: str, layers: int) -> None:
    found = measured(SYMPLECTIC[case], layers)
    assert found.residuals is not None and found.product_residual is not None
    assert found.residuals.shape == (layers, 3)
    assert float(found.residuals.max()) < 1e-12 and float(found.product_residual.max()) < 1e-12


@pytest.mark.parametrize("layers", [1, 16, 256])
@pytest.mark.parametrize("case", DETERMINANT_ONE)
def test_determinants_are_one_and_no_sensitivity_is_below_one(case: str, layers: int) -> None:
    found = measured(DETERMINANT_ONE[case], layers)
    assert found.log_determinants is not None and found.sign is not None
    assert float(found.log_determinants.abs().max()) < 1e-12 and bool((found.sign == 1).all())
    assert float(found.norms.min()) >= 1 - 1e-9


PROBED = [(case, 16) for case in DETERMINANT_ONE] + [("hamiltonian, both over links", 256), ("MS1", 256)]


@pytest.mark.parametrize(("case", "layers"), PROBED)
def test_probes_of_networks_stay_below_and_come_close(case: str, layers: int) -> None:
    found = measured(DETERMINANT_ONE[case], layers)
    probed = measured(DETERMINANT_ONE[case], layers, exact_up_to=0)
    assert not probed.exact and probed.eigenvalues is None
    assert float(probed.norms.min()) >= 1 - 1e-9
    assert bool((probed.norms <= found.norms * (1 + 1e-10)).all())
    assert float((probed.norms[-1] / found.norms[-1]).min()) > 0.9
    assert bool((probed.largest <= found.largest * (1 + 1e-12)).all())
    assert bool((probed.smallest >= found.smallest * (1 - 1e-9)).all())
    if probed.residuals is not None:
        assert float(probed.residuals.max()) < 1e-12 and float(probed.product_residual.max()) < 1e-12  # type: ignore


@pytest.mark.parametrize("case", {**DETERMINANT_ONE, **NO_PROMISE})
def test_upper_bounds_hold_exactly_and_by_sums_of_rows(case: str) -> None:
    from dist_hdnn.analysis.certificate import from_weights

    options = {**DETERMINANT_ONE, **NO_PROMISE}[case]
    net = network(RING, layers=9, step=0.3, **options)
    space = Space(net.ownership)
    y = torch.randn(4, net.neurons, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    norms = exact_norms(layer_matrices(net, y, space)).amax(dim=1)
    for exact_up_to in (256, 0):
        bounds, rates, _ = from_weights(net, space, exact_up_to)
        assert bool((norms <= torch.tensor(bounds) * (1 + 1e-9)).all()) and min(rates) > 0
    small = network(RING, layers=9, step=1e-3, **options)
    if small.architecture.name != "mlp":
        assert from_weights(small, space, 256)[0][-1] < 1.2, "the bound is idle"


def test_plain_networks_keep_no_such_promise() -> None:
    """A feed-forward network loses its gradients; forward Euler is not symplectic."""
    net = network(RING, layers=64, architecture="mlp", initial_scale=0.5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.5)
    y = torch.randn(3, net.neurons, dtype=torch.float64)
    found = measure(net, y, Space(net.ownership), seed=0)
    assert float(found.norms[-1].max()) < 1e-6
    assert found.residuals is None
    euler = measured(NO_PROMISE["H1"], 4)
    assert euler.log_determinants is not None and float(euler.log_determinants.abs().max()) > 1e-3


def test_a_different_X_in_every_layer_keeps_single_layers_symplectic_and_the_bound_by_determinants() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = network(RING, layers=4, X="neighbours", shared_x=False)
    y = torch.randn(2, net.neurons, dtype=torch.float64)
    found = measure(net, y, Space(net.ownership), seed=0)
    assert found.residuals is not None and float(found.residuals.max()) < 1e-12
    assert found.product_residual is None
    assert not one_interconnection(net) and float(found.norms.min()) >= 1 - 1e-9
    probed = measure(net, y, Space(net.ownership), seed=0, exact_up_to=0)
    assert probed.residuals is not None and float(probed.residuals.max()) < 1e-12


@pytest.mark.parametrize("case", ["hamiltonian, both over links", "MS1", "leapfrog", "MS2"])
@pytest.mark.parametrize("exact_up_to", [256, 0])
def test_several_workers_measure_the_same(case: str, exact_up_to: int) -> None:
    options = {**DETERMINANT_ONE, **NO_PROMISE}[case]
    widths = {0: 2, 1: 4, 2: 2, 3: 6, 4: 2}

    def outcome(transport: Transport | None) -> dict[str, torch.Tensor | None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = dist_hdnn.HDNN(
                nx.cycle_graph(5), widths, layers=6, dtype=torch.float64, workers=transport, step=0.2, **options
            )
        space = Space(net.ownership)
        y = space.gaussian(9, 9, 3)
        found = vars(measure(net, y, space, seed=0, exact_up_to=exact_up_to))
        bounds = spectral_bounds(net, space, exact_up_to)
        return found | {"bounds": torch.tensor([list(row.values()) for row in bounds])}

    alone = outcome(None)
    for workers in (2, 4):
        for result in run_threads(workers, outcome, timeout=60):
            for name, tensor in alone.items():
                other = result[name]
                if name == "eigenvalues" and tensor is not None and other is not None:
                    tensor, other = (values.abs().sort(dim=1).values for values in (tensor, other))
                if isinstance(tensor, torch.Tensor) and name not in ("residuals", "product_residual"):
                    assert isinstance(other, torch.Tensor)
                    assert torch.allclose(other, tensor, rtol=1e-9, atol=1e-12), name
                if name in ("residuals", "product_residual") and tensor is not None:
                    assert isinstance(other, torch.Tensor) and float(other.max()) < 1e-13


@pytest.mark.parametrize("case", DETERMINANT_ONE)
def test_training_keeps_the_promises(case: str) -> None:
    """At depth 256, with weights that have moved by a good part of their size."""
    net = network(RING, layers=256, step=0.05, **DETERMINANT_ONE[case])
    generator = torch.Generator().manual_seed(0)
    y, target = torch.randn(2, 8, net.neurons, generator=generator, dtype=torch.float64)
    before = torch.cat([parameter.detach().flatten().clone() for parameter in net.parameters()])
    adam = torch.optim.Adam(net.parameters(), lr=0.05)
    losses = []
    for _ in range(8):
        adam.zero_grad()
        loss = ((net(y) - target) ** 2).mean()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    after = torch.cat([parameter.detach().flatten() for parameter in net.parameters()])
    assert float((after - before).norm()) > 0.15 * float(before.norm())
    found = measure(net, y[:3], Space(net.ownership), seed=0)
    assert float(found.norms.min()) >= 1 - 1e-9
    assert found.log_determinants is not None and float(found.log_determinants.abs().max()) < 1e-11
    if found.residuals is not None and found.product_residual is not None:
        assert float(found.residuals.max()) < 1e-12 and float(found.product_residual.max()) < 1e-12


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ({"K": "neighbours", "X": "neighbours"}, 1),
        ({"X": "neighbours", "integrator": "stormer_verlet"}, 2),
        ({"X": "neighbours", "integrator": "yoshida4"}, 4),
        ({"architecture": "leapfrog"}, 1),
        ({"architecture": "MS1"}, 1),
        ({"architecture": "MS1", "integrator": "stormer_verlet"}, 2),
        ({"architecture": "MS1", "integrator": "yoshida4"}, 4),
        ({"architecture": "H1"}, 1),
        ({"architecture": "antisymmetric", "gamma": 0.2}, 1),
        ({"architecture": "near_identity"}, 1),
    ],
)
def test_the_drift_of_the_hamiltonian_falls_with_the_order_of_the_integrator(
    options: dict[str, Any], order: int
) -> None:
    """Weights that do not depend on time, a fixed time, the step halved three times."""
    drifts = []
    for layers in (32, 64, 128):
        net = network(RING, layers=layers, step=4.0 / layers, time="shared", initial_scale=0.4, **options)
        space = Space(net.ownership)
        y, cotangent = (space.gaussian(5, number, 4) for number in (1, 2))
        with net.linearize(y) as linear:
            states = [linear.states(layer) for layer in range(layers + 1)]
            found = momentum(linear, net.fields(states), cotangent, space)
        drifts.append(float(found.drift().max()))
    slopes = [math.log2(a / b) for a, b in zip(drifts, drifts[1:], strict=False)]
    assert slopes[-1] == pytest.approx(order, abs=0.25 if order < 4 else 0.5), (drifts, slopes)


def test_fields_are_those_of_the_differential_equation() -> None:
    """Against the formula with whole matrices, p and q at the same state."""
    net = network(RING, layers=3, X="neighbours", step=0.3)
    y = torch.randn(2, net.neurons, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    states = [y, y + 1, y - 1, 2 * y]
    found = net.fields(states)
    p, q = (torch.from_numpy(columns) for columns in net.columns)
    twin = DenseTwin(net)
    for number, state in enumerate(states):
        layer = min(number, 2)
        Kp, Kq, X, bp, bq = (twin.matrix(name)[layer] for name in ("Kp", "Kq", "X", "bp", "bq"))
        rate_p = -torch.tanh(state[:, q] @ Kq.T + bq) @ Kq @ X
        rate_q = torch.tanh(state[:, p] @ Kp.T + bp) @ Kp @ X.T
        assert torch.allclose(found[number][:, p], rate_p, atol=1e-13)
        assert torch.allclose(found[number][:, q], rate_q, atol=1e-13)
