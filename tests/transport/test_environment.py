"""Launchers are recognised by what they put into the environment; device buffers are staged; sub-rounds agree."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from transport.cases import CASES

from dist_hdnn.transport import run_threads
from dist_hdnn.transport import staging as staging_module
from dist_hdnn.transport.environment import Launch, launched
from dist_hdnn.transport.nccl import sub_round
from dist_hdnn.transport.process_group import join
from dist_hdnn.transport.stores import open_store

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
    "PMIX_RANK": "1",
}
MPICH = {"PMI_RANK": "2", "PMI_SIZE": "5", "MPI_LOCALRANKID": "2", "MPI_LOCALNRANKS": "5"}
SLURM = {"SLURM_PROCID": "6", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "2"}


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, None),
        ({"RANK": "1"}, None),
        (TORCHRUN, Launch("torchrun", 3, 4, 1, 2)),
        (TORCHRUN | SLURM, Launch("torchrun", 3, 4, 1, 2)),
        (OPEN_MPI, Launch("mpiexec of Open MPI", 1, 3, 0, 1)),
        (OPEN_MPI | SLURM, Launch("mpiexec of Open MPI", 1, 3, 0, 1)),
        (MPICH, Launch("mpiexec of MPICH or Intel MPI", 2, 5, 2, 5)),
        (SLURM, Launch("srun", 6, 8, 2, None)),
        ({"RANK": "0", "WORLD_SIZE": "2"}, Launch("the variables RANK and WORLD_SIZE", 0, 2)),
    ],
)
def test_a_launcher_is_known_by_its_variables(environment: dict[str, str], expected: Launch | None) -> None:
    assert launched(environment) == expected


def test_a_variable_that_is_no_number_is_named() -> None:
    with pytest.raises(ValueError, match="expected a whole number in PMI_SIZE, got 'two'"):
        launched({"PMI_RANK": "0", "PMI_SIZE": "two"})


def test_gloo_says_what_it_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *OPEN_MPI, *MPICH, *SLURM, "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="expected RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT in .* started alone"):
        join()
    with pytest.raises(ValueError, match="expected rank, size and store address together"):
        join(rank=0)
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(ValueError, match="started by mpiexec of MPICH or Intel MPI; use torchrun, or give rank"):
        join()


@pytest.mark.parametrize(
    "address", ["localhost:29500", "tcp://host", "tcp://:1", "file://relative/path", "", "udp://a:1"]
)
def test_a_wrong_store_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="expected tcp://host:port or file:///path"):
        open_store(address, 2)


@pytest.mark.parametrize("case", ["slices_arrive", "channels_overlap", "bytes_sent_are_counted"])
def test_staged_buffers_carry_the_same_values(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On host memory here, so without streams: the paths of the copies are the same."""
    import dist_hdnn.transport.point_to_point as point_to_point

    used: list[staging_module.Staging] = []

    def counted(sends: Any, receives: Any) -> staging_module.Staging:
        used.append(staging_module.Staging(sends, receives))
        return used[-1]

    monkeypatch.setattr(point_to_point, "needs_staging", lambda sends, receives: bool([*sends, *receives]))
    monkeypatch.setattr(point_to_point, "Staging", counted)
    run_threads(3, CASES[case])
    assert used


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_slices_in_the_memory_of_a_gpu_are_exchanged_between_workers_that_share_it() -> None:
    def work(transport: Any) -> None:
        other = 1 - transport.rank
        outgoing, incoming = torch.empty(2, 1000, device="cuda")
        channel = transport.channel([(other, outgoing)], [(other, incoming)], "gpu")
        for turn in range(50):
            outgoing.copy_(torch.arange(1000, device="cuda") * (turn + 1) + transport.rank)
            channel.start()
            channel.wait()
            expected = torch.arange(1000.0) * (turn + 1) + other
            assert torch.equal((incoming * 1).cpu(), expected)
        total = torch.full((3,), float(transport.rank + 1), device="cuda")
        transport.all_reduce(total)
        assert total.tolist() == [3.0, 3.0, 3.0]

    run_threads(2, work)


@pytest.mark.parametrize("size", [2, 3, 50, 51, 101, 300])
def test_sub_rounds_agree_at_both_ends_and_hold_few_operations(size: int) -> None:
    for a in range(0, size, 7):
        numbers = Counter(sub_round(a, b, size) for b in range(size) if b != a)
        assert all(sub_round(a, b, size) == sub_round(b, a, size) for b in range(size))
        assert max(numbers.values()) * 2 <= 100
        assert size > 50 or set(numbers) == {0}
