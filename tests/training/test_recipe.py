"""The arithmetic of the recipe, against numbers worked out by hand: rates, decay, and means over uneven batches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dist_hdnn
from dist_hdnn.build import assembly
from dist_hdnn.config.files import read_config
from dist_hdnn.data.batches import batch_order
from dist_hdnn.data.sensors import SensorMap, default_sensors
from dist_hdnn.ends.initial_state import InitialState
from dist_hdnn.ends.lift import LinearLift
from dist_hdnn.ends.readout import make_readout
from dist_hdnn.experiment import tasks
from dist_hdnn.training import evaluation, loop
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.loop import Recipe, TrainingState, train

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "swiss_roll_ring8.yaml"
BETA, EPSILON = 0.95, 1e-8


def classifier(readout: str = "local", regression: bool = False) -> AgentClassifier:
    net = dist_hdnn.HDNN(dist_hdnn.ring(3), layers=2, step=0.5, X="neighbours", dtype=torch.float64)
    sensors = SensorMap(default_sensors(2, net.widths), net.widths, 2)
    start = InitialState(sensors, net.ownership, torch.float64)
    return AgentClassifier(sensors, net, make_readout(readout, net.ownership, 2, regression=regression).double(), start)


def samples(count: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(dim=1) > 0).long()


def test_the_learning_rate_of_every_step_is_the_cosine_at_the_steps_before_it() -> None:
    """7 samples in batches of 3 are 3 steps an epoch, 6 of 2 epochs: cos of 0, π/6, ... 5π/6, and 0 at the end only."""
    rates: list[float] = []

    def keep(state: TrainingState) -> None:
        rates.extend({group["lr"] for group in state.optimizer.param_groups})

    history = train(classifier(), samples(7), None, Recipe(2, 3, 0.4), keep=keep)
    half = math.sqrt(3) / 2
    assert rates == pytest.approx([0.2 * (1 + c) for c in (1.0, half, 0.5, 0.0, -0.5, -half)], abs=1e-15)
    assert [record.learning_rate for record in history] == pytest.approx([0.2, 0.0], abs=1e-15)


def test_a_level_has_the_rates_of_its_part_of_the_run() -> None:
    rates: list[float] = []

    def keep(state: TrainingState) -> None:
        rates.append(state.optimizer.param_groups[0]["lr"])

    options: dict[str, Any] = {"epochs": 4, "batch_size": 5, "learning_rate": 1.0}
    train(classifier(), samples(5), None, Recipe(**options), part=range(1, 3), keep=keep)
    assert rates == pytest.approx([0.5 * (1 + math.cos(math.pi / 4)), 0.5])


@pytest.mark.parametrize("network_rate", [None, 0.1, 0.02])
@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.parametrize("readout", ["sum", "local"])
def test_one_step_of_adamw_decays_weights_by_rate_times_decay_and_no_bias(
    readout: str, lifted: bool, network_rate: float | None
) -> None:
    """The first step of Adam moves every number by rate * g / (|g| + ε), whatever its memory."""
    model, rate, decay = classifier(readout), 0.1, 0.25
    if lifted:
        own = model.network.ownership
        lift = LinearLift(own, 2, *(torch.tensor(part).numpy() for part in ([0, 1, 2, 2], [0, 1])))
        model = AgentClassifier(None, model.network, model.readout, learned_lift=lift.double())
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter += 1.0 + number
    x, labels = samples(4)
    model.readout.loss(model(x), labels).sum().backward()
    before = {name: (value.detach().clone(), value.grad.clone()) for name, value in model.named_parameters()}
    train(model, (x, labels), None, Recipe(1, 4, rate, weight_decay=decay, network_rate=network_rate))
    decaying = {name for name in before if name.startswith("network.") and not name.startswith("network.b")}
    decaying |= {"readout.weight"} | ({"learned_lift.linear.weight"} if lifted else set())
    assert decaying < before.keys() and any("bias" in name or "initial" in name for name in before.keys() - decaying)
    for name, parameter in model.named_parameters():
        value, gradient = before[name]
        own = (network_rate or rate) if name.startswith("network.") else rate
        factor = 1 - own * decay if name in decaying else 1.0
        wanted = value * factor - own * gradient / (gradient.abs() + EPSILON)
        assert torch.allclose(parameter, wanted, rtol=1e-9, atol=1e-9), name


def test_the_memory_of_squares_has_the_factor_0_95() -> None:
    assert loop.BETAS == (0.9, BETA)


def test_the_loss_of_an_epoch_weighs_every_batch_by_its_samples() -> None:
    losses: list[float] = []
    options: dict[str, Any] = {"epochs": 1, "batch_size": 4, "learning_rate": 0.05}
    (record,) = train(classifier(), samples(11), None, Recipe(**options), on_step=lambda _, loss: losses.append(loss))
    assert [len(batch) for batch in batch_order(11, 4, 0, 1)] == [4, 4, 3] and len(set(losses)) == 3
    assert record.loss == pytest.approx((4 * losses[0] + 4 * losses[1] + 3 * losses[2]) / 11, rel=1e-12)


@pytest.mark.parametrize("readout", ["sum", "local"])
@pytest.mark.parametrize("regression", [False, True])
def test_an_evaluation_weighs_its_last_smaller_batch_by_its_size(
    readout: str, regression: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (x, labels) = classifier(readout, regression), samples(7)
    target = torch.stack([x[:, 0], x[:, 1] ** 2], dim=1) if regression else labels
    whole = evaluation.evaluate(model, x, target)
    wanted = model.readout.reported_loss(model.readout.loss(model(x), target).double())
    assert whole.loss == pytest.approx(wanted, rel=1e-12)
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 3)  # 3, 3 and 1
    assert evaluation.evaluation_batch(model) == 3
    parts = evaluation.evaluate(model, x, target)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
    assert parts.accuracy == pytest.approx(whole.accuracy, rel=1e-12)
    assert (parts.per_agent is None) == (readout == "sum")
    assert (parts.per_agent or []) == pytest.approx(whole.per_agent or [], rel=1e-12)


def test_smoothness_adds_half_the_step_times_the_weight_of_the_differences_between_layers() -> None:
    """Of two layers: the gradient of (h/2) w |K₂ - K₁|² is ± h w (K₂ - K₁)."""
    model = classifier()
    before = model.network.bq.detach().clone()
    for parameter in model.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model.network.add_smoothness_gradient(0.2)
    assert torch.allclose(
        model.network.bq.grad, 0.5 * 0.2 * torch.stack([before[0] - before[1], before[1] - before[0]])
    )
    assert not model.network.X[0].grad.any()


def test_a_config_s_recipe_reaches_the_loop_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option of the recipe but those of levels and threads, each as it was given."""
    given = {"epochs": 3, "batch_size": 7, "optimizer": "adam", "learning_rate": 0.3, "schedule": "constant"}
    given |= {"weight_decay": 0.5, "smoothness": 0.7, "log_gradients": True, "patience": 4, "network_rate": 0.1}
    config = read_config(CONFIG, ["--data.samples=40", *(f"--train.{key}={value}" for key, value in given.items())])
    data = assembly.build_dataset(config)
    seen: dict[str, Any] = {}
    monkeypatch.setattr(tasks, "train_levels", lambda *arguments: seen.update(vars(arguments[5])))
    tasks.train_model(config, assembly.build_classifier(config, data), data, samples(40))
    assert {key: seen[key] for key in given} == given and seen.keys() - given.keys() == {"seed", "augment"}
