"""A trained run as a model from reading to answer: `dist_hdnn.load_run`, and what `dist-hdnn predict` writes.

run = dist_hdnn.load_run("plant")       a run directory, or the name of a run
run.predict("today.csv")                names of classes, or targets in their own units
run(readings)                           raw readings (batch, features) -> scores: an nn.Module
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dist_hdnn.build import assembly
from dist_hdnn.config import Config, forget_workers
from dist_hdnn.config.checks import validate
from dist_hdnn.config.data import AGENT_TASKS
from dist_hdnn.config.paths import user_path
from dist_hdnn.data import TOYS, Dataset
from dist_hdnn.data.readers.readings import Rows, points
from dist_hdnn.ends.readout import LocalReadout, SumReadout
from dist_hdnn.ends.scaler import Scaler
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.run.directory import config_of_run, find_run
from dist_hdnn.run.files import PREPARATION, read_preparation
from dist_hdnn.training.checkpoints.weights_file import load_weights
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.evaluation import evaluation_batch


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers for consecutive rows. rows: (n,) their numbers from 0. kept: columns that are passed through.

    prediction: (n,) names or numbers of classes, or real targets (n, targets) in their own units; (n, agents) or (n,
    agents, targets) where agents have targets of their own.
    probabilities: (n, classes), the mean over the agents where these answer; (n, agents, classes) of own targets; None
    for real targets.
    by_agent: (n, agents), or (n, agents, targets), the answer of each agent; None with a `sum` readout.
    """

    rows: NDArray[np.int64]
    kept: Mapping[str, Sequence[Any]]
    prediction: NDArray[Any]
    probabilities: NDArray[Any] | None
    by_agent: NDArray[Any] | None


class TrainedRun(nn.Module):
    """A run as one module in one process: raw readings (batch, readings) -> scores, by scale, lift, network, readout.

    features: names of the readings that forward takes, of a time series column by column, the oldest first; NaN in gaps
    where the run fills them (with its last reading: filled and marked). columns: names of the columns of a file.
    classes: names of the classes, or their numbers; () of a regression. agents: names of the agents that answer; ()
    with a `sum` readout. own: names of the targets of each of them, where agents have targets of their own.
    targets: names of all targets, () of classes that all agents share. net: the HDNN.
    """

    def __init__(self, directory: Path, config: Config, data: Dataset, model: AgentClassifier) -> None:
        super().__init__()
        self.directory, self.config, self.model, fitted = directory, config, model, data.preparation
        order = model.readout.columns if isinstance(model.readout, LocalReadout) else None
        self.scaler = Scaler(fitted, data.feature_names, getattr(torch, config.dtype), order)
        self.preparation, self.regression = fitted, data.regression
        self.features, self.columns = self.scaler.names, fitted.columns or data.feature_names
        self.classes: tuple[Any, ...] = () if data.regression else data.class_names or tuple(range(data.classes))
        readout, names = model.readout, model.network.graph.names
        answering = () if isinstance(readout, SumReadout) else readout.output_agents
        self.agents: tuple[str, ...] = tuple(names[agent] for agent in answering)
        self.own = tuple(data.own_names[i] for i in order.tolist()) if data.own and order is not None else ()
        self.targets = tuple(name for names in self.own for name in names) if self.own else data.target_names
        self.eval().requires_grad_(False)

    @property
    def net(self) -> HDNN:
        """The network."""
        return self.model.network

    def forward(self, x: Tensor) -> Tensor:
        """Map raw readings (batch, features) to scores (batch, [agents,] classes), or targets in their own units."""
        scores: Tensor = self.model(self.scaler(x))
        return self.scaler.answers(scores)

    def predict(self, source: Any, keep: Sequence[str] = ()) -> NDArray[Any]:
        """Predict for the rows of a file, a data frame or an array, in order: (n,), of several targets (n, targets).

        source: a path of .csv, .parquet, .npz or .npy; a frame, whose columns are found by name; or (n, columns).
        keep: columns of a table that are no readings; any other is refused.
        Classes are answered by name where they have names. Of a time series the first rows, before a window is full,
        have no answer. Where agents have targets of their own: (n, agents), of several targets (n, agents, targets).
        Raises ValueError, one line.
        """
        predictions: NDArray[Any] = np.concatenate([part.prediction for part in self.answers(source, keep)])
        if self.own:
            return predictions[..., 0] if self.regression and len(self.own[0]) == 1 else predictions
        return predictions.reshape(-1) if len(self.targets) == 1 else predictions

    def answers(self, source: Any, keep: Sequence[str] = ()) -> Iterator[Answers]:
        """Yield the answers batch by batch. source, keep: as in `predict`; columns to keep are passed through."""
        who = "predict"
        if isinstance(source, str | Path):
            source, who = user_path(source, who), f"{who}: {source}"
        named = replace(self.preparation, columns=self.columns)
        for part in points(source, named, keep, evaluation_batch(self.model), who):
            yield self._answered(part)

    def table(self, part: Answers, probabilities: bool = False, agents: bool = False) -> dict[str, Any]:
        """Return answers as columns by name: row, kept columns, prediction or targets, and on request more.

        A forecast is named like "flow[t+3]", and "predicted_..." stands before names of columns that are kept.
        Raises ValueError for answers of agents that have none, probabilities of targets, and names that clash.
        """
        columns: list[tuple[str, Any]] = [("row", part.rows), *part.kept.items()]
        if self.targets:
            ahead = f"[t+{self.preparation.ahead}]" if self.preparation.ahead else ""
            names = [name + ahead for name in self.targets]
            if {name for name, _ in columns} & set(names):  # measured targets that are passed through
                names = [f"predicted_{name}" for name in names]
            columns += zip(names, part.prediction.reshape(len(part.rows), -1).T, strict=True)
        else:
            columns.append(("prediction", part.prediction))
        if probabilities:
            if part.probabilities is None:
                raise ValueError("predict: expected classes for --probabilities, got a regression; leave it out")
            columns += self._shares(part.probabilities)
        if agents:
            columns += self._of_agents(part.by_agent)
        names = [name for name, _ in columns]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"predict: expected columns of different names, got {repeated[0]!r} twice; rename yours")
        return dict(columns)

    def _shares(self, probabilities: NDArray[Any]) -> list[tuple[str, Any]]:
        """Return the probabilities (n, classes), or of each agent's own target (n, agents, classes), as columns."""
        if not self.own:
            return [(f"probability_{name}", share) for name, share in zip(self.classes, probabilities.T, strict=True)]
        return [
            (f"probability_{target}_{name}", probabilities[:, i, k])
            for i, (target,) in enumerate(self.own)
            for k, name in enumerate(self.classes)
        ]

    def _of_agents(self, by_agent: NDArray[Any] | None) -> list[tuple[str, Any]]:
        if self.own:
            raise ValueError(
                "predict: expected one answer of all agents for --agents, got each agent's own; leave it out"
            )
        if by_agent is None:
            kind = self.config.readout.kind
            raise ValueError(
                f"predict: expected agents that answer by themselves, got readout.kind={kind}; leave it out"
            )
        if not self.regression or len(self.targets) == 1:
            each = by_agent.reshape(len(by_agent), -1)
            return [(f"agent_{name}", each[:, i]) for i, name in enumerate(self.agents)]
        return [
            (f"agent_{name}_{target}", by_agent[:, i, k])
            for i, name in enumerate(self.agents)
            for k, target in enumerate(self.targets)
        ]

    def _answered(self, part: Rows) -> Answers:
        readout, device = self.model.readout, self.scaler.shift.device
        x = torch.from_numpy(part.x.astype(self.preparation.dtype))
        scores = self.model(self.scaler.scaled(x.to(device)))
        if self.own:
            return self._own(part, scores)
        prediction, rows = self._named(readout.predict(scores)), part.first + np.arange(len(part.x))
        if self.regression:
            return Answers(rows, part.kept, prediction, None, self._named(scores) if self.agents else None)
        shares, by_agent = scores.double().softmax(dim=-1), None
        if self.agents:
            shares, by_agent = shares.mean(dim=1), self._named(scores.argmax(dim=-1))
        return Answers(rows, part.kept, prediction, shares.cpu().numpy(), by_agent)

    def _own(self, part: Rows, scores: Tensor) -> Answers:
        """Return the answers of every agent to its own question, agents as in `agents`."""
        rows = part.first + np.arange(len(part.x))
        if self.regression:
            return Answers(rows, part.kept, self._named(scores), None, None)
        shares = scores.double().softmax(dim=-1).cpu().numpy()
        return Answers(rows, part.kept, self._named(scores.argmax(dim=-1)), shares, None)

    def _named(self, answers: Tensor) -> NDArray[Any]:
        """Return classes by name, targets in their own units."""
        if self.regression:
            return np.asarray(self.scaler.answers(answers).cpu().numpy())
        names: NDArray[Any] = np.array(self.classes)[answers.cpu().numpy()]
        return names


def load_run(run: str | Path, device: str = "cpu", deterministic: bool | None = None) -> TrainedRun:
    """Load a trained run from its directory or by its name, on one process, whatever workers have trained it.

    deterministic: by default as the run was trained.
    Raises ValueError where there is no such run, CheckpointError when its weights are missing or damaged.
    """
    directory = find_run(str(run))
    config = replace(config_of_run(directory), device=device)
    return with_weights(directory, config if deterministic is None else replace(config, deterministic=deterministic))


def with_weights(directory: Path, config: Config) -> TrainedRun:
    """Load the weights of a run into the network of a config, on one process. Raises as `load_run`."""
    forget_workers(config, {})
    validate(config)
    data = data_shell(directory, config)
    model = assembly.build_classifier(config, data)
    load_weights(model, directory)
    return TrainedRun(directory, config, data, model).to(config.device)


def data_shell(directory: Path, config: Config) -> Dataset:
    """Return the data set of a run without its samples, which may be gone; generated points and old runs keep them."""
    if config.data.name in (*TOYS, *AGENT_TASKS) or not (directory / PREPARATION).is_file():
        return assembly.build_dataset(config)
    fitted = read_preparation(directory)
    targets = len(fitted.target_mean) or (1 if fitted.target else 0) or len(fitted.targets)
    if not fitted.classes and not targets:
        return assembly.build_dataset(config)
    names = tuple(f"x{i + 1}" for i in range(math.prod(fitted.image))) if fitted.image else fitted.features
    x, agents = np.zeros((0, len(names)), dtype=fitted.dtype), len(fitted.answering)
    y: NDArray[Any]
    if fitted.targets:
        y = np.zeros((0, agents), np.int64) if fitted.classes else np.zeros((0, agents, len(fitted.targets) // agents))
    else:
        y = np.zeros(0, dtype=np.int64) if fitted.classes else np.zeros((0, targets))
    arrays: dict[str, Any] = {"train_x": x, "train_y": y, "test_x": x, "test_y": y}
    return Dataset(
        config.data.name,
        classes=fitted.classes,
        feature_names=names,
        image=fitted.image,
        class_names=fitted.class_names,
        preparation=fitted,
        **arrays,
    )
