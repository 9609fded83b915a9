"""Files of a failed run: report.json for its end, logs/worker_K.json for the last exchanges of worker K.

report.json holds the exit code, which launchers hide, and the first failure: the worker, its error, where it was, and
the command that resumes the run. A worker that lost another one blames it, which may have lost a third. So every failed
worker follows the blame through the logs to a worker that failed by itself, or that left no log.
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

from dist_hdnn.launching.worker import LOST, RESUME, STOPPED, verdict
from dist_hdnn.transport import Transport

REPORT = "report.json"


@contextmanager
def reported(directory: Path, transport: Transport | None, command: str, step: Callable[[], int]) -> Iterator[None]:
    """Leave the files of a failure in the run directory if an error ends this block, and raise it again.

    command: resumes the run. step: returns the gradient steps so far.
    """
    try:
        yield
    except BaseException as error:
        code, text = verdict(error)
        rank = 0 if transport is None else transport.rank
        peer = getattr(error, "peer", None)
        report = {
            "status": "stopped" if code == STOPPED else "failed",
            "exit_code": code,
            "worker": peer if code == LOST and peer is not None else rank,
            "told_by": rank,
            "error": f"{type(error).__name__}: {text}",
            "step": step(),
            "time": time.time(),
            "go_on_with": command,
        }
        try:
            _leave(directory, transport, report)
        except OSError as problem:  # the failure itself matters more
            print(f"worker {rank}: cannot write {REPORT}: {problem.strerror}", file=sys.stderr)
        raise


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write a report or log of which no reader sees half."""
    os.replace(_part(path, report), path)


def forget_report(directory: Path) -> None:
    """Remove the report and the logs of an earlier attempt."""
    for path in (directory / REPORT, *(directory / "logs").glob("worker_*.json")):
        path.unlink(missing_ok=True)


def _leave(directory: Path, transport: Transport | None, report: dict[str, Any]) -> None:
    """Write this worker's log, and report.json unless there is one of a failure that was not a lost worker."""
    if not (directory / "logs").is_dir():  # not seen from here
        return
    failed = report["status"] == "failed"
    if transport is not None and failed:
        write_report(_log(directory, transport.rank), report | transport.record.as_json())
    part = _part(directory / REPORT, report)
    try:
        os.link(part, directory / REPORT)  # fails when another worker was first
        if failed:
            print(f"{RESUME}{report['go_on_with']}", file=sys.stderr, flush=True)
    except FileExistsError:
        earlier = _read(directory / REPORT)
        if report["exit_code"] != LOST and earlier is not None and earlier["exit_code"] == LOST:
            os.replace(part, directory / REPORT)
    finally:
        part.unlink(missing_ok=True)
    if failed:
        _follow_blame(directory)


def _follow_blame(directory: Path) -> None:
    """Make report.json the report on the worker where the blame ends, unless it is a circle."""
    report, seen = _read(directory / REPORT), set[int]()
    while report is not None and report["status"] == "failed" and report["worker"] not in seen:
        seen.add(report["worker"])
        own = _read(_log(directory, report["worker"]))
        if own is not None:
            report = {key: own[key] for key in report}
        if own is None or own["worker"] == own["told_by"]:
            write_report(directory / REPORT, report)
            return


def _log(directory: Path, rank: int) -> Path:
    return directory / "logs" / f"worker_{rank}.json"


def _read(path: Path) -> dict[str, Any] | None:
    """Read a report or log, or return None without one."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content


def _part(path: Path, value: dict[str, Any]) -> Path:
    """Write a file beside the path, for a rename or a link to it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return part
