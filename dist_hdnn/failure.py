"""What a run leaves behind when it ends: report.json says how, logs/worker_K.json what a failed worker did last.

report.json holds the exit code, which launchers hide, and the first failure: the worker, its error, where it was, and
the command that goes on. Workers that only lost another one do not overwrite it; the one that failed by itself does.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dist_hdnn.transport import Transport
from dist_hdnn.worker import GO_ON, LOST, STOPPED, verdict

REPORT = "report.json"


@contextmanager
def reported(directory: Path, transport: Transport | None, command: str, step: Callable[[], int]) -> Iterator[None]:
    """Leave the files of a failure in the run directory, if one ends this block; it is raised further.

    command: what goes on with the run. step: gradient steps so far.
    """
    try:
        yield
    except BaseException as error:
        code, text = verdict(error)
        rank = 0 if transport is None else transport.rank
        found: dict[str, Any] = {"status": "stopped" if code == STOPPED else "failed", "exit_code": code}
        peer = getattr(error, "peer", None)
        found |= {"worker": peer if code == LOST and peer is not None else rank, "told_by": rank}
        found |= {
            "error": f"{type(error).__name__}: {text}",
            "step": step(),
            "time": time.time(),
            "go_on_with": command,
        }
        try:
            _leave(directory, transport, found, command)
        except OSError as problem:  # the failure itself matters more
            print(f"worker {rank}: cannot write {REPORT}: {problem.strerror}", file=sys.stderr)
        raise


def write_report(directory: Path, report: dict[str, Any]) -> None:
    """report.json; a reader never sees half of it."""
    part = directory / f"{REPORT}.{os.getpid()}.part"
    _write(part, report)
    os.replace(part, directory / REPORT)


def forget_report(directory: Path) -> None:
    """Remove what an earlier attempt left, before the next one begins."""
    for path in (directory / REPORT, *(directory / "logs").glob("worker_*.json")):
        path.unlink(missing_ok=True)


def _leave(directory: Path, transport: Transport | None, found: dict[str, Any], command: str) -> None:
    if not (directory / "logs").is_dir():  # not seen from here
        return
    if transport is not None and found["status"] == "failed":
        last = transport.record.as_json()
        _write(directory / "logs" / f"worker_{transport.rank}.json", found | last)
    part = directory / f"{REPORT}.{os.getpid()}.part"
    _write(part, found)
    try:
        os.link(part, directory / REPORT)
        if found["status"] == "failed":
            print(f"{GO_ON}{command}", file=sys.stderr, flush=True)
    except FileExistsError:
        if found["exit_code"] != LOST and _told_exit_code(directory) == LOST:
            os.replace(part, directory / REPORT)
    finally:
        part.unlink(missing_ok=True)


def _told_exit_code(directory: Path) -> Any:
    try:
        return json.loads((directory / REPORT).read_text(encoding="utf-8"))["exit_code"]
    except (OSError, ValueError, KeyError):
        return LOST


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
