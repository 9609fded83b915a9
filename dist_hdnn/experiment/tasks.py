"""Train the network of a config, from its data to its summary, and evaluate a run."""

from __future__ import annotations

import math
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dist_hdnn.build import assembly, warm_start
from dist_hdnn.build.links import kept_links
from dist_hdnn.config import Config, interval
from dist_hdnn.config.checks import validate
from dist_hdnn.data import Dataset
from dist_hdnn.ends.readout import summed
from dist_hdnn.experiment.resume import Start, begin, warn_of_other_data
from dist_hdnn.inspection import exchanged, inspect, per_prediction
from dist_hdnn.launching.failure import REPORT, reported, write_report
from dist_hdnn.launching.waiting import patient, waiting_figures
from dist_hdnn.plots.drawing import pictures
from dist_hdnn.printing import announce
from dist_hdnn.run.directory import config_of_run
from dist_hdnn.run.files import measure_of, measured, versions, write_start, write_summary
from dist_hdnn.run.handshake import identity_of, shake_hands
from dist_hdnn.run.log import MetricsFiles, RunLog, TrainingProgress, logged
from dist_hdnn.run.summary import agent_figures, figures_of_run, inputs_of, link_figures, target_figures
from dist_hdnn.training.checkpoints.manifest import Manifest
from dist_hdnn.training.checkpoints.saver import Saver
from dist_hdnn.training.checkpoints.schedule import Keeper, Stopped
from dist_hdnn.training.checkpoints.snapshot import restore
from dist_hdnn.training.checkpoints.weights_file import FINAL, load_weights, save_weights
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.evaluation import Evaluation
from dist_hdnn.training.evaluation import evaluate as evaluate_classifier
from dist_hdnn.training.loop import Epoch, Recipe, Split, TrainingState
from dist_hdnn.training.multilevel import Level, plan, train_levels
from dist_hdnn.transport import Transport

__all__ = ["FINAL", "RunLog", "evaluate", "inspect", "split_tensors", "train", "train_model"]
THREAD_WORK = 4_000_000  # multiplications of one product, about a millisecond of one core


@dataclass(frozen=True)
class Job:
    """One worker's end of a training. model: its part. identity: see `handshake.identity_of`."""

    config: Config
    data: Dataset
    model: AgentClassifier
    transport: Transport | None
    levels: list[Level]
    identity: dict[str, Any]

    @property
    def writes(self) -> bool:
        """Tell whether this worker writes the run directory."""
        return self.transport is None or self.transport.rank == 0

    @property
    def batches(self) -> int:
        """Number of gradient steps per epoch."""
        return math.ceil(len(self.data.train_x) / self.config.train.batch_size)


def train(
    config: Config, transport: Transport | None = None, stop: Callable[[], str | None] = lambda: None
) -> Path | None:
    """Train the network of a validated config, and return the run directory.

    Several workers call it together, each with its transport: worker 0 writes and returns the run directory, the others
    return None. Everything is checked before the run directory is made, and that before the first step. stop: returns
    the reason to stop, None without one; once any worker has a reason, all stop with a checkpoint.
    Raises ValueError for bad input, NonFiniteError, DisagreementError, TransportError, CheckpointError when there is
    nothing to resume from, Stopped, OSError when the disk fails.
    """
    job = _prepared(config, transport)
    warm, kept = config.warm_start is not None, None
    if warm and config.resume is None:  # a run that is no source is refused before there is a directory
        kept = warm_start.start_from(config, job.model, job.data)
    start = begin(config, job.identity, transport)
    with start.lock:
        if start.done:
            return start.directory if job.writes else None
        if warm and kept is None and start.checkpoint is None:
            kept = warm_start.start_from(config, job.model, job.data)
        if kept is not None and job.writes:
            warm_start.write(start.directory, kept)
            print(f"dist-hdnn: {warm_start.in_words(kept)}", file=sys.stderr, flush=True)
        return _train(job, start, stop)


def _prepared(config: Config, transport: Transport | None) -> Job:
    """Build data and model before there is a run directory, and compare all workers'. Raises ValueError."""
    options = config.train
    levels = plan(options.levels, config.network.layers, config.network.step, options.epochs)
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data, transport)
    assembly.build_augmentation(config, data)
    if options.patience is not None and "validation" not in data.parts:
        raise ValueError(
            f"train.patience: expected validation data to stop by, got none in {data.name}; set "
            "data.validation_fraction=0.2, or leave patience out"
        )
    identity = identity_of(config, model.network, data)
    shake_hands(transport, config, model.network, identity)
    return Job(config, data, model, transport, levels, identity)


def _train(job: Job, start: Start, stop: Callable[[], str | None]) -> Path | None:
    """Train from the first step to the last picture, in a run that no other process works on."""
    config, data, model, transport = job.config, job.data, job.model, job.transport
    one = 1 if config.deterministic else None  # how sums are split over threads changes their bits
    torch.set_num_threads(one or config.train.threads or useful_threads(model, config.train.batch_size))
    began = time.perf_counter()
    training = split_tensors(config, data, "train")
    validation = split_tensors(config, data, "validation") if "validation" in data.parts else None
    command = resume_command(start.directory, model.network.ownership.workers)
    keeper, log = _keeper(job, start, stop), _log(job, start)
    directory = start.directory if job.writes else None
    waited = list(transport.record.waited) if transport else []
    with logged(log, directory, config.seed), reported(start.directory, transport, command, lambda: log.now):
        callbacks = {"on_step": log.step, "on_epoch": log.epoch, "keep": keeper}
        try:
            history = train_model(config, model, data, training, validation, transport, start.checkpoint, **callbacks)
        except Stopped as stopped:
            stopped.command = command
            raise
        if keeper.saver is not None:
            keeper.saver.finish()
    figures = {"seconds": time.perf_counter() - began}
    if start.checkpoint is not None:
        figures["resumed_after_step"] = start.checkpoint[1].step
    if transport is not None:
        figures |= waiting_figures(transport, waited, figures["seconds"])
    test = split_tensors(config, data, "test")  # the test data are read here alone
    result = evaluate_classifier(model, *test, units_of(data))
    _finish(job, log, history, result, figures, directory)
    if transport is not None:
        with patient(transport):  # worker 0 writes and draws
            transport.barrier()
    return directory


def _finish(
    job: Job, log: RunLog, history: list[Epoch], result: Evaluation, more: dict[str, Any], directory: Path | None
) -> None:
    """Gather weights and figures of a trained run, and write them where there is a run directory. Collective.

    result: on the test data. more: figures for summary.json.
    """
    config, data, model, transport = job.config, job.data, job.model, job.transport
    network, weights = model.network, model.state_dict()
    figures = measured(figures_of_run(model, data, history, result, log.traffic), measure_of(data))
    over_links = None
    if log.over_links is not None:
        over_links = summed(torch.from_numpy(log.over_links), network.ownership).numpy()
    if directory is None:
        return
    save_weights(weights, directory / FINAL, network.architecture.name)
    write_report(directory / REPORT, {"status": "done", "exit_code": 0})
    figures |= {
        **link_figures(network.graph, over_links),
        "workers": 1 if transport is None else transport.size,
        "transport": "local" if transport is None else transport.name,
        "seed": config.seed,
        "dtype": config.dtype,
        "device": config.device,
        "versions": versions(),
        "digests": {"graph": job.identity["graph"], "data": job.identity["data"]},
        **exchanged(config, network.layout, data),
        **inputs_of(data),
        **more,
    }
    write_summary(directory, figures | warm_start.written(directory))
    if config.plots:
        announce("drawing the plots")
        with pictures(directory / "plots") as album:
            from dist_hdnn.experiment.pictures import plot_run  # matplotlib, half a second that only this worker takes

            plot_run(album, config, data, model, history, result, over_links)


def _log(job: Job, start: Start) -> RunLog:
    """Begin the log of a run and its files. It counts the traffic of the first step at the network's whole depth."""
    config, network, measure = job.config, job.model.network, measure_of(job.data)
    resumed = start.checkpoint[1] if start.checkpoint else None
    network.reset_traffic()
    log = RunLog(network, job.levels[-1].epochs.start * job.batches + 1, resumed.step if resumed else 0)
    if job.writes:
        links = kept_links(config, network.graph)
        threads, device = torch.get_num_threads(), config.device
        write_start(start.directory, network.graph, links, threads, device, job.data.preparation)
        epochs = config.train.epochs
        log.progress = TrainingProgress(config.name, epochs, epochs * job.batches, measure)
        log.metrics = MetricsFiles(start.directory, measure)
        log.metrics.begin(resumed.history if resumed else [])
    return log


def _keeper(job: Job, start: Start, stop: Callable[[], str | None]) -> Keeper:
    """Return what saves checkpoints of this worker's training and stops it."""
    config, ownership, saver = job.config, job.model.network.ownership, None
    if start.seen:
        saver = Saver(
            start.directory / "checkpoints",
            ownership.rank,
            ownership.workers,
            start.nonce,
            job.identity,
            versions(),
            config.checkpoint.keep,
            config.timeout,
        )
        if job.writes:
            saver.clean()
    elif job.writes:
        warnings.warn(
            f"checkpoints: not all workers see {start.directory}, so none are written; use a directory that they share",
            UserWarning,
            stacklevel=3,
        )
    every, unit = interval(config.checkpoint.every)
    return Keeper(saver, ownership, every, unit, job.batches, stop)


def resume_command(directory: Path, workers: int) -> str:
    """Return the command that resumes a run on as many workers as it has."""
    more = f" --workers={workers}" if workers > 1 else ""
    return f"dist-hdnn train --resume=auto --output={shlex.quote(str(directory))}{more}"


def train_model(
    config: Config,
    model: AgentClassifier,
    data: Dataset,
    training: Split,
    validation: Split | None = None,
    transport: Transport | None = None,
    checkpoint: tuple[Path, Manifest] | None = None,
    **callbacks: Any,
) -> list[Epoch]:
    """Train the model of a config in place by its recipe, level by level, and return its records.

    validation: chooses the epoch whose weights the model gets, see `training.loop.train`.
    checkpoint: a verified one to resume from. callbacks: on_step, on_epoch and keep of `training.loop.train`.
    """
    options = config.train

    def build(level: Level) -> AgentClassifier:
        network = replace(config.network, layers=level.layers, step=level.step)
        return assembly.build_classifier(replace(config, network=network), data, transport)

    levels = plan(options.levels, config.network.layers, config.network.step, options.epochs)
    chosen = {key: value for key, value in asdict(options).items() if key not in ("threads", "levels")}
    recipe = Recipe(**chosen, seed=config.seed, augment=assembly.build_augmentation(config, data))
    if checkpoint is not None:

        def put_back(state: TrainingState) -> None:
            restore(state, *checkpoint)

        callbacks |= {"resumed": checkpoint[1].layers, "restore": put_back}
    return train_levels(levels, model, build, training, validation, recipe, **callbacks)


def useful_threads(model: AgentClassifier, batch_size: int) -> int:
    """Return 1 if a half step ends before a second thread would wake up, else PyTorch's number of threads."""
    multiplications = model.network.matrices()[0].shape[1] * batch_size
    return 1 if multiplications < THREAD_WORK else torch.get_num_threads()


def units_of(data: Dataset) -> float | torch.Tensor:
    """Return the deviation of the targets, (targets,) or (agents, targets), in which errors are told; 1 if unscaled."""
    deviation = data.preparation.target_deviation
    if not deviation:
        return 1.0
    units = torch.tensor(deviation, dtype=torch.float64)
    return units.view(-1, data.outputs) if data.own else units


def split_tensors(config: Config, data: Dataset, which: str) -> Split:
    """Return points and labels of a part of the data ("train", "validation", "test"), in the run's dtype and device."""
    points, labels = data.parts[which]
    dtype = getattr(torch, config.dtype)
    answers = torch.from_numpy(labels).to(config.device, dtype if data.regression else torch.int64)
    return torch.from_numpy(points).to(config.device, dtype), answers


def evaluate(run_directory: Path) -> dict[str, Any]:
    """Return the accuracies (0 to 1), or R², of a trained run on its training and test data.

    Raises ValueError when the directory holds no usable run, CheckpointError when its weights are damaged.
    """
    config = config_of_run(run_directory)
    validate(config)
    data = assembly.build_dataset(config)
    warn_of_other_data(run_directory, data)
    model = assembly.build_classifier(config, data)
    load_weights(model, run_directory)
    result: dict[str, Any] = {}
    for which in ("test", "train", *(["validation"] if "validation" in data.parts else [])):
        evaluation = evaluate_classifier(model, *split_tensors(config, data, which), units_of(data))
        result |= {f"{which}_accuracy": evaluation.accuracy, f"{which}_loss": evaluation.loss}
        result |= {} if evaluation.mse is None else {f"{which}_mse": evaluation.mse}
        result |= agent_figures(model, evaluation, f"{which}_")
        result |= target_figures(model, data, evaluation, f"{which}_")
    return measured(result, measure_of(data)) | per_prediction(config, model.network.layout, data)
