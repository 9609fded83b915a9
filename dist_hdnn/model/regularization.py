"""Weight smoothness in time: (h/2) Σ_j |K_{j+1} - K_j|² + |b_{j+1} - b_j|².

Separable by block, so every owner computes its own share and nothing is exchanged.
Source: Haber and Ruthotto, arXiv:1705.03341; the published H-DNN code uses the same.
"""

from __future__ import annotations

import torch
from torch import Tensor


def smoothness(K: list[Tensor], b: Tensor, h: float, union: list[Tensor] | None = None) -> Tensor:
    """(h/2) Σ over layers of |K_{j+1} - K_j|² + |b_{j+1} - b_j|², a scalar.

    K: per stage (layers of the stage, entries); layer j is row j // stages of stage j mod stages. b: (layers, neurons).
    union: with several stages, each stage's weights' places in the union of the patterns; a weight that a layer's
    pattern lacks counts as zero there.
    """
    layers = b.shape[0]
    if union is None:
        weights = K[0]
    else:
        size = 1 + max(int(places.max()) if len(places) else 0 for places in union)
        weights = K[0].new_zeros(layers, size)
        for stage, (values, places) in enumerate(zip(K, union, strict=True)):
            own = torch.arange(stage, layers, len(K), device=values.device)
            weights = weights.index_put((own[:, None], places[None, :]), values)
    return 0.5 * h * (_squared_differences(weights) + _squared_differences(b))


def _squared_differences(values: Tensor) -> Tensor:
    return (values[1:] - values[:-1]).square().sum()
