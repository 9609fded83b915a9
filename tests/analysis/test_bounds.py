"""Upper bounds hold and are not idle; limits of step sizes are those of the literature; slopes of the activations."""

import math

import numpy as np
import pytest
import torch
from linear_maps import randn

from dist_hdnn.analysis.bounds import (
    largest_slope,
    layer_bound,
    matrix_bounds,
    sensitivity_bounds,
    stability,
    stability_limit,
)
from dist_hdnn.dynamics.architectures import architecture
from dist_hdnn.dynamics.integrators import INTEGRATORS
from dist_hdnn.operators.activations import activation

SLOPES = {
    "tanh": 1.0,
    "arctan": 1.0,
    "sin": 1.0,
    "sigmoid": 0.25,
    "softplus": 1.0,
    "silu": 1.0998393,
    "gelu": 1.1289042,
}


@pytest.mark.parametrize("name", SLOPES)
def test_the_largest_slope_of_an_activation_is_known(name: str) -> None:
    assert largest_slope(activation(name)) == pytest.approx(SLOPES[name], rel=2e-6)


@pytest.mark.parametrize(("name", "limit"), [("semi_implicit", 2.0), ("stormer_verlet", 2.0), ("yoshida4", 1.5734)])
def test_limits_of_step_sizes(name: str, limit: float) -> None:
    assert stability_limit(INTEGRATORS[name]) == pytest.approx(limit, abs=1e-4)


def test_forward_euler_has_no_stable_step_for_oscillations() -> None:
    assert stability_limit(INTEGRATORS["forward_euler"]) == 0.0


@pytest.mark.parametrize("integrator", ["semi_implicit", "stormer_verlet", "yoshida4"])
def test_the_limit_separates_bounded_from_growing_oscillations(integrator: str) -> None:
    limit = stability_limit(INTEGRATORS[integrator])

    def after(a: float, steps: int = 200) -> float:
        step = np.eye(2)
        for part, c in INTEGRATORS[integrator].steps:
            shear = np.eye(2)
            shear[part, 1 - part] = c * a * (-1.0 if part == 0 else 1.0)
            step = shear @ step
        return float(np.linalg.norm(np.linalg.matrix_power(step, steps)))

    assert after(0.98 * limit) < 100 < 1e5 < after(1.02 * limit)


@pytest.mark.parametrize("integrator", ["semi_implicit", "stormer_verlet", "yoshida4"])
def test_the_bound_of_a_layer_is_above_every_product_of_its_shears_and_reached_by_one(integrator: str) -> None:
    arch, h, constants = architecture("hamiltonian", integrator), 0.7, [0.9, 1.4]
    bound = layer_bound(arch, constants, h)
    for seed in range(20):
        forces = [F * c / torch.linalg.matrix_norm(F, 2) for F, c in zip(randn(seed, 2, 3, 3), constants, strict=True)]
        layer = torch.eye(6, dtype=torch.float64)
        for part, c in arch.integrator.steps:
            shear = torch.eye(6, dtype=torch.float64)
            rows, columns = slice(3 * part, 3 * part + 3), slice(3 - 3 * part, 6 - 3 * part)
            shear[rows, columns] = c * h * forces[part]
            layer = shear @ layer
        assert float(torch.linalg.matrix_norm(layer, 2)) <= bound * (1 + 1e-12)
    one = layer_bound(architecture("hamiltonian"), [0.9, 0.0], h)  # a single shear: the bound is its norm
    shear = np.array([[1.0, 0.9 * h], [0.0, 1.0]])
    assert one == pytest.approx(np.linalg.norm(shear, 2), rel=1e-14)
    assert bound <= math.exp(h * sum(abs(c) * constants[part] for part, c in arch.integrator.steps))


def test_bounds_multiply_from_the_last_layer_back() -> None:
    assert sensitivity_bounds([2.0, 3.0, 5.0]) == [5.0, 15.0, 30.0]
    assert sensitivity_bounds([1e200, 1e200])[-1] == math.inf


def test_sums_of_rows_and_columns_bound_the_norm() -> None:
    matrices = randn(3, 4, 30, 30)
    bounds = matrix_bounds(matrices.abs().sum(dim=2), matrices.abs().sum(dim=1))
    norms = torch.linalg.matrix_norm(matrices, 2).tolist()
    assert all(norm <= bound <= 6 * norm for norm, bound in zip(norms, bounds, strict=True))


def test_the_frequency_of_a_layer_takes_both_forces() -> None:
    found, limit = stability(architecture("hamiltonian", "semi_implicit"), [0.9, 1.6], h=0.5, gamma=0.0)
    assert found == pytest.approx(0.5 * 1.2)  # sqrt(0.9 * 1.6)
    assert limit == pytest.approx(2.0)
