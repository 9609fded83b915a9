"""Pictures of a certificate: sensitivities over depth, the Jacobians of layers, the Hamiltonian of learning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import FuncFormatter

from dist_hdnn.data.checks import Floats
from dist_hdnn.plots.figures import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SKY,
    VERMILION,
    new_figure,
    quiet,
    save,
    whole_numbers,
)

Numbers = Sequence[float]
LEAST_DRIFT = 1e-17  # drawn where nothing changes at all
SMALLEST = 1e-300  # least value that a logarithmic axis can show


def plot_sensitivity(
    smallest: Numbers, largest: Numbers, bound: Sequence[float | None], path: str | Path, title: str, exact: bool
) -> Path:
    """Draw |∂y_N/∂y_{N-j}| for j = 1 .. N with its upper bound and the lower bound 1, and return the path.

    smallest, largest: of the samples. bound: None where it overflows. exact: whether norms are exact or lower bounds.
    """
    figure = new_figure(7.2, 4.4)
    axes = figure.subplots()
    depth = np.arange(1, len(smallest) + 1)
    upper = np.array([np.nan if value is None else value for value in bound], dtype=np.float64)
    axes.plot(depth, upper, "--", color=ORANGE, linewidth=1.4, label="upper bound from the weights")
    axes.fill_between(depth, smallest, largest, color=SKY, alpha=0.45, linewidth=0)
    axes.plot(depth, largest, color=BLUE, linewidth=1.6, label="largest of the samples")
    axes.plot(depth, smallest, color=GREEN, linewidth=1.6, label="smallest of the samples")
    axes.axhline(1.0, color=INK, linewidth=1.0, linestyle=":", label="1: below it gradients vanish")
    axes.set_yscale("log")
    top = 10.0 * float(np.max(largest)) ** 3
    low = min(0.5, 0.5 * float(np.min(smallest)))
    axes.set_ylim(low, max(10.0, min(top, 2.0 * float(np.nanmax(upper, initial=1.0)))))
    words = "spectral norm" if exact else "spectral norm, by probes from below"
    axes.set(xlabel="layers back from the output, j", ylabel=f"|∂y$_N$/∂y$_{{N-j}}$|  ({words})")
    axes.set_title(title, fontsize=11, color=INK)
    _finish(axes)
    return save(figure, path)


def _finish(axes: Axes) -> None:
    """Add a legend, whole numbers of layers, and grid lines."""
    axes.legend(fontsize=9, frameon=False, loc="best")
    whole_numbers(axes.xaxis)
    quiet(axes)


def plot_layers(
    residuals: Numbers | None,
    tolerance: float,
    singular: tuple[Numbers, Numbers],
    rates: Numbers,
    limit: float | None,
    eigenvalues: npt.NDArray[np.complex128] | None,
    path: str | Path,
    title: str,
) -> Path:
    """Draw symplecticity residual, singular values, h ω and eigenvalues of every layer, and return the path.

    residuals: largest of the samples, one per layer, None where there is no J. singular: smallest and largest singular
    values. rates: largest h ω, with the scheme's limit. eigenvalues: (layers, n), None for large networks.
    """
    figure = new_figure(9.6, 7.0)
    ((first, second), (third, fourth)) = figure.subplots(2, 2)
    layers = np.arange(1, len(rates) + 1)
    if residuals is None:
        _empty(first, "not symplectic: no residual")
    else:
        first.plot(layers, np.maximum(residuals, 1e-18), ".-", color=BLUE, linewidth=1.0, markersize=4)
        first.axhline(tolerance, color=VERMILION, linewidth=1.2, linestyle="--", label=f"allowed: {tolerance:g}")
        first.set_yscale("log")
        first.set_ylim(1e-18, 10 * max(tolerance, float(np.max(residuals))))
        _finish(first)
        first.set(title="Symplecticity", xlabel="layer", ylabel="|M J Mᵀ - J| / |M|²")
    second.plot(layers, singular[1], color=BLUE, linewidth=1.4, label="largest")
    second.plot(layers, singular[0], "--", color=GREEN, linewidth=1.4, label="smallest")
    second.set_yscale("log")
    _plain_numbers(second)
    second.set(title="Singular values of a layer's Jacobian", xlabel="layer", ylabel="over all samples")
    _finish(second)
    third.plot(layers, rates, ".-", color=BLUE, linewidth=1.0, markersize=4, label="bound from the weights")
    if limit is not None:
        third.axhline(limit, color=VERMILION, linewidth=1.2, linestyle="--", label=f"limit of the scheme: {limit:.3g}")
    third.set(title="Step size: bounded for sure below the limit", xlabel="layer", ylabel="h ω (step x frequency)")
    third.set_ylim(bottom=0)
    _finish(third)
    if eigenvalues is None:
        _empty(fourth, "eigenvalues: for small networks only")
    else:
        _eigenvalues(fourth, eigenvalues)
    figure.suptitle(title, fontsize=11, color=INK)
    return save(figure, path)


def _eigenvalues(axes: Axes, values: npt.NDArray[np.complex128]) -> None:
    """Draw eigenvalues (layers, n) in the complex plane, colored by layer, with the unit circle."""
    angle = np.linspace(0.0, 2.0 * np.pi, 400)
    axes.plot(np.cos(angle), np.sin(angle), color=GREY, linewidth=0.8)
    scale = Normalize(1, max(len(values), 2))
    colors = np.repeat(np.arange(1, len(values) + 1), values.shape[1])  # the layer of each eigenvalue
    flat = values.ravel()
    axes.scatter(flat.real, flat.imag, c=colors, cmap="viridis", norm=scale, s=7, linewidths=0, zorder=2)
    bar = axes.figure.colorbar(ScalarMappable(scale, "viridis"), ax=axes, shrink=0.85, aspect=26)
    bar.set_label("layer", fontsize=9)
    whole_numbers(bar.ax.yaxis)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(title="Eigenvalues of a layer's Jacobian (one sample)", xlabel="real part", ylabel="imaginary part")
    quiet(axes)


def plot_momentum(hamiltonian: Floats, norms: Floats, time: str | int, path: str | Path, title: str) -> Path:
    """Draw the change of p·f along the layers, and |p|, as median and range of the samples, and return the path.

    hamiltonian, norms: (layers + 1, samples). time: how weights depend on time. p·f is constant, up to the error of
    the integrator, only where they are "shared".
    """
    figure = new_figure(9.6, 3.9)
    left, right = figure.subplots(1, 2)
    layers = np.arange(len(hamiltonian))
    drift = np.abs(hamiltonian - hamiltonian[:1]) / np.maximum(np.abs(hamiltonian).max(axis=0), SMALLEST)
    shown = np.maximum(drift[1:], LEAST_DRIFT)
    _draw_spread(left, layers[1:], shown)
    left.set_ylim(0.3 * float(shown.min()), 5.0)
    words = "weights shared in time: conserved up to the scheme's error" if time == "shared" else "weights vary in time"
    left.set(title=f"Hamiltonian p·f of the loss gradient\n({words})", xlabel="layer")
    left.set_ylabel("change since layer 0, of its largest value")
    _draw_spread(right, layers, norms)
    right.set(title="Loss gradient at the states\n(range of the samples)", xlabel="layer")
    right.set_ylabel("|p$_j$| = |∂L/∂y$_j$| of a sample")
    _plain_numbers(right)
    figure.suptitle(title, fontsize=11, color=INK)
    return save(figure, path)


def _draw_spread(axes: Axes, layers: npt.NDArray[np.int64], values: Floats) -> None:
    """Draw median and range of values (layers, samples) on a logarithmic axis."""
    axes.fill_between(layers, values.min(axis=1), values.max(axis=1), color=SKY, alpha=0.5, linewidth=0)
    axes.plot(layers, np.median(values, axis=1), color=BLUE, linewidth=1.6, label="median")
    axes.set_yscale("log")
    _finish(axes)


def _plain_numbers(axes: Axes) -> None:
    """Write 2 and 0.5 instead of powers of ten on a logarithmic axis of less than two decades."""
    low, high = axes.get_ylim()
    digits = "123456789" if high < 5 * low else "1235"
    if high < 100 * low:
        for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            # a tick is labeled by its first digit, at 1 .. 9 or at 1, 2, 3 and 5
            formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in digits else ""))


def _empty(axes: Axes, words: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=10, color=GREY, transform=axes.transAxes)
