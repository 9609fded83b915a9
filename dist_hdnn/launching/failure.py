"""What a run leaves behind when it ends: report.json says how, logs/worker_K.json what a failed worker did last.

report.json holds the exit code, which launchers hide, and the first failure: the worker, its error, where it was, and
the command that goes on. A worker that lost another one blames it, which may have lost a third. So every worker that
fails follows the blame through the files of the others, to one that failed by itself or that could not even say so,
and report.json is then what is said of that one.
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

from dist_hdnn.launching.worker import GO_ON, LOST, STOPPED, verdict
from dist_hdnn.transport import Transport

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
    _replace(directory / REPORT, report)


def forget_report(directory: Path) -> None:
    """Remove what an earlier attempt left, before the next one begins."""
    for path in (directory / REPORT, *(directory / "logs").glob("worker_*.json")):
        path.unlink(missing_ok=True)


def _leave(directory: Path, transport: Transport | None, found: dict[str, Any], command: str) -> None:
    if not (directory / "logs").is_dir():  # not seen from here
        return
    failed = found["status"] == "failed"
    if transport is not None and failed:
        _replace(_log(directory, transport.rank), found | transport.record.as_json())
    part = directory / f"{REPORT}.{os.getpid()}.part"
    _write(part, found)
    try:
        os.link(part, directory / REPORT)
        if failed:
            print(f"{GO_ON}{command}", file=sys.stderr, flush=True)
    except FileExistsError:
        told = _read(directory / REPORT)
        if found["exit_code"] != LOST and told is not None and told["exit_code"] == LOST:
            os.replace(part, directory / REPORT)
    finally:
        part.unlink(missing_ok=True)
    if failed:
        _follow_blame(directory)


def _follow_blame(directory: Path) -> None:
    """Make report.json say what is known of the worker where the blame ends; where it goes in a circle it stays."""
    report, seen = _read(directory / REPORT), set[int]()
    while report is not None and report["status"] == "failed" and report["worker"] not in seen:
        seen.add(report["worker"])
        own = _read(_log(directory, report["worker"]))
        if own is not None:
            report = {key: own[key] for key in report}
        if own is None or own["worker"] == own["told_by"]:
            write_report(directory, report)
            return


def _log(directory: Path, rank: int) -> Path:
    return directory / "logs" / f"worker_{rank}.json"


def _read(path: Path) -> dict[str, Any] | None:
    """A report or log; None if there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def _replace(path: Path, value: dict[str, Any]) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    _write(part, value)
    os.replace(part, path)


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
