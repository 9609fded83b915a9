"""Finalizers neither lock nor communicate: networks die at any moment, and the others go on with the right numbers."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import network, quiet_graph
from transport.processes import run
from transport.test_mpi import LAUNCHER, MISSING, OPEN_MPI

from dist_hdnn.transport import run_threads

SCRIPT = Path(__file__).with_name("collected.py")
SECONDS = float(os.environ.get("STRESS_SECONDS", "15"))  # for each transport


@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS + 180)
@pytest.mark.parametrize(
    "kind",
    [
        "threads",
        pytest.param("gloo", marks=pytest.mark.processes),
        pytest.param("mpi", marks=[pytest.mark.mpi, pytest.mark.skipif(bool(MISSING), reason=f"no {MISSING}")]),
    ],
)
def test_networks_that_the_collector_frees_at_any_moment_disturb_nobody(kind: str) -> None:
    before = [str(LAUNCHER), "-n", "3"] if kind == "mpi" else []
    done = run(*before, sys.executable, str(SCRIPT), kind, str(SECONDS), limit=2 * SECONDS + 150, **OPEN_MPI)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split(" networks on 3 workers over ")[0]) > 1, done.stdout


@pytest.mark.parametrize("options", [{}, {"deterministic": True}], ids=["summed", "ordered"])
def test_a_network_may_be_freed_inside_a_locked_section(options: dict[str, Any]) -> None:
    """What the collector does now and then is done on purpose: freed while the lock of all workers is held."""

    def work(transport: Any) -> tuple[int, int, int]:
        net = network(quiet_graph("ring"), layers=2, workers=transport, **options)
        transport.barrier()
        collectives = len(transport._channels)
        net(torch.zeros(3, net.neurons, dtype=torch.float64)).sum().backward()
        with transport.group.lock:
            del net
            gc.collect()
            waiting = len(transport._channels) - collectives
        transport.barrier()
        return waiting, len(transport._channels) - collectives, len(transport.group.links)

    results = run_threads(2, work, timeout=20)
    assert all(waiting > 0 and left == 0 for waiting, left, _ in results), results
    assert results[0][2] == results[1][2] == 2  # those of the barrier
