"""The training loop, from top to bottom: batch order, loss, gradient step, epoch report.

Gradient steps are joint on sweep, readout and learned initial state. Everything random is a function of (seed, epoch).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dist_hdnn.data.batches import batch_order
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.gradients import GradientLog
from dist_hdnn.training.metrics import evaluate

BETAS = (0.9, 0.95)  # a memory of 20 steps for the squares; with 1000 a first large gradient stalls weights for epochs
Split = tuple[Tensor, Tensor]  # x (samples, features), labels (samples,)


class NonFiniteError(ArithmeticError):
    """A loss that is not finite; the message names epoch, step and the first layer with a non-finite state."""

    exit_code = 6


@dataclass(frozen=True)
class Epoch:
    """One line of metrics; accuracies are shares between 0 and 1, seconds is wall time of training alone.

    gradient_norms: of every layer's weights, see `gradients`; None unless asked for.
    """

    epoch: int
    step: int
    loss: float
    train_accuracy: float
    test_accuracy: float
    mean_agent_accuracy: float | None
    worst_agent_accuracy: float | None
    learning_rate: float
    seconds: float
    gradient_norms: list[float] | None = None


def train(
    model: AgentClassifier,
    training: Split,
    test: Split,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    optimizer: Literal["adam", "adamw"] = "adamw",
    schedule: Literal["cosine", "constant"] = "cosine",
    weight_decay: float = 0.0,
    smoothness: float = 0.0,
    log_gradients: bool = False,
    seed: int = 0,
    augment: Callable[[Tensor, int], Tensor] | None = None,
    part: range | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda record: None,
) -> list[Epoch]:
    """Train `model` in place and return one record an epoch.

    smoothness: weight of (h/2) Σ |K_{j+1} - K_j|² + |b_{j+1} - b_j|². weight_decay: of K, X and the weights of readout
    and lift; biases and the initial state do not decay. augment(features, step) changes the training features of a
    step. part: which of the epochs, counted from 0, to run now, with the batches and learning rates that they have in
    the whole run; None for all. on_step(step, loss) and on_epoch(record) are called as they happen.
    Raises NonFiniteError.
    """
    x, labels = training
    batches = math.ceil(len(x) / batch_size)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    adam = kinds[optimizer](_groups(model, weight_decay), lr=learning_rate, betas=BETAS)
    gradients = GradientLog(model.network) if log_gradients else None
    part = range(epochs) if part is None else part
    history, before = [], part.start * batches
    step = before
    rate = torch.optim.lr_scheduler.LambdaLR(adam, lambda done: _rate(schedule, before + done, epochs * batches))
    for epoch in range(part.start + 1, part.stop + 1):
        started, total = time.perf_counter(), torch.zeros((), dtype=torch.float64, device=x.device)
        for batch in batch_order(len(x), batch_size, seed, epoch):
            index = torch.from_numpy(batch).to(x.device)
            features, target = x[index], labels[index]
            if augment is not None:
                features = augment(features, step)
            adam.zero_grad(set_to_none=True)
            loss = model.readout.loss(model(features), target)
            objective = loss.sum()
            if smoothness:
                objective = objective + smoothness * model.network.smoothness()
            value = float(objective.detach())
            step += 1
            if not math.isfinite(value):
                raise NonFiniteError(_non_finite(model, epoch, step, value))
            objective.backward()  # type: ignore[no-untyped-call]
            if gradients is not None:
                gradients.add()
            adam.step()
            rate.step()
            total = total + loss.detach().double() * len(batch)
            on_step(step, float(loss.detach().sum()) if smoothness else value)  # penalties are each worker's own
        seconds = time.perf_counter() - started
        on_test = evaluate(model, *test)
        record = Epoch(
            epoch=epoch,
            step=step,
            loss=model.readout.reported_loss(total / len(x)),
            train_accuracy=evaluate(model, x, labels).accuracy,
            test_accuracy=on_test.accuracy,
            mean_agent_accuracy=on_test.mean_agent,
            worst_agent_accuracy=on_test.worst_agent,
            learning_rate=adam.param_groups[0]["lr"],
            seconds=seconds,
            gradient_norms=None if gradients is None else gradients.take(),
        )
        history.append(record)
        on_epoch(record)
    return history


def _groups(model: AgentClassifier, weight_decay: float) -> list[dict[str, object]]:
    """Parameters that decay (K, X, weights of readout and lift) and those that do not."""
    network, readout = model.network, model.readout
    decaying = [*network.matrices(), readout.weight]
    decaying += model.learned_lift.decaying() if model.learned_lift is not None else []
    kept = {id(parameter) for parameter in decaying}
    others = [parameter for parameter in model.parameters() if id(parameter) not in kept]
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _rate(schedule: str, step: int, steps: int) -> float:
    """Learning rate at a step as a share of the first: constant, or half a cosine down to zero."""
    return 1.0 if schedule == "constant" else 0.5 * (1.0 + math.cos(math.pi * min(step / steps, 1.0)))


def _non_finite(model: AgentClassifier, epoch: int, step: int, value: float) -> str:
    """Where a non-finite loss comes from: the first layer of the sweep just run whose state is not finite."""
    layer, layers = model.network.sweep.first_non_finite(), model.network.layers
    if layer is None:
        where = f"every layer's state is finite, so the readout or the penalties are not (last layer {layers})"
    else:
        kept = "" if model.network.sweep.memory == "store" else " that is kept"
        where = f"first non-finite state{kept}: {'the input' if layer == 0 else f'layer {layer} of {layers}'}"
    return (
        f"training: expected a finite loss, got {value} in epoch {epoch}, step {step}; {where}. "
        "Lower train.learning_rate or network.step."
    )
