"""The certificate of a run, with its JSON file and its pictures in the run directory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dist_hdnn.analysis.certificate import Certificate, certify
from dist_hdnn.analysis.promises import RESIDUAL, words_of_links
from dist_hdnn.build import assembly
from dist_hdnn.config import Config, LinksConfig
from dist_hdnn.experiment.resume import warn_of_other_data
from dist_hdnn.experiment.tasks import split_tensors, useful_threads
from dist_hdnn.plots.drawing import Pictures, pictures
from dist_hdnn.run.handshake import identity_of, shake_hands
from dist_hdnn.training.checkpoints.weights_file import load_weights
from dist_hdnn.transport import Transport

FILE = "certificate.json"


class BrokenPromiseError(ArithmeticError):
    """A network that breaks a promise of the theory by more than rounding."""

    exit_code = 8


def certify_run(
    directory: Path, config: Config, samples: int, transport: Transport | None = None
) -> dict[str, Any] | None:
    """Measure a trained run in float64 at `samples` points spread evenly over its test set. Collective.

    config: that of the run, except for workers and transport. Worker 0 writes certificate.json and pictures and returns
    the certificate, the others return None.
    Raises ValueError, CheckpointError when the weights are unusable, TransportError.
    """
    data = assembly.build_dataset(config)
    wide = replace(config, dtype="float64")
    model = assembly.build_classifier(wide, data, transport)
    shake_hands(transport, config, model.network, identity_of(config, model.network, data))
    load_weights(model, directory)
    remembering = None
    if model.network.links is not None and model.network.links.has_memory:
        remembering = words_of_links(model.network.links, model.network.architecture)
        model = assembly.build_classifier(replace(wide, links=LinksConfig()), data, transport)
        load_weights(model, directory)
    points, labels = split_tensors(wide, data, "test")
    chosen = np.unique(np.linspace(0, len(points) - 1, min(samples, len(points))).round().astype(np.int64))
    index = torch.from_numpy(chosen).to(points.device)
    torch.set_num_threads(config.train.threads or useful_threads(model, len(chosen)))
    certificate = certify(model, points[index], labels[index], seed=config.seed, run_dtype=getattr(torch, config.dtype))
    if model.network.ownership.rank:
        return None
    warn_of_other_data(directory, data)
    if remembering is not None:
        certificate.figures["network"]["links"] = remembering
    result = {"run": str(directory), **certificate.to_json()}
    (directory / FILE).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with pictures(directory / "plots") as album:
        draw(certificate, album)
    return result


def complain(result: dict[str, Any]) -> None:
    """Raise BrokenPromiseError, one line, if a promise is broken."""
    broken = [promise for promise in result["promises"] if promise["kept"] is False]
    if broken:
        words = "; ".join(
            f"{promise['name']}: {promise['text']} is {promise['value']}, limit {promise['limit']:g}"
            for promise in broken
        )
        raise BrokenPromiseError(f"certify: {len(broken)} of {len(result['promises'])} promises BROKEN: {words}")


def draw(certificate: Certificate, album: Pictures) -> None:
    """Draw sensitivity.png, layers.png and momentum.png."""
    # imported here, because matplotlib takes half a second, which only the worker that draws should spend
    from dist_hdnn.plots.certificate import plot_layers, plot_momentum, plot_sensitivity

    figures, measured, learning = certificate.to_json(), certificate.measured, certificate.momentum
    network, norms, spectrum, residuals = (
        figures[name] for name in ("network", "sensitivity", "spectrum", "symplecticity")
    )
    title = f"{network['architecture']}, {network['neurons']} neurons, {network['samples']} test points"
    ranges = (norms["smallest"], norms["largest"], norms["upper_bound"])
    album.draw("sensitivity.png", plot_sensitivity, *ranges, title=title, exact=measured.exact)
    album.draw(
        "layers.png",
        plot_layers,
        None if residuals is None else residuals["layers"],
        RESIDUAL,
        (spectrum["smallest_singular_value"], spectrum["largest_singular_value"]),
        figures["stability"]["h_omega"],
        figures["stability"]["limit"],
        None if measured.eigenvalues is None else measured.eigenvalues.cpu().numpy(),
        title=title,
    )
    arrays = learning.hamiltonian.cpu().numpy(), learning.norms.cpu().numpy()
    album.draw("momentum.png", plot_momentum, *arrays, figures["momentum"]["weights"], title=title)
