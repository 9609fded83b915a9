"""The run directory: made before anything is trained, so that a bad path fails at once, locked, found by its name.

runs/<name>/<UTC time>-s<seed>/   config.yaml  checkpoints/  plots/  logs/  lock     and what the run adds to it

The main process of a run (worker 0) holds an flock on `lock` as long as it trains. The kernel drops it with the
process, so a kill leaves nothing to clean up. The file names its holder: the process and its machine. On NFS the server
keeps the lock: it drops that of a killed process at once, that of a lost machine when it notices (NFSv4: about 90 s). A
file system without locks gives every process the run.
"""

from __future__ import annotations

import difflib
import errno
import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from dist_hdnn.config import Config, run_identity
from dist_hdnn.config.files import read_config, self_contained, to_yaml
from dist_hdnn.config.paths import user_path

FOLDERS = ("checkpoints", "plots", "logs")
LINKS = "links.json"  # link data that a run has read, see `links.read.as_json`
LOCK = "lock"


def prepare_run_directory(config: Config) -> Path:
    """Make the run directory with its folders and config.yaml and return its absolute path.

    config.output must be new or empty; without it a new directory below runs/ is made, which no other run has, even one
    that starts in the same second. Raises ValueError when the directory holds files or cannot be written; OSError only
    when the disk is full.
    """
    try:
        chosen = None if config.output is None else user_path(config.output, "output")
        directory = new_run_directory(config) if chosen is None else _claimed(chosen)
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


def take_lock(directory: Path) -> IO[str] | None:
    """Hold the run in this directory until the returned file is closed. Return None when another process holds it.

    Raises OSError when the directory cannot be written.
    """
    file = (directory / LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):  # where there are no locks
            file.close()
            if isinstance(error, BlockingIOError):
                return None
            raise
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def lock_holder(directory: Path) -> str:
    """Return the process that last took the lock, as it names itself."""
    try:
        return (directory / LOCK).read_text(encoding="utf-8").strip() or "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"


def config_of_run(directory: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the config of a trained run, with graph and link data saved by the run in place of the original files.

    These may have moved or changed since, and weights belong to the numbers that the agents had.
    """
    config = read_config(directory / "config.yaml", overrides)
    saved = directory / "graph.json"
    if config.graph.file is not None and saved.is_file():
        config.graph.file, config.graph.format = str(saved.resolve()), None
    links = directory / LINKS
    if config.links.from_file and links.is_file():
        config.links.file = str(links.resolve())
    return config


def _claimed(directory: Path) -> Path:
    """Make a directory, unless it exists and is empty. Raises ValueError when it holds anything."""
    if directory.is_dir() and (names := sorted(entry.name for entry in directory.iterdir())):
        run = "config.yaml" in names
        what = "a run" if run else ", ".join(names[:3])
        remedy = "resume it with --resume=auto, or " if run else ""
        raise ValueError(
            f"output: expected a new or an empty directory, got one that holds {what}: {directory}; "
            f"{remedy}choose another --output"
        )
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def new_run_directory(config: Config) -> Path:
    """Make a new directory below runs/<name>/."""
    parent = Path("runs") / config.name
    parent.mkdir(parents=True, exist_ok=True)
    start = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ") + f"-s{config.seed}"
    copies = 1
    while True:
        directory = parent / (start if copies == 1 else f"{start}-{copies}")
        try:
            directory.mkdir()  # fails when another run, perhaps of another process, has just made it
        except FileExistsError:
            copies += 1
        else:
            return directory.resolve()


def run_in_output(config: Config) -> Path | None:
    """Return config.output if it holds a run, else None. Raises ValueError for a run of another config."""
    directory = user_path(config.output or "", "output")
    if not (directory / "config.yaml").is_file():
        return None
    different = difference(directory, config)
    if different:
        raise ValueError(
            f"resume: expected a run of this config in {directory}, got {different}; choose another, or start a new "
            f"run from its weights with --from={directory}"
        )
    return directory.resolve()


def unfinished_runs(config: Config) -> Iterator[Path]:
    """Yield the directories below runs/<name>/ of unfinished runs of this config, the newest first."""
    for directory in sorted((Path("runs") / config.name).glob("*/"), reverse=True):
        if (directory / "config.yaml").is_file() and not finished(directory) and not difference(directory, config):
            yield directory.resolve()


def newest_unfinished_run() -> Path | None:
    """Return the newest unfinished run below runs/, of any name and config."""
    runs = [directory for directory in Path("runs").glob("*/*/") if (directory / "config.yaml").is_file()]
    return max((run for run in runs if not finished(run)), key=lambda run: run.name, default=None)


def find_run(name: str) -> Path:
    """Return the directory of a run that is named by its path, by runs/<name>, or by <name> alone.

    A name stands for the newest finished run below it. Raises ValueError, without the command's name, for a path or a
    name without a run, with the nearest names, and for a name whose runs are all unfinished.
    """
    places = [user_path(name, "run"), Path("runs") / name]
    for place in places:
        if (place / "config.yaml").is_file():
            return place
    for place in places:
        if runs := [directory for directory in place.glob("*/") if (directory / "config.yaml").is_file()]:
            if done := [run for run in runs if finished(run)]:
                return max(done, key=_started)
            newest = max(runs, key=_started)
            raise ValueError(
                f"expected a finished run in {place}, got {len(runs)} unfinished; resume the newest by dist-hdnn train "
                f"--resume=auto --output={newest}, or give one of these directories"
            )
    known = {file.parent.name for file in Path("runs").glob("*/config.yaml")}
    known |= {file.parents[1].name for file in Path("runs").glob("*/*/config.yaml")}
    near = difflib.get_close_matches(Path(name).name, sorted(known), 3, 0.5)
    place = places[0]
    what = "a directory without config.yaml" if place.is_dir() else "a file" if place.exists() else "none"
    remedy = f"did you mean {' or '.join(near)}?" if near else "see the folders below runs/"
    raise ValueError(f"expected a run directory, got {what}: {name}; {remedy}")


def weights_of_run(name: str) -> tuple[Path, Path]:
    """Return a run's directory, and the path of its weights: the run itself, or a checkpoint or file in it.

    Raises ValueError, one line, when there is no run.
    """
    path = user_path(name, "warm_start").resolve()
    inside = path.is_file() or path.parent.name == "checkpoints"
    if not inside:
        try:
            run = find_run(name).resolve()
        except ValueError as error:
            raise ValueError(f"warm_start: {error}") from error
        return run, run
    if path.exists() and (path.parents[1] / "config.yaml").is_file():
        return path.parents[1], path
    what = "one outside a run" if path.exists() else "none"
    raise ValueError(f"warm_start: expected a run, or a checkpoint or weights inside one, got {what}: {path}")


def _started(run: Path) -> tuple[str, float]:
    """Return a key that sorts runs by their start: the time in the name, else the time of config.yaml."""
    config = (run / "config.yaml").stat().st_mtime
    named = re.match(r"\d{8}T\d{6}Z", run.name)
    return named[0] if named else datetime.fromtimestamp(config, UTC).strftime("%Y%m%dT%H%M%SZ"), config


def finished(directory: Path) -> dict[str, Any]:
    """Return the summary of a finished run, empty before that."""
    try:
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) and summary.get("status") == "done" else {}


def difference(directory: Path, config: Config) -> str:
    """Name the option in which a run's config differs from this one, empty without one."""
    try:
        there = run_identity(read_config(directory / "config.yaml"))
    except ValueError as error:
        return f"a config.yaml that cannot be read ({error})"
    key, mine, theirs = first_difference(run_identity(self_contained(config)), there, "")
    return f"one whose {key} is {theirs!r}, not {mine!r}" if key else ""


def first_difference(here: Any, there: Any, key: str) -> tuple[str, Any, Any]:
    """Return (dotted key, value here, value there), with an empty key when both are the same."""
    if isinstance(here, dict) and isinstance(there, dict) and here.keys() == there.keys():
        pairs = (first_difference(here[k], there[k], f"{key}.{k}" if key else str(k)) for k in here)
        return next((pair for pair in pairs if pair[0]), ("", None, None))
    return ("", None, None) if here == there else (key, here, there)
