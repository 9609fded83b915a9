"""Count what the fault tests try, and write the table of FAULTS_TABLE=docs/reliability.md (`make faults`).

The id in a test's name is its fault. A test counts its repetitions by `small.repetitions`, or asserts each of them in a
`with outcome.trial(...)`, which lets the others run before the test fails. The fixture `outcome` and `small.tally` keep
the times. Results are kept by test in a .json beside the page, so one test can be run again alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from faults import small

LIMIT, NIGHTLY_LIMIT = 120, 3600  # seconds of a test that says nothing else
BEGIN, END = "<!-- table of faults -->", "<!-- end of the table -->"
FAULTS = {
    "F01": "a worker killed at a random step and phase, own launcher",
    "F02": "the same under torchrun and mpiexec",
    "F03": "an exception in a random worker, all launchers",
    "F04": "`sys.exit(0)` in one worker in the middle of a run",
    "F05": "a worker stopped for good (SIGSTOP), timeout 10 s",
    "F06": "a worker stopped for 3 s",
    "F07": "a worker slower by 50 ms a step",
    "F08": "killed at a random byte of a checkpoint",
    "F09": "killed at a random time of a training that always saves",
    "F10": "killed between any two steps of a save",
    "F11": "a checkpoint file cut at a random length",
    "F12": "one random bit of a checkpoint flipped",
    "F13": "checkpoint files swapped, missing, extra, of another run or format",
    "F14": "a pickle as checkpoint, config, graph or data",
    "F15": "resumed at a random step on as many workers",
    "F16": "resumed on another number of workers",
    "F17": "bad graph files, configs and manifests",
    "F18": "one worker that differs",
    "F19": "a wrong message plan in one worker",
    "F20": "NaN or infinity in input, parameter, message or gradient",
    "F21": "ports 29500 and 29400 taken, four jobs at once",
    "F22": "listeners of a single-machine job",
    "F23": "a run directory that cannot be used",
    "F24": "a full disk",
    "F25": "a signal to stop",
    "F26": "a worker killed under torchrun, which restarts the job",
    "F27": "damaged data files",
    "F28": "20 000 steps",
}


class Outcome:
    """The repetitions of a test. seconds: from each fault to the end of the last process."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.tried = self.passed = 0
        self.seconds: list[float] = []
        self.seed = random.randrange(2**32)
        random.seed(self.seed)

    @contextlib.contextmanager
    def trial(self, what: object = "", seconds: float | None = None) -> Iterator[None]:
        """Count one repetition, which passes if the block asserts nothing wrong. The test fails after the last one."""
        self.tried += 1
        if seconds is not None:
            self.seconds.append(seconds)
        try:
            yield
            self.passed += 1
        except AssertionError as failure:
            self.failures.append(f"{failure}\n    in {what}")

    def check(self) -> None:
        """Fail if a repetition did, or if there was none. Called after the test."""
        assert self.tried, "a test that asks for an outcome has at least one trial"
        if self.failures:
            failed = f"{len(self.failures)} of {self.tried} trials failed, seed {self.seed}"
            pytest.fail("\n".join([failed, *self.failures]), pytrace=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "faults" in item.path.parts and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(NIGHTLY_LIMIT if small.NIGHTLY else LIMIT))


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Outcome:
    request.node.outcome = Outcome()
    print(f"seed {request.node.outcome.seed}")
    return request.node.outcome


@pytest.fixture(autouse=True)
def no_shared_memory_left() -> Iterator[None]:
    """Files in /dev/shm that are new and that no process uses are a failure."""
    folder = Path("/dev/shm")
    before = set(folder.iterdir()) if folder.is_dir() else set()
    yield
    for file in set(folder.iterdir()) - before if folder.is_dir() else ():
        deadline = time.monotonic() + 10
        while file.exists() and not any(str(file) in text for text in _memory_maps()):
            assert time.monotonic() < deadline, f"left behind: {file}"
            time.sleep(0.1)


def _memory_maps() -> Iterator[str]:
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            yield maps.read_text(errors="replace")
        except OSError:
            continue


RESULTS: dict[str, dict[str, Any]] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    found = re.search(r"test_(F\d\d)_", item.name)
    small.tally.repetitions, small.tally.seconds = 0, []
    passed = False
    try:
        yield
        if hasattr(item, "outcome"):
            item.outcome.check()
        passed = True
    finally:
        if found:
            outcome: Outcome = getattr(item, "outcome", None) or Outcome()
            tried = outcome.tried or small.tally.repetitions or 1
            RESULTS[f"{item.path.name}::{item.name}"] = {
                "fault": found[1],
                "tried": tried,
                "passed": outcome.passed if outcome.tried else tried if passed else 0,
                "seconds": [round(seconds, 2) for seconds in outcome.seconds or small.tally.seconds],
                "counts": "nightly" if small.NIGHTLY else "usual",
            }


def pytest_sessionfinish(session: pytest.Session) -> None:
    if "FAULTS_TABLE" not in os.environ or not RESULTS:
        return
    page = Path(os.environ["FAULTS_TABLE"])
    path = page.with_suffix(".json")
    known = json.loads(path.read_text()) if path.exists() else {}
    again = {one["fault"] for one in RESULTS.values()}
    known = {name: one for name, one in known.items() if one["fault"] not in again or "::" in name} | RESULTS
    path.write_text(json.dumps(dict(sorted(known.items(), key=lambda one: (one[1]["fault"], one[0]))), indent=1) + "\n")
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    page.write_text(f"{head}{BEGIN}\n{table(known)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def table(results: dict[str, dict[str, Any]]) -> str:
    """A row a fault; seconds from the fault to the end of the last process, where that is what is tried."""
    head = f"Newest run {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores."
    lines = [head, "", "| id | fault | tried | passed | counts | p50 s | p95 s |", "|---|---|---|---|---|---|---|"]
    for fault, title in FAULTS.items():
        mine = [one for one in results.values() if one["fault"] == fault]
        tried, passed = (sum(one[key] for one in mine) for key in ("tried", "passed"))
        seconds = sorted(value for one in mine for value in one["seconds"])
        p50 = f"{statistics.median(seconds):.1f}" if seconds else ""
        p95 = f"{seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]:.1f}" if seconds else ""
        counts = " and ".join(sorted({one["counts"] for one in mine})) or "not run"
        lines.append(f"| {fault} | {title} | {tried} | {passed} | {counts} | {p50} | {p95} |")
    return "\n".join(lines)
