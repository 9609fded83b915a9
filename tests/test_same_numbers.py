"""The command line on real processes: workers over shm, gloo and MPI give the losses and weights of one process."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dist_hdnn.cli import main
from dist_hdnn.experiment.tasks import FINAL

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "swiss_roll_ring8.yaml"
SMALL = ["--data.samples=400", "--train.epochs=2", "--network.layers=4", "--train.batch_size=50"]
SHORT = [*SMALL, "--dtype=float64", "--plots=false"]
BESIDE = Path(sys.executable).with_name("mpiexec")
needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or not BESIDE.exists(), reason="needs mpi4py and mpiexec in this venv"
)


def train(directory: Path, *options: str) -> Path:
    """One run of the command, in processes of its own."""
    command = [sys.executable, "-m", "dist_hdnn", "train", str(CONFIG), *SHORT, f"--output={directory}", *options]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=110, env={**os.environ})
    assert finished.returncode == 0, finished.stderr[-2000:]
    return directory


def train_here(directory: Path, *options: str) -> Path:
    """One run in this process, which has the environment of theirs."""
    assert main(["train", str(CONFIG), *SHORT, f"--output={directory}", *options]) == 0
    return directory


def difference(first: Path, second: Path) -> float:
    """Largest difference of final weights and of the losses of all epochs."""
    weights, others = (load_file(run / FINAL) for run in (first, second))
    assert weights.keys() == others.keys()
    losses, other_losses = (
        torch.tensor([json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()])
        for run in (first, second)
    )
    gaps = [float((weights[name] - others[name]).abs().max()) for name in weights]
    return max(*gaps, float((losses - other_losses).abs().max()))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_here(tmp_path_factory.mktemp("alone") / "run")


@pytest.fixture(scope="module")
def alone_in_order(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_here(tmp_path_factory.mktemp("alone") / "run", "--deterministic=true")


@pytest.mark.processes
@pytest.mark.parametrize(("workers", "transport"), [(2, "shm"), (4, "shm"), (4, "gloo")])
def test_workers_give_the_numbers_of_one_process(workers: int, transport: str, alone: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", f"--workers={workers}", f"--transport={transport}")
    assert difference(run, alone) <= 1e-12
    summary, simulated = (json.loads((path / "summary.json").read_text()) for path in (run, alone))
    assert (summary["workers"], summary["transport"], summary["non_neighbour_messages"]) == (workers, transport, 0)
    assert summary["parameters"] == simulated["parameters"]


def test_threads_of_one_process_give_the_same_numbers(alone: Path, tmp_path: Path) -> None:
    assert difference(train_here(tmp_path / "run", "--workers=3", "--transport=threads"), alone) <= 1e-12


@pytest.mark.processes
@pytest.mark.parametrize("transport", ["shm", "gloo"])
def test_deterministic_workers_give_the_same_bits(transport: str, alone_in_order: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", "--workers=3", f"--transport={transport}", "--deterministic=true")
    assert difference(run, alone_in_order) == 0.0


@needs_mpi
@pytest.mark.mpi
@pytest.mark.parametrize("workers", [2, 4])
def test_mpi_workers_give_the_numbers_of_one_process(workers: int, alone: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", f"--workers={workers}", "--transport=mpi")
    assert difference(run, alone) <= 1e-12
    assert json.loads((run / "summary.json").read_text())["transport"] == "mpi"


@needs_mpi
@pytest.mark.mpi
def test_deterministic_mpi_workers_give_the_same_bits(alone_in_order: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", "--workers=3", "--transport=mpi", "--deterministic=true")
    assert difference(run, alone_in_order) == 0.0
