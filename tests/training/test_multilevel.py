"""Multilevel training: which levels there are, what prolongation keeps, and that training goes on, on any workers."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import hdnn
from torch import Tensor

import dist_hdnn
from dist_hdnn.build import assembly
from dist_hdnn.cli import main
from dist_hdnn.config import Config
from dist_hdnn.config.files import read_config
from dist_hdnn.data.sensors import SensorMap, default_sensors
from dist_hdnn.ends.readout import make_readout
from dist_hdnn.experiment import tasks
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.multilevel import Level, interpolated, plan, prolong
from dist_hdnn.transport import Transport, run_threads

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "swiss_roll_ring8.yaml"
SHORT = ["--data.samples=400", "--train.batch_size=40", "--network.layers=8", "--dtype=float64"]
TIME = 4.0


def classifier(layers: int, graph: Any = None, **options: Any) -> AgentClassifier:
    """A network over the time TIME, two neurons an agent."""
    torch.manual_seed(layers)
    graph = dist_hdnn.ring(4) if graph is None else graph
    net = hdnn(graph, layers=layers, step=TIME / layers, dtype=torch.float64, seed=layers, **options)
    sensors = SensorMap(default_sensors(2, net.widths), net.widths, 2)
    return AgentClassifier(sensors, net, make_readout("local", net.ownership, 2).double())


def set_course(model: AgentClassifier, course: Any) -> None:
    """Every weight of the network is `course` of the middle of its layer, times a number of its own."""
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            own = torch.linspace(-1.0, 1.0, parameter.shape[1], dtype=torch.float64) + 0.1 * len(name)
            middles = (torch.arange(len(parameter), dtype=torch.float64) + 0.5) / len(parameter)
            parameter.copy_(course(middles)[:, None] * own)


def test_a_plan_halves_the_step_and_splits_the_epochs() -> None:
    assert plan([8, 16, 32], 32, 0.25, 50) == [
        Level(8, 1.0, range(16)),
        Level(16, 0.5, range(16, 33)),
        Level(32, 0.25, range(33, 50)),
    ]
    assert plan([], 32, 0.25, 50) == [Level(32, 0.25, range(50))]


@pytest.mark.parametrize("levels", [[8, 12, 32], [16, 8, 32], [8, 8, 32], [1, 1, 32], [0, 32], [-16, 32]])
def test_levels_that_are_not_multiples_are_refused(levels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"^train.levels: expected numbers of layers .* multiple .* got \[.*\]\..*$"):
        plan(levels, 32, 0.25, 50)


def test_levels_have_to_end_at_the_network_and_to_have_an_epoch_each() -> None:
    with pytest.raises(ValueError, match=r"last level to be network.layers = 32, got \[8, 16\]"):
        plan([8, 16], 32, 0.25, 50)
    with pytest.raises(ValueError, match=r"train.epochs: expected at least one for each of the 3 levels, got 2"):
        plan([8, 16, 32], 32, 0.25, 2)


def test_bad_levels_are_one_line_and_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run"
    assert main(["train", str(CONFIG), *SHORT, "--train.levels=[3, 8]", f"--output={output}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not output.exists()


def test_interpolation_is_exact_for_straight_lines_and_constant_beyond_the_ends() -> None:
    times = torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64)
    values = torch.stack([2.0 * times, 1.0 - times], dim=1)
    at = torch.tensor([0.0, 0.25, 0.3, 0.9, 1.0, 1.2], dtype=torch.float64)
    inside = at.clamp(0.25, 1.0)
    assert torch.allclose(interpolated(values, times, at), torch.stack([2.0 * inside, 1.0 - inside], dim=1), atol=1e-15)
    assert torch.equal(interpolated(values[:1], times[:1], at), values[:1].expand(6, 2))


@pytest.mark.parametrize("factor", [2, 3])
def test_prolongation_keeps_straight_lines_inside_and_constants_everywhere(factor: int) -> None:
    coarse, fine, exact = classifier(4), classifier(4 * factor), classifier(4 * factor)
    set_course(coarse, lambda t: 1.0 + t)
    set_course(exact, lambda t: 1.0 + t)
    prolong(coarse, fine)
    ends = math.ceil(factor / 2)  # layers whose middle lies outside the middles of the first and last coarse layer
    for got, wanted in zip(fine.network.parameters(), exact.network.parameters(), strict=True):
        assert torch.allclose(got[ends:-ends], wanted[ends:-ends], atol=1e-14)
    assert torch.equal(fine.readout.weight, coarse.readout.weight)
    set_course(coarse, torch.ones_like)
    prolong(coarse, fine)
    assert all(torch.allclose(new, new[:1].expand_as(new), atol=1e-15) for new in fine.network.parameters())


@pytest.mark.parametrize(("integrator", "order"), [("semi_implicit", 1), ("stormer_verlet", 2)])
def test_the_prolonged_network_computes_the_same_up_to_the_order_of_the_integrator(integrator: str, order: int) -> None:
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    changes = []
    for layers in (32, 64, 128, 256):
        coarse, fine = (classifier(count, integrator=integrator) for count in (layers, 2 * layers))
        set_course(coarse, lambda t: torch.cos(math.pi * t))  # flat at both ends, as prolongation assumes there
        prolong(coarse, fine)
        changes.append(float((coarse.network(coarse.lift(x)) - fine.network(fine.lift(x))).detach().abs().max()))
    slopes = [math.log2(rough / smooth) for rough, smooth in zip(changes, changes[1:], strict=False)]
    assert changes[-1] < 0.05
    assert slopes[-1] == pytest.approx(order, abs=0.2), (changes, slopes)


def test_cycled_graphs_prolong_each_graph_s_weights_in_their_own_time() -> None:
    graphs = [dist_hdnn.ring(4), dist_hdnn.path(4)]
    coarse, fine = classifier(4, graphs), classifier(8, graphs)
    prolong(coarse, fine)
    first, second = coarse.network.Kp[1][:, 0].tolist()  # of layers 1 and 3 of 4, whose middles are 0.375 and 0.875
    # layers 1, 3, 5, 7 of 8 have their middles at 0.1875, 0.4375, 0.6875, 0.9375
    wanted = [first, first + (second - first) * 0.125, first + (second - first) * 0.625, second]
    assert fine.network.Kp[1][:, 0].tolist() == pytest.approx(wanted)


@pytest.mark.parametrize(
    "options",
    [
        {"time": "shared"},
        {"time": 3},
        {"X": "neighbours"},
        {"architecture": "MS1"},
        {"architecture": "MS2"},
        {"architecture": "H1", "J": "trained"},
    ],
    ids=str,
)
def test_every_kind_of_weights_is_prolonged(options: dict[str, Any]) -> None:
    coarse, fine = classifier(6, **options), classifier(12, **options)
    prolong(coarse, fine)
    old = dict(coarse.named_parameters())
    for name, values in fine.named_parameters():
        if len(values) == len(old[name]):
            assert torch.equal(values, old[name]), name
        else:
            assert torch.allclose(values[1:-1].view(5, 2, -1).sum(dim=1), old[name][1:] + old[name][:-1], atol=1e-14)


def test_networks_of_other_shapes_are_not_prolonged() -> None:
    with pytest.raises(ValueError, match="prolongation: expected two networks that differ in layers and step alone"):
        prolong(classifier(4), classifier(8, width=4))
    with pytest.raises(ValueError, match="got another network.K.0"):
        prolong(classifier(4), classifier(8, architecture="MS1"))


def test_a_run_goes_through_its_levels_and_each_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    options = [*SHORT, "--train.levels=[2, 4, 8]", "--train.epochs=15", f"--output={tmp_path / 'run'}"]
    directory = tasks.train(read_config(CONFIG, ["--data.name=double_moons", *options]))
    assert directory is not None
    records = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, 16))
    assert [record["step"] for record in records] == list(range(5, 80, 5))
    rates = [record["learning_rate"] for record in records]
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(0.0, abs=1e-12)
    losses = [record["loss"] for record in records]
    assert losses[5] < 0.6 * losses[0] and losses[10] < 0.6 * losses[0]  # first epochs of the finer levels
    assert losses[-1] < losses[4]
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["layers"] == 8
    assert summary["messages_per_step"] == 2 * 8 * 4 * 16  # of the whole depth, not of the first level
    assert tasks.evaluate(directory)["test_accuracy"] == summary["test_accuracy"]


def weights_after_training(config: Config, transport: Transport | None = None) -> dict[str, Tensor]:
    """Final weights of a run through its levels, without a run directory."""
    torch.set_num_threads(1)
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data, transport)
    training, test = (tasks.split_tensors(config, data, which) for which in ("train", "test"))
    tasks.train_model(config, model, data, training, test, transport)
    return model.state_dict()


@pytest.mark.parametrize("workers", [2, 3])
def test_levels_give_the_numbers_of_one_process(workers: int) -> None:
    options = ["--train.levels=[2, 4, 8]", "--train.epochs=3", "--initial_state=learned", "--network.X.kind=neighbours"]
    config = read_config(CONFIG, [*SHORT, *options])
    alone = weights_after_training(config)
    config.partition.method = "round_robin"
    for result in run_threads(workers, lambda transport: weights_after_training(config, transport), timeout=100):
        assert result.keys() == alone.keys()
        assert all(float((result[name] - alone[name]).abs().max()) <= 1e-12 for name in alone)
