"""The three things one does with a config: inspect it, train it, and evaluate the run it made."""

from __future__ import annotations

import math
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from dist_hdnn.build import assembly, warm_start
from dist_hdnn.config import Config, interval
from dist_hdnn.config.checks import validate
from dist_hdnn.data import Dataset
from dist_hdnn.experiment.ending import finish, settings_of
from dist_hdnn.experiment.resume import Start, begin, identity_of, warn_of_other_data
from dist_hdnn.inspection import inspect, per_prediction
from dist_hdnn.launching.failure import reported
from dist_hdnn.launching.waiting import patient, waiting_figures
from dist_hdnn.run.directory import config_of_run
from dist_hdnn.run.files import MetricsFiles, measure_of, measured, versions, write_start
from dist_hdnn.run.handshake import shake_hands
from dist_hdnn.run.log import RunLog, logged
from dist_hdnn.run.progress import TrainingProgress
from dist_hdnn.run.summary import agent_figures, inputs_of
from dist_hdnn.training.checkpoints.manifest import Manifest
from dist_hdnn.training.checkpoints.saver import Saver
from dist_hdnn.training.checkpoints.schedule import Keeper, Stopped
from dist_hdnn.training.checkpoints.snapshot import restore
from dist_hdnn.training.checkpoints.weights_file import FINAL, load_weights
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.loop import Epoch, Split, TrainingState
from dist_hdnn.training.metrics import evaluate as evaluate_classifier
from dist_hdnn.training.multilevel import Level, plan, train_levels
from dist_hdnn.transport import Transport

__all__ = ["FINAL", "RunLog", "evaluate", "inputs_of", "inspect", "train"]

THREAD_WORK = 4_000_000  # multiplications of one product, about a millisecond of one core


def train(
    config: Config, transport: Transport | None = None, stop: Callable[[], str | None] = lambda: None
) -> Path | None:
    """Train the network that a validated config describes; returns the run directory.

    Several workers call it together, each with its transport: worker 0 writes and returns the run directory, the others
    return None. Everything is checked before the run directory is made, and that before the first step. stop: what asks
    this worker to stop, None so far; if it is ever more, all workers stop with a checkpoint.
    Raises ValueError for bad input, NonFiniteError, DisagreementError, TransportError, CheckpointError when there is
    nothing to resume from, Stopped, OSError when the disk fails.
    """
    data, model = _prepared(config, transport)
    identity = identity_of(config, model.network.graphs, data)
    warm = config.warm_start is not None
    kept = warm_start.start_from(config, model, data) if warm and config.resume is None else None
    start = begin(config, identity, transport)
    directory = start.directory if model.network.ownership.rank == 0 else None
    with start.lock:
        if start.done:
            return directory
        if warm and kept is None and start.checkpoint is None:
            kept = warm_start.start_from(config, model, data)
        if kept is not None and directory is not None:
            warm_start.write(directory, kept)
            print(f"dist-hdnn: {warm_start.in_words(kept)}", file=sys.stderr, flush=True)
        return _train(config, data, model, start, identity, transport, stop)


def _train(
    config: Config,
    data: Dataset,
    model: AgentClassifier,
    start: Start,
    identity: dict[str, Any],
    transport: Transport | None,
    stop: Callable[[], str | None],
) -> Path | None:
    """From the first step to the last picture, in a run that is this process's own."""
    ownership = model.network.ownership
    directory = start.directory if ownership.rank == 0 else None
    one = 1 if config.deterministic else None  # how sums are split over threads changes their bits
    torch.set_num_threads(one or config.train.threads or useful_threads(model, config.train.batch_size))
    started = time.perf_counter()
    training = split_tensors(config, data, "train")
    validation = split_tensors(config, data, "validation") if "validation" in data.parts else None
    command = resume_command(start.directory, ownership.workers)
    keeper = _keeper(config, start, identity, model, _batches(config, data), stop)
    waited = list(transport.record.waited) if transport else []
    log = _log(config, data, model, start, directory)
    with logged(log, directory, config.seed), reported(start.directory, transport, command, lambda: log.now):
        callbacks = {"on_step": log.step, "on_epoch": log.epoch, "keep": keeper}
        try:
            history = train_model(config, model, data, training, validation, transport, start.checkpoint, **callbacks)
        except Stopped as stopped:
            stopped.command = command
            raise
        if keeper.saver is not None:
            keeper.saver.finish()
    seconds = time.perf_counter() - started
    waiting = waiting_figures(transport, waited, seconds) if transport else {}
    result = evaluate_classifier(model, *split_tensors(config, data, "test"))  # read once, here
    resumed = {"resumed_after_step": start.checkpoint[1].step} if start.checkpoint else {}
    settings = settings_of(config, data, identity, transport, seconds) | inputs_of(data) | resumed | waiting
    finish(config, data, model, log, history, result, settings, directory)
    if transport is not None:
        with patient(transport):  # worker 0 writes and draws
            transport.barrier()
    return directory


def _prepared(config: Config, transport: Transport | None) -> tuple[Dataset, AgentClassifier]:
    """Data and model, which complain here, while there is no run directory; all workers have the same."""
    options = config.train
    plan(options.levels, config.network.layers, config.network.step, options.epochs)
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data, transport)
    assembly.build_augmentation(config, data)
    if options.patience is not None and "validation" not in data.parts:
        raise ValueError(
            f"train.patience: expected validation data to stop by, got none in {data.name}; set "
            "data.validation_fraction=0.2, or leave patience out"
        )
    if not model.network.ownership.alone:
        assert transport is not None, "several workers have a transport"
        shake_hands(transport, config, model.network, data)
    return data, model


def _log(config: Config, data: Dataset, model: AgentClassifier, start: Start, directory: Path | None) -> RunLog:
    """The log of a run, whose files it begins; counts the traffic of the first step of the network's whole depth."""
    options, network = config.train, model.network
    batches, measure = _batches(config, data), measure_of(data)
    levels = plan(options.levels, network.layers, network.step, options.epochs)
    resumed = start.checkpoint[1] if start.checkpoint else None
    network.reset_traffic()
    log = RunLog(network, levels[-1].epochs.start * batches + 1, resumed.step if resumed else 0)
    if directory is not None:
        write_start(directory, network.graph, torch.get_num_threads(), config.device, data.preparation)
        log.progress = TrainingProgress(config.name, options.epochs, options.epochs * batches, measure)
        log.metrics = MetricsFiles(directory, measure)
        log.metrics.begin(resumed.history if resumed else [])  # what they say of later epochs is forgotten
    return log


def _batches(config: Config, data: Dataset) -> int:
    """Gradient steps of an epoch."""
    return math.ceil(len(data.train_x) / config.train.batch_size)


def _keeper(
    config: Config,
    start: Start,
    identity: dict[str, Any],
    model: AgentClassifier,
    batches: int,
    stop: Callable[[], str | None],
) -> Keeper:
    """What saves and stops this worker's training."""
    ownership, saver = model.network.ownership, None
    if start.seen:
        folder = start.directory / "checkpoints"
        saver = Saver(
            folder,
            ownership.rank,
            ownership.workers,
            start.nonce,
            identity,
            versions(),
            config.checkpoint.keep,
            config.timeout,
        )
        if ownership.rank == 0:
            saver.clean()
    elif ownership.rank == 0:
        warnings.warn(
            f"checkpoints: not all workers see {start.directory}, so none are written; use a directory that they share",
            UserWarning,
            stacklevel=3,
        )
    every, unit = interval(config.checkpoint.every)
    return Keeper(saver, ownership, every, unit, batches, stop)


def resume_command(directory: Path, workers: int) -> str:
    """What a user types to go on with a run; on any number of workers, so the one it had."""
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
    """Train the model of a config in place by its recipe, level by level where it has levels; its records.

    validation: what chooses the epoch whose weights the model gets, see `training.loop.train`.
    checkpoint: a verified one to go on from. callbacks: on_step, on_epoch and keep of `training.loop.train`.
    """
    options = config.train

    def build(level: Level) -> AgentClassifier:
        network = replace(config.network, layers=level.layers, step=level.step)
        return assembly.build_classifier(replace(config, network=network), data, transport)

    levels = plan(options.levels, config.network.layers, config.network.step, options.epochs)
    recipe = {key: value for key, value in asdict(options).items() if key not in ("threads", "levels")}
    augment = assembly.build_augmentation(config, data)
    if checkpoint is not None:

        def put_back(state: TrainingState) -> None:
            restore(state, *checkpoint)

        recipe |= {"resumed": checkpoint[1].layers, "restore": put_back}
    recipe |= {"seed": config.seed, "augment": augment, **callbacks}
    return train_levels(levels, model, build, training, validation, **recipe)


def evaluate(run_directory: Path) -> dict[str, Any]:
    """Accuracies of a trained run on its training and test data, as shares between 0 and 1; of a regression R².

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
        found = evaluate_classifier(model, *split_tensors(config, data, which))
        result |= {f"{which}_accuracy": found.accuracy, f"{which}_loss": found.loss}
        result |= agent_figures(model, found, f"{which}_")
    return measured(result, measure_of(data)) | per_prediction(config, data)


def useful_threads(model: AgentClassifier, batch_size: int) -> int:
    """One thread for half steps that are over before a second thread has woken up, else PyTorch's choice."""
    multiplications = model.network.matrices()[0].shape[1] * batch_size
    return 1 if multiplications < THREAD_WORK else torch.get_num_threads()


def split_tensors(config: Config, data: Dataset, which: str) -> Split:
    """Points and labels of a part of the data ("train", "validation", "test"), in the run's dtype on its device."""
    points, labels = data.parts[which]
    dtype = getattr(torch, config.dtype)
    answers = torch.from_numpy(labels).to(config.device, dtype if data.regression else torch.int64)
    return torch.from_numpy(points).to(config.device, dtype), answers
