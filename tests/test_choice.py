"""The transport of workers that were told none: by launcher, device and machine, and the same for all of them."""

from __future__ import annotations

import importlib.util
import sys
import threading

import pytest
import torch.distributed

from dist_hdnn.launching.choice import Choice, agreed, usual
from dist_hdnn.transport import DisagreementError, PeerLostError, TransportError

SHM, GLOO = Choice("shm", "all is there"), Choice("gloo", "shared memory needs llvmlite, which is not installed")


@pytest.mark.parametrize("launcher", ["dist-hdnn", "torchrun", "the variables RANK and WORLD_SIZE"])
def test_cpus_under_linux_share_memory(launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert usual(launcher).transport == "shm"
    assert usual(launcher, "cuda").transport == usual(launcher, "cuda:1").transport == "gloo"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert usual(launcher) == GLOO
    monkeypatch.setattr(sys, "platform", "darwin")
    assert usual(launcher) == Choice("gloo", "shared memory needs Linux, got darwin")


@pytest.mark.parametrize("launcher", ["mpiexec of Open MPI", "mpiexec of MPICH or Intel MPI", "srun"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_workers_of_mpiexec_and_srun_take_mpi(launcher: str, device: str) -> None:
    assert usual(launcher, device).transport == "mpi"


def votes(*workers: tuple[str | None, Choice]) -> list[str | TransportError]:
    """What workers agree on, each in a thread, by what each was told and would take; or their errors."""
    store, found = torch.distributed.HashStore(), dict[int, str | TransportError]()

    def vote(rank: int) -> None:
        try:
            found[rank] = agreed(store, rank, len(workers), *workers[rank], timeout=20.0)
        except TransportError as error:
            found[rank] = error

    threads = [threading.Thread(target=vote, args=(rank,)) for rank in range(len(workers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [found[rank] for rank in range(len(workers))]


def test_all_workers_take_what_every_one_of_them_can(capsys: pytest.CaptureFixture[str]) -> None:
    assert votes((None, SHM), (None, SHM), (None, SHM)) == ["shm"] * 3
    assert votes((None, GLOO), (None, GLOO)) == ["gloo"] * 2
    assert capsys.readouterr().err == ""
    assert votes((None, SHM), (None, SHM), (None, GLOO)) == ["gloo"] * 3
    said = "dist-hdnn: workers talk over gloo, as worker 2 says: shared memory needs llvmlite, which is not installed\n"
    assert capsys.readouterr().err == said


def test_a_transport_that_is_asked_for_is_obeyed() -> None:
    assert votes(("gloo", SHM), ("gloo", SHM)) == ["gloo"] * 2
    assert votes(("shm", GLOO), ("shm", SHM)) == ["shm"] * 2


def test_workers_that_were_told_different_transports_do_not_wait_for_each_other() -> None:
    message = "workers disagree: transport is gloo on worker 0, but not given on worker 1; start all of them with the"
    for error in votes(("gloo", SHM), (None, SHM), ("gloo", SHM)):
        assert isinstance(error, DisagreementError) and str(error).startswith(message) and error.peer == 1


def test_a_worker_that_never_comes_is_named() -> None:
    store = torch.distributed.HashStore()
    with pytest.raises(PeerLostError, match="worker 0 of 2 did not meet worker 1: .*; check its log"):
        agreed(store, 0, 2, None, SHM, timeout=0.2)
