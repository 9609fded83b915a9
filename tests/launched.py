"""A program that calls `launcher.launch`, for its tests: N workers that work, fail or wait.

    python launched.py HOW TRANSPORT WORKERS TIMEOUT     WORKERS 0: as many as there are

Worker 0 prints a line of JSON once all have met. HOW: works, waits, connects (through `dist_hdnn.connect`), or one
of FAILURES, which worker 1 does at the third round of an exchange.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import dist_hdnn  # noqa: E402
from dist_hdnn.config import Config  # noqa: E402
from dist_hdnn.launching import launcher  # noqa: E402


def run(config: Config, transport: Any) -> None:
    how = config.name
    assert transport is not None, "started with one worker"
    import torch
    from transport.processes import broken

    mine = f"{transport.rank:9}{os.getpid():9}{torch.get_num_threads():9}".encode()
    rows = [[int(word) for word in row.split()] for row in transport.all_gather_bytes(mine)]
    total = torch.tensor(transport.rank + 1)
    transport.all_reduce(total)
    if transport.rank == 0:
        keys = ("ranks", "pids", "threads")
        met = {key: list(column) for key, column in zip(keys, zip(*rows, strict=True), strict=True)}
        sys.stdout.write(json.dumps(met | {"sum": int(total), "transport": transport.name}) + "\n")
    sys.stdout.write(f"worker {transport.rank} was here\n")
    sys.stdout.flush()
    if how == "waits":
        for _ in range(600):
            transport.barrier()
            time.sleep(0.1)
    elif how != "works":
        broken(how)(transport)


def main() -> int:
    how, transport, workers, timeout = sys.argv[1:]
    if how == "connects":
        joined = dist_hdnn.connect(float(timeout), transport)
        run(Config(name="works"), joined)
        joined.barrier()
        joined.close()
        return 0
    kind: Any = None if transport == "default" else transport
    config = Config(name=how, transport=kind, workers=int(workers) or None, timeout=float(timeout))
    return launcher.launch(sys.argv[1:], config, run, program=(__file__,))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(print(f"error: {error}", file=sys.stderr) or 2)
