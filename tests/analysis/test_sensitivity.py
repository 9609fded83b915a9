"""Singular values and norms of sensitivity matrices, against whole matrices; and the bound that needs none of them."""

import numpy as np
import pytest
import torch
from linear_maps import MatrixLayers, interconnection, randn, space_of, symplectic_layers
from torch import Tensor

from dist_hdnn.analysis.sensitivity import along_layers, conjugate_pair, exact_norms, probed_norms, singular_values
from dist_hdnn.analysis.vectors import Space
from dist_hdnn.network.ownership import Ownership
from dist_hdnn.topology import ring
from dist_hdnn.transport import Transport, run_threads

BATCH, NEURONS = 3, 12


def extremes(matrices: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    linear = MatrixLayers(matrices[None])
    space = space_of(matrices.shape[-1])
    left = space.gaussian(0, 0, len(matrices))
    return singular_values(lambda v: linear.push(v, 0, 1), lambda u: linear.pull(u, 1, 0), left, space, steps)


def test_enough_steps_give_the_singular_values() -> None:
    matrices = randn(0, BATCH, NEURONS, NEURONS)
    largest, smallest, left = extremes(matrices, NEURONS)
    expected = torch.linalg.svdvals(matrices)
    assert torch.allclose(largest, expected[:, 0], rtol=1e-12)
    assert torch.allclose(smallest, expected[:, -1], rtol=1e-9)
    reached = torch.linalg.vector_norm(torch.einsum("bij,bi->bj", matrices, left), dim=1)
    assert torch.allclose(reached, expected[:, 0], rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_few_steps_bound_them_from_inside(steps: int) -> None:
    matrices = randn(1, BATCH, NEURONS, NEURONS)
    largest, smallest, left = extremes(matrices, steps)
    expected = torch.linalg.svdvals(matrices)
    reached = torch.linalg.vector_norm(torch.einsum("bij,bi->bj", matrices, left), dim=1)
    assert (largest <= expected[:, 0] * (1 + 1e-12)).all() and (smallest >= expected[:, -1] * (1 - 1e-12)).all()
    assert (reached >= largest * (1 - 1e-12)).all() and (reached <= expected[:, 0] * (1 + 1e-12)).all()


def test_a_search_that_meets_an_invariant_subspace_stops_there() -> None:
    matrices = torch.stack([torch.eye(4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64)])
    matrices = torch.cat([matrices, torch.diag(torch.tensor([3.0, 3.0, 3.0, 0.5], dtype=torch.float64))[None]])
    largest, smallest, _ = extremes(matrices, 4)
    assert torch.allclose(largest, torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64), atol=1e-14)
    assert torch.allclose(smallest, torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64), atol=1e-12)


def test_exact_norms_are_those_of_the_products() -> None:
    matrices = randn(2, 5, BATCH, NEURONS, NEURONS)
    norms = exact_norms(matrices)
    for depth in range(1, 6):
        product = torch.linalg.multi_dot([*reversed(matrices[5 - depth :, 1]), torch.eye(NEURONS).double()])
        assert float(norms[depth - 1, 1]) == pytest.approx(float(torch.linalg.matrix_norm(product, 2)), rel=1e-13)


def test_norms_too_large_for_squares_or_for_numbers_are_no_obstacle() -> None:
    matrices = 1e100 * torch.eye(4, dtype=torch.float64).expand(5, 1, 4, 4)
    norms = exact_norms(matrices)[:, 0].tolist()
    assert norms[:3] == pytest.approx([1e100, 1e200, 1e300]) and norms[3:] == [torch.inf, torch.inf]
    assert exact_norms(torch.zeros(1, 1, 4, 4, dtype=torch.float64)).tolist() == [[0.0]]


@pytest.mark.parametrize("layers", [1, 7, 16])
def test_probes_stay_below_the_norms_and_come_close(layers: int) -> None:
    linear = MatrixLayers(symplectic_layers(layers, BATCH, interconnection(NEURONS)))
    exact = exact_norms(linear.matrices)
    probed = probed_norms(linear, space_of(NEURONS), BATCH, seed=0, pair=None)
    assert (probed <= exact * (1 + 1e-12)).all()
    assert (probed[-1] >= 0.999 * exact[-1]).all() and (probed >= 0.8 * exact).all()


def test_the_cost_of_probes_grows_with_depth_as_that_of_a_sweep_does() -> None:
    def products(layers: int) -> int:
        linear = MatrixLayers(symplectic_layers(layers, 1, interconnection(NEURONS), scale=0.05))
        probed_norms(linear, space_of(NEURONS), 1, seed=0, pair=None)
        return linear.products

    assert products(128) < 2.2 * products(64)


def test_a_conjugate_pair_proves_the_bound_at_every_depth() -> None:
    """Also where one vector alone would not: layers that shrink every direction of p."""
    general, space = interconnection(NEURONS), space_of(NEURONS)
    squeeze = torch.diag(torch.cat([torch.full((6,), 1e-3), torch.full((6,), 1e3)]).double())
    for J, layers in (
        (general, symplectic_layers(40, BATCH, general, 0.05)),
        (canonical(), squeeze.expand(3, BATCH, -1, -1)),
    ):
        linear = MatrixLayers(layers)

        def apply_J(v: Tensor, transposed: bool, J: Tensor = J) -> Tensor:
            return v @ (J if transposed else J.T)

        pair = conjugate_pair(apply_J, space, BATCH, seed=3)
        found = torch.stack([along_layers(linear, space, vector) for vector in pair])
        assert (found.amax(dim=0) >= 1 - 1e-9).all()
    u = torch.eye(NEURONS, dtype=torch.float64)[:1].expand(BATCH, -1)  # in p alone; its partner is in q
    shrunk, grown = (along_layers(linear, space, vector) for vector in (u, apply_J(u, True)))
    assert float(shrunk.max()) < 1e-2 and float(grown.min()) > 1e2


def canonical() -> Tensor:
    J = torch.zeros(NEURONS, NEURONS, dtype=torch.float64)
    half = NEURONS // 2
    J[:half, half:], J[half:, :half] = -torch.eye(half), torch.eye(half)
    return J


def test_random_vectors_do_not_depend_on_the_workers() -> None:
    widths = np.array([2, 4, 2, 6, 2])
    alone = Space(Ownership(ring(5), widths)).gaussian(4, 7, BATCH)
    assert abs(float(alone.mean())) < 0.4 and 0.6 < float(alone.std()) < 1.4

    def work(transport: Transport) -> tuple[Tensor, Tensor, Tensor]:
        space = Space(Ownership(ring(5), widths, transport, "round_robin"))
        mine = space.gaussian(4, 7, BATCH)
        return space.whole(mine), space.norms(mine), space.whole(space.identity())

    for vectors, norms, identity in run_threads(3, work, timeout=30):
        assert torch.equal(vectors, alone)
        assert torch.allclose(norms, torch.linalg.vector_norm(alone, dim=1), rtol=1e-14)
        assert torch.equal(identity, torch.eye(16, dtype=torch.float64))
