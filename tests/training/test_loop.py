"""The training loop: it learns, repeats bit by bit, says where numbers stop being finite, and keeps its weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

import dist_hdnn
from dist_hdnn.data.sensors import SensorMap, default_sensors
from dist_hdnn.ends.initial_state import InitialState
from dist_hdnn.ends.readout import make_readout
from dist_hdnn.training.checkpoints.weights_file import CheckpointError, load_weights, save_weights
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.evaluation import evaluate
from dist_hdnn.training.loop import Epoch, NonFiniteError, Recipe, train


def classifier(
    readout: str = "sum", learned: bool = False, agents: int = 6, architecture: str = "hamiltonian"
) -> AgentClassifier:
    net = dist_hdnn.HDNN(dist_hdnn.ring(agents), layers=4, step=0.5, architecture=architecture)
    sensors = SensorMap(default_sensors(2, net.widths), net.widths, 2)
    start = InitialState(sensors, net.ownership) if learned else None
    return AgentClassifier(sensors, net, make_readout(readout, net.ownership, 2), start)


def blobs(samples: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, samples)
    points = rng.normal(size=(samples, 2)) * 0.3 + 2.0 * labels[:, None] - 1.0
    return torch.from_numpy(points).float(), torch.from_numpy(labels)


def run(model: AgentClassifier, **options: object) -> list[Epoch]:
    settings: dict[str, object] = {"epochs": 5, "batch_size": 20, "learning_rate": 0.05, **options}
    return train(model, blobs(), blobs(), Recipe(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("readout", ["sum", "local"])
def test_training_separates_two_blobs(readout: str) -> None:
    model = classifier(readout, learned=True)
    history = run(model, smoothness=1e-3)
    assert [record.epoch for record in history] == [1, 2, 3, 4, 5]
    assert history[-1].step == 50
    assert history[-1].validation_accuracy > 0.97
    assert history[-1].loss < history[0].loss
    result = evaluate(model, *blobs())
    assert result.accuracy == max(record.validation_accuracy for record in history)
    if readout == "local":
        assert result.per_agent is not None and len(result.per_agent) == 6
        assert result.worst_agent == min(result.per_agent)
    assert model.initial_state is not None and float(model.initial_state.value.detach().abs().max()) > 0


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_two_runs_give_bitwise_equal_weights(optimizer: str) -> None:
    first, second = classifier(), classifier()
    run(first, optimizer=optimizer, weight_decay=0.01)
    run(second, optimizer=optimizer, weight_decay=0.01)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = classifier()
    run(other, seed=1)
    assert not torch.equal(first.readout.weight, other.readout.weight)


def test_cosine_schedule_ends_at_zero_and_constant_stays() -> None:
    assert run(classifier(), schedule="cosine")[-1].learning_rate == pytest.approx(0.0, abs=1e-12)
    assert run(classifier(), schedule="constant")[-1].learning_rate == 0.05


def test_evaluation_does_not_depend_on_its_batches() -> None:
    model = classifier("local")
    run(model, epochs=1)
    x, labels = blobs(2300)
    whole = evaluate(model, x, labels)
    parts = [evaluate(model, x[i : i + 500], labels[i : i + 500]) for i in range(0, 2300, 500)]
    weights = [500, 500, 500, 500, 300]
    assert whole.accuracy == pytest.approx(np.average([part.accuracy for part in parts], weights=weights))


def test_non_finite_loss_names_epoch_step_and_first_layer() -> None:
    model = classifier()
    with torch.no_grad():
        model.network.bp[2] = torch.inf
        model.network.bq[3] = torch.nan
    with pytest.raises(NonFiniteError, match="epoch 1, step 1; first non-finite state: layer 4 of 4"):
        run(model)
    with torch.no_grad():
        model.network.Kp[0][1] = torch.nan
    with pytest.raises(NonFiniteError, match="first non-finite state: layer 2 of 4"):
        run(model)
    healthy = classifier()
    with torch.no_grad():
        healthy.readout.weight.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="every layer's state is finite"):
        run(healthy)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_non_finite_gradient_stops_training_before_a_weight_takes_it_up(value: float) -> None:
    model = classifier()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model.network.bq.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor(1), value))
    with pytest.raises(NonFiniteError, match=r"in that of network.bq in epoch 1, step 1\. Lower train.learning_rate"):
        run(model)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


def test_weights_survive_a_file_bit_by_bit(tmp_path: Path) -> None:
    model, other = classifier(learned=True), classifier(learned=True)
    run(model, epochs=1)
    save_weights(model.state_dict(), tmp_path / "final.safetensors")
    load_weights(other, tmp_path / "final.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["final.safetensors"]


def test_unusable_checkpoints_are_named(tmp_path: Path) -> None:
    path = tmp_path / "final.safetensors"
    with pytest.raises(CheckpointError, match="final.safetensors: expected a checkpoint"):
        load_weights(classifier(), path)
    save_weights(classifier().state_dict(), path)
    with pytest.raises(CheckpointError, match="other shapes or names"):
        load_weights(classifier(agents=7), path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="final.safetensors: expected a checkpoint"):
        load_weights(classifier(), path)
    broken = classifier()
    with torch.no_grad():
        broken.network.bp[0, 0] = torch.nan
    save_weights(broken.state_dict(), path)
    with pytest.raises(CheckpointError, match="expected finite weights"):
        load_weights(classifier(), path)


def test_a_checkpoint_of_another_architecture_is_named_even_where_all_shapes_agree(tmp_path: Path) -> None:
    path = tmp_path / "final.safetensors"
    save_weights(classifier(architecture="resnet").state_dict(), path, "resnet")
    load_weights(classifier(architecture="resnet"), path)
    with pytest.raises(CheckpointError, match="expected the weights of the architecture mlp, got those of resnet"):
        load_weights(classifier(architecture="mlp"), path)


@pytest.mark.parametrize("architecture", ["H1", "MS1", "MS2", "verlet", "leapfrog", "near_identity", "resnet"])
def test_every_architecture_trains(architecture: str) -> None:
    history = run(classifier(architecture=architecture), epochs=8)
    assert history[-1].loss < history[0].loss and history[-1].validation_accuracy > 0.9
