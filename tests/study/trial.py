"""Stands in for `dist-hdnn train`: ends within a tenth of a second, or fails or waits as its config says.

    python trial.py CONFIG --output RUN

name of the config: fails (a one-line error), dies (of a signal), waits (until it is ended), slow (a second); else it
ends well. Every start is noted in started.txt beside the folder of the study, every end in ended.txt.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import yaml


def main() -> int:
    config, run = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[3])
    notes, start = run.parents[3], time.time()
    note(notes / "started.txt", run.parent.name)
    run.mkdir()
    how, epochs = config["name"], config["train"]["epochs"]
    if how == "fails" or epochs == 13:
        print("some lines\ndist-hdnn: error: network.step: it does not fit", file=sys.stderr)
        return 2
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    (run / "metrics.jsonl").write_text('{"epoch": 1}\n')
    time.sleep({"waits": 60, "slow": 1}.get(how, 0))
    width, layers = config["network"]["width"], config["network"]["layers"]
    summary = {
        "status": "done",
        "test_accuracy": 1 - 1 / (width * layers) + 0.001 * config["seed"],
        **({"validation_accuracy": 0.9 - 1 / (width * layers)} if config["data"]["validation_fraction"] else {}),
        "bytes_per_step": 100 * width * (layers - 1),
        "parameters": width**2 * layers,
        "density": 0.5,
        "seed": config["seed"],
        "agent_accuracy": {"0": 0.5, "1": 0.6},
        "versions": {"torch": "0", "python": "1"},
        "ranks": [name for name in ("RANK", "SLURM_PROCID", "PMI_RANK") if name in os.environ],
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "time": start,
        "until": time.time(),
    }
    (run / "summary.json").write_text(json.dumps(summary))
    note(notes / "ended.txt", run.parent.name)
    return 0


def note(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
