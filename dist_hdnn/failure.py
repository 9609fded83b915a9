"""What a run leaves when it fails: report.json by the first worker that knows, and every worker's last messages.

report.json              worker (the one to blame, as far as this one can tell), reporter, code, error, exchange, peer,
                         layer, sweep, and the command that goes on
logs/worker_k.json       the last 256 exchanges of worker k, the newest last; one that did not end has ended: null
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dist_hdnn.training.keeper import Stopped
from dist_hdnn.training.manifest import LATEST
from dist_hdnn.transport import Transport
from dist_hdnn.transport.history import PATIENCE, History

REPORT = "report.json"


@contextlib.contextmanager
def reported(directory: Path, transport: Transport | None, command: str) -> Iterator[None]:
    """Write the report of what ends the block early, and note on it how to go on; a request to stop is no failure.

    Meanwhile a wait for another worker that lasts is told on stderr, every 30 s.
    """
    over = threading.Event()
    if transport is not None:
        threading.Thread(target=_watch, args=(transport.history, over), name="long waits", daemon=True).start()
    try:
        yield
    except Stopped:
        raise
    except BaseException as error:
        with contextlib.suppress(OSError):  # a full disk must not hide what happened
            _write(directory, transport, error, command)
        if (directory / "checkpoints" / LATEST).exists():
            error.add_note(f"go on with: {command}")
        raise
    finally:
        over.set()


def _watch(history: History, over: threading.Event) -> None:
    told = -PATIENCE
    while not over.wait(PATIENCE / 10):
        now = time.monotonic()
        line = history.long_wait(now) if now - told >= PATIENCE else None
        if line:
            told = now
            print(line, file=sys.stderr, flush=True)


def _write(directory: Path, transport: Transport | None, error: BaseException, command: str) -> None:
    rank = 0 if transport is None else transport.rank
    rows: list[dict[str, Any]] = [] if transport is None else transport.history.to_json()
    (directory / "logs" / f"worker_{rank}.json").write_text(json.dumps(rows, indent=0) + "\n", encoding="utf-8")
    peer = getattr(error, "peer", None)
    last = rows[-1] if rows else {}
    report = {
        "worker": rank if peer is None else peer,
        "reporter": rank,
        "code": getattr(error, "exit_code", 1),
        "error": " ".join(str(error).split()) or type(error).__name__,
        "exchange": last.get("exchange"),
        "layer": last.get("layer"),
        "sweep": last.get("sweep"),
        "resume": command,
    }
    with contextlib.suppress(FileExistsError):  # another worker was first
        handle = os.open(directory / REPORT, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(report, indent=2) + "\n")
