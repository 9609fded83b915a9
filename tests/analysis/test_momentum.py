"""p·f along known layers: constant for an exact flow, and its drift is measured against |p| |f|."""

import math

import torch
from linear_maps import MatrixLayers, randn, space_of

from dist_hdnn.analysis.momentum import momentum

LAYERS, BATCH, NEURONS = 6, 3, 4


def test_the_exact_flow_of_a_linear_field_keeps_the_hamiltonian() -> None:
    A = randn(0, NEURONS, NEURONS)
    flow = torch.linalg.matrix_exp(0.3 * A)
    states = [randn(1, BATCH, NEURONS)]
    for _ in range(LAYERS):
        states.append(states[-1] @ flow.T)
    gradient = randn(2, BATCH, NEURONS)
    linear = MatrixLayers(flow.expand(LAYERS, BATCH, -1, -1))
    found = momentum(linear, [state @ A.T for state in states], gradient, space_of(NEURONS))
    assert found.hamiltonian.shape == (LAYERS + 1, BATCH)
    assert torch.allclose(found.hamiltonian[-1], (gradient * (states[-1] @ A.T)).sum(dim=1), rtol=1e-13)
    assert float(found.drift().max()) < 1e-13
    assert torch.allclose(found.norms[-1], gradient.norm(dim=1), rtol=1e-14)
    assert torch.allclose(found.norms[0], (gradient @ torch.linalg.matrix_power(flow, LAYERS)).norm(dim=1), rtol=1e-12)


def test_the_drift_is_the_largest_change_as_a_share_of_p_times_f() -> None:
    linear = MatrixLayers(2.0 * torch.eye(NEURONS, dtype=torch.float64).expand(1, BATCH, -1, -1))
    ones = torch.ones(BATCH, NEURONS, dtype=torch.float64)
    found = momentum(linear, [ones, ones], ones, space_of(NEURONS))  # p·f is 8 before the layer and 4 after it
    assert torch.allclose(found.hamiltonian[:, 0], torch.tensor([8.0, 4.0], dtype=torch.float64))
    assert math.isclose(float(found.drift()[0]), 0.5)
