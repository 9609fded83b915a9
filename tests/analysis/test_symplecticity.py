"""Residuals vanish for symplectic layers and for nothing else; determinants; the way back."""

import pytest
import torch
from linear_maps import MatrixLayers, interconnection, randn, space_of, symplectic_layers
from torch import Tensor

from dist_hdnn.analysis.sensitivity import spectral_norm
from dist_hdnn.analysis.symplecticity import (
    exact_residuals,
    log_determinants,
    probed_residuals,
    reversibility_error,
)

LAYERS, BATCH, NEURONS = 9, 4, 12


def residuals(matrices: Tensor, J: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """Exact and probed residuals of the layers and of the product."""
    product = torch.eye(NEURONS, dtype=torch.float64)
    for M in matrices:
        product = M @ product

    def apply_J(v: Tensor, transposed: bool) -> Tensor:
        return v @ (J if transposed else J.T)

    norms = spectral_norm(matrices), spectral_norm(product)
    probed = probed_residuals(MatrixLayers(matrices), [apply_J] * LAYERS, space_of(NEURONS), BATCH, 0, *norms)
    return exact_residuals(matrices, [J]), probed


def test_symplectic_layers_have_no_residual_for_any_X() -> None:
    J = interconnection(NEURONS)
    for layers, product in residuals(symplectic_layers(LAYERS, BATCH, J), J):
        assert layers.shape == (LAYERS, BATCH) and product.shape == (BATCH,)
        assert float(layers.max()) < 1e-14 and float(product.max()) < 1e-13


def test_the_transposed_identity_holds_for_canonical_J_only() -> None:
    J = interconnection(NEURONS)
    layers, _ = residuals(symplectic_layers(LAYERS, BATCH, J).mT, J)[0]
    assert float(layers.min()) > 1e-3


@pytest.mark.parametrize("size", [1e-3, 1e-8])
def test_probes_find_a_residual_of_the_right_size(size: float) -> None:
    J = interconnection(NEURONS)
    wrong = symplectic_layers(LAYERS, BATCH, J) + size * randn(5, LAYERS, BATCH, NEURONS, NEURONS)
    (exact, whole), (probed, probed_whole) = residuals(wrong, J)
    assert size / 10 < float(exact.mean()) < 100 * size
    assert 0.5 < float((probed / exact).mean()) < 1.5
    assert 0.3 < float((probed_whole / whole).mean()) < 3


def test_determinants_are_one_for_shears_and_found_where_not() -> None:
    logs, sign = log_determinants(symplectic_layers(LAYERS, BATCH, interconnection(NEURONS)))
    assert float(logs.abs().max()) < 1e-12 and (sign == 1).all()
    shrunk = 0.5 * torch.eye(4, dtype=torch.float64).repeat(3, 1, 1, 1)
    shrunk[0, 0, 0] *= -1
    logs, sign = log_determinants(shrunk)
    assert torch.allclose(logs, 4 * torch.log(torch.tensor(0.5)).double()) and (sign == -1).all()


class Turn:
    """y -> 2 y, and back with an error of `slip` in one neuron."""

    def __init__(self, slip: float) -> None:
        self.slip = slip

    def states(self, y: Tensor) -> Tensor:
        return torch.stack([y, 2 * y])

    def inverse(self, y: Tensor) -> Tensor:
        back = y / 2
        back[1, 3] += self.slip
        return back


def test_the_error_of_the_way_back_is_the_largest_of_all_neurons() -> None:
    y = torch.ones(BATCH, NEURONS, dtype=torch.float64)
    largest, relative = reversibility_error(Turn(-1e-3), y, space_of(NEURONS))
    assert float(largest) == pytest.approx(1e-3) and float(relative) == pytest.approx(1e-3 / (2 * NEURONS**0.5))
    largest, relative = reversibility_error(Turn(0.0), y, space_of(NEURONS))
    assert float(largest) == 0 and float(relative) == 0
