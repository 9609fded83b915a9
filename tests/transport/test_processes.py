"""gloo and shm between real processes, the batched calls of nccl run over gloo, and a restart under torchrun."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transport.cases import CASES
from transport.processes import FAILURES, SCRIPT, run

from dist_hdnn.transport import PeerLostError, Transport, gloo, shm
from dist_hdnn.transport.rendezvous import environment_store, serve_store

pytestmark = pytest.mark.processes


def forked(*arguments: str, **variables: str) -> tuple[dict[int, tuple[int, float]], subprocess.CompletedProcess[str]]:
    done = run(sys.executable, str(SCRIPT), *arguments, **variables)
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout.splitlines()[-1])
    return {int(rank): (code, seconds) for rank, (code, seconds) in ended.items()}, done


def codes(ended: dict[int, tuple[int, float]]) -> list[int]:
    return [ended[rank][0] for rank in sorted(ended)]


@pytest.mark.parametrize("transport", ["gloo", "shm", "hosts"])
def test_every_case_holds_between_processes(transport: str) -> None:
    store, address = serve_store()
    ended, done = forked(transport, address, "4", *CASES)
    assert codes(ended) == [0] * 4, done.stderr
    assert done.stdout.count("ok\n") == 4 * len(CASES)
    del store


def test_every_case_holds_for_the_batched_calls_of_nccl_on_host_memory(tmp_path: Path) -> None:
    """Sub-rounds of one peer each; and a file as the meeting place."""
    cases = sorted(set(CASES) - {"rounds_touch_no_tensor"})
    ended, done = forked("batched", f"file://{tmp_path}/store", "3", *cases)
    assert codes(ended) == [0] * 3, done.stderr


def test_workers_meet_through_the_variables_of_torchrun() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    cases = ["sums_are_the_same_bits", "channels_overlap"]
    ended, done = forked("gloo", "environment", "2", *cases, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    assert codes(ended) == [0] * 2, done.stderr


@pytest.fixture(scope="module", params=["gloo", "shm"])
def failures(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, tuple[dict[int, tuple[int, float]], str]]:
    """Every way to fail, one after the other, from one script: how the workers ended and what they printed."""
    store = tmp_path_factory.mktemp("stores") / "store"
    done = run(sys.executable, str(SCRIPT), request.param, f"file://{store}", "3", *FAILURES)
    assert done.returncode == 0, done.stderr
    printed = dict(part.split("\n", 1) for part in done.stderr.split("== ")[1:])
    lines = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    ended = ({int(rank): (code, seconds) for rank, (code, seconds) in line.items()} for line in lines)
    return {how: (line, printed[how]) for how, line in zip(FAILURES, ended, strict=True)}


@pytest.mark.parametrize("how", FAILURES)
def test_a_worker_that_fails_ends_the_others_within_the_deadline(how: str, failures: Any) -> None:
    ended, printed = failures[how]
    own = {"raises": 1, "exits": 3, "is killed": -9, "aborts": 7}
    if how in own:
        assert codes(ended) == [5, own[how], 5], printed
        assert "lost worker 1 in layer exchange K gather (layer " in printed
    else:
        assert [ended[rank][0] for rank in (0, 2)] == [5, 5], printed
        assert (
            "waited 1.5 s for worker 1 in layer exchange K gather (layer 2, forward); check the log of worker 1"
            in printed
        )
    assert all(ended[rank][1] < 10 for rank in (0, 2)), ended


@pytest.mark.parametrize("join", [gloo.join, shm.join])
def test_a_worker_that_is_left_alone_at_the_start_says_so(join: Callable[..., Transport], tmp_path: Path) -> None:
    message = r"worker 0 of 2 did not reach all others within [0-9.]+ s: .*; check their logs"
    with pytest.raises(PeerLostError, match=message):
        join(0, 2, f"file://{tmp_path}/store", timeout=0.5)


@pytest.mark.skipif(not Path("/proc/self/net/tcp6").exists(), reason="reads the sockets from /proc")
def test_nothing_but_loopback_is_listened_on() -> None:
    before = listening()
    store, address = serve_store()
    transport = gloo.join(0, 1, address)
    opened = listening() - before
    transport.close()
    assert len(opened) >= 2  # the store and gloo
    assert {place for place, _ in opened} == {"0100007F"}  # 127.0.0.1, no IPv6
    del store


@pytest.mark.skipif(not Path("/proc/self/net/tcp6").exists(), reason="reads the sockets from /proc")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_worker_0_of_one_machine_serves_its_store_on_loopback_only(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": host, "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, value)
    before = listening()
    store, rank, size = environment_store(5)
    assert (rank, size) == (0, 2) and {place for place, _ in listening() - before} == {"0100007F"}
    monkeypatch.setenv("RANK", "1")
    other, rank, _ = environment_store(5)
    store.set("from", "0")
    assert rank == 1 and other.get("from") == b"0"


def listening() -> set[tuple[str, str]]:
    """(address, inode) of the sockets on which this process listens."""
    own = {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if os.path.lexists(link)}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
    ]
    return {(row[1].split(":")[0], row[9]) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own}


@pytest.mark.slow
def test_gloo_starts_again_under_torchrun_after_a_worker_was_killed_twice() -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", "--max-restarts=2"]
    done = run(*launcher, "--monitor-interval=0.2", str(SCRIPT), "torchrun", "sums_are_the_same_bits", limit=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sums_are_the_same_bits ok") >= 3
