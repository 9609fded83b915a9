"""Networks built, used and dropped while Python's collector runs at nearly every allocation: a script, for tests.

    python collected.py threads|gloo SECONDS [WORKERS]      starts its workers itself
    mpiexec -n WORKERS python collected.py mpi SECONDS      is one of them

Every network is part of a reference cycle, so the collector alone frees it: in the middle of a round, of a locked
section, in another worker's thread. Each must compute what the first of its kind has computed. Worker 0 prints how many
there were.
"""

from __future__ import annotations

import faulthandler
import gc
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import hdnn
from transport.processes import fork  # noqa: E402

import dist_hdnn  # noqa: E402
from dist_hdnn.transport import LocalTransport, Transport, run_threads  # noqa: E402

KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"X": "neighbours"},
    {"deterministic": True},
    {"memory": "recompute"},
    {"architecture": "MS1"},
)
PATIENCE = 60.0  # seconds that a wait may last


class Holder:
    """A cycle: only the collector frees it, and the network with it."""

    def __init__(self, network: dist_hdnn.HDNN) -> None:
        self.network, self.myself = network, self


def used(transport: Transport, turn: int) -> list[torch.Tensor]:
    """Output and gradient of a network of one kind, in two batch sizes; it is garbage when this returns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = hdnn(dist_hdnn.ring(6), width=2, layers=2, seed=1, workers=transport, **KINDS[turn % len(KINDS)])
    holder, found = Holder(network), []
    for batch in (3, 1 + turn % 4):
        y = torch.linspace(-1, 1, batch * network.neurons).view(batch, -1)
        output = holder.network(y)
        output.square().sum().backward()
        found += [output.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]
    return found


def stress(transport: Transport, seconds: float) -> int:
    """How many networks were made; all workers stop after the same one."""
    torch.set_num_threads(1)
    if transport.rank == 0:
        faulthandler.dump_traceback_later(seconds + 2 * PATIENCE, exit=True)  # a deadlock shows where it is
    first: dict[int, list[torch.Tensor]] = {}
    began, turn = time.monotonic(), 0
    more = torch.ones(())
    while more:
        found = used(transport, turn)
        expected = first.setdefault(turn % 20, found)  # kinds and batch sizes return after 20
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)), f"worker {transport.rank}: {turn}"
        turn += 1
        more = torch.tensor(float(time.monotonic() - began < seconds))
        transport.all_reduce(more, "min")
    gc.collect()
    transport.barrier()
    channels = len(transport._channels)  # type: ignore[attr-defined]
    assert channels < 100, f"worker {transport.rank} has kept {channels} channels of {turn} networks"
    if transport.rank == 0:
        print(f"{turn} networks on {transport.size} workers over {transport.name}", flush=True)
    return turn


def main() -> None:
    kind, seconds = sys.argv[1], float(sys.argv[2])
    workers = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    if kind == "mpi":
        from dist_hdnn.transport.mpi import MpiTransport as mpi
    used(LocalTransport(), 0)  # compiles and imports
    gc.collect()
    gc.freeze()  # what is imported is not looked at again and again
    gc.set_threshold(1, 1, 1)
    if kind == "threads":
        run_threads(workers, lambda transport: stress(transport, seconds), PATIENCE)
        return
    if kind == "mpi":
        with mpi(PATIENCE) as transport:
            stress(transport, seconds)
        return
    from dist_hdnn.transport.gloo import join

    def work(rank: int) -> None:
        with join(rank, workers, f"file://{folder}/store", PATIENCE) as joined:
            stress(joined, seconds)

    with tempfile.TemporaryDirectory() as folder:
        ended = fork(workers, work, seconds + 2 * PATIENCE)
    sys.exit(max(abs(code) for code, _ in ended.values()))


if __name__ == "__main__":
    main()
