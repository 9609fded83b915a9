"""Launchers are recognized by what they put into the environment; device buffers are staged; sub-rounds agree."""

from __future__ import annotations

import socket
from collections import Counter
from typing import Any

import pytest
import torch
from transport.cases import CASES

from dist_hdnn.transport import base as base_module
from dist_hdnn.transport import run_threads
from dist_hdnn.transport.channel import Staging
from dist_hdnn.transport.gloo import join
from dist_hdnn.transport.nccl import sub_round
from dist_hdnn.transport.rendezvous import Launch, launched, open_store

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
    "PMIX_RANK": "1",
}
MPICH = {"PMI_RANK": "2", "PMI_SIZE": "5", "MPI_LOCALRANKID": "2", "MPI_LOCALNRANKS": "5"}
PMI_SHELL = {"PMI_RANK": "0", "PMI_SIZE": "1", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_JOB_ID": "5"}
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
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, None),
        (PMI_SHELL, None),
        (PMI_SHELL | {"RANK": "1", "WORLD_SIZE": "2"}, Launch("the variables RANK and WORLD_SIZE", 1, 2)),
        (MPICH | {"RANK": "0", "WORLD_SIZE": "1"}, Launch("mpiexec of MPICH or Intel MPI", 2, 5, 2, 5)),
        (MPICH | {"RANK": "2", "WORLD_SIZE": "5"}, Launch("mpiexec of MPICH or Intel MPI", 2, 5, 2, 5)),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, Launch("mpiexec of MPICH or Intel MPI", 0, 1)),
    ],
)
def test_a_launcher_is_known_by_its_variables(environment: dict[str, str], expected: Launch | None) -> None:
    assert launched(environment) == expected


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"PMI_RANK": "0", "PMI_SIZE": "two"}, "in PMI_SIZE, 1 or more, got 'two'"),
        ({"RANK": "0", "WORLD_SIZE": ""}, "in WORLD_SIZE, 1 or more, got ''"),
        ({"RANK": "5", "WORLD_SIZE": "2"}, "in RANK, 0 or more, less than WORLD_SIZE=2, got '5'"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "in RANK, 0 or more, less than WORLD_SIZE=2, got '-1'"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "in WORLD_SIZE, 1 or more, got '0'"),
        (TORCHRUN | {"LOCAL_RANK": "2"}, "in LOCAL_RANK, 0 or more, less than LOCAL_WORLD_SIZE=2, got '2'"),
        (SLURM | {"SLURM_LOCALID": "x"}, "in SLURM_LOCALID, 0 or more, got 'x'"),
    ],
)
def test_a_variable_that_cannot_be_right_is_named_with_its_value(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^environment: expected a whole number {message}; correct or unset it$"):
        launched(environment)


def test_variables_of_two_jobs_are_refused() -> None:
    both = "mpiexec of Open MPI made this worker 1 of 3, but RANK=0 and WORLD_SIZE=2 disagree; unset .* left over"
    with pytest.raises(ValueError, match=both):
        launched(OPEN_MPI | {"RANK": "0", "WORLD_SIZE": "2"})


@pytest.mark.parametrize("port", ["tcp://10.0.0.1:80", "0", "65536", "-1", "http"])
def test_a_port_that_is_none_is_refused_at_once(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in meeting.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"expected a port .* in the environment variable MASTER_PORT, got '{port}'"):
        join(timeout=30)


def test_a_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        meeting = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        for name, value in (meeting | {"MASTER_PORT": str(taken.getsockname()[1])}).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(
            ValueError, match="worker 0 cannot listen at 127.0.0.1:.* Address already in use.*; export a free port"
        ):
            join(timeout=30)


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
    used: list[Staging] = []

    def counted(sends: Any, receives: Any) -> Staging:
        used.append(Staging(sends, receives))
        return used[-1]

    monkeypatch.setattr(base_module, "needs_staging", lambda sends, receives: bool([*sends, *receives]))
    monkeypatch.setattr(base_module, "Staging", counted)
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
