"""The certificate of a network: measurements on a batch of samples, and the promises of theory that it keeps.

All workers call `certify` together and get the same figures, which do not depend on the number of workers.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from dist_hdnn.analysis.bounds import (
    force_constant,
    largest_slope,
    layer_bound,
    sensitivity_bounds,
    spectral_bounds,
    stability,
)
from dist_hdnn.analysis.measurements import EXACT_UP_TO, Measurements, measure
from dist_hdnn.analysis.momentum import Momentum, momentum
from dist_hdnn.analysis.promises import Promise, promises, words_of_links
from dist_hdnn.analysis.symplecticity import reversibility_error
from dist_hdnn.analysis.vectors import Space
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.loop import NonFiniteError


@dataclass(frozen=True)
class Certificate:
    """The figures, ready for JSON, and the same sample by sample for pictures (measured, momentum)."""

    figures: dict[str, Any]
    promises: list[Promise]
    measured: Measurements
    momentum: Momentum

    @property
    def broken(self) -> list[Promise]:
        """Return the promises that are not kept."""
        return [promise for promise in self.promises if promise.kept is False]

    def to_json(self) -> dict[str, Any]:
        """Return figures and promises, with null for numbers too large for JSON."""
        listed = [asdict(promise) | {"verdict": promise.verdict} for promise in self.promises]
        kept = None if any(promise.kept is None for promise in self.promises) else True
        found: dict[str, Any] = _finite({"kept": False if self.broken else kept, "promises": listed} | self.figures)
        return found


def certify(
    model: AgentClassifier,
    x: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    exact_up_to: int = EXACT_UP_TO,
    run_dtype: torch.dtype = torch.float64,
) -> Certificate:
    """Measure a float64 network at samples x (batch, features) with their labels (batch,).

    exact_up_to: neurons up to which whole matrices are used. Above, figures come from random probes keyed by `seed`.
    run_dtype: number format of the run, in which the way back is measured too. Raises ValueError for a network in
    another number format, NonFiniteError for states that overflow.
    """
    network = model.network
    dtype = next(network.parameters()).dtype
    if dtype != torch.float64:
        raise ValueError(f"certify: expected a network in float64, got {dtype}; convert it with .double()")
    space = Space(network.ownership, x.device)
    with torch.no_grad():
        y = model.lift(x)
    learning = _momentum(model, y, labels, space)
    measured = measure(network, y, space, seed, exact_up_to)
    way_back = _way_back(network, y, space, run_dtype)
    exact_up_to = 0 if network.links is not None else exact_up_to  # sums of absolute values bound what loss leaves
    bounds, rates, limit = from_weights(network, space, exact_up_to)
    relative = None if way_back is None else way_back["float64"]["relative"]
    found = promises(network.architecture, measured, bounds, relative, network.links)
    figures = {
        "network": _description(network, space, len(x)),
        "method": "whole matrices" if measured.exact else "random probes",
        "sensitivity": {
            "norms": "exact" if measured.exact else "lower bounds",
            "smallest": measured.norms.amin(dim=1).tolist(),
            "largest": measured.norms.amax(dim=1).tolist(),
            "upper_bound": bounds,
        },
        "symplecticity": _symplecticity(measured),
        "determinant": _determinant(network, measured),
        "reversibility": way_back,
        "spectrum": _spectrum(measured),
        "stability": {
            "h_omega": rates,
            "norms": "exact" if space.neurons <= exact_up_to else "bounds from sums of rows and columns",
            "limit": limit,
        },
        "momentum": {
            "weights": network.time,
            "gradient_norm": {"smallest": _least(learning.norms), "largest": _most(learning.norms)},
            "hamiltonian": {"smallest": _least(learning.hamiltonian), "largest": _most(learning.hamiltonian)},
            "largest_drift": float(learning.drift().max()),
        },
    }
    return Certificate(figures, found, measured, learning)


def _description(network: HDNN, space: Space, samples: int) -> dict[str, Any]:
    architecture, links = network.architecture, network.links
    return {
        **({} if links is None else {"links": words_of_links(links, architecture)}),
        "architecture": architecture.name,
        "equation": architecture.equation,
        "source": architecture.source,
        "integrator": architecture.integrator.name,
        "order": architecture.order,
        "layers": network.layers,
        "step": network.step,
        "agents": network.graph.agents,
        "neurons": space.neurons,
        "samples": samples,
    }


def _momentum(model: AgentClassifier, y: Tensor, labels: Tensor, space: Space) -> Momentum:
    """Follow the gradient of every sample's loss along the layers, with the layers' fields."""
    network = model.network
    with torch.no_grad(), network.linearize(y) as linear:
        states = [linear.states(layer) for layer in range(network.layers + 1)]
        if not bool(space.norms(states[-1]).isfinite().all()):
            raise NonFiniteError("certify: expected finite states, got infinity or NaN; train with smaller steps")
        last = states[-1].clone().requires_grad_()
        with torch.enable_grad():
            loss = model.readout.loss(model.scores(last), labels).sum()  # a mean over the batch
            (gradient,) = torch.autograd.grad(loss, last)
        return momentum(linear, network.fields(states), gradient * len(y), space)


def _way_back(network: HDNN, y: Tensor, space: Space, run_dtype: torch.dtype) -> dict[str, dict[str, float]] | None:
    """Return errors of y0 from yN, by the name of the number format: float64 and that of the run."""
    if not network.architecture.invertible:
        return None
    found = {}
    for dtype in dict.fromkeys((torch.float64, run_dtype)):
        network.to(dtype)
        largest, relative = reversibility_error(network, y.to(dtype), space)
        found[str(dtype).removeprefix("torch.")] = {"largest": float(largest), "relative": float(relative)}
    network.to(torch.float64)  # exact: the weights come from the narrower format
    return found


def from_weights(network: HDNN, space: Space, exact_up_to: int) -> tuple[list[float], list[float], float | None]:
    """Return upper bounds of the sensitivities, the largest h |λ| of every layer, and the limit of the scheme."""
    architecture, h, gamma = network.architecture, network.step, network.sweep.spec.gamma
    slope = largest_slope(network.sweep.spec.sigma)
    bounds, rates, limit = [], [], None
    for norms in spectral_bounds(network, space, exact_up_to):
        constants = [force_constant(force, norms, slope, h, gamma) for force in architecture.forces]
        bounds.append(layer_bound(architecture, constants, h))
        rate, limit = stability(architecture, constants, h, gamma)
        rates.append(rate)
    return sensitivity_bounds(bounds), rates, limit


def _symplecticity(measured: Measurements) -> dict[str, Any] | None:
    if measured.residuals is None:
        return None
    whole = measured.product_residual
    return {
        "layers": measured.residuals.amax(dim=1).tolist(),
        "network": None if whole is None else float(whole.max()),
        "norm": "Frobenius" if measured.exact else "Frobenius, estimated",
    }


def _determinant(network: HDNN, measured: Measurements) -> dict[str, Any]:
    if measured.log_determinants is not None:
        return {"largest_log": measured.log_determinants.abs().amax(dim=1).tolist()}
    shears = "; every layer is a product of shears, so it is 1" if network.architecture.volume_preserving else ""
    return {"largest_log": None, "why": f"computed for small networks only{shears}"}


def _spectrum(measured: Measurements) -> dict[str, Any]:
    values = measured.eigenvalues
    return {
        "largest_singular_value": measured.largest.amax(dim=1).tolist(),
        "smallest_singular_value": measured.smallest.amin(dim=1).tolist(),
        "singular_values": "exact" if measured.exact else "seen by probes: the extremes lie outside",
        "spectral_radius": None if values is None else values.abs().amax(dim=1).tolist(),
    }


def _least(values: Tensor) -> list[float]:
    return values.amin(dim=1).tolist()  # type: ignore[no-any-return]


def _most(values: Tensor) -> list[float]:
    return values.amax(dim=1).tolist()  # type: ignore[no-any-return]


def _finite(value: Any) -> Any:
    """Replace numbers that JSON does not have by None."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
