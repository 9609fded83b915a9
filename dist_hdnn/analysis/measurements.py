"""Measurements of layer Jacobians on a batch of states, by whole matrices of small networks or products of large ones.

All workers call these together and get the same figures. Shapes: (layers, batch) per layer and sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dist_hdnn.analysis.sensitivity import (
    ApplyJ,
    conjugate_pair,
    exact_norms,
    layer_singular_values,
    probed_norms,
)
from dist_hdnn.analysis.symplecticity import exact_residuals, log_determinants, probed_residuals
from dist_hdnn.analysis.vectors import Space
from dist_hdnn.network.hdnn import HDNN

EXACT_UP_TO = 256  # neurons of the whole network
NUMBERS = 30_000_000  # in the states of a linearization at n copies of every sample, about 1 GB in all
LAYER_STEPS, LAYER_PROBE = 4, 20  # products with a layer's Jacobian per singular value; number of the random vector


@dataclass(frozen=True)
class Measurements:
    """Figures of the layer Jacobians. Without whole matrices the last three are None.

    norms: |∂y_N/∂y_{N-j}|, j = 1 .. layers, exact or lower bounds. largest, smallest: singular values of the layers. By
    probes the largest come from below, the smallest from above. residuals, product_residual (batch,): of symplecticity,
    None where the layers have no J, or not one in common. log_determinants: of the layers. sign: of the product's
    determinant, (batch,). eigenvalues: of the first sample's layer Jacobians, (layers, neurons) complex.
    """

    exact: bool
    norms: Tensor
    largest: Tensor
    smallest: Tensor
    residuals: Tensor | None
    product_residual: Tensor | None
    log_determinants: Tensor | None = None
    sign: Tensor | None = None
    eigenvalues: Tensor | None = None


@torch.no_grad()
def measure(network: HDNN, y: Tensor, space: Space, seed: int, exact_up_to: int = EXACT_UP_TO) -> Measurements:
    """Measure the layer Jacobians at the first states y (batch, owned neurons)."""
    if space.neurons > exact_up_to:
        return _by_probes(network, y, space, seed)
    chunk = max(1, NUMBERS // (space.neurons**2 * network.layers))
    parts = enumerate(y.split(chunk))
    return _joined([_by_matrices(network, part, space, number * chunk) for number, part in parts])


def layer_matrices(network: HDNN, y: Tensor, space: Space, first: int = 0) -> Tensor:
    """Return ∂y_{j+1}/∂y_j of every layer and sample on every worker, (layers, batch, neurons, neurons).

    first: number of the first sample, for the fates of messages.
    """
    batch, n = len(y), space.neurons
    network.at(first=first, copies=n)
    with network.linearize(y.repeat_interleave(n, dim=0)) as linear:  # n copies of each sample, one per unit vector
        unit = space.identity().repeat(batch, 1)
        layers = [space.whole(linear.push(unit, j, j + 1)).view(batch, n, n).mT for j in range(network.layers)]
    network.at(first=0, copies=1)
    return torch.stack(layers)


def one_interconnection(network: HDNN) -> bool:
    """Tell whether all layers have the same J."""
    return network.architecture.interconnection != "X" or network.shared_x


def interconnections(network: HDNN, space: Space) -> list[Tensor]:
    """Return J of every layer on every worker, (neurons, neurons) each, or a single J that all layers share."""
    layers = 1 if one_interconnection(network) else network.layers
    unit = space.identity()
    return [space.whole(network.apply_J(unit, layer=layer)).T for layer in range(layers)]


def _by_matrices(network: HDNN, y: Tensor, space: Space, first: int) -> Measurements:
    matrices = layer_matrices(network, y, space, first)
    squares = torch.linalg.eigvalsh(matrices @ matrices.mT).clamp(min=0).sqrt()
    residuals, product = None, None
    if network.architecture.symplectic:
        residuals, product = exact_residuals(matrices, interconnections(network, space))
    logs, sign = log_determinants(matrices)
    return Measurements(
        exact=True,
        norms=exact_norms(matrices),
        largest=squares[..., -1],
        smallest=squares[..., 0],
        residuals=residuals,
        product_residual=product,
        log_determinants=logs,
        sign=sign,
        eigenvalues=torch.linalg.eigvals(matrices[:, 0]),
    )


def _joined(parts: list[Measurements]) -> Measurements:
    """Join the measurements of several batches of samples."""

    def cat(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        return None if tensors[0] is None else torch.cat(tensors, dim=-1)

    names = ("norms", "largest", "smallest", "residuals", "product_residual", "log_determinants", "sign")
    return Measurements(exact=True, eigenvalues=parts[0].eigenvalues, **{name: cat(name) for name in names})  # type: ignore[arg-type]


def _by_probes(network: HDNN, y: Tensor, space: Space, seed: int) -> Measurements:
    batch = len(y)

    def J_of(layer: int) -> ApplyJ:
        return lambda vector, transposed: network.apply_J(vector, transpose=transposed, layer=layer)

    symplectic, one_J = network.architecture.symplectic, one_interconnection(network)
    with network.linearize(y) as linear:
        pair = conjugate_pair(J_of(0), space, batch, seed) if symplectic and one_J else None
        norms = probed_norms(linear, space, batch, seed, pair)
        start = space.gaussian(seed, LAYER_PROBE, batch)
        ritz = [layer_singular_values(linear, j, j + 1, start, space, LAYER_STEPS) for j in range(linear.layers)]
        largest = torch.stack([found.largest for found in ritz])
        smallest = torch.stack([found.smallest for found in ritz])
        residuals, product = None, None
        if symplectic:
            Js = [J_of(0 if one_J else layer) for layer in range(linear.layers)]
            whole = norms[-1] if one_J else None
            residuals, product = probed_residuals(linear, Js, space, batch, seed, largest, whole)
    return Measurements(False, norms, largest, smallest, residuals, product)
