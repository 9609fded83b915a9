"""Show that gradients are unbounded even if the state turns slowly: the paper's y' = eps J tanh(y).

    python benchmarks/counterexample.py

Two neurons, K = 1, b = 0, symplectic Euler, with the time, step and start of arXiv:2105.13205, appendix III (T = 200,
h = 0.05, |y0| = 1). Orbits of different size turn at different speed, so the entries of ∂y(T)/∂y(T-t) grow like eps t,
however small eps is; the determinant stays 1. Draws docs/pictures/counterexample.png.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import networkx as nx
import numpy as np
import torch
from torch import Tensor

import dist_hdnn
from dist_hdnn.analysis.measurements import layer_matrices
from dist_hdnn.analysis.vectors import Space
from dist_hdnn.plots.figures import BLUE, GREEN, INK, ORANGE, PURPLE, VERMILION, new_figure, quiet, save

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "counterexample.png"
SEED = 2020  # of the published start
COLORS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE)


def slow_oscillator(eps: float, layers: int, step: float) -> dist_hdnn.HDNN:
    """Build y' = eps J tanh(y) on one agent of two neurons: p' = -eps tanh q, q' = eps tanh p."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = dist_hdnn.HDNN(nx.empty_graph(1), width=2, layers=layers, step=eps * step, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.fill_(1.0 if name.startswith("K") else 0.0)
    return net


def sensitivities(net: dist_hdnn.HDNN, y0: Tensor) -> Tensor:
    """Return ∂y_N/∂y_{N-j} for j = 1 .. N, (layers, 2, 2)."""
    product, found = torch.eye(2, dtype=torch.float64), []
    for M in reversed(layer_matrices(net, y0, Space(net.ownership))[:, 0].unbind()):
        product = product @ M
        found.append(product)
    return torch.stack(found)


def published_start() -> Tensor:
    """Return the published y0, (1, 2), of length 1."""
    y0 = np.random.RandomState(SEED).rand(2) - 0.5
    return torch.from_numpy(y0 / np.linalg.norm(y0))[None]


def plot(sensitivity: dict[float, np.ndarray], orbit: np.ndarray, step: float, path: Path) -> None:
    """Draw the orbit, the entries of ∂y(T)/∂y(T-t) of the first eps, and the norms of all over eps t.

    sensitivity: eps -> (layers, 2, 2), for t = step .. T. orbit: (layers + 1, 2) of the first eps.
    """
    figure = new_figure(12.0, 3.9)
    left, middle, right = figure.subplots(1, 3, width_ratios=(0.8, 1.2, 1.0))
    left.plot(orbit[:, 0], orbit[:, 1], color=BLUE, linewidth=0.8)
    left.plot(*orbit[0], "o", color=VERMILION, markersize=6, label="start")
    left.set_aspect("equal", adjustable="datalim")
    left.set(title="The state keeps its orbit", xlabel="p", ylabel="q")
    first = next(iter(sensitivity))
    time = step * np.arange(1, len(sensitivity[first]) + 1)
    for (i, j), color in zip(((0, 0), (0, 1), (1, 0), (1, 1)), COLORS, strict=False):
        middle.plot(time, sensitivity[first][:, i, j], color=color, linewidth=0.9, label=f"({i + 1}, {j + 1})")
    middle.set(title=f"Entries of ∂y(T)/∂y(T-t), ε = {first:g}", xlabel="time before the end, t", ylabel="entry")
    middle.legend(fontsize=9, frameon=False, ncols=2, loc="upper left")
    for (eps, values), color in zip(sensitivity.items(), COLORS, strict=False):
        time = eps * step * np.arange(1, len(values) + 1)
        right.plot(time, np.linalg.norm(values, 2, axis=(1, 2)), color=color, linewidth=1.3, label=f"ε = {eps:g}")
    right.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
    right.set(xscale="log", yscale="log", title="Spectral norm: grows like ε t")
    right.set(xlabel="ε t", ylabel="|∂y(T)/∂y(T-t)|")
    for axes in (left, middle, right):
        quiet(axes)
        if axes is not middle:
            axes.legend(fontsize=9, frameon=False)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eps", type=float, nargs="+", default=[1.0, 0.3, 0.1])
    parser.add_argument("--time", type=float, default=200.0, help="T (default 200)")
    parser.add_argument("--step", type=float, default=0.05, help="h (default 0.05)")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    args = parser.parse_args()
    layers, y0 = round(args.time / args.step), published_start()
    found, orbit = {}, None
    print(f"T = {args.time:g}, h = {args.step:g}, {layers} layers, y0 = {y0[0].tolist()}")
    for eps in args.eps:
        net = slow_oscillator(eps, layers, args.step)
        found[eps] = sensitivities(net, y0).numpy()
        orbit = net.states(y0)[:, 0].numpy() if orbit is None else orbit
        norms = np.linalg.norm(found[eps], 2, axis=(1, 2))
        determinant = np.abs(np.linalg.det(found[eps]) - 1).max()
        print(
            f"eps = {eps:<5g} |∂y(T)/∂y(0)| = {norms[-1]:8.3f}, smallest over t {norms.min():.12f}, "
            f"largest entry {np.abs(found[eps]).max():8.3f}, determinant 1 to {determinant:.1e}"
        )
    plot(found, orbit, args.step, args.picture)
    print(f"picture {args.picture}")


if __name__ == "__main__":
    main()
