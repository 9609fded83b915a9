"""Who waits for whom: told on stderr while a wait lasts, and summed up when training has ended."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dist_hdnn.transport import Transport

LONG = 30.0  # seconds of a wait, each of which is worth a line
POLL = 1.0
PATIENCE = 3600.0  # seconds that workers wait for one that writes and draws; if it is lost they notice all the same
SHARE = 0.1  # of the training time that the others must have waited longer than the worker that they waited for


@contextmanager
def told(transport: Transport) -> Iterator[None]:
    """Inside, a line on stderr for every LONG seconds that this worker waits in one exchange."""
    ended = threading.Event()

    def watch() -> None:
        said: tuple[float, float] = (0.0, 0.0)  # when the wait began, and how long it was when it was told
        while not ended.wait(min(POLL, LONG)):
            now = transport.record.now()
            if now is None or now.waiting is None:
                continue
            exchange, context, since = now.exchange, now.where, now.waiting
            lasted, before = time.monotonic() - since, said[1] if said[0] == since else 0.0
            if lasted >= before + LONG:
                said = since, lasted
                peers = sorted({peer for peer, _ in (*exchange.sent_bytes, *exchange.received_bytes)})
                where = "" if context is None else f" ({context})"
                print(
                    f"worker {transport.rank} has waited {lasted:.0f} s in {exchange.label}{where} with "
                    f"{', '.join(f'worker {peer}' for peer in peers)}; gives up after {transport.timeout:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )

    thread = threading.Thread(target=watch, name="tell of long waits", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


@contextmanager
def patient(transport: Transport) -> Iterator[None]:
    """Inside, waits of this worker may last PATIENCE seconds (over NCCL, whose limit is fixed, as long as ever)."""
    usual = transport.timeout
    transport.timeout = max(usual, PATIENCE)
    try:
        yield
    finally:
        transport.timeout = usual


def straggler(waited: Sequence[float], seconds: float) -> int | None:
    """The worker that held the others up in `seconds` of training, if one did. waited: of every worker.

    Whoever is slow does not wait, and all others do, also those that never exchange with it: they wait for workers that
    wait. So it is the one that waited least, when the others waited clearly longer.
    """
    slow = min(range(len(waited)), key=lambda worker: waited[worker])
    others = (sum(waited) - waited[slow]) / max(len(waited) - 1, 1)
    return slow if others - waited[slow] > SHARE * seconds else None


def waiting_figures(transport: Transport, before: Sequence[float], seconds: float) -> dict[str, Any]:
    """For summary.json: how long each worker has waited since `before`, and the straggler. Collective."""
    import torch

    of_workers = torch.zeros(transport.size, dtype=torch.float64)
    of_workers[transport.rank] = sum(transport.record.waited) - sum(before)
    transport.all_reduce(of_workers)
    waited = of_workers.tolist()
    return {"waiting_seconds": waited, "straggler": straggler(waited, seconds)}
