"""Long waits of workers, shown on stderr while they last and summed up at the end of training."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dist_hdnn.transport import Transport

LONG = 30.0  # seconds of a wait between two lines about it
POLL = 1.0
PATIENCE = 3600.0  # seconds that workers wait for one that writes and draws; they still notice at once if it is lost
SHARE = 0.1  # of the training time: how much longer than a straggler all others wait


@contextmanager
def long_waits_shown(transport: Transport) -> Iterator[None]:
    """Print a line on stderr, inside the block, for every LONG seconds that this worker waits in one exchange."""
    ended = threading.Event()

    def watch() -> None:
        shown: tuple[float, float] = (0.0, 0.0)  # when the wait began, and how long it had lasted at its last line
        while not ended.wait(min(POLL, LONG)):
            now = transport.record.now()
            if now is None or now.waiting is None:
                continue
            exchange, context, since = now.exchange, now.where, now.waiting
            lasted, before = time.monotonic() - since, shown[1] if shown[0] == since else 0.0
            if lasted >= before + LONG:
                shown = since, lasted
                peers = sorted({peer for peer, _ in (*exchange.sent_bytes, *exchange.received_bytes)})
                where = "" if context is None else f" ({context})"
                print(
                    f"worker {transport.rank} has waited {lasted:.0f} s in {exchange.label}{where} with "
                    f"{', '.join(f'worker {peer}' for peer in peers)}; gives up after {transport.timeout:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )

    thread = threading.Thread(target=watch, name="show long waits", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


@contextmanager
def patient(transport: Transport) -> Iterator[None]:
    """Let waits of this worker last PATIENCE seconds inside the block, except of NCCL, whose limit is fixed."""
    usual = transport.timeout
    transport.timeout = max(usual, PATIENCE)
    try:
        yield
    finally:
        transport.timeout = usual


def straggler(waited: Sequence[float], seconds: float) -> int | None:
    """Return the worker that held the others up in `seconds` of training, if one did. waited: seconds per worker.

    A slow worker does not wait, and all others do, even those that never exchange with it: they wait for workers that
    wait. So it is the worker that waited least, if the others waited clearly longer.
    """
    slow = min(range(len(waited)), key=lambda worker: waited[worker])
    others = (sum(waited) - waited[slow]) / max(len(waited) - 1, 1)
    return slow if others - waited[slow] > SHARE * seconds else None


def waiting_figures(transport: Transport, before: Sequence[float], seconds: float) -> dict[str, Any]:
    """Return the seconds that each worker has waited since `before`, and the straggler. Collective."""
    import torch

    of_workers = torch.zeros(transport.size, dtype=torch.float64)
    of_workers[transport.rank] = sum(transport.record.waited) - sum(before)
    transport.all_reduce(of_workers)
    waited = of_workers.tolist()
    return {"waiting_seconds": waited, "straggler": straggler(waited, seconds)}
