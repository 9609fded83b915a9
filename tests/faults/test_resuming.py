"""F15, F16: a run that goes on from a checkpoint ends as if nothing had happened, on any number of workers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from faults.small import STEPS, Setting, gap, repetitions, same, step_folder, tally, trained

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
