"""Upper bounds from the weights alone: on sensitivities, and on step sizes that keep oscillations stable.

A layer is a list of updates part := part + c h F(source). An update from one half to the other has the Jacobian
[[1, c h F'], [0, 1]], whose norm is at most (a + sqrt(a² + 4)) / 2, a = |c| h |F'|. An update of the whole state has
1 + h |F'|, or |F'| where it replaces the state. The product of these factors bounds ∂y_N/∂y_{N-j}. The bound is derived
here. arXiv:2105.13205 gives one of the same kind in continuous time, an exponential of the time times |J| |K|². Ours is
at most exp(Σ |c| h |F'|), since (a + sqrt(a² + 4)) / 2 and 1 + a are both at most exp(a).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from dist_hdnn.analysis.sensitivity import spectral_norm
from dist_hdnn.analysis.vectors import Space
from dist_hdnn.dynamics.architectures import Architecture, Force
from dist_hdnn.dynamics.integrators import Integrator
from dist_hdnn.dynamics.terms import TERMS
from dist_hdnn.ends.readout import summed
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.operators.activations import Activation

REACH, SPACING = 30.0, 1e-3  # of the grid that σ' is searched on
MARGIN = 1.0 + 1e-6  # for peaks between the points of the grid


def largest_slope(sigma: Activation) -> float:
    """Return sup |σ'|, from a grid over [-30, 30] that contains 0: exactly 1 for tanh, arctan and sin."""
    points = torch.arange(-REACH / SPACING, REACH / SPACING + 1, dtype=torch.float64) * SPACING
    points.requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(sigma.function(points).sum(), points)
    largest = float(slope.abs().max())
    return 1.0 if math.isclose(largest, 1.0, rel_tol=1e-9) else largest * MARGIN


def force_constant(force: Force, norms: Mapping[str, float], slope: float, h: float, gamma: float) -> float:
    """Return an upper bound of |F'| for one force. norms: upper bounds of |K|, |X| and |J| by name."""
    K = norms.get(force.K, 0.0)
    constant: float = TERMS[force.kind].slope(K, slope, h, gamma)
    return constant * (norms[force.interconnection.rstrip("ᵀ")] if force.interconnection else 1.0)


def layer_bound(architecture: Architecture, constants: list[float], h: float) -> float:
    """Return an upper bound of |∂y⁺/∂y|₂ of a layer from the constants of its forces, one for each part."""
    integrator = architecture.integrator
    if len(constants) == 1:
        return constants[0] if integrator.replaces else 1.0 + h * constants[0]
    shears = (abs(c) * h * constants[part] for part, c in integrator.steps)
    return math.prod((a + math.sqrt(a * a + 4.0)) / 2.0 for a in shears)


def sensitivity_bounds(layers: list[float]) -> list[float]:
    """Return upper bounds of |∂y_N/∂y_{N-j}| for j = 1 .. N from those of the layers, first to last."""
    bounds, product = [], 1.0
    for layer in reversed(layers):
        product *= layer
        bounds.append(product)
    return bounds


@lru_cache
def stability_limit(integrator: Integrator) -> float:
    """Return the largest h ω at which every oscillator p' = -ω q, q' = ω p stays bounded.

    It is 2 for semi_implicit and stormer_verlet, and 0 for Euler. For two parts the step is a product of shears, which
    is stable where |trace| <= 2.
    """
    if integrator.parts == 1:
        return 0.0

    def stable(a: float) -> bool:
        step = torch.eye(2, dtype=torch.float64)
        for part, c in integrator.steps:
            shear = torch.eye(2, dtype=torch.float64)
            shear[part, 1 - part] = c * a * (-1.0 if part == 0 else 1.0)
            step = shear @ step
        return abs(float(step.trace())) <= 2.0 + 1e-12

    return _last_true(stable, 0.01, 10.0)


def _last_true(condition: Callable[[float], bool], step: float, end: float) -> float:
    """Find where `condition`, true near 0, first becomes false: a scan, then bisection."""
    low = 0.0
    while low + step <= end and condition(low + step):
        low += step
    high = low + step
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if condition(middle) else (low, middle)
    return low


def stability(architecture: Architecture, constants: list[float], h: float, gamma: float) -> tuple[float, float | None]:
    """Return the largest h |λ| of a layer, and the limit up to which modes λ with frozen weights stay bounded.

    Two parts: λ² = -ω², ω² <= |F'| |G'| for p' = F(q), q' = G(p), where the slopes of σ are not negative. Forward Euler
    on a skew field: |1 + h λ| <= 1 for λ = i ω - gamma means h |λ| <= sqrt(2 h gamma), 0 without damping. The limit is
    None for an architecture without a stable field.
    """
    if len(constants) == 2:
        return h * math.sqrt(constants[0] * constants[1]), stability_limit(architecture.integrator)
    force = architecture.forces[0]
    skew = force.interconnection == "J" or TERMS[force.kind].skew
    return h * constants[0], math.sqrt(2.0 * h * gamma) if skew else None


def matrix_bounds(rows: Tensor, columns: Tensor) -> list[float]:
    """Return sqrt(|A|₁ |A|∞) >= |A|₂ of every matrix, from the sums of |A| by row and by column, (matrices, n) each."""
    return (rows.amax(dim=1) * columns.amax(dim=1)).sqrt().tolist()  # type: ignore[no-any-return]


@torch.no_grad()
def spectral_bounds(network: HDNN, space: Space, exact_up_to: int) -> list[dict[str, float]]:
    """Return upper bounds of the spectral norms of every layer's matrices by name.

    They are exact up to `exact_up_to` neurons, and sqrt(|A|₁ |A|∞) above, for which workers exchange vectors only.
    The latter also hold where links lose some blocks, and with the fill own, which moves blocks to their diagonals.
    """
    names, X = network.architecture.matrices, network.architecture.interconnection
    norms: dict[str, list[list[float]]] = {
        name: [_norms(network, space, name, s, exact_up_to) for s in range(len(network.graphs))]
        for name in (*names, *([X] if X else []))
    }
    graphs, result = len(network.graphs), []
    for layer in range(network.layers):
        row = {name: norms[name][layer % graphs][layer // graphs] for name in names}
        if X:
            graph, number = (0, 0) if network.shared_x else (layer % graphs, layer // graphs)
            row[X] = norms[X][graph][number]
        result.append(row)
    return result


def _norms(network: HDNN, space: Space, name: str, graph: int, exact_up_to: int) -> list[float]:
    """Return upper bounds of the norms of one matrix, for every layer of a graph."""
    of_X = name == network.architecture.interconnection
    weights = network.weights()[name][0 if of_X and network.shared_x else graph].double()
    skew = network.architecture.skew if not of_X else name == "J"
    positions = network.layout.matrices["X" if of_X else "K"][graph].positions()
    rows, columns = (torch.from_numpy(index).to(weights.device) for index in positions)
    size = int(network.layout.sizes.sum())
    if space.neurons <= exact_up_to:
        whole = weights.new_zeros(len(weights), size, size)
        whole[:, rows, columns] = weights
        whole = summed(whole, space.ownership)
        return spectral_norm(whole - whole.mT if skew else whole).tolist()  # type: ignore[no-any-return]
    sums = weights.new_zeros(2, len(weights), size)  # of |A|, by row and by column
    sums[0].index_add_(1, rows, weights.abs())
    sums[1].index_add_(1, columns, weights.abs())
    sums = summed(sums, space.ownership)
    if network.links is not None and network.links.fill == "own" and not of_X:
        sizes = network.layout.sizes
        of_agents = torch.stack([each.sum(dim=1) for each in sums[0].split(sizes.tolist(), dim=1)], dim=1)
        sums[1] += of_agents.repeat_interleave(torch.from_numpy(sizes).to(sums.device), dim=1)
    if skew:
        sums = sums + sums.flip(0)  # the rows of Aᵀ are the columns of A
    return matrix_bounds(sums[0], sums[1])
