"""The end of a run: its weights, its summary and its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dist_hdnn.build import assembly, warm_start
from dist_hdnn.ends.readout import summed
from dist_hdnn.experiment.job import Job
from dist_hdnn.inspection import exchanged
from dist_hdnn.launching.failure import write_report
from dist_hdnn.plots.drawing import pictures
from dist_hdnn.printing import announce
from dist_hdnn.run.files import measure_of, measured, versions, write_summary
from dist_hdnn.run.log import RunLog
from dist_hdnn.run.summary import figures_of_run, inputs_of, link_figures
from dist_hdnn.training.checkpoints.weights_file import FINAL, load_weights, save_weights
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.loop import Epoch
from dist_hdnn.training.metrics import Evaluation


def finish(
    job: Job, log: RunLog, history: list[Epoch], result: Evaluation, more: dict[str, Any], directory: Path | None
) -> None:
    """Gather weights and figures of a trained run, and write them where there is a run directory. Collective.

    result: on the test data. more: figures for summary.json.
    """
    config, data, model = job.config, job.data, job.model
    network, weights = model.network, model.state_dict()
    figures = figures_of_run(model, history, result, log.traffic)
    over_links = None
    if log.over_links is not None:
        over_links = summed(torch.from_numpy(log.over_links), network.ownership).numpy()
    if directory is None:
        return
    save_weights(weights, directory / FINAL, network.architecture.name)
    write_report(directory, {"status": "done", "exit_code": 0})
    figures = measured(figures, measure_of(data)) | link_figures(network.graph, over_links) | _settings(job) | more
    write_summary(directory, figures | warm_start.written(directory))
    if not config.plots:
        return

    def whole() -> AgentClassifier:
        if network.ownership.alone:
            return model
        everything = assembly.build_classifier(config, data)
        load_weights(everything, directory / FINAL)
        return everything

    announce("drawing the plots")
    sensors = None
    if model.sensors is not None:
        sensors = assembly.build_sensors(config, network.graph, network.ownership.all_widths, data)
    with pictures(directory / "plots") as album:
        from dist_hdnn.experiment.pictures import plot_run  # matplotlib, half a second that only this worker takes

        plot_run(album, data, model, whole, sensors, history, result, over_links)


def _settings(job: Job) -> dict[str, Any]:
    """Return what summary.json says of how a run was made."""
    config, transport = job.config, job.transport
    return {
        "workers": 1 if transport is None else transport.size,
        "transport": "local" if transport is None else transport.name,
        "seed": config.seed,
        "dtype": config.dtype,
        "device": config.device,
        "versions": versions(),
        "digests": {"graph": job.identity["graph"], "data": job.identity["data"]},
        **exchanged(config, job.model.network.layout, job.data),
        **inputs_of(job.data),
    }
