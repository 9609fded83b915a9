"""The promises that theory makes for an architecture, and whether measurements keep them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dist_hdnn.analysis.measurements import Measurements
from dist_hdnn.dynamics.architectures import Architecture
from dist_hdnn.links.model import Links

NORM_SLACK = 1e-9  # rounding of a sensitivity norm at one of its bounds
RESIDUAL = 1e-12  # allowed |M J Mᵀ - J| / |M|² in float64
DETERMINANT = 1e-9  # allowed |log |det M|| of a layer
WAY_BACK = 1e-12  # allowed relative error of the inverse in float64, times the largest sensitivity (at least 1)


@dataclass(frozen=True)
class Promise:
    """One promise: kept, broken (False), or undecided (None) where the known bound is on the wrong side."""

    name: str
    kept: bool | None
    value: float
    limit: float
    text: str

    @property
    def verdict(self) -> str:
        """Return the verdict in one word."""
        return {True: "kept", False: "BROKEN", None: "undecided"}[self.kept]


def promises(
    architecture: Architecture,
    measured: Measurements,
    bounds: list[float],
    way_back: float | None,
    links: Links | None = None,
) -> list[Promise]:
    """Return the promises of an architecture with their verdicts.

    bounds: upper bounds of the norms. way_back: relative error of the inverse in float64, None where there is none.
    links: impaired ones. Whatever is lost, parts still advance by shears, so determinants are 1.
    Symplectic layers have determinant 1, so the lower bound of the norms holds even where every layer has its own J.
    """
    result, symplectic = [], links is None or links.keeps_symplectic
    if architecture.volume_preserving:
        result.append(_not_vanishing(measured))
    result.append(_not_above(measured, bounds))
    if measured.residuals is not None and symplectic:
        result.append(_at_most("layers are symplectic", measured.residuals, RESIDUAL, "largest |M J Mᵀ - J| / |M|²"))
    if measured.product_residual is not None and symplectic:
        text = "the same of the whole network"
        result.append(_at_most("network is symplectic", measured.product_residual, RESIDUAL, text))
    if architecture.volume_preserving and measured.log_determinants is not None and measured.sign is not None:
        text = "largest |log |det M|| of a layer"
        promise = _at_most("determinants are 1", measured.log_determinants.abs(), DETERMINANT, text)
        if bool((measured.sign < 0).any()):
            promise = Promise(promise.name, False, promise.value, promise.limit, "a determinant is negative")
        result.append(promise)
    if way_back is not None:
        limit = WAY_BACK * max(1.0, float(measured.norms.max()))
        value = torch.tensor(way_back, dtype=torch.float64)
        result.append(_at_most("layers are invertible", value, limit, "relative error of y0 from yN, float64"))
    return result


def words_of_links(links: Links, architecture: Architecture) -> str:
    """Say in one line what is promised over impaired links."""
    if links.has_memory:
        return "nothing is promised over delays and fills that remember; these figures are of perfect links"
    if not architecture.volume_preserving:
        return f"impaired; {architecture.name} promises no determinant"
    if links.keeps_symplectic and architecture.symplectic:
        return "determinant 1 and symplectic, whatever is lost"
    why = {
        "bits are no smooth map": bool(links.table.bits.any()),
        f"the fill {links.fill} is seen by one end alone": links.fill != "zero",
        "an answer can be lost by itself": True,
    }
    return f"determinant 1, whatever is lost; not symplectic: {next(text for text, holds in why.items() if holds)}"


def _not_vanishing(measured: Measurements) -> Promise:
    smallest = float(measured.norms.min())
    kept: bool | None = smallest >= 1.0 - NORM_SLACK
    text = "smallest |∂y_N/∂y_{N-j}| of all depths and samples"
    if not measured.exact:
        kept, text = kept or (None if smallest == smallest else False), f"{text}, a lower bound"
    return Promise("gradients do not vanish", kept, smallest, 1.0 - NORM_SLACK, text)


def _not_above(measured: Measurements, bounds: list[float]) -> Promise:
    upper = torch.tensor(bounds, dtype=torch.float64, device=measured.norms.device)
    share = measured.norms.amax(dim=1) / upper
    text = "largest share of the upper bound" + ("" if measured.exact else ", from below")
    return _at_most("gradients are bounded", share, 1.0 + NORM_SLACK, text)


def _at_most(name: str, values: Tensor, limit: float, text: str) -> Promise:
    largest = float(values.max())
    return Promise(name, largest <= limit, largest, limit, text)
