"""F15, F16: a run that goes on from a checkpoint ends as if nothing had happened, on any number of workers."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from faults.small import STEPS, Setting, gap, repetitions, same, step_folder, tally, trained

from dist_hdnn.cli import main
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import tasks
from dist_hdnn.training.checkpoints.manifest import CheckpointError

SETTINGS = {
    "local readout": Setting(),
    "sum readout": Setting(readout="sum"),
    "levels": Setting(levels=(2, 4)),
    "any order of sums": Setting(deterministic=False),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_F15_a_resumed_run_ends_with_the_same_bits(workers: int, name: str, tmp_path: Path) -> None:
    setting = SETTINGS[name]
    undisturbed = trained(tmp_path / "whole", workers, setting)
    edges = [3, STEPS // 2, STEPS]  # ends of an epoch, of a level, of the run
    random.seed(seed := random.randrange(2**32))
    steps = random.sample(range(1, STEPS), repetitions(1, 7)) + edges[: repetitions(1, 3)]
    tally.repetitions = len(steps)
    for step in steps:
        start = step_folder(tmp_path / "whole", step)
        resumed = trained(tmp_path / f"from {step}", workers, setting, start)
        for mine, other in zip(resumed, undisturbed, strict=True):
            assert mine.history == other.history, f"seed {seed}, step {step}"
            assert all((mine.weights[key] == other.weights[key]).all() for key in other.weights)
        if step < STEPS:
            last = step_folder(tmp_path / f"from {step}", STEPS)
            assert same(last, step_folder(tmp_path / "whole", STEPS)), f"seed {seed}, step {step}"


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (4, 1), (1, 4), (3, 6)])
def test_F16_a_run_resumes_on_other_workers_that_own_other_agents(before: int, after: int, tmp_path: Path) -> None:
    step = STEPS // 2 + 1
    for name, deterministic in (("bits", True), ("numbers", False)):
        setting = Setting(deterministic=deterministic)
        whole = tmp_path / f"{name} whole"
        trained(whole, before, setting)
        other = Setting(deterministic=deterministic, partition="round_robin")
        trained(tmp_path / name, after, other, step_folder(whole, step))
        ends = step_folder(tmp_path / name, STEPS), step_folder(whole, STEPS)
        assert gap(*ends) <= 1e-10
        if deterministic:
            assert same_weights(*ends)


def same_weights(first: Path, second: Path) -> bool:
    return gap(first, second) == 0.0


CONFIG = Path(__file__).resolve().parents[2] / "configs" / "swiss_roll_ring8.yaml"
SHORT = ["--data.samples=80", "--train.epochs=2", "--network.layers=1", "--train.batch_size=20", "--plots=false"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended without a checkpoint of a step."""
    run = tmp_path_factory.mktemp("finished") / "run"
    assert main(["train", str(CONFIG), *SHORT, f"--output={run}"]) == 0
    return run


@pytest.mark.parametrize("options", [[], ["--graph.agents=6"], ["--train.epochs=3"]], ids=str)
def test_a_finished_run_without_a_checkpoint_does_not_start_again_elsewhere(
    options: list[str], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", f"--resume={finished}", f"--output={tmp_path / 'new'}", *options]) == 4
    said = capsys.readouterr().err
    assert f"got none in {finished}/checkpoints. It has ended: start from its weights with --from={finished}." in said
    assert said.count("\n") == 1 and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--graph.agents=6", "graph.agents is 8, not 6"),
        ("--train.epochs=3", "train.epochs is 2, not 3"),
        ("--seed=1", "seed is 0, not 1"),
    ],
)
def test_a_finished_run_is_not_passed_off_as_one_of_other_options(
    option: str, named: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "summary.json").read_bytes()
    assert main(["train", f"--resume={finished}", option]) == 4
    said = capsys.readouterr().err
    assert named in said and f"with --from={finished}" in said and said.count("\n") == 1
    assert main(["train", "--resume=auto", f"--output={finished}", option]) == 2
    assert named in capsys.readouterr().err
    assert (finished / "summary.json").read_bytes() == before


@pytest.mark.parametrize("auto", [False, True])
def test_resuming_a_finished_run_trains_nothing_and_says_so(
    auto: bool, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tasks, "train_model", lambda *_, **__: pytest.fail("training was reached"))
    words = ["--resume=auto", f"--output={finished}"] if auto else [f"--resume={finished}"]
    assert main(["train", *words]) == 0
    said = capsys.readouterr()
    assert f"{finished} has ended, nothing is trained; for more epochs use --from={finished}" in said.err
    assert "test accuracy" in said.out


def test_a_finished_run_whose_data_have_changed_since_is_not_passed_off_as_one_of_theirs(tmp_path: Path) -> None:
    rows = [f"{k % 2},{(k * 7) % 5},{k % 2}" for k in range(40)]
    (table := tmp_path / "data.csv").write_text("\n".join(["a,b,label", *rows]))
    options = ["--data.name=file", f"--data.file={table}", "--data.split=last", f"--output={tmp_path / 'run'}", *SHORT]
    config = read_config(CONFIG, [*options, "--resume=auto"])
    tasks.train(config)
    table.write_text("\n".join(["a,b,label", *rows[::-1]]))
    with pytest.raises(
        CheckpointError, match=r"got one with another data, and it has ended\. Start a new run .*--from"
    ):
        tasks.train(config)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("checkpoints/final.safetensors", "got the file .*final.safetensors.*start from them with --from="),
        ("checkpoints", "got a directory without config.yaml"),
        ("checkpoints/step_00000099", "expected a checkpoint, got nothing"),
        ("nothing", "expected a run directory, got none"),
    ],
)
def test_what_is_neither_a_run_nor_a_checkpoint_of_one_is_refused(
    name: str, problem: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(CONFIG), f"--resume={finished / name}", f"--output={tmp_path / 'new'}"]) == 4
    said = capsys.readouterr().err
    assert re.search(problem, said) and said.count("\n") == 1 and not (tmp_path / "new").exists()


def test_an_empty_directory_is_no_run_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(CONFIG), f"--resume={tmp_path}", *SHORT]) == 4
    assert "got a directory without config.yaml" in capsys.readouterr().err
