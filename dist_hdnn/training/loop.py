"""Training loop, from top to bottom: batch order, loss, gradient step, epoch report.

Gradient steps are joint on sweep, readout and learned initial state. Everything random is a function of (seed, epoch,
step), so no generator has a state: `TrainingState` and the weights are all that the next step depends on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from dist_hdnn.data.batches import batch_order
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.evaluation import evaluate
from dist_hdnn.training.metrics import Best, GradientLog, better, snapshot
from dist_hdnn.training.optimizers import OPTIMIZERS

BETAS = (0.9, 0.95)  # squares averaged over ~20 steps; over 1000 one large early gradient stalls weights
Split = tuple[Tensor, Tensor]  # x (samples, features), labels (samples,)


class NonFiniteError(ArithmeticError):
    """A loss or a gradient that is not finite. The message names epoch, step, and the first layer or the weights."""

    exit_code = 6


@dataclass(frozen=True)
class Recipe:
    """Options of a training.

    smoothness: weight of (h/2) Σ |K_{j+1} - K_j|² + |b_{j+1} - b_j|². weight_decay: of K, X and the weights of readout
    and lift, not of biases and the initial state. patience: stop after this many epochs of the last level without a
    better one. network_rate: first learning rate of the network's weights, where it is another. augment(features, step)
    changes the training features of a step.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Literal["adam", "adamw"] = "adamw"
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 0.0
    smoothness: float = 0.0
    log_gradients: bool = False
    patience: int | None = None
    network_rate: float | None = None
    seed: int = 0
    augment: Callable[[Tensor, int], Tensor] | None = None

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate at a step of a total: constant, or half a cosine down to zero."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (0.5 * (1.0 + math.cos(math.pi * min(step / steps, 1.0))))


@dataclass(frozen=True)
class Epoch:
    """One line of metrics. Accuracies are shares between 0 and 1, seconds is wall time of training alone.

    validation_accuracy: None without validation data. mean_agent_accuracy, worst_agent_accuracy: on the validation
    data, without them on the training data. best: the highest validation accuracy so far, so that these weights are
    kept; None without validation data, and at a level before the last. gradient_norms: of every layer's weights, see
    `GradientLog`; None unless asked for.
    """

    epoch: int
    step: int
    loss: float
    train_accuracy: float
    validation_accuracy: float | None
    mean_agent_accuracy: float | None
    worst_agent_accuracy: float | None
    learning_rate: float
    seconds: float
    best: bool | None = None
    gradient_norms: list[float] | None = None


@dataclass
class TrainingState:
    """Position of a training: with the model's weights, all that the next step depends on.

    step: gradient steps of the run so far; first: those before this optimizer's first. loss: sum over the answers of
    the running epoch, one entry per term of `readout.loss`. seconds: of training in that epoch. history: of the run.
    best: the best epoch on validation data so far; None without them, and before the first epoch has ended.
    """

    model: AgentClassifier
    optimizer: torch.optim.Optimizer
    step: int
    first: int
    loss: Tensor
    gradients: GradientLog | None
    seconds: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best: Best | None = None


def train(
    model: AgentClassifier,
    training: Split,
    validation: Split | None,
    recipe: Recipe,
    *,
    part: range | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda record: None,
    restore: Callable[[TrainingState], None] = lambda state: None,
    keep: Callable[[TrainingState], None] = lambda state: None,
    history: list[Epoch] | None = None,
) -> list[Epoch]:
    """Train `model` in place and return one record per epoch.

    validation: data that choose the epoch, of the last level, whose weights `model` ends with; None for the last epoch.
    part: the epochs, from 0, to run now, with their batches and learning rates of the whole run; None for all.
    restore(state) puts back that of a checkpoint.
    on_step, on_epoch and keep(state) are called as things happen, keep after every step, of an epoch's last one after
    its record. history: records of earlier epochs, to which the new ones are added. Raises NonFiniteError.
    """
    x, labels = training
    epochs, batches = recipe.epochs, math.ceil(len(x) / recipe.batch_size)
    part = range(epochs) if part is None else part
    fused = not model.network.ownership.deterministic  # one pass, 1/9 of the time; its bits depend on the workers
    groups = _groups(model, recipe)
    adam = OPTIMIZERS[recipe.optimizer](groups, lr=recipe.learning_rate, betas=BETAS, fused=fused)
    gradients = GradientLog(model.network) if recipe.log_gradients else None
    if model.network.links is not None:
        model.network.links.steps = epochs * batches
    first, nothing = part.start * batches, torch.zeros((), dtype=torch.float64, device=x.device)
    state = TrainingState(model, adam, first, first, nothing, gradients, history=[] if history is None else history)
    restore(state)
    chooses = validation is not None and part.stop == epochs  # only the whole depth has weights to end with
    for epoch in range(state.step // batches + 1, part.stop + 1):
        if recipe.patience is not None and state.best is not None and epoch - state.best.epoch > recipe.patience:
            break
        for batch in batch_order(len(x), recipe.batch_size, recipe.seed, epoch)[state.step % batches :]:
            rate = recipe.rate(state.step, epochs * batches)
            value = _step(state, x, labels, torch.from_numpy(batch).to(x.device), rate, recipe, epoch)
            on_step(state.step, value)
            if state.step % batches:
                keep(state)
        rate = recipe.rate(state.step, epochs * batches)
        record = _record(state, epoch, training, validation, rate, chooses)
        state.loss, state.seconds = nothing, 0.0
        state.history.append(record)
        on_epoch(record)
        keep(state)
    if state.best is not None:
        state.best.put_back(model)
    return state.history


def _step(
    state: TrainingState, x: Tensor, labels: Tensor, index: Tensor, rate: float, recipe: Recipe, epoch: int
) -> float:
    """Take one gradient step on the samples `index` and return the loss of the batch."""
    started = time.perf_counter()
    model, adam = state.model, state.optimizer
    features, target = x.index_select(0, index), labels.index_select(0, index)
    if recipe.augment is not None:
        features = recipe.augment(features, state.step)
    for group in adam.param_groups:
        group["lr"] = rate * group["share"]
    adam.zero_grad(set_to_none=True)
    model.network.at(step=state.step)
    loss = model.readout.loss(model(features), target)
    objective = loss.sum()
    value = float(objective.detach())  # without penalties, which are each worker's own
    state.step += 1
    if not math.isfinite(value):
        raise NonFiniteError(_non_finite(model, epoch, state.step, value))
    objective.backward()  # type: ignore[no-untyped-call]
    if recipe.smoothness:
        model.network.add_smoothness_gradient(recipe.smoothness)
    if state.gradients is not None:
        state.gradients.add()
    if x.device.type == "cpu":  # elsewhere that would wait for the device, and the next loss tells of it
        _check_gradients(state, epoch)
    adam.step()
    state.loss = state.loss + loss.detach().double() * model.readout.amount(target)
    state.seconds += time.perf_counter() - started
    return value


def _record(
    state: TrainingState, epoch: int, training: Split, validation: Split | None, rate: float, chooses: bool
) -> Epoch:
    """Report an epoch that has just ended. chooses: keep its weights if they are the best so far."""
    model, trained = state.model, evaluate(state.model, *training)
    unseen = trained if validation is None else evaluate(model, *validation)
    best = better(model, unseen.accuracy, state.best) if chooses else None
    if best:
        state.best = snapshot(model, epoch, unseen.accuracy)
    return Epoch(
        epoch=epoch,
        step=state.step,
        loss=model.readout.reported_loss(state.loss / max(model.readout.amount(training[1]), 1)),
        train_accuracy=trained.accuracy,
        validation_accuracy=None if validation is None else unseen.accuracy,
        mean_agent_accuracy=unseen.mean_agent,
        worst_agent_accuracy=unseen.worst_agent,
        learning_rate=rate,
        seconds=state.seconds,
        best=best,
        gradient_norms=None if state.gradients is None else state.gradients.take(),
    )


def _groups(model: AgentClassifier, recipe: Recipe) -> list[dict[str, object]]:
    """Return the parameters that decay (K, X, weights of readout and lift) and those that do not.

    share: of the learning rate. The network's are groups of their own if they have a rate of their own.
    """
    network, readout = model.network, model.readout
    decaying = [*network.matrices(), readout.weight]
    decaying += model.learned_lift.decaying() if model.learned_lift is not None else []
    kept = {id(parameter) for parameter in decaying}
    others = [parameter for parameter in model.parameters() if id(parameter) not in kept]
    groups: list[dict[str, object]] = []
    for parameters, decay in ((decaying, recipe.weight_decay), (others, 0.0)):
        parts = {1.0: parameters}
        if recipe.network_rate not in (None, recipe.learning_rate):
            own = {id(parameter) for parameter in network.parameters()}
            mine = [parameter for parameter in parameters if id(parameter) in own]
            share = (recipe.network_rate or 0.0) / recipe.learning_rate
            parts = {share: mine, 1.0: [parameter for parameter in parameters if id(parameter) not in own]}
        groups += [{"params": part, "weight_decay": decay, "share": share} for share, part in parts.items() if part]
    return groups


def _check_gradients(state: TrainingState, epoch: int) -> None:
    """Raise NonFiniteError before a weight of this worker takes up a NaN or an infinity, which a sum always shows."""
    groups = state.optimizer.param_groups
    sums = [parameter.grad.sum() for group in groups for parameter in group["params"] if parameter.grad is not None]
    if math.isfinite(torch.stack(sums).sum().item()):
        return
    gradients = ((name, parameter.grad) for name, parameter in state.model.named_parameters())
    names = [name for name, grad in gradients if grad is not None and not math.isfinite(grad.sum().item())]
    raise NonFiniteError(
        f"training: expected finite gradients, got NaN or infinity in that of {', '.join(names) or 'all weights'} "
        f"in epoch {epoch}, step {state.step}. Lower train.learning_rate or network.step."
    )


def _non_finite(model: AgentClassifier, epoch: int, step: int, value: float) -> str:
    """Name the first layer of the sweep just run whose state is not finite."""
    layer, layers = model.network.sweep.first_non_finite(), model.network.layers
    if layer is None:
        where = f"every layer's state is finite, so the readout is not (last layer {layers})"
    else:
        kept = "" if model.network.sweep.kept.memory == "store" else " that is kept"
        where = f"first non-finite state{kept}: {'the input' if layer == 0 else f'layer {layer} of {layers}'}"
    return (
        f"training: expected a finite loss, got {value} in epoch {epoch}, step {step}; {where}. "
        "Lower train.learning_rate or network.step."
    )
