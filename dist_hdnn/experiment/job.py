"""What all parts of a training share: its config, its data, its model, and the digests that identify them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from dist_hdnn.build import assembly
from dist_hdnn.config import Config
from dist_hdnn.data import Dataset
from dist_hdnn.run.handshake import identity_of, shake_hands
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.loop import Split
from dist_hdnn.training.multilevel import Level, plan
from dist_hdnn.transport import Transport

THREAD_WORK = 4_000_000  # multiplications of one product, about a millisecond of one core


@dataclass(frozen=True)
class Job:
    """One worker's end of a training; model: its part. identity: see `handshake.identity_of`."""

    config: Config
    data: Dataset
    model: AgentClassifier
    transport: Transport | None
    levels: list[Level]
    identity: dict[str, Any]

    @property
    def writes(self) -> bool:
        """Whether this worker writes the run directory."""
        return self.transport is None or self.transport.rank == 0

    @property
    def batches(self) -> int:
        """Gradient steps per epoch."""
        return math.ceil(len(self.data.train_x) / self.config.train.batch_size)


def prepare(config: Config, transport: Transport | None) -> Job:
    """Build data and model, which raise ValueError here, while there is no run directory; compare all workers'."""
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
    identity = identity_of(config, model.network.graphs, data)
    shake_hands(transport, config, model.network, identity)
    return Job(config, data, model, transport, levels, identity)


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
