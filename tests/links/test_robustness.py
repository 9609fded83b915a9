"""Robustness over impaired links: agents that are down, the command and its figures, tuning, study axes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dist_hdnn
from dist_hdnn.build import assembly
from dist_hdnn.cli import main
from dist_hdnn.config import LinksConfig
from dist_hdnn.config.files import read_config
from dist_hdnn.data import SensorMap
from dist_hdnn.data.sensors import Sensor
from dist_hdnn.ends.readout import LocalReadout, SumReadout
from dist_hdnn.experiment import tasks
from dist_hdnn.experiment.impairments import MOST_DEAD, cases_of
from dist_hdnn.experiment.robustness import curve_figures
from dist_hdnn.links.model import Links
from dist_hdnn.links.table import LinkTable
from dist_hdnn.plots import robustness as picture
from dist_hdnn.run.directory import config_of_run
from dist_hdnn.study.plan import read_plan
from dist_hdnn.training.checkpoints.weights_file import load_weights
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.evaluation import evaluate
from dist_hdnn.transport import Transport, run_threads

SHORT = ["--data.samples=200", "--train.epochs=2", "--network.layers=4", "--train.batch_size=50", "--plots=false"]
pytestmark = pytest.mark.filterwarnings("ignore:.*information travels")


def trained(directory: Path, *options: str) -> Path:
    made = tasks.train(read_config("configs/swiss_roll_ring8.yaml", [*SHORT, f"--output={directory}", *options]))
    assert made is not None
    return made


@pytest.fixture(scope="module", autouse=True)
def in_the_repository() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(__file__).parents[2])
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "local", "--readout.kind=local")


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def model_on(kind: str, dead: tuple[int, ...], transport: Transport | None = None, **options: Any) -> AgentClassifier:
    """A model on a ring of 5 agents, some of which are down."""
    graph = dist_hdnn.ring(5)
    links = Links(LinkTable.perfect(graph), 5, dead=dead) if dead else None
    net = dist_hdnn.HDNN(graph, width=2, layers=2, links=links, workers=transport)
    sensors = SensorMap([Sensor(agent, agent, "q") for agent in range(5)], net.ownership.all_widths, 5)
    sensors = sensors.restricted(net.owned)
    readout = (SumReadout if kind == "sum" else LocalReadout)(net.ownership, 3, seed=1, **options)
    return AgentClassifier(sensors, net, readout)


# -- agents that are down --------------------------------------------------------------------------------


@pytest.fixture
def points() -> tuple[Tensor, Tensor]:
    return torch.randn(40, 5), torch.randint(3, (40,))


def test_agents_that_are_down_have_no_vote_and_no_accuracy(points: tuple[Tensor, Tensor]) -> None:
    model = model_on("local", (1, 3))
    result = evaluate(model, *points)
    with torch.no_grad():
        scores = model(points[0])
    answers = scores.argmax(dim=-1)
    up = [0, 2, 4]
    shares = scores.softmax(dim=-1)[:, up].mean(dim=1)
    votes = torch.nn.functional.one_hot(answers[:, up], 3).sum(dim=1) + 0.3 * shares
    assert result.accuracy == pytest.approx(float((votes.argmax(dim=1) == points[1]).float().mean()))
    assert result.per_agent is not None
    assert [agent for agent, value in enumerate(result.per_agent) if np.isnan(value)] == [1, 3]
    each = (answers == points[1][:, None]).float().mean(dim=0)[up]
    assert result.mean_agent == pytest.approx(float(each.mean()))
    assert result.worst_agent == pytest.approx(float(each.min()))


def test_where_all_answering_agents_are_down_no_answer_is_right(points: tuple[Tensor, Tensor]) -> None:
    result = evaluate(model_on("local", (2,), output_agents=[2]), *points)
    assert result.accuracy == 0 and result.per_agent is not None and np.isnan(result.per_agent).all()


def test_the_share_of_an_agent_that_is_down_is_zero_in_a_sum(points: tuple[Tensor, Tensor]) -> None:
    model = model_on("sum", (1, 3))
    evaluate(model, *points)
    with torch.no_grad():
        state = model.network(model.lift(points[0]))
        assert not state.view(40, 5, 2)[:, [1, 3]].any() and state.view(40, 5, 2)[:, [0, 2, 4]].any()
        assert torch.equal(model(points[0]), model.readout(state))


def test_targets_of_agents_that_are_down_count_nowhere(points: tuple[Tensor, Tensor]) -> None:
    targets = torch.randn(40, 3)
    result = evaluate(model_on("local", (1,), regression=True), points[0], targets)
    perfect = evaluate(model_on("local", (), regression=True), points[0], targets)
    assert result.per_agent is not None and np.flatnonzero(np.isnan(result.per_agent)).tolist() == [1]
    assert perfect.per_agent is not None and np.isfinite(perfect.per_agent).all()


@pytest.mark.parametrize("regression", [False, True])
def test_own_targets_of_agents_that_are_down_are_gaps(regression: bool, points: tuple[Tensor, Tensor]) -> None:
    order = [4, 0, 2, 1, 3]
    labels = torch.randn(40, 5, 3) if regression else torch.randint(3, (40, 5))
    gaps = labels.clone()
    gaps[:, [order.index(agent) for agent in (1, 3)]] = torch.nan if regression else -1
    model = model_on("local", (1, 3), output_agents=order, regression=regression, own=True)
    one, other = evaluate(model, points[0], labels), evaluate(model, points[0], gaps)
    assert one.accuracy == other.accuracy and one.loss == other.loss
    assert one.per_agent is not None and np.flatnonzero(np.isnan(one.per_agent)).tolist() == [1, 3]


def test_agents_are_down_sample_by_sample(points: tuple[Tensor, Tensor]) -> None:
    model = model_on("local", (1,))
    assert model.network.links is not None
    model.network.links.dead = ()
    model.network.links.agent_outage = np.full(5, 0.4)
    down = model.down(40)
    assert down is not None and 0.2 < down.float().mean() < 0.6
    with torch.no_grad():
        state = model.network(model.lift(points[0]))
    assert torch.equal(state.view(40, 5, 2).ne(0).any(dim=2), ~down)
    result = evaluate(model, *points)
    with torch.no_grad():
        right = (model(points[0]).argmax(dim=-1) == points[1][:, None]) & ~down
    assert result.per_agent == pytest.approx((right.sum(dim=0) / (~down).sum(dim=0)).tolist())


@pytest.mark.parametrize("regression", [False, True])
def test_figures_without_agents_are_equal_on_workers(regression: bool, points: tuple[Tensor, Tensor]) -> None:
    labels = torch.randn(40, 3) if regression else points[1]

    def figures(transport: Transport | None = None) -> Any:
        result = evaluate(model_on("local", (1, 3), transport, regression=regression), points[0], labels)
        return result.accuracy, result.per_agent

    alone = figures()
    for accuracy, per_agent in run_threads(2, figures):
        assert accuracy == pytest.approx(alone[0]) and per_agent == pytest.approx(alone[1], nan_ok=True)


# -- the command --------------------------------------------------------------------------------


def test_every_impairment_is_measured_beside_no_impairment(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = answer(capsys, "robustness", str(run), "--repetitions=2", "--samples=40")
    assert list(result["curves"]) == ["loss", "burst", "outage", "delay", "bits", "dead"]
    assert json.loads((run / "robustness.json").read_text()) == result
    assert (run / "plots" / "robustness.png").read_bytes().startswith(b"\x89PNG")
    loss = {point["value"]: point for point in result["curves"]["loss"]}
    assert loss[0.0]["each"] == result["unimpaired"]["each"] and len(loss[0.3]["each"]) == 2
    assert [point["value"] for point in result["curves"]["delay"]] == ["1", "2", "0-2"]
    dead = result["curves"]["dead"]
    assert [point["value"] for point in dead] == [str(agent) for agent in range(8)]
    assert result["dead"]["worst"] == min(point["mean"] for point in dead)
    assert all(
        point["worst_agent_name"] != point["value"] and point["worst_agent"] <= point["mean_agent"] for point in dead
    )
    assert main(["robustness", str(run), "--dead=3,7", "--bits=4", "--samples=40"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["one", "agent", "down"] in rows and ["bits", "per", "value"] in rows and ["late", "slices"] not in rows


def test_figures_are_those_of_an_evaluation_over_the_same_links(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = answer(capsys, "robustness", str(run), "--loss=0.1,0.3", "--dead=5", "--repetitions=2", "--fill=own")
    curves = result["curves"]
    for value, case, repetition in ((0.3, {"loss": 0.3}, 1), ("5", {"dead": [5]}, 0), (0.1, {"loss": "10 %"}, 0)):
        config = config_of_run(run)
        config.links = LinksConfig(fill="own", **case)  # type: ignore[arg-type]
        data = assembly.build_dataset(config)
        model = assembly.build_classifier(config, data)
        load_weights(model, run)
        expected = evaluate(model, *tasks.split_tensors(config, data, "test"), repetition=repetition)
        (point,) = [point for points in curves.values() for point in points if point["value"] == value]
        assert point["each"][repetition] == expected.accuracy
        if value == "5":
            assert point["worst_agent"] == expected.worst_agent


def test_bad_values_and_networks_without_links_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = trained(tmp_path / "coupled", "--network.X.kind=neighbours")
    for words, line in (
        ((run, "--loss=1.5"), "robustness: --loss: expected a probability"),
        ((run, "--bits=0"), "robustness: --bits: expected 1 to 32 bits, got '0'"),
        ((run, "--delay=2-1"), "robustness: --delay: expected least-most, got '2-1'"),
        ((run, "--dead=9"), "robustness: --dead: "),
        ((run, "--fill=best"), "links.fill: expected one of zero, own, hold, predict, got 'best'"),
        ((run, "--repetitions=0"), "robustness: --repetitions: expected a whole number"),
        ((other,), "links: expected an interconnection within agents"),
    ):
        capsys.readouterr()
        assert main(["robustness", *map(str, words)]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"dist-hdnn: error: {line}")


def test_of_many_agents_a_sample_is_down_in_turn() -> None:
    graph = dist_hdnn.ring(100)
    cases = cases_of("dead", "each", graph, LinksConfig(), seed=3)
    assert len({case.dead for case in cases}) == len(cases) == MOST_DEAD
    assert cases == cases_of("dead", "each", graph, LinksConfig(), seed=3)


def test_a_curve_says_where_a_point_is_lost_and_its_mean() -> None:
    perfect = {"mean": 1.0}
    points = [{"value": 0.5, "mean": 0.95}, {"value": 0.1, "mean": 1.0}]
    figures = curve_figures(points, perfect)
    assert figures["one_point_at"] == pytest.approx(0.1 + 0.4 * 0.01 / 0.05)
    assert figures["area"] == pytest.approx((0.1 * 1.0 + 0.4 * 0.975) / 0.5)
    assert curve_figures(points[1:], perfect)["one_point_at"] is None
    assert curve_figures([{"value": 0.5, "mean": None}], perfect) == {"one_point_at": None, "area": None}


def test_the_picture_has_a_panel_per_impairment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(picture, "save", lambda figure, path: figures.append(figure))
    perfect = {"mean": 1.0, "worst": 1.0, "each": [1.0], "mean_agent": 0.99, "worst_agent": 0.98}
    lossy = {"value": 0.3, "mean": 0.9, "worst": 0.8, "each": [1.0, 0.8], "mean_agent": 0.85, "worst_agent": 0.7}
    dead = [{**lossy, "value": name} for name in ("north", "south")]
    result = {"measure": "accuracy", "fill": "zero", "unimpaired": perfect, "curves": {"loss": [lossy], "dead": dead}}
    picture.plot_robustness(result, tmp_path / "x.png", "a run")
    one, two = figures[0].axes
    lines = {line.get_label(): line for line in one.lines}
    assert lines["agents together"].get_xydata().tolist() == [[0.0, 100.0], [30.0, 90.0]]
    assert lines["mean agent"].get_ydata().tolist() == [99.0, 85.0]
    assert lines["worst agent"].get_ydata().tolist() == [98.0, 70.0]
    assert {round(float(y)) for y in one.collections[0].get_paths()[0].vertices[:, 1]} == {80, 100}
    assert [label.get_text() for label in two.get_xticklabels()] == ["north", "south"]


# -- tune, inspect, summary, study --------------------------------------------------------------------------------


def test_tune_trains_a_run_on_over_other_links(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tune", str(run), "--links.loss=0.3", "--links.fill=own", "--train.epochs=1"]) == 0
    (new,) = (tmp_path / "runs" / "swiss_roll_ring8_tuned").iterdir()
    config, before = config_of_run(new), config_of_run(run)
    assert (config.links.loss, config.links.fill, config.warm_start) == (0.3, "own", str(run.resolve()))
    assert config.network == before.network and config.readout == before.readout and config.data == before.data
    assert "kept the weights of 8 of 8 agents" in capsys.readouterr().err
    summary = json.loads((new / "summary.json").read_text())
    assert summary["impairments"] == {
        **{"kinds": ["loss"], "loss": 0.3, "fill": "own", "pair": "answer", "backward": "matched", "ramp": "full"}
    }
    assert "impairments" not in json.loads((run / "summary.json").read_text())
    assert main(["tune", str(new), "--links.loss=0.4", "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert "name: swiss_roll_ring8_tuned\n" in printed and "fill: own" in printed and "loss: 0.4" in printed


def test_inspect_says_the_links_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    config = "configs/swiss_roll_ring8.yaml"
    options = ["--links.loss=30 %", "--links.burst=4", "--links.delay=[0, 2]", "--links.bits=4", "--links.ramp=grow"]
    info = answer(capsys, "inspect", config, *options)
    assert info["network"]["impaired_links"] == (
        "loss 30 %, in runs of 4 layers, 0 to 2 layers late, 4 bits, fill zero, pair answer, ramp grow"
    )
    rules = "--links.rules=[{between: [0, 1], loss: 0.8}]"
    info = answer(capsys, "inspect", config, rules, "--links.dead=[3]", "--links.failout=0.5")
    assert info["network"]["impaired_links"].startswith(
        "loss 10 % in the mean (0 % to 80 %), dead agents 1, failout 50 %"
    )
    assert "impaired_links" not in answer(capsys, "inspect", config)["network"]
    assert main(["inspect", config, "--links.loss=0.1", "--network.X.kind=neighbours"]) == 2


def test_an_evaluation_has_the_last_of_the_strengths() -> None:
    links = Links(LinkTable.perfect(dist_hdnn.ring(5)), 5, strengths={0: 0.2, 500: 0.7})
    assert links.moment(training=False).strength == 0.7
    assert links.moment(training=True).strength == 0.2


def test_options_of_links_are_axes_of_a_study(tmp_path: Path) -> None:
    file = tmp_path / "lossy.yaml"
    text = "name: lossy\nbase: swiss_roll_ring8\naxes:\n  links.loss: [0, 0.3, '10 %']\n  links.fill: [zero, own]\n"
    file.write_text(text)
    trials = read_plan(str(file), []).listed()
    assert [trial.settings["links.loss"] for trial in trials[::2]] == [0, 0.3, "10 %"]
    assert {trial.settings["links.fill"] for trial in trials} == {"zero", "own"}
    file.write_text(text.replace("[zero, own]", "[zero, best]"))
    with pytest.raises(ValueError, match="axis links.fill: links.fill: expected one of zero, own, hold, predict"):
        read_plan(str(file), [])
