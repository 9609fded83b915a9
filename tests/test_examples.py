"""The examples run by the commands in their first lines, and print what they claim."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PYTHON = (sys.executable,)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")

ALONE = """
import runpy, sys
program = sys.argv[1]
sys.argv = [program, "exported/agents"]
runpy.run_path(program, run_name="__main__")
assert not {"torch", "dist_hdnn"} & set(sys.modules)
"""


def run(command: tuple[str, ...], folder: Path) -> list[str]:
    """Run a command in a folder as a user would; return the printed lines."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_opens_with_its_command(example: str) -> None:
    assert f"\n    python examples/{example}" in (EXAMPLES / example).read_text(encoding="utf-8")


@pytest.mark.processes
def test_the_own_loop_prints_equal_and_falling_losses_alone_and_under_torchrun(tmp_path: Path) -> None:
    alone, two = (run((*start, str(EXAMPLES / "own_loop.py")), tmp_path) for start in (PYTHON, TORCHRUN))
    assert alone == two and len(alone) == 6
    losses = [float(line.split()[-1]) for line in alone]
    assert losses[-1] < 0.5 * losses[0]


def test_the_hook_shows_that_training_makes_agents_agree(tmp_path: Path) -> None:
    lines = run((*PYTHON, str(EXAMPLES / "agent_states.py")), tmp_path)
    first, last = ([float(word) for word in line.split(":")[1].split()] for line in (lines[0], lines[-1]))
    assert len(first) == 9 and last[-1] < 0.2 * first[-1]


def test_the_exported_network_runs_agent_by_agent_without_torch(tmp_path: Path) -> None:
    (answer,) = run((*PYTHON, str(EXAMPLES / "export.py")), tmp_path)
    assert float(answer.split()[-1]) < 1e-12
    assert len(run((*PYTHON, "-c", ALONE, str(EXAMPLES / "agent_by_agent.py")), tmp_path)) == 8


def test_a_power_grid_names_its_open_line(tmp_path: Path) -> None:
    pytest.importorskip("pypower", reason="needs the extra grid")
    folder = EXAMPLES / "power_grid"
    (made,) = run((*PYTHON, str(folder / "make_data.py"), "--samples=160"), tmp_path)
    assert made.startswith("160 samples")
    train = (*PYTHON, "-m", "dist_hdnn", "train", str(folder / "power_grid.yaml"), "--train.epochs=2")
    run((*train, "--data.file=data/power_grid/sparse.npz", "--output=one", "--plots=false"), tmp_path)
    (named,) = run((*PYTHON, str(folder / "name_line.py"), "one"), tmp_path)
    assert named.startswith("one: right line ")


def test_the_leaks_of_a_water_network_are_simulated_trained_on_and_named(tmp_path: Path) -> None:
    pytest.importorskip("wntr", reason="needs the extra water")
    folder = EXAMPLES / "water"
    printed = run((*PYTHON, str(folder / "generate.py"), "--days=50"), tmp_path)
    assert printed[0] == "97 agents, 119 links, diameter 30"
    options = ("--network.layers=2", "--train.epochs=1", "--plots=false", "--output=net3")
    run((*PYTHON, "-m", "dist_hdnn", "train", str(folder / "net3.yaml"), *options), tmp_path)
    (line,) = run((*PYTHON, str(folder / "evaluate.py"), "net3"), tmp_path)
    assert 0 <= float(line.split()[3]) <= 30
