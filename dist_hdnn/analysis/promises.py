"""Which promises theory makes for an architecture, and whether the measured figures keep them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dist_hdnn.analysis.measure import Measured
from dist_hdnn.dynamics.architectures import Architecture

NORM_SLACK = 1e-9  # what rounding may take from a sensitivity norm of 1, and add to one at its upper bound
RESIDUAL = 1e-12  # allowed |M J Mᵀ - J| / |M|² in float64
DETERMINANT = 1e-9  # allowed |log |det M|| of a layer
WAY_BACK = 1e-12  # allowed relative error of the inverse in float64, times the largest sensitivity (at least 1)


@dataclass(frozen=True)
class Promise:
    """One promise: kept, broken (False), or undecided (None) where only a bound of the wrong side is known."""

    name: str
    kept: bool | None
    value: float
    limit: float
    text: str

    @property
    def verdict(self) -> str:
        """In one word."""
        return {True: "kept", False: "BROKEN", None: "undecided"}[self.kept]


def promises(architecture: Architecture, found: Measured, bounds: list[float], way_back: float | None) -> list[Promise]:
    """The promises of an architecture with their verdicts.

    bounds: upper bounds of the norms. way_back: relative error of the inverse in float64, None where there is none.
    Symplectic layers have determinant 1, so the lower bound of the norms holds even where every layer has its own J.
    """
    result = []
    if architecture.volume_preserving:
        result.append(_not_vanishing(found))
    result.append(_not_above(found, bounds))
    if found.residuals is not None:
        result.append(_at_most("layers are symplectic", found.residuals, RESIDUAL, "largest |M J Mᵀ - J| / |M|²"))
    if found.product_residual is not None:
        text = "the same of the whole network"
        result.append(_at_most("network is symplectic", found.product_residual, RESIDUAL, text))
    if architecture.volume_preserving and found.log_determinants is not None and found.sign is not None:
        text = "largest |log |det M|| of a layer"
        promise = _at_most("determinants are 1", found.log_determinants.abs(), DETERMINANT, text)
        if bool((found.sign < 0).any()):
            promise = Promise(promise.name, False, promise.value, promise.limit, "a determinant is negative")
        result.append(promise)
    if way_back is not None:
        limit = WAY_BACK * max(1.0, float(found.norms.max()))
        value = torch.tensor(way_back, dtype=torch.float64)
        result.append(_at_most("layers are invertible", value, limit, "relative error of y0 from yN, float64"))
    return result


def _not_vanishing(found: Measured) -> Promise:
    smallest = float(found.norms.min())
    kept: bool | None = smallest >= 1.0 - NORM_SLACK
    text = "smallest |∂y_N/∂y_{N-j}| of all depths and samples"
    if not found.exact:
        kept, text = kept or (None if smallest == smallest else False), f"{text}, a lower bound"
    return Promise("gradients do not vanish", kept, smallest, 1.0 - NORM_SLACK, text)


def _not_above(found: Measured, bounds: list[float]) -> Promise:
    upper = torch.tensor(bounds, dtype=torch.float64, device=found.norms.device)
    share = found.norms.amax(dim=1) / upper
    text = "largest share of the upper bound" + ("" if found.exact else ", from below")
    return _at_most("gradients are bounded", share, 1.0 + NORM_SLACK, text)


def _at_most(name: str, values: Tensor, limit: float, text: str) -> Promise:
    largest = float(values.max())
    return Promise(name, largest <= limit, largest, limit, text)
