"""The folder of a trial: who works on it, and what came out of it.

    trials/<id>/   lock   start.json   config.yaml   output.txt   run/ (the run directory)   result.json (its end)

Only who holds the lock touches the other files. The lock ends with the processes that hold it, which are the study and
the trial itself: when the study is killed, its trials finish, and the next study finds their results. A trial that was
stopped, too, resumes from its newest checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from contextlib import suppress
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
    """A trial's place on disk; `claim` before anything else."""

    path: Path
    lock: int | None = None
    """file descriptor of the lock while it is ours"""

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.path / "run"

    @property
    def output(self) -> Path:
        """What the trial printed."""
        return self.path / "output.txt"

    def result(self) -> dict[str, Any] | None:
        """Return how the trial ended, None before that."""
        return read_json(self.path / "result.json")

    def summary(self) -> dict[str, Any] | None:
        """What the run says of itself once it has ended, None before that, and when it was stopped."""
        found = read_json(self.run / "summary.json")
        return None if found is not None and found.get("status") == "stopped" else found

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
        """Return the step from which a stopped trial can resume, None when it must start again as a failed one does."""
        if not (self.run / "config.yaml").is_file() or self.result() is not None or difference(self.run, config):
            return None
        found = (manifest for _, manifest in candidates(self.run / "checkpoints"))
        return next((manifest.step for manifest in found if isinstance(manifest, Manifest)), None)

    def prepare(self, config: Config, start: dict[str, Any], anew: bool = True) -> Path:
        """Write a trial's start and its config; the path of the config. anew: remove what a stopped trial left."""
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
        """Write how the trial ended, whole or not at all; returns it. ended: status, error, seconds, git_commit."""
        values = {"baseline": trial.baseline, "values": dict(trial.values), "settings": trial.settings}
        result = {"id": trial.id, **values, **ended}
        write_json(self.path / "result.json", result)
        return result

    def stopped(self, seconds: float) -> None:
        """Note how long a stopped trial has run, and release the lock."""
        write_json(self.path / "start.json", self.start() | {"wall_seconds": seconds})
        self.release()

    def start(self) -> dict[str, Any]:
        """What `prepare` was told of the start; wall_seconds: of sessions in which the trial was stopped."""
        return read_json(self.path / "start.json") or {}

    def epochs(self) -> int:
        """Epochs that the run has behind it."""
        with suppress(OSError):
            return (self.run / "metrics.jsonl").read_bytes().count(b"\n")
        return 0

    def last_line(self) -> str:
        """The last line that the trial printed, without the name of the program."""
        lines = self.output.read_text(encoding="utf-8", errors="replace").split("\n") if self.output.is_file() else []
        lines = [" ".join(line.split()) for line in lines if line.strip()]
        return lines[-1].removeprefix("dist-hdnn: error: ") if lines else ""


def all_results(folder: Path) -> list[dict[str, Any]]:
    """How the trials of a study ended, by everybody who works on it; in the order of their names."""
    found = [read_json(path) for path in sorted(folder.glob("*/result.json"))]
    return [result for result in found if result is not None]


def write_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")
    os.replace(part, path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The mapping in a JSON file, None when there is no file. Raises ValueError, one line, for a damaged one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise ValueError(f"{path}: expected JSON, got a damaged file; remove it and the trial runs again") from None
    return value if isinstance(value, dict) else None
