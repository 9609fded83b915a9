"""Folder of a trial: its lock, its run, its result.

    trials/<id>/   lock   start.json   config.yaml   output.txt   run/ (the run directory)   result.json (its end)

Only the holder of the lock touches the other files. The lock ends with the processes that hold it, which are the study
and the trial itself: when the study is killed, its trials finish, and the next study reads their results. A trial that
was stopped as well resumes from its newest checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_hdnn.config import Config
from dist_hdnn.config.files import to_yaml
from dist_hdnn.run.directory import difference
from dist_hdnn.study.axes import Trial
from dist_hdnn.training.checkpoints.manifest import Manifest, candidates

DONE, FAILED = "done", "failed"


@dataclass
class TrialFolder:
    """Folder of a trial, to `claim` before it is changed. lock: file descriptor of the lock while it is ours."""

    path: Path
    lock: int | None = None

    @property
    def run(self) -> Path:
        """Run directory."""
        return self.path / "run"

    @property
    def output(self) -> Path:
        """File with the output of the trial."""
        return self.path / "output.txt"

    def result(self) -> dict[str, Any] | None:
        """Return the trial's result, None before its end."""
        return read_json(self.path / "result.json")

    def summary(self) -> dict[str, Any] | None:
        """Return the summary of the run, None before its end and when it was stopped."""
        summary = read_json(self.run / "summary.json")
        return None if summary is not None and summary.get("status") == "stopped" else summary

    def claim(self) -> bool:
        """Take the lock. Returns False when another process has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self.lock = lock
        return True

    def release(self) -> None:
        """Release the lock."""
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def left_after(self, config: Config) -> int | None:
        """Return the step after which a stopped trial can resume, None when it must start again, as a failed one."""
        if not (self.run / "config.yaml").is_file() or self.result() is not None or difference(self.run, config):
            return None
        manifests = (manifest for _, manifest in candidates(self.run / "checkpoints"))
        return next((manifest.step for manifest in manifests if isinstance(manifest, Manifest)), None)

    def prepare(self, config: Config, start: dict[str, Any], anew: bool = True) -> Path:
        """Write a trial's start and config, and return the path of the config. anew: remove an earlier run first."""
        for old in (self.run, self.output, self.path / "result.json") if anew else ():
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
        write_json(self.path / "start.json", start)
        path = self.path / "config.yaml"
        path.write_text(to_yaml(config), encoding="utf-8")
        return path

    def record(self, trial: Trial, ended: dict[str, Any]) -> dict[str, Any]:
        """Write the result of the trial and return it. ended: status, error, wall_seconds, summary, git_commit."""
        values = {"baseline": trial.baseline, "values": dict(trial.values), "settings": trial.settings}
        result = {"id": trial.id, **values, **ended}
        write_json(self.path / "result.json", result)
        return result

    def stopped(self, seconds: float) -> None:
        """Note for how many seconds a stopped trial has run, and release the lock."""
        write_json(self.path / "start.json", self.start() | {"wall_seconds": seconds})
        self.release()

    def start(self) -> dict[str, Any]:
        """Return the start that `prepare` wrote, with wall_seconds of the sessions in which the trial was stopped."""
        return read_json(self.path / "start.json") or {}

    def epochs(self) -> int:
        """Count the epochs that the run has finished."""
        with suppress(OSError):
            return (self.run / "metrics.jsonl").read_bytes().count(b"\n")
        return 0

    def last_line(self) -> str:
        """Return the last line of the output, without the name of the program."""
        text = self.output.read_text(encoding="utf-8", errors="replace") if self.output.is_file() else ""
        return " ".join(text.strip().rpartition("\n")[2].split()).removeprefix("dist-hdnn: error: ")


def all_results(folder: Path) -> list[dict[str, Any]]:
    """Return the results of a study's trials, of all processes that run it, in the order of their names."""
    results = [read_json(path) for path in sorted(folder.glob("*/result.json"))]
    return [result for result in results if result is not None]


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a file beside `path` to write, which replaces it at the end: a reader never sees half of it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    yield part
    os.replace(part, path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the mapping in a JSON file, None without a file. Raises ValueError, one line, for a damaged file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise ValueError(f"{path}: expected JSON, got a damaged file; remove it and the trial runs again") from None
    return value if isinstance(value, dict) else None
