"""The three things one does with a config: inspect it, train it, and evaluate the run it made."""

from __future__ import annotations

import math
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dist_hdnn import assembly
from dist_hdnn.config import Config, validate
from dist_hdnn.config_file import read_config
from dist_hdnn.data import Dataset
from dist_hdnn.inspection import inspect
from dist_hdnn.report import plot_curves, plot_decision, plot_graph, plot_pattern
from dist_hdnn.report.progress import TrainingProgress
from dist_hdnn.report.run_files import MetricsFiles, versions, write_start, write_summary
from dist_hdnn.rundir import prepare_run_directory
from dist_hdnn.training.checkpoint import load_weights, save_weights
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.loop import Epoch, Split
from dist_hdnn.training.loop import train as train_classifier
from dist_hdnn.training.metrics import Evaluation
from dist_hdnn.training.metrics import evaluate as evaluate_classifier

__all__ = ["evaluate", "inspect", "train"]

FINAL = Path("checkpoints") / "final.safetensors"
THREAD_WORK = 4_000_000  # multiplications of one product, about a millisecond of one core


def train(config: Config) -> Path:
    """Train the network that a validated config describes; returns the run directory.

    Everything is checked before the run directory is made, and that before the first step. Raises ValueError for bad
    input, NonFiniteError, OSError when the disk fails.
    """
    data = assembly.build_dataset(config.data)
    model = assembly.build_classifier(config, data)
    training, test = (split_tensors(config, data, which) for which in ("train", "test"))
    directory = prepare_run_directory(config)
    torch.set_num_threads(config.train.threads or _useful_threads(model, config.train.batch_size))
    write_start(directory, model.network.graph, torch.get_num_threads(), config.device)
    options = config.train
    steps = options.epochs * math.ceil(len(data.train_x) / options.batch_size)
    metrics, traffic = MetricsFiles(directory), dict[str, int]()
    started = time.perf_counter()
    with TrainingProgress(config.name, options.epochs, steps) as progress:

        def on_step(step: int, loss: float) -> None:
            if step == 1:
                traffic.update(model.network.traffic())
            progress.step(step, loss)

        def on_epoch(record: Epoch) -> None:
            metrics.write(record)
            progress.epoch(record)

        model.network.reset_traffic()
        recipe = {key: value for key, value in asdict(options).items() if key != "threads"}
        try:
            history = train_classifier(
                model, training, test, seed=config.seed, on_step=on_step, on_epoch=on_epoch, **recipe
            )
        except ArithmeticError as error:
            write_summary(directory, {"status": "non-finite", "error": str(error), "seed": config.seed})
            raise
    save_weights(model, directory / FINAL)
    result = evaluate_classifier(model, *test)
    summary = _summary(model, history, result, traffic) | {
        "seconds": time.perf_counter() - started,
        "seed": config.seed,
        "dtype": config.dtype,
        "device": config.device,
        "versions": versions(),
    }
    write_summary(directory, summary)
    _draw(directory / "plots", model, data, history, result)
    return directory


def evaluate(run_directory: Path) -> dict[str, Any]:
    """Accuracies of a trained run on its training and test data, as shares between 0 and 1.

    Raises ValueError when the directory holds no usable run, CheckpointError when its weights are damaged.
    """
    config = read_config(run_directory / "config.yaml")
    validate(config)
    data = assembly.build_dataset(config.data)
    model = assembly.build_classifier(config, data)
    load_weights(model, run_directory / FINAL)
    result: dict[str, Any] = {}
    for which in ("test", "train"):
        found = evaluate_classifier(model, *split_tensors(config, data, which))
        result |= {f"{which}_accuracy": found.accuracy, f"{which}_loss": found.loss}
        if found.per_agent is not None:
            result |= _agent_figures(found, f"{which}_")
    return result


def _useful_threads(model: AgentClassifier, batch_size: int) -> int:
    """One thread for half steps that are over before a second thread has woken up, else PyTorch's choice."""
    multiplications = model.network.Kp[0].shape[1] * batch_size
    return 1 if multiplications < THREAD_WORK else torch.get_num_threads()


def split_tensors(config: Config, data: Dataset, which: str) -> Split:
    """The training or test points and labels as tensors of the run's dtype on its device."""
    points, labels = (data.train_x, data.train_y) if which == "train" else (data.test_x, data.test_y)
    dtype = getattr(torch, config.dtype)
    return torch.from_numpy(points).to(config.device, dtype), torch.from_numpy(labels).to(config.device)


def _agent_figures(result: Evaluation, prefix: str = "") -> dict[str, Any]:
    return {
        f"{prefix}mean_agent_accuracy": result.mean_agent,
        f"{prefix}worst_agent_accuracy": result.worst_agent,
        f"{prefix}agent_accuracy": result.per_agent,
    }


def _summary(
    model: AgentClassifier, history: list[Epoch], result: Evaluation, traffic: dict[str, int]
) -> dict[str, Any]:
    """What summary.json promises; messages and bytes are those of the first training step, counted agent to agent."""
    net, last = model.network, history[-1]
    seconds = sorted(record.seconds for record in history)[len(history) // 2] * len(history) / last.step
    return {
        "status": "done",
        "test_accuracy": result.accuracy,
        "train_accuracy": last.train_accuracy,
        "loss": last.loss,
        **(_agent_figures(result) if result.per_agent is not None else {}),
        "agents": net.graph.agents,
        "links": len(net.graph.links),
        "workers": 1,
        "transport": "local",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "layers": net.layers,
        "epochs": last.epoch,
        "steps": last.step,
        "seconds_per_step": seconds,
        "peak_memory_bytes": _peak_memory(),
        "messages_per_step": traffic["messages"],
        "bytes_per_step": traffic["bytes"],
        "non_neighbour_messages": traffic["non_neighbour_messages"],
    }


def _peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes (Linux counts in KiB, macOS in bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _draw(plots: Path, model: AgentClassifier, data: Dataset, history: list[Epoch], result: Evaluation) -> None:
    """Every picture of a run."""
    net = model.network
    plot_curves([asdict(record) for record in history], plots / "curves.png")
    plot_graph(net.graph, model.sensors, result.per_agent, plots / "graph.png", data.feature_names)
    plot_pattern(net.K_patterns[0], plots / "pattern.png")
    if data.features == 2:
        plot_decision(lambda points: _probabilities(model, points), data, plots / "decision.png")


@torch.no_grad()
def _probabilities(model: AgentClassifier, points: Any) -> Any:
    """Points (n, 2) -> class shares (n, classes): softmax of the scores, with a local readout the agents' mean."""
    parameter = model.network.bp
    scores: Tensor = model(torch.from_numpy(points).to(parameter.device, parameter.dtype))
    shares = scores.softmax(dim=-1)
    return (shares if shares.ndim == 2 else shares.mean(dim=1)).cpu().double().numpy()
