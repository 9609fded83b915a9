"""A trained run answers about raw readings as it did about its own test rows, from whatever they are read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import dist_hdnn
from dist_hdnn import assembly, experiment
from dist_hdnn.config.files import read_config

CONFIGS = Path(__file__).parents[1] / "configs"
SHORT = ["--train.epochs=2", "--network.layers=2", "--plots=false"]
RUNS: dict[str, tuple[str, list[str]]] = {
    "toy": ("swiss_roll_ring8", ["--data.samples=400", "--readout.kind=local"]),
    "table": ("breast_cancer_sensors", ["--readout.kind=gossip"]),
    "targets": ("diabetes_sensors", []),
    "targets of agents": ("diabetes_sensors", ["--readout.kind=local"]),
    "images": ("digits_grid16", []),
    "channels": ("mnist_channels", ["--data.name=digits", "--data.folder=null"]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def trained(folder: Path, case: str) -> Path:
    """The run of a case, trained when it is first asked for."""
    config, options = RUNS[case]
    output = folder / case.replace(" ", "_")
    if not output.exists():
        experiment.train(read_config(CONFIGS / f"{config}.yaml", [*SHORT, *options, f"--output={output}"]))
    return output


def raw_test_rows(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """The test rows of a run as they came, and their answers."""
    config = read_config(run / "config.yaml", ["--data.standardise=false"])
    data = assembly.build_dataset(config)
    return data.test_x, data.test_y


@pytest.mark.parametrize("case", RUNS)
def test_a_loaded_run_repeats_the_test_figure_from_raw_readings(case: str, folder: Path) -> None:
    directory = trained(folder, case)
    summary = json.loads((directory / "summary.json").read_text())
    run = dist_hdnn.load_run(directory)
    x, y = raw_test_rows(directory)
    found = run.predict(x)
    if "test_r2" in summary:
        y = y[:, 0]
        assert found.dtype == np.float64 and run.targets == ("target",) and run.classes == ()
        assert 1 - ((found - y) ** 2).sum() / ((y - y.mean()) ** 2).sum() == pytest.approx(summary["test_r2"], abs=1e-5)
    else:
        names = np.array(run.classes)
        assert (found == names[y]).sum() == round(summary["test_accuracy"] * len(y))
        assert (found == names[y]).mean() == summary["test_accuracy"]
    scores = run(torch.from_numpy(x[:5]))
    assert scores.shape[-1] == max(len(run.classes), len(run.targets)) and torch.isfinite(scores).all()
