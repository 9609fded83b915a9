"""Measure how long a checkpoint pauses training, against the time `dd` takes to write the same bytes.

    python benchmarks/checkpoint.py [--parameters 50_000_000] [--workers 2] [--repeats 5] [--folder .] [--json FILE]

A network of that many parameters on real workers, with the moments of its optimizer, is saved as in training;
interleaved with it, dd conv=fsync writes as many bytes. pause: how long a save holds up training, the copy to host
memory. complete: until the checkpoint is durable, which training does not wait for. step_during: a step while the files
are written, against step, one while they are not. Target: pause <= 1.2 x dd.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measure import command

import dist_hdnn
from dist_hdnn.config import Config
from dist_hdnn.data.sensors import SensorMap, default_sensors
from dist_hdnn.ends.readout import make_readout
from dist_hdnn.launching.launcher import launch
from dist_hdnn.training.checkpoints.saver import Saver
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.loop import TrainingState

AGENTS, LAYERS = 8, 2


def build(transport: Any, parameters: int) -> AgentClassifier:
    """Build a ring of 8 agents, two layers: 2 x 8 x 3 blocks of K for p and for q."""
    half = round((parameters / (2 * LAYERS * AGENTS * 3)) ** 0.5)
    net = dist_hdnn.HDNN(
        dist_hdnn.ring(AGENTS), width=2 * half, layers=LAYERS, workers=transport if transport.size > 1 else None
    )
    widths = net.ownership.all_widths
    sensors = SensorMap(default_sensors(2, widths), widths, 2)
    return AgentClassifier(sensors.restricted(net.owned), net, make_readout("local", net.ownership, 2))


def step(state: TrainingState, x: torch.Tensor, labels: torch.Tensor) -> float:
    """Take one gradient step; return its seconds."""
    started = time.perf_counter()
    state.optimizer.zero_grad()
    state.model.readout.loss(state.model(x), labels).sum().backward()
    state.optimizer.step()
    state.step += 1
    return time.perf_counter() - started


def dd(path: Path, size: int) -> float:
    """Return the seconds in which dd writes and syncs `size` bytes."""
    command = ["dd", "if=/dev/zero", f"of={path}", "bs=8M", f"count={-(-size // (1 << 23))}", "conv=fsync"]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    path_size = path.stat().st_size
    seconds = (time.perf_counter() - started) * size / path_size
    path.unlink()
    return seconds


def measure(transport: Any, options: argparse.Namespace) -> dict[str, Any]:
    model = build(transport, options.parameters)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    state = TrainingState(model, optimizer, 0, 0, torch.zeros(()), None)
    x, labels = torch.randn(8, 2), torch.arange(8) % 2
    folder = Path(options.scratch)
    saver = Saver(folder, transport.rank, transport.size, "benchmark", {}, {}, keep=1)
    quiet, during, pauses, complete, raw, size = [], [], [], [], [], 0
    for _ in range(3):
        step(state, x, labels)
    for _ in range(options.repeats):
        quiet += [step(state, x, labels) for _ in range(3)]
        transport.barrier()
        started = time.perf_counter()
        saver.save(state)
        transport.barrier()
        pauses.append(time.perf_counter() - started)
        during.append(step(state, x, labels))
        saver.finish()
        transport.barrier()
        complete.append(time.perf_counter() - started)
        if transport.rank == 0:
            newest = max(folder.glob("step_*"), key=lambda path: path.name)
            size = sum(path.stat().st_size for path in newest.iterdir())
            raw.append(dd(folder / "dd", size))
        transport.barrier()
    count = torch.tensor(sum(parameter.numel() for parameter in model.parameters()))
    transport.all_reduce(count)
    medians = {
        name: statistics.median(values or [0.0])
        for name, values in (
            ("pause", pauses),
            ("complete", complete),
            ("dd", raw),
            ("step", quiet),
            ("step_during", during),
        )
    }
    ratio = medians["pause"] / medians["dd"] if raw else 0.0
    return {"parameters": int(count), "bytes": size, **medians, "pause_over_dd": ratio}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parameters", type=int, default=50_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", default=".", help="on the disk to measure")
    parser.add_argument("--json", help="file for the result")
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    made = options.scratch is None
    options.scratch = options.scratch or tempfile.mkdtemp(prefix="checkpoint-", dir=options.folder)

    def run(config: Config, transport: Any) -> int:
        from dist_hdnn.transport import LocalTransport

        found = measure(transport or LocalTransport(60.0), options)
        if transport is None or transport.rank == 0:
            report(found, options)
        return 0

    arguments = [*sys.argv[1:], f"--scratch={options.scratch}"]
    try:
        config = Config(workers=options.workers, transport="gloo" if options.workers > 1 else None, timeout=300.0)
        return launch(arguments, config, run, program=(__file__,))
    finally:
        if made:
            shutil.rmtree(options.scratch, ignore_errors=True)


def report(found: dict[str, Any], options: argparse.Namespace) -> None:
    """Print a table and write the JSON file."""
    found |= {"workers": options.workers, "repeats": options.repeats, "command": command()}
    found |= {"torch": torch.__version__, "machine": platform.platform(), "threads": torch.get_num_threads()}
    print(f"{found['parameters']:,} parameters, {found['bytes'] / 1e6:.0f} MB, {options.workers} workers")
    for name in ("pause", "dd", "complete", "step", "step_during"):
        print(f"{name:12} {found[name]:8.3f} s")
    print(f"{'pause / dd':12} {found['pause_over_dd']:8.2f}   (target <= 1.2)")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
