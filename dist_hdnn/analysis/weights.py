"""Upper bounds of the spectral norms of a network's matrices, layer by layer, from what each worker owns of them."""

from __future__ import annotations

import torch

from dist_hdnn.analysis.bounds import matrix_bounds
from dist_hdnn.analysis.sensitivity import spectral_norm
from dist_hdnn.analysis.space import Space
from dist_hdnn.ends.readout import summed
from dist_hdnn.network.hdnn import HDNN


@torch.no_grad()
def spectral_bounds(network: HDNN, space: Space, exact_up_to: int) -> list[dict[str, float]]:
    """For every layer: name of a matrix -> upper bound of its spectral norm.

    Exact up to `exact_up_to` neurons; above sqrt(|A|₁ |A|∞), for which workers exchange vectors only.
    """
    names, coupling = network.architecture.matrices, network.architecture.interconnection
    norms: dict[str, list[list[float]]] = {
        name: [_norms(network, space, name, s, exact_up_to) for s in range(len(network.graphs))]
        for name in (*names, *([coupling] if coupling else []))
    }
    stages, result = len(network.graphs), []
    for layer in range(network.layers):
        row = {name: norms[name][layer % stages][layer // stages] for name in names}
        if coupling:
            own = (0, 0) if network.shared_x else (layer % stages, layer // stages)
            row[coupling] = norms[coupling][own[0]][own[1]]
        result.append(row)
    return result


def _norms(network: HDNN, space: Space, name: str, stage: int, exact_up_to: int) -> list[float]:
    """Of every layer of a stage."""
    of_coupling = name == network.architecture.interconnection
    weights = network.weights()[name][0 if of_coupling and network.shared_x else stage].double()
    skew = network.architecture.skew if not of_coupling else name == "J"
    positions = network.layout.matrices["X" if of_coupling else "K"][stage].positions()
    rows, columns = (torch.from_numpy(index).to(weights.device) for index in positions)
    size = int(network.layout.sizes.sum())
    if space.neurons <= exact_up_to:
        whole = weights.new_zeros(len(weights), size, size)
        whole[:, rows, columns] = weights
        whole = summed(whole, space.ownership)
        return spectral_norm(whole - whole.mT if skew else whole).tolist()  # type: ignore[no-any-return]
    sums = weights.new_zeros(2, len(weights), size)
    sums[0].index_add_(1, rows, weights.abs())
    sums[1].index_add_(1, columns, weights.abs())
    sums = summed(sums, space.ownership)
    if skew:
        sums = sums + sums.flip(0)
    return matrix_bounds(sums[0], sums[1])
