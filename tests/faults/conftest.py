"""Every test of faults has a hard limit; with FAULTS_TABLE=FILE their outcome becomes the table in that file.

The table takes the place of what stands between its two marks. A test belongs to the fault that its name starts with.
"""

from __future__ import annotations

import os
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from faults import small

LIMIT = 120  # seconds of a test that says nothing else; with the large counts
NIGHTLY_LIMIT = 3600
BEGIN, END = "<!-- table of faults -->", "<!-- end of the table -->"
FAULTS = {
    "F08": "killed at a random byte of a checkpoint",
    "F09": "SIGKILL in a loop of saves",
    "F10": "killed between two steps of a save",
    "F11": "truncated file",
    "F12": "flipped bit",
    "F13": "swapped, missing, extra, foreign file; other format",
    "F14": "hostile file",
    "F15": "resume at random steps and ends of epochs, 1, 2, 4 workers",
    "F16": "resume on another number of workers and other owners",
    "F20": "NaN or infinity in input, parameter, message, gradient",
    "F23": "output that cannot be written, or vanishes",
    "F24": "disk full",
    "F25": "SIGTERM, SIGINT, SIGUSR1",
    "F26": "SIGKILL with restarts: torchrun, own launcher, Slurm",
}
outcomes: dict[str, list[tuple[int, bool, list[float]]]] = defaultdict(list)


def fault_of(name: str) -> str | None:
    found = re.match(r"test_(F\d\d)_", name)
    return found[1] if found else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "faults" in item.path.parts and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(NIGHTLY_LIMIT if small.NIGHTLY else LIMIT))


@pytest.fixture(autouse=True)
def tally() -> Iterator[small.Tally]:
    """What the test counts."""
    small.tally.repetitions, small.tally.seconds = 1, []
    yield small.tally


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    fault = fault_of(report.nodeid.rpartition("::")[2])
    if fault is None or report.skipped or (report.when != "call" and report.passed):
        return
    tally = small.tally
    outcomes[fault].append((tally.repetitions, report.passed, tally.seconds or [report.duration / tally.repetitions]))


def pytest_sessionfinish(session: Any) -> None:
    path = os.environ.get("FAULTS_TABLE")
    if path and outcomes:
        write_table(Path(path))


def write_table(path: Path) -> None:
    """Replace the table; its seconds are those from fault to end of job where a test counts them, else of a try."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    rows = ["| fault | what | tried | passed | p50 s | p95 s |", "|---|---|---|---|---|---|"]
    for fault in sorted(outcomes):
        tests = outcomes[fault]
        tried, passed = sum(count for count, *_ in tests), sum(count for count, good, _ in tests if good)
        seconds = sorted(value for *_, values in tests for value in values)
        high = seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
        what = FAULTS.get(fault, "")
        rows.append(f"| {fault} | {what} | {tried} | {passed} | {statistics.median(seconds):.2f} | {high:.2f} |")
    counts = "large" if small.NIGHTLY else "usual"
    head = f"{datetime.now(UTC):%Y-%m-%d}, the {counts} counts, {os.cpu_count()} cores:"
    path.write_text(f"{before}{BEGIN}\n{head}\n\n" + "\n".join(rows) + f"\n{END}{after}", encoding="utf-8")
