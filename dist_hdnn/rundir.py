"""The run directory: made before anything is trained, so that a bad path fails at once.

runs/<name>/<UTC time>-s<seed>/   config.yaml  checkpoints/  plots/  logs/     and what the run adds to it
"""

from __future__ import annotations

import errno
from datetime import UTC, datetime
from pathlib import Path

from dist_hdnn.config import Config
from dist_hdnn.config_file import self_contained, to_yaml

FOLDERS = ("checkpoints", "plots", "logs")


def prepare_run_directory(config: Config) -> Path:
    """Make the run directory with its folders and config.yaml; the path is absolute.

    config.output is taken as it is and must be new or empty; without it a new directory below runs/ is made, its own
    even when two runs start in the same second. Raises ValueError when the directory holds files already or cannot be
    written; OSError only when the disk is full.
    """
    try:
        directory = _claimed(Path(config.output).expanduser()) if config.output is not None else _unused(config)
        for folder in FOLDERS:
            (directory / folder).mkdir()
        (directory / "config.yaml").write_text(to_yaml(self_contained(config)), encoding="utf-8")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ValueError(
            f"output: expected a directory that can be written, got {error.filename or config.output}: "
            f"{error.strerror}; choose another --output"
        ) from error
    return directory


def _claimed(directory: Path) -> Path:
    """The given directory, new or empty."""
    if directory.is_dir() and (found := sorted(entry.name for entry in directory.iterdir())):
        what = "one that holds a run" if "config.yaml" in found else f"one that holds {', '.join(found[:3])}"
        raise ValueError(
            f"output: expected a new or an empty directory, got {what}: {directory}; choose another --output"
        )
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def _unused(config: Config) -> Path:
    """A new directory below runs/<name>/."""
    parent = Path("runs") / config.name
    parent.mkdir(parents=True, exist_ok=True)
    start = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ") + f"-s{config.seed}"
    copies = 1
    while True:
        directory = parent / (start if copies == 1 else f"{start}-{copies}")
        try:
            directory.mkdir()  # fails when another run, perhaps of another process, has just taken it
        except FileExistsError:
            copies += 1
        else:
            return directory.resolve()
