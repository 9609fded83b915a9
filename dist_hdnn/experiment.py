"""The three things one does with a config: inspect it, train it, and evaluate the run it made."""

from __future__ import annotations

import math
import resource
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dist_hdnn import assembly
from dist_hdnn.config import Config, interval
from dist_hdnn.config_checks import validate
from dist_hdnn.config_file import read_config
from dist_hdnn.data import Dataset
from dist_hdnn.failure import reported, write_report
from dist_hdnn.handshake import shake_hands
from dist_hdnn.inspection import coupling, inspect
from dist_hdnn.model.network import HDNN
from dist_hdnn.model.readout import LocalReadout, summed
from dist_hdnn.report import plot_curves, plot_decision, plot_gradient_norms, plot_graph, plot_pattern
from dist_hdnn.report.plots import GRID
from dist_hdnn.report.progress import TrainingProgress
from dist_hdnn.report.run_files import MetricsFiles, measured, versions, write_start, write_summary
from dist_hdnn.resume import Start, begin, identity_of
from dist_hdnn.tables import announce
from dist_hdnn.topology import CommunicationGraph
from dist_hdnn.training.checkpoint import FINAL, load_weights, save_weights
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.keeper import Keeper, Stopped
from dist_hdnn.training.loop import Epoch, NonFiniteError, Split, TrainingState
from dist_hdnn.training.manifest import Manifest
from dist_hdnn.training.metrics import Evaluation, evaluation_batch
from dist_hdnn.training.metrics import evaluate as evaluate_classifier
from dist_hdnn.training.multilevel import Level, plan, train_levels
from dist_hdnn.training.saver import Saver
from dist_hdnn.training.snapshot import restore
from dist_hdnn.transport import Transport
from dist_hdnn.waiting import waiting_figures

__all__ = ["FINAL", "evaluate", "inspect", "train"]

PLOT_WORK = 2_000_000_000  # neurons x layers x points that the decision regions may take
COARSEST = 40  # points along each of their axes; networks that cannot afford as many get no picture of them
MEASURES = {"classification": "accuracy", "regression": "r2"}
"""What the accuracies of a run are called in its files."""
LISTED_LINKS = 2000  # links, beyond which summary.json gives mean and maximum traffic alone
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
    options = config.train
    levels = plan(options.levels, config.network.layers, config.network.step, options.epochs)
    data = assembly.build_dataset(config.data)
    model = assembly.build_classifier(config, data, transport)
    assembly.build_augmentation(config, data)  # complains while there is no run directory
    network = model.network
    if not network.ownership.alone:
        assert transport is not None, "several workers have a transport"
        shake_hands(transport, config, network, data)
    training, test = (split_tensors(config, data, which) for which in ("train", "test"))
    identity = identity_of(config, network.graphs, data)
    start = begin(config, identity, transport)
    directory = start.directory if network.ownership.rank == 0 else None
    if start.done:
        return directory
    one = 1 if config.deterministic else None  # how sums are split over threads changes their bits
    torch.set_num_threads(one or options.threads or useful_threads(model, options.batch_size))
    started, first_step, over_links = time.perf_counter(), dict[str, int](), np.zeros((0, 2), dtype=np.int64)
    batches = math.ceil(len(data.train_x) / options.batch_size)
    steps, first = options.epochs * batches, levels[-1].epochs.start * batches + 1  # `first` of the whole depth
    keeper = _keeper(config, start, identity, model, batches, stop)
    resumed = start.checkpoint[1] if start.checkpoint else None
    step_now = resumed.step if resumed else 0
    command = resume_command(start.directory, network.ownership.workers)
    with (
        run_log(directory, config, network.graph, steps, resumed) as log,
        reported(start.directory, transport, command, lambda: step_now),
    ):

        def on_step(step: int, loss: float) -> None:
            nonlocal over_links, step_now
            step_now = step
            if not first_step and step >= first:
                first_step.update(network.traffic())
                over_links = network.link_traffic()
            log.step(step, loss)

        network.reset_traffic()
        waited, began = list(transport.record.waited) if transport else [], time.perf_counter()
        callbacks = {"on_step": on_step, "on_epoch": log.epoch, "keep": keeper}
        try:
            history = train_model(config, model, data, training, test, transport, start.checkpoint, **callbacks)
        except Stopped as stopped:
            stopped.command = command
            raise
        seconds = time.perf_counter() - began
        if keeper.saver is not None:
            keeper.saver.finish()
    waiting = waiting_figures(transport, waited, seconds) if transport else {}
    weights = model.state_dict()
    result = evaluate_classifier(model, *test)
    summary = _summary(model, history, result, first_step)
    over_links = summed(torch.from_numpy(over_links), network.ownership).numpy()
    if directory is None:
        return None
    save_weights(weights, directory / FINAL, network.architecture.name)
    summary = measured(summary, MEASURES[config.data.task])
    settings = _settings(config, transport, time.perf_counter() - started) | inputs_of(data)
    settings |= {"resumed_after_step": resumed.step} if resumed else {}
    settings |= waiting
    write_report(directory, {"status": "done", "exit_code": 0})
    write_summary(directory, summary | _link_figures(network.graph, over_links) | settings)
    _draw(directory / "plots", config, data, history, result, over_links, model)
    return directory


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
    test: Split,
    transport: Transport | None = None,
    checkpoint: tuple[Path, Manifest] | None = None,
    **callbacks: Any,
) -> list[Epoch]:
    """Train the model of a config in place by its recipe, level by level where it has levels; its records.

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
    return train_levels(levels, model, build, training, test, seed=config.seed, augment=augment, **recipe, **callbacks)


@contextmanager
def run_log(
    directory: Path | None, config: Config, graph: CommunicationGraph, steps: int, resumed: Manifest | None = None
) -> Iterator[RunLog]:
    """Metrics files and progress of a run; of workers without a run directory, nothing.

    resumed: of the checkpoint that the run goes on from; what the files say of later epochs is forgotten.
    """
    if directory is None:
        yield RunLog(None, None)
        return
    write_start(directory, graph, torch.get_num_threads(), config.device)
    (directory / "summary.json").unlink(missing_ok=True)  # what it says of a run that was stopped is over
    measure = MEASURES[config.data.task]
    with TrainingProgress(config.name, config.train.epochs, steps, measure) as progress:
        try:
            metrics = MetricsFiles(directory, measure)
            metrics.begin(resumed.history if resumed else [])
            yield RunLog(metrics, progress)
        except NonFiniteError as error:
            write_summary(directory, {"status": "non-finite", "error": str(error), "seed": config.seed})
            raise
        except Stopped as error:
            write_summary(
                directory, {"status": "stopped", "error": str(error), "steps": error.step, "seed": config.seed}
            )
            raise


@dataclass(frozen=True)
class RunLog:
    """Where a run's steps and epochs are told."""

    metrics: MetricsFiles | None
    progress: TrainingProgress | None

    def step(self, step: int, loss: float) -> None:
        """After every gradient step."""
        if self.progress is not None:
            self.progress.step(step, loss)

    def epoch(self, record: Epoch) -> None:
        """After every epoch."""
        if self.metrics is not None and self.progress is not None:
            self.metrics.write(record)
            self.progress.epoch(record)


def evaluate(run_directory: Path) -> dict[str, Any]:
    """Accuracies of a trained run on its training and test data, as shares between 0 and 1; of a regression R².

    Raises ValueError when the directory holds no usable run, CheckpointError when its weights are damaged.
    """
    config = read_config(run_directory / "config.yaml")
    validate(config)
    data = assembly.build_dataset(config.data)
    model = assembly.build_classifier(config, data)
    load_weights(model, run_directory)
    result: dict[str, Any] = {}
    for which in ("test", "train"):
        found = evaluate_classifier(model, *split_tensors(config, data, which))
        result |= {f"{which}_accuracy": found.accuracy, f"{which}_loss": found.loss}
        if found.per_agent is not None:
            result |= _agent_figures(found, f"{which}_")
    return measured(result, MEASURES[config.data.task])


def useful_threads(model: AgentClassifier, batch_size: int) -> int:
    """One thread for half steps that are over before a second thread has woken up, else PyTorch's choice."""
    multiplications = model.network.matrices()[0].shape[1] * batch_size
    return 1 if multiplications < THREAD_WORK else torch.get_num_threads()


def split_tensors(config: Config, data: Dataset, which: str) -> Split:
    """The training or test points and labels as tensors of the run's dtype on its device."""
    points, labels = (data.train_x, data.train_y) if which == "train" else (data.test_x, data.test_y)
    dtype = getattr(torch, config.dtype)
    answers = torch.from_numpy(labels).to(config.device, dtype if data.regression else torch.int64)
    return torch.from_numpy(points).to(config.device, dtype), answers


def _agent_figures(result: Evaluation, prefix: str = "") -> dict[str, Any]:
    return {
        f"{prefix}mean_agent_accuracy": result.mean_agent,
        f"{prefix}worst_agent_accuracy": result.worst_agent,
        f"{prefix}agent_accuracy": result.per_agent,
    }


def _summary(
    model: AgentClassifier, history: list[Epoch], result: Evaluation, first_step: dict[str, int]
) -> dict[str, Any]:
    """What summary.json promises, summed over workers; messages and bytes are those of the first training step.

    In one process they are what the agents would send, each on its own; else what the workers sent.
    """
    network, last = model.network, history[-1]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    counts = torch.tensor([*first_step.values(), parameters, _peak_memory()], dtype=torch.int64)
    traffic = dict(zip([*first_step, "parameters", "memory"], summed(counts, network.ownership).tolist(), strict=True))
    seconds = sorted(record.seconds for record in history)[len(history) // 2] * len(history) / last.step
    return {
        "status": "done",
        "test_accuracy": result.accuracy,
        "train_accuracy": last.train_accuracy,
        "loss": last.loss,
        **(_agent_figures(result) if result.per_agent is not None else {}),
        "agents": network.graph.agents,
        "links": len(network.graph.links),
        "parameters": traffic["parameters"],
        "layers": network.layers,
        "plan": network.plan,
        "epochs": last.epoch,
        "steps": last.step,
        "seconds_per_step": seconds,
        "peak_memory_bytes": traffic["memory"],
        "messages_per_step": traffic.get("messages"),  # None: the run went on from after its last step
        "bytes_per_step": traffic.get("bytes"),
        "non_neighbour_messages": traffic.get("non_neighbour_messages", 0),
        **_reconstruction(network),
    }


def _reconstruction(network: HDNN) -> dict[str, float]:
    """Of a reversible network, the largest relative error of a rebuilt state in training, over all workers."""
    ownership, error = network.ownership, network.reconstruction_error()
    if network.sweep.memory != "reversible":
        return {}
    of_workers = torch.zeros(ownership.workers, dtype=torch.float64)
    of_workers[ownership.rank] = error or 0.0
    return {"reconstruction_error": float(summed(of_workers, ownership).max())}


def inputs_of(data: Dataset) -> dict[str, Any]:
    """What one has to know of the data to use the trained network: scale and names."""
    return {
        "task": "regression" if data.regression else "classification",
        "normalisation": data.normalisation,
        **({"class_names": data.class_names} if data.class_names is not None else {}),
    }


def _settings(config: Config, transport: Transport | None, seconds: float) -> dict[str, Any]:
    return {
        "workers": 1 if transport is None else transport.size,
        "transport": "local" if transport is None else transport.name,
        "seconds": seconds,
        "seed": config.seed,
        "dtype": config.dtype,
        "device": config.device,
        "versions": versions(),
        **coupling(config),
    }


def _peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes (Linux counts in KiB, macOS in bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _link_figures(graph: CommunicationGraph, over_links: NDArray[np.int64]) -> dict[str, Any]:
    """Messages and bytes of a step over each link, by the agents' names; of large graphs mean and maximum alone."""
    amount = over_links[:, 1] if len(over_links) else np.zeros(1, dtype=np.int64)
    figures: dict[str, Any] = {"bytes_per_link": {"mean": float(amount.mean()), "max": int(amount.max())}}
    if len(over_links) <= LISTED_LINKS:
        rows = zip(graph.links.tolist(), over_links.tolist(), strict=True)
        figures["link_traffic"] = [[graph.names[i], graph.names[j], *counts] for (i, j), counts in rows]
    return figures


def _draw(
    plots: Path,
    config: Config,
    data: Dataset,
    history: list[Epoch],
    result: Evaluation,
    over_links: NDArray[np.int64],
    model: AgentClassifier,
) -> None:
    """Every picture of a run, by one process, which reads the weights back if several workers trained them."""
    announce("drawing the plots")
    if not model.network.ownership.alone:
        model = assembly.build_classifier(config, data)
        load_weights(model, plots.parent / FINAL)
    network = model.network
    per_agent = None
    if isinstance(model.readout, LocalReadout) and result.per_agent is not None and not data.regression:
        per_agent = np.full(network.graph.agents, np.nan)
        per_agent[model.readout.output_agents] = result.per_agent
    plot_curves([asdict(record) for record in history], plots / "curves.png", MEASURES[config.data.task])
    plot_graph(network.graph, model.sensors, per_agent, plots / "graph.png", data.feature_names)
    plot_graph(
        network.graph, model.sensors, None, plots / "traffic.png", data.feature_names, link_bytes=over_links[:, 1]
    )
    plot_pattern(network.K_patterns[0], plots / "pattern.png")
    logged = [record.gradient_norms for record in history if record.gradient_norms is not None]
    gradients = [norms for norms in logged if len(norms) == len(logged[-1])]  # of the whole depth, after all levels
    if gradients:
        plot_gradient_norms(np.array(gradients), plots / "gradients.png")
    if data.features == 2 and not data.regression:
        affordable = math.isqrt(PLOT_WORK // (network.neurons * network.layers))
        if affordable >= COARSEST:
            grid = min(GRID, affordable)
            plot_decision(lambda points: _probabilities(model, points), data, plots / "decision.png", grid)


@torch.no_grad()
def _probabilities(model: AgentClassifier, points: Any) -> Any:
    """Points (n, 2) -> class shares (n, classes): softmax of the scores, with agents that classify, their mean."""
    parameter = next(model.network.parameters())
    parts = torch.from_numpy(points).to(parameter.device, parameter.dtype).split(evaluation_batch(model))
    scores = torch.cat([model(part) for part in parts])
    shares = scores.softmax(dim=-1)
    return (shares if shares.ndim == 2 else shares.mean(dim=1)).cpu().double().numpy()
