"""Training on several workers: the losses and weights of one process, to 1e-12, and bit by bit when asked."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dist_hdnn.build import assembly
from dist_hdnn.config import Config
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import tasks
from dist_hdnn.training.evaluation import evaluate
from dist_hdnn.transport import Transport, run_threads

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "swiss_roll_ring8.yaml"
SHORT = ["--data.samples=300", "--train.epochs=2", "--network.layers=3", "--train.batch_size=40", "--dtype=float64"]
READOUTS = {
    "sum": [],
    "local": ["--readout.kind=local"],
    "gossip": ["--readout.kind=gossip", "--readout.rounds=3"],
    "agents": ["--readout.kind=agents", "--readout.agents=[1, 6]"],
}


def outcome(config: Config, transport: Transport | None = None) -> dict[str, Any]:
    """Losses, accuracies, final weights and per-agent accuracies of a training run."""
    torch.set_num_threads(1)
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data, transport)
    training, test = (tasks.split_tensors(config, data, which) for which in ("train", "test"))
    history = tasks.train_model(config, model, data, training, test, transport)
    return {
        "losses": torch.tensor([[record.loss, record.validation_accuracy] for record in history], dtype=torch.float64),
        "agents": torch.tensor(evaluate(model, *test).per_agent or [0.0], dtype=torch.float64),
        **model.state_dict(),
    }


def difference(first: dict[str, Any], second: dict[str, Any]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first if first[name].numel())


@pytest.mark.parametrize("workers", [2, 3, 8])
@pytest.mark.parametrize("readout", READOUTS)
def test_training_gives_the_numbers_of_one_process(readout: str, workers: int) -> None:
    config = read_config(CONFIG, [*SHORT, "--initial_state=learned", *READOUTS[readout]])
    alone = outcome(config)
    config.partition.method = "round_robin"
    for result in run_threads(workers, lambda transport: outcome(config, transport), timeout=100):
        assert difference(result, alone) <= 1e-12


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("placement", ["K", "K and X"])
def test_deterministic_training_gives_the_same_bits(readout: str, placement: str) -> None:
    coupled = ["--network.X.kind=neighbours"] if placement == "K and X" else []
    widths = ["--network.width={0: 4, 1: 2, 2: 6, 3: 2, 4: 2, 5: 2, 6: 10, 7: 2}"]
    options = [*SHORT, "--deterministic=true", "--initial_state=learned", *READOUTS[readout], *coupled, *widths]
    config = read_config(CONFIG, options)
    alone = outcome(config)
    for workers, method in ((1, "contiguous"), (2, "round_robin"), (3, "contiguous"), (4, "greedy"), (8, "contiguous")):
        config.partition.method = method
        for result in run_threads(workers, lambda transport: outcome(config, transport), timeout=100):
            assert all(torch.equal(result[name], alone[name]) for name in alone), (workers, method)
