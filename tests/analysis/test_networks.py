"""What theory promises of real networks up to depth 256, before and after training; and what it does not promise."""

import warnings
from typing import Any

import networkx as nx
import pytest
import torch
from networks import network

import dist_hdnn
from dist_hdnn.analysis.measure import Measured, layer_matrices, measure, one_interconnection
from dist_hdnn.analysis.sensitivity import exact_norms
from dist_hdnn.analysis.space import Space
from dist_hdnn.analysis.weights import spectral_bounds
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


def measured(options: dict[str, Any], layers: int, step: float = 0.1, exact_up_to: int = 256) -> Measured:
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
