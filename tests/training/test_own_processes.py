"""Targets of each agent's own on real processes: gloo and MPI workers give the losses and weights of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_same_numbers import difference, needs_mpi, train, train_here

BARBELL = "--graph.family=barbell --data.name=barbell --sensors=[] --data.task=regression --readout.kind=local"
SMALL = [*BARBELL.split(), "--graph.agents=8", "--network.width=4", "--lift.kind=linear"]


@pytest.fixture(scope="module", params=[False, True], ids=["any order", "deterministic"])
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    options = [*SMALL, f"--deterministic={str(request.param).lower()}"]
    return train_here(tmp_path_factory.mktemp("own") / "run", *options), options


@pytest.mark.processes
@pytest.mark.parametrize("transport", ["gloo", pytest.param("mpi", marks=[needs_mpi, pytest.mark.mpi])])
def test_three_workers_give_the_numbers_of_one(transport: str, alone: tuple[Path, list[str]], tmp_path: Path) -> None:
    run, options = alone
    other = train(tmp_path / "run", "--workers=3", f"--transport={transport}", *options)
    assert difference(other, run) <= (0.0 if "--deterministic=true" in options else 1e-12)
