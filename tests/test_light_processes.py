"""What the process of a command does not load: every worker starts sooner without it."""

import subprocess
import sys
from pathlib import Path

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "swiss_roll_ring8.yaml"
SHORT = ["--data.samples=40", "--train.epochs=1", "--network.layers=1", "--train.batch_size=20"]
HEAVY = {"torch._dynamo", "sympy", "torch.distributed.tensor", "torch._inductor", "sklearn", "pandas"}
PROGRAM = """
import sys
from dist_hdnn.cli import main
assert main(sys.argv[1:]) == 0
import dist_hdnn.experiment.tasks, dist_hdnn.experiment.certify  # what the workers of train and of certify import
print("loaded", *sys.modules)
"""


def loaded(*arguments: str, program: str = PROGRAM) -> set[str]:
    """The modules that a process has at the end of a command."""
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    first, *modules = done.stdout.splitlines()[-1].split()
    assert first == "loaded"
    return set(modules)


def test_a_training_loads_no_compiler(tmp_path: Path) -> None:
    modules = loaded("train", str(CONFIG), *SHORT, f"--output={tmp_path / 'run'}")
    assert "dist_hdnn.training.loop" in modules and not modules & HEAVY


def test_a_process_that_draws_nothing_does_not_load_matplotlib() -> None:
    modules = loaded("inspect", str(CONFIG))
    assert "torch" in modules and not modules & {*HEAVY, "matplotlib"}


def test_a_study_starts_its_trials_without_torch() -> None:
    modules = loaded(program="import sys, dist_hdnn.study.command; print('loaded', *sys.modules)")
    assert "dist_hdnn.study.runner" in modules and not modules & {*HEAVY, "matplotlib", "torch"}
