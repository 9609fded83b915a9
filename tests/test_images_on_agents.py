"""Images on networked agents, whole runs: the same losses on any number of workers, what a run records, bad input."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from images import write_idx_digits

from dist_hdnn.build import assembly
from dist_hdnn.cli import main
from dist_hdnn.config import Config
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import tasks
from dist_hdnn.transport import Transport, run_threads

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DIGITS = [str(CONFIGS / "digits_grid16.yaml"), "--train.epochs=1", "--train.batch_size=200"]


def losses(config: Config, transport: Transport | None, data: object, steps: int) -> list[float]:
    """The losses of the first steps, on every worker the same."""
    torch.set_num_threads(1)
    model = assembly.build_classifier(config, data, transport)
    training, test = (tasks.split_tensors(config, data, which) for which in ("train", "test"))
    size = config.train.batch_size
    found: list[float] = []
    training, test = (training[0][: steps * size], training[1][: steps * size]), (test[0][:size], test[1][:size])
    config = replace(config, train=replace(config.train, epochs=1))
    tasks.train_model(config, model, data, training, test, transport, on_step=lambda step, loss: found.append(loss))
    return found


CASES = {
    "linear": [],
    "conv": ["--lift.kind=conv", "--lift.channels=3"],
    "augmented": ["--data.augment.shift=1", "--data.augment.rotate=10"],
    "uneven widths": ["--network.width={" + ", ".join(f"{i}: {2 + 2 * (i % 3)}" for i in range(16)) + "}"],
}


@pytest.mark.parametrize("case", CASES)
def test_digits_on_1_and_4_workers_have_equal_losses(case: str) -> None:
    config = read_config(DIGITS[0], ["--dtype=float64", "--train.batch_size=25", *CASES[case]])
    data = assembly.build_dataset(config)
    alone = losses(config, None, data, 8)
    assert len(alone) == 8 and len(set(alone)) == 8
    config.partition.method = "round_robin"
    for result in run_threads(4, lambda transport: losses(config, transport, data, 8), timeout=100):
        assert np.abs(np.array(result) - alone).max() <= 1e-10


def test_mnist_on_1_and_4_workers_has_equal_losses_for_20_steps(shared: Path) -> None:
    options = [f"--data.folder={shared / 'data' / 'mnist'}", "--dtype=float64", "--train.batch_size=20"]
    config = read_config(CONFIGS / "mnist_grid16.yaml", options)
    data = assembly.build_dataset(config)
    alone = losses(config, None, data, 20)
    assert len(alone) == 20
    for result in run_threads(4, lambda transport: losses(config, transport, data, 20), timeout=100):
        assert np.abs(np.array(result) - alone).max() <= 1e-10


def test_a_run_on_images_records_its_scale_and_can_be_evaluated(tmp_path: Path) -> None:
    folder = write_idx_digits(tmp_path / "numerals")
    options = ["--data.name=idx", f"--data.folder={os.path.relpath(folder)}", "--train.epochs=2", "--lift.kind=conv"]
    config = read_config(CONFIGS / "digits_grid16.yaml", [*options, f"--output={tmp_path / 'run'}"])
    run = tasks.train(config)
    assert run is not None
    summary = json.loads((run / "summary.json").read_text())
    data = assembly.build_dataset(config)
    pixels = data.train_x * summary["normalisation"]["deviation"] + summary["normalisation"]["mean"]
    assert np.allclose(pixels, np.round(pixels), atol=1e-3) and round(pixels.max()) == 240
    assert (summary["agents"], summary["links"], summary["non_neighbour_messages"]) == (16, 24, 0)
    assert summary["test_accuracy"] > 0.3
    assert tasks.evaluate(run)["test_accuracy"] == summary["test_accuracy"]


def test_inspect_counts_the_weights_that_the_lift_has(capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--lift.kind=conv", "--lift.channels=5"]):
        config = read_config(DIGITS[0], options)
        model = assembly.build_classifier(config, assembly.build_dataset(config))
        assert main(["inspect", DIGITS[0], *options, "--json"]) == 0
        counted = json.loads(capsys.readouterr().out)
        assert counted["network"]["parameters"]["total"] == sum(p.numel() for p in model.parameters())
        assert counted["network"]["parameters"]["lift"] == sum(p.numel() for p in model.learned_lift.parameters())
        assert len(counted["data"]["sensor_agents"]) == 16


@pytest.mark.parametrize("rows", [1, 3])
def test_padding_is_said_in_one_line(rows: int, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--graph.family=path", f"--graph.agents={rows * 5}", f"--lift.rows={rows}", "--lift.columns=5"]
    assert main(["inspect", DIGITS[0], *options, "--json"]) == 0
    lines = [line for line in json.loads(capsys.readouterr().out)["warnings"] if "padded" in line]
    assert len(lines) == 1 and f"for {rows} x 5 patches" in lines[0]


@pytest.mark.parametrize("family", ["ring", "torus", "erdos_renyi", "complete"])
def test_any_graph_can_carry_the_patches(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", DIGITS[0], f"--graph.family={family}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["graph"]["agents"] == 16


BAD = {
    "no folder": (["--data.name=mnist", "--data.folder=nowhere"], "train-images-idx3-ubyte.gz in nowhere, got no such"),
    "own, nowhere": (["--data.name=idx", "--data.folder=nowhere"], "data.folder: expected train-images"),
    "own, no folder": (["--data.name=idx"], "data.folder: expected the folder of four IDX files"),
    "needless folder": (["--data.folder=here"], "data.folder: expected none, because data.name=digits"),
    "needless download": (["--data.download=true"], "data.download: expected none, because data.name=digits"),
    "unknown set": (["--data.name=minst"], "did you mean mnist?"),
    "too many agents": (["--graph.agents=100"], "lift: more agents than pixels: expected a grid of at most 8 x 8"),
    "product": (["--lift.rows=3", "--lift.columns=5"], "one patch for each of the 16 agents, got 3 rows x 5 columns"),
    "one of two": (["--lift.rows=4"], "lift: expected both rows and columns, or neither"),
    "even kernel": (["--lift.kind=conv", "--lift.kernel=2"], "lift.kernel: expected an odd number, got 2; use 3"),
    "no channel": (["--lift.kind=conv", "--lift.channels=0"], "lift.channels: expected a number >= 1, got 0"),
    "sensors too": (['--sensors=[{"feature": 0, "agent": 1}]'], "sensors: expected none with lift.kind=linear"),
    "start too": (["--initial_state=learned"], "initial_state: expected zero with lift.kind=linear"),
    "conv of points": (["--data.name=swiss_roll", "--lift.kind=conv"], "lift.kind=conv: expected images, got the data"),
    "turned points": (["--data.name=swiss_roll", "--data.augment.rotate=5"], "data.augment: expected images, got the"),
    "negative shift": (["--data.augment.shift=-1"], "data.augment.shift: expected a number >= 0"),
    "zoom": (["--data.augment.scale=1"], "data.augment.scale: expected a share below 1"),
    "as sensors": (["--lift.kind=sensors", "--network.width=2"], "more features than sensors fit"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_input_is_one_line_and_exit_code_2(fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, message = BAD[fault]
    assert main(["train", *DIGITS, *options, f"--output={tmp_path / 'run'}"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[-1] and not (tmp_path / "run").exists()


CHANNELS = [
    "--data.name=digits",
    "--data.folder=null",
    "--dtype=float64",
    "--train.batch_size=10",
    "--network.layers=2",
]
PUBLISHED = {
    "MS1": [],
    "H1 with J1": ["--network.architecture=H1"],
    "H1 with J2": ["--network.architecture=H1", "--network.J=J2", "--network.X.kind=neighbours"],
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_channels_on_1_and_4_workers_have_equal_losses(case: str) -> None:
    config = read_config(CONFIGS / "mnist_channels.yaml", [*CHANNELS, *PUBLISHED[case]])
    data = assembly.build_dataset(config)
    alone = losses(config, None, data, 5)
    for result in run_threads(4, lambda transport: losses(config, transport, data, 5), timeout=100):
        assert np.abs(np.array(result) - alone).max() <= 1e-10


def test_inspect_counts_pixels_as_samples_of_the_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(CONFIGS / "mnist_channels.yaml")
    config = read_config(path, CHANNELS)
    data = assembly.build_dataset(config)
    model = assembly.build_classifier(config, data)
    assert main(["inspect", path, *CHANNELS, "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["network"]["parameters"]["total"] == sum(p.numel() for p in model.parameters())
    model(torch.zeros(10, 64, dtype=torch.float64)).sum().backward()
    assert counted["communication"]["bytes_per_step"] == model.network.traffic()["bytes"]


def test_channels_need_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data.name=swiss_roll", "--lift.kind=channels", f"--output={tmp_path / 'run'}"]
    assert main(["train", DIGITS[0], *options]) == 2
    assert "lift.kind=channels: expected images, got the data set swiss_roll" in capsys.readouterr().err
