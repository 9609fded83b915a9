"""Common to the benchmarks: clocks, peak memory, separate processes, tables, and the JSON file of a report.

first = header()                                  command, versions, machine: the first printed line
times = take_turns({"a": a, "b": b}, repeats=5)   seconds of every method, which take turns
found = in_new_process(__file__, {"agents": 100}) the last line printed under --cell '{"agents": 100}'
lines = table(("agents", "seconds"), rows)        an aligned Markdown table
write_report(args.json, lines, results)          the file that run_all.py reads
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
CPU_TIMES = Path("/proc/stat")  # of all cores: user, nice, system, idle, iowait, irq, softirq, steal
NAMED = ("dist_hdnn", "python", "torch", "numpy")


def machine() -> str:
    """Return cores and name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else platform.machine()}"


def command() -> str:
    """Return the command of this benchmark from the repository's root, without paths of this machine."""
    words = sys.argv[1:]
    if "--json" in words:
        place = words.index("--json")
        words = words[:place] + words[place + 2 :]
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def packages() -> str:
    """Return names and versions of the dependencies."""
    from dist_hdnn.run.files import versions  # here, because older source trees have it elsewhere

    return ", ".join(f"{name} {versions()[name]}" for name in NAMED)


def header() -> str:
    """Return one line: command, versions, threads, machine, load."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{command()}   {packages()}; {torch.get_num_threads()} threads; {machine()}; load {load}"


# -- time --------------------------------------------------------------------------------------------------------------


def take_turns(
    methods: Mapping[str, Callable[[], object]],
    repeats: int,
    inner: int = 1,
    warm_up: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Measure seconds per call of every method, in `repeats` blocks of `inner` calls; methods take turns by block.

    clock: CPU time of this process, all threads together, by default; `time.perf_counter` for wall time.
    """
    times: dict[str, list[float]] = {name: [] for name in methods}
    for block in range(-warm_up, repeats):
        for name, method in methods.items():
            began = clock()
            for _ in range(inner):
                method()
            if block >= 0:
                times[name].append((clock() - began) / inner)
    return times


class Quiet:
    """Waits for moments in which the rest of the machine is idle, and counts how often there was one.

    A moment: 30 ms in which 85 % of all cores' time is idle, by the kernel's count. patience: seconds that all waits
    may take together, most: one of them; then blocks start anyway. Elsewhere than on Linux nothing waits.
    """

    def __init__(self, patience: float = 300.0, most: float = 2.0) -> None:
        self.patience, self.most = patience, most
        self.waits = self.found = 0

    def wait(self) -> None:
        """Return when the machine is idle, or when patience is at its end."""
        self.waits += 1
        began = time.monotonic()
        while time.monotonic() < began + min(self.most, self.patience):
            if _idle_share(0.03) >= 0.85:
                self.found += 1
                break
        self.patience -= time.monotonic() - began

    def __str__(self) -> str:
        return f"{self.found} of {self.waits} blocks began on an idle machine"


def _idle_share(seconds: float) -> float:
    """Return the share of all cores' time that is idle in the next seconds."""
    if not CPU_TIMES.exists():
        return 1.0
    before = _cpu_times()
    time.sleep(seconds)
    spent = np.subtract(_cpu_times(), before)
    return float(spent[3:5].sum() / max(spent.sum(), 1))  # idle, and idle while a disk works


def _cpu_times() -> list[int]:
    return [int(word) for word in CPU_TIMES.read_text().split("\n", 1)[0].split()[1:9]]


def p10_and_median(values: Sequence[float]) -> tuple[float, float]:
    return float(np.quantile(values, 0.1)), float(np.median(values))


# -- memory ------------------------------------------------------------------------------------------------------------


def reset_peak_memory() -> None:
    """Reset `peak_memory` on Linux; elsewhere the peak is that of the whole process."""
    try:
        CLEAR_REFS.write_text("5")
    except OSError:
        pass


def peak_memory() -> int:
    """Return the largest resident memory in bytes since `reset_peak_memory`."""
    if STATUS.exists():
        lines = (line.split() for line in STATUS.read_text().splitlines())
        return next((1024 * int(words[1]) for words in lines if words[:1] == ["VmHWM:"]), 0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory() -> int:
    """Return the resident memory in bytes; 0 on systems other than Linux."""
    if not STATUS.exists():
        return 0
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next((1024 * int(words[1]) for words in lines if words[:1] == ["VmRSS:"]), 0)


def in_new_process(script: str, cell: Mapping[str, Any], threads: int = 1) -> dict[str, Any]:
    """Run `script --cell JSON` in its own process and return the last line that it prints, which is JSON.

    So a cell's peak memory is its own. Raises RuntimeError if the process fails.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, script, "--cell", json.dumps(cell)]
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    lines = ended.stdout.splitlines()
    if ended.returncode or not lines:
        raise RuntimeError(f"{script}: the cell {dict(cell)} ended with exit code {ended.returncode}; see above")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


# -- output ----------------------------------------------------------------------------------------------------------


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table with aligned columns; floats get three digits."""
    cells = [list(headings), *([_text(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = [
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|", *lines[1:]]


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write_report(path: Path | None, lines: Sequence[str], results: object) -> None:
    """Write table and figures as JSON, with command, date, machine and versions; without a path, nothing."""
    if path is None:
        return
    from dist_hdnn.run.files import versions

    report = {
        "command": command(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "table": list(lines),
        "results": results,
    }
    path.write_text(json.dumps(report, indent=1) + "\n")
