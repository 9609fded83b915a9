"""Guarantees 1 to 5 of the design over processes that share memory: adjoint, parity, same bits, neighbors, volume.

These are the tests of the threads, run by forks over shm: usually on each graph once, bits and bytes on every other;
with FAULTS=nightly on all of 10 graphs x {2, 3, 4, 8} workers, in every placement.
"""

from __future__ import annotations

import os
import sys

import networkx as nx
import on_workers
import pytest
from forked import run_forked
from network import test_workers
from networks import GRAPHS, PLACEMENTS, quiet_graph, uneven_widths
from operators import test_exchange

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="shared memory needs Linux"),
]
OTHERS = {  # of at least 8 agents
    "path of 9": nx.path_graph(9),
    "star of 9": nx.star_graph(8),
    "complete of 8": nx.complete_graph(8),
    "apart, one alone": nx.disjoint_union(nx.disjoint_union(nx.cycle_graph(5), nx.path_graph(3)), nx.empty_graph(1)),
}
TEN = [*OTHERS, "ring", "grid", "torus", "random", "hubs", "tree"]
WORKERS = (2, 3, 4, 8)
EVERYTHING = os.environ.get("FAULTS") == "nightly"
ALL = [(name, workers) for name in TEN for workers in WORKERS]
CASES = ALL if EVERYTHING else [(name, WORKERS[place % 3]) for place, name in enumerate(TEN)] + [("hubs", 8)]
SOME = CASES if EVERYTHING else CASES[::2]  # of what takes longer
WHERE = tuple(PLACEMENTS) if EVERYTHING else ("K and X",)


@pytest.fixture(autouse=True)
def by_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (on_workers, test_workers, test_exchange):
        monkeypatch.setattr(module, "run_threads", run_forked)
    for name, graph in OTHERS.items():
        monkeypatch.setitem(GRAPHS, name, graph)


def options_of(name: str, placement: str, widest: int = 3) -> dict[str, object]:
    widths = uneven_widths(quiet_graph(name).agents, widest=widest)
    return {"width": widths, "layers": 3, "step": 0.4, **PLACEMENTS[placement]}


@pytest.mark.parametrize(("name", "workers"), CASES)
def test_gather_and_scatter_add_are_adjoint(name: str, workers: int) -> None:
    for directed in (False, True):
        test_exchange.test_gather_and_scatter_add_are_adjoint(name, workers, directed)


@pytest.mark.parametrize("placement", WHERE)
@pytest.mark.parametrize(("name", "workers"), CASES)
def test_numbers_are_those_of_one_process(name: str, workers: int, placement: str) -> None:
    test_workers.test_parity_with_one_process(name, workers, placement)


@pytest.mark.parametrize("placement", WHERE)
@pytest.mark.parametrize(("name", "workers"), SOME)
def test_bits_are_those_of_one_process_in_deterministic_mode(name: str, workers: int, placement: str) -> None:
    options = options_of(name, placement, widest=5) | {"deterministic": True}
    assert on_workers.same_bits(quiet_graph(name), workers, options)


@pytest.mark.parametrize("placement", WHERE)
@pytest.mark.parametrize(("name", "workers"), SOME)
def test_bytes_are_the_minimum_and_go_to_neighbors_alone(name: str, workers: int, placement: str) -> None:
    test_workers.test_bytes_on_the_wire_are_the_analytical_minimum(name, workers, placement)


def test_the_ledger_counts_what_the_simulation_counts() -> None:
    test_workers.test_one_agent_a_worker_sends_what_the_simulation_counts()
    test_workers.test_slices_between_agents_are_counted_alike_on_any_workers("hubs", {"memory": "reversible"})
