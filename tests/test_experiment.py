"""Whole runs: what a run directory holds, that it repeats bit by bit, that training is accurate and not chaotic."""

import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from dist_hdnn import load_run
from dist_hdnn.build import assembly
from dist_hdnn.cli import main
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import pictures, tasks
from dist_hdnn.training.evaluation import evaluate
from dist_hdnn.transport import run_threads

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHORT = ["--data.samples=400", "--train.epochs=2", "--network.layers=4", "--train.batch_size=50"]
PROMISED = """status test_accuracy train_accuracy loss agents workers transport parameters layers steps seconds_per_step
    peak_memory_bytes messages_per_step bytes_per_step non_neighbour_messages seed versions""".split()


def short_run(directory: Path, *options: str) -> Path:
    return tasks.train(read_config(CONFIGS / "swiss_roll_ring8.yaml", [*SHORT, f"--output={directory}", *options]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short_run(tmp_path_factory.mktemp("runs") / "local", "--readout.kind=local")


def test_the_figures_of_a_step_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    """The sum over all agents of the readout is no message between neighbours: it is on the wire alone."""
    options = ["--network.layers=1", "--data.samples=100", "--train.epochs=1", "--plots=false"]
    found = []
    for workers in (1, 2, 3):
        config = read_config(CONFIGS / "swiss_roll_ring8.yaml", [*options, f"--output={tmp_path / str(workers)}"])
        run_threads(workers, lambda transport, config=config: tasks.train(config, transport))
        found.append(json.loads((tmp_path / str(workers) / "summary.json").read_text()))
    names = ("messages_per_step", "bytes_per_step", "link_traffic", "bytes_per_link", "non_neighbour_messages")
    assert all([other[name] for name in names] == [found[0][name] for name in names] for other in found[1:])
    assert found[0]["messages_per_step"] == 2 * 4 * 16
    assert found[0]["wire_messages_per_step"] == found[0]["wire_bytes_per_step"] == 0
    assert 0 < found[1]["wire_bytes_per_step"] < found[2]["wire_bytes_per_step"]


def test_run_directory_holds_what_the_design_promises(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert set(PROMISED) <= summary.keys()
    assert summary["status"] == "done"
    assert summary["steps"] == 2 * 4
    assert summary["messages_per_step"] == 2 * 4 * 4 * 16  # both sweeps, 4 layers, 4 rounds, 8 links both ways
    assert summary["bytes_per_step"] == summary["messages_per_step"] * 50 * 4  # one neuron of 50 samples in float32
    assert summary["non_neighbour_messages"] == 0
    assert len(summary["link_traffic"]) == 8
    assert sum(messages for _, _, messages, _ in summary["link_traffic"]) == summary["messages_per_step"]
    assert {amount for _, _, _, amount in summary["link_traffic"]} == {summary["bytes_per_step"] // 8}
    assert list(summary["agent_accuracy"]) == [str(agent) for agent in range(8)]
    assert summary["worst_agent_accuracy"] == min(summary["agent_accuracy"].values())
    assert summary["bytes_per_prediction"] == 4 * 4 * 16 * 4  # 4 layers, 4 rounds, 8 links both ways, a float32
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [line["epoch"] for line in lines] == [1, 2] == [int(row["epoch"]) for row in rows]
    assert lines[-1]["train_accuracy"] == summary["train_accuracy"] and lines[-1]["validation_accuracy"] is None
    assert not any("test" in name for name in lines[-1]), "test data are read once, at the end"
    for name in ("curves", "graph", "traffic", "pattern", "decision"):
        assert (run / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((run / "graph.json").read_text())["nodes"]) == 8
    assert json.loads((run / "environment.json").read_text())["versions"]["torch"] == torch.__version__


def test_config_of_a_run_reproduces_its_weights_bit_by_bit_in_another_process(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dist_hdnn", "train", str(run / "config.yaml"), f"--output={tmp_path / 'again'}"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=100, env={**os.environ})
    assert finished.returncode == 0, finished.stderr
    first, second = (load_file(path / tasks.FINAL) for path in (run, tmp_path / "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert "test accuracy" in finished.stdout and str(tmp_path / "again" / "plots") in finished.stdout


def test_evaluate_repeats_the_accuracy_of_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    summary = json.loads((run / "summary.json").read_text())
    assert result["test_accuracy"] == summary["test_accuracy"]
    assert result["train_accuracy"] == summary["train_accuracy"]
    assert result["test_agent_accuracy"] == summary["agent_accuracy"]
    assert result["bytes_per_prediction"] == summary["bytes_per_prediction"]


def test_evaluate_of_a_damaged_run_exits_4_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = short_run(tmp_path / "run")
    weights = directory / tasks.FINAL
    weights.write_bytes(weights.read_bytes()[:-10])
    capsys.readouterr()
    assert main(["evaluate", str(directory)]) == 4
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_that_diverges_exits_6_and_says_so_in_its_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, output = str(CONFIGS / "swiss_roll_ring8.yaml"), tmp_path / "run"
    assert main(["train", config, *SHORT, f"--output={output}", "--network.initial_scale=1e39"]) == 6
    assert "epoch 1, step 1; first non-finite state: layer 1 of 4" in capsys.readouterr().err.splitlines()[-1]
    assert json.loads((output / "summary.json").read_text())["status"] == "non-finite"


def test_every_option_of_the_network_trains_and_evaluates(tmp_path: Path) -> None:
    directory = short_run(
        tmp_path / "run",
        "--network.X.kind=neighbours",
        "--network.K.kind=thinned",
        "--network.width={0: 4, 1: 2, 2: 6, 3: 2, 4: 2, 5: 2, 6: 2, 7: 8}",
        "--initial_state=learned",
        "--network.activation=sigmoid",
        "--train.optimizer=adam",
        "--train.schedule=constant",
        "--dtype=float64",
        '--more_graphs=[{"family": "ring", "agents": 8}]',
    )
    result = tasks.evaluate(directory)
    assert result["test_accuracy"] == json.loads((directory / "summary.json").read_text())["test_accuracy"]
    assert yaml.safe_load((directory / "config.yaml").read_text())["network"]["width"][7] == 8


def test_other_data_than_those_of_training_are_said_by_evaluate_and_certify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = tmp_path / "d.csv", tmp_path / "run"
    rows = [f"{i % 7},{i % 5},{i % 2}" for i in range(40)]
    data.write_text("\n".join(["a,b,label", *rows]) + "\n")
    short_run(run, "--data.name=file", f"--data.file={data}", "--data.split=random", "--checkpoint.every=1 epochs")
    assert main(["evaluate", str(run)]) == 0
    assert "not those" not in capsys.readouterr().err
    data.write_text("\n".join(["a,b,label", *rows, *rows[:3]]) + "\n")
    for command in ("evaluate", "certify"):
        assert main([command, str(run)]) == 0
        assert "the data are not those that it was trained on" in capsys.readouterr().err
    (run / "summary.json").unlink()  # as of a run that was stopped
    (run / "checkpoints" / "final.safetensors").unlink()
    assert main(["evaluate", str(run)]) == 0
    assert "the data are not those that it was trained on" in capsys.readouterr().err


def test_decision_regions_of_a_large_network_are_drawn_of_fewer_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one that takes longer over 40 x 40 points than over its data, they are left out, and a line says so."""
    grids = []

    def drawn(predict: object, data: object, path: Path, grid: int, accuracy: float) -> None:
        grids.append(grid)
        plot(predict, data, path, grid, accuracy)

    plot = pictures.plot_decision
    monkeypatch.setattr(pictures, "plot_decision", drawn)
    short_run(tmp_path / "small")
    for work, samples in ((60**2 * 16 * 4, 96), (1, 1600)):  # 16 neurons, 4 layers
        monkeypatch.setattr(pictures, "PLOT_WORK", work)
        directory = short_run(tmp_path / str(work), f"--data.samples={samples}")
        assert (directory / "plots" / "decision.png").read_bytes().startswith(b"\x89PNG")
    assert grids == [240, 60, 40] and "left out" not in capsys.readouterr().err
    directory = short_run(tmp_path / "large", "--data.samples=96")
    assert not (directory / "plots" / "decision.png").exists() and len(grids) == 3
    said = capsys.readouterr().err
    assert "decision.png is left out: its 40 x 40 points would take 17 times as long as the evaluation" in said


def test_workers_wait_while_one_draws_longer_than_they_wait_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "plot_run", lambda *_: time.sleep(10))
    options = [*SHORT, f"--output={tmp_path / 'run'}", "--workers=2", "--transport=threads"]
    config = read_config(CONFIGS / "swiss_roll_ring8.yaml", options)
    first, other = run_threads(2, lambda transport: tasks.train(config, transport), timeout=8.0)
    assert first == tmp_path / "run" and other is None


def test_workers_that_are_threads_count_the_memory_of_their_process_once(tmp_path: Path) -> None:
    options = [*SHORT, f"--output={tmp_path / 'run'}", "--workers=3", "--transport=threads", "--plots=false"]
    config = read_config(CONFIGS / "swiss_roll_ring8.yaml", options)
    run_threads(3, lambda transport: tasks.train(config, transport), timeout=60.0)
    found = json.loads((tmp_path / "run" / "summary.json").read_text())["peak_memory_bytes"]
    assert 0 < found <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_a_run_without_plots_draws_and_promises_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, output = str(CONFIGS / "swiss_roll_ring8.yaml"), tmp_path / "run"
    assert main(["train", config, *SHORT, f"--output={output}", "--plots=false"]) == 0
    assert not list(output.rglob("*.png")) and "plots  " not in capsys.readouterr().out
    summary = json.loads((output / "summary.json").read_text())
    assert set(PROMISED) <= summary.keys() and (output / tasks.FINAL).exists()


def test_a_run_that_goes_on_after_its_last_step_has_no_figures_of_a_step_but_all_others(tmp_path: Path) -> None:
    """As when it was killed while it wrote its end."""
    directory = short_run(tmp_path / "run", "--checkpoint.every=8 steps")
    before = json.loads((directory / "summary.json").read_text())
    for written in (directory / "summary.json", directory / tasks.FINAL, directory / "plots" / "traffic.png"):
        written.unlink()
    assert short_run(tmp_path / "run", "--checkpoint.every=8 steps", "--resume=auto") == directory
    after = json.loads((directory / "summary.json").read_text())
    assert after["resumed_after_step"] == after["steps"] == 8
    assert (after["messages_per_step"], after["bytes_per_step"]) == (None, None)
    assert after["test_accuracy"] == before["test_accuracy"] and (directory / "plots" / "curves.png").is_file()
    assert "link_traffic" in before and not {"link_traffic", "bytes_per_link"} & after.keys()
    assert not (directory / "plots" / "traffic.png").exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ring_of_8_reaches_99_9_percent_and_a_tiny_change_of_the_start_does_not_matter(tmp_path: Path) -> None:
    """The published training moves by up to 20 points when its start changes by 1e-7."""
    config = read_config(CONFIGS / "swiss_roll_ring8.yaml")
    data = assembly.build_dataset(config)
    training, test = (tasks.split_tensors(config, data, which) for which in ("train", "test"))
    accuracies = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for change in (0.0, 1e-7):
            model = assembly.build_classifier(config, data)
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in model.network.parameters():
                    parameter.mul_(1 + change * torch.randn(parameter.shape, generator=generator))
            tasks.train_model(config, model, data, training, test)
            accuracies.append(evaluate(model, *test).accuracy)
    finally:
        torch.set_num_threads(threads)
    assert min(accuracies) >= 0.999, accuracies
    assert np.ptp(accuracies) <= 0.001, accuracies


def test_a_run_keeps_the_graph_that_it_was_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file may move, change or be read in another order by another version."""
    file, run = tmp_path / "g.edges", tmp_path / "run"
    file.write_text("s2 s10\ns10 s1\ns1 s3\n")
    options = ["--train.epochs=1", "--data.samples=40", "--network.layers=2", "--plots=false"]
    assert main(["train", f"--graph.file={file}", f"--output={run}", "--readout.kind=local", *options]) == 0
    answers = []
    for change in ("", "s1 s2\ns2 s3\ns3 s10\n", None):
        if change:
            file.write_text(change)
        elif change is None:
            file.unlink()
        capsys.readouterr()
        assert main(["evaluate", str(run), "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1] == answers[2]
    saved = json.loads((run / "graph.json").read_text())
    names = [node["label"] for node in saved["nodes"]]
    assert names == ["s1", "s2", "s3", "s10"]
    for node, name in zip(saved["nodes"], sorted(names), strict=True):  # as an earlier version would have numbered them
        node["label"] = name
    (run / "graph.json").write_text(json.dumps(saved))
    assert load_run(run).net.graph.names == ("s1", "s10", "s2", "s3")


def test_graph_files_of_one_network_have_the_same_agents(tmp_path: Path) -> None:
    (tmp_path / "a.edges").write_text("a b\nb c\n")
    (tmp_path / "b.edges").write_text("a b\nb d\n")
    config = read_config(None, [f"--graph.file={tmp_path}/a.edges", f"--more_graphs=[{{file: {tmp_path}/b.edges}}]"])
    with pytest.raises(ValueError, match=r"more_graphs\[0\]: expected the agents of graph, .* got 'd'; rename"):
        assembly.build_graphs(config)
