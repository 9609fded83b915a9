"""The run directory: made before anything is trained, so that a bad path fails at once.

runs/<name>/<UTC time>-s<seed>/   config.yaml  checkpoints/  plots/  logs/     and what the run adds to it
"""

from __future__ import annotations

import difflib
import errno
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dist_hdnn.config import Config, run_identity
from dist_hdnn.config.files import read_config, self_contained, to_yaml
from dist_hdnn.config.paths import user_path

FOLDERS = ("checkpoints", "plots", "logs")


def prepare_run_directory(config: Config) -> Path:
    """Make the run directory with its folders and config.yaml; the path is absolute.

    config.output is taken as it is and must be new or empty; without it a new directory below runs/ is made, its own
    even when two runs start in the same second. Raises ValueError when the directory holds files already or cannot be
    written; OSError only when the disk is full.
    """
    try:
        directory = (
            _claimed(user_path(config.output, "output")) if config.output is not None else new_run_directory(config)
        )
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


def config_of_run(directory: Path, overrides: Sequence[str] = ()) -> Config:
    """The config of a trained run, with the graph that it was trained on instead of the file that this was read from.

    The file may have moved or changed since, and weights belong to the numbers that the agents had.
    """
    config = read_config(directory / "config.yaml", overrides)
    saved = directory / "graph.json"
    if config.graph.file is not None and saved.is_file():
        config.graph.file, config.graph.format = str(saved.resolve()), None
    return config


def _claimed(directory: Path) -> Path:
    """The given directory, new or empty."""
    if directory.is_dir() and (found := sorted(entry.name for entry in directory.iterdir())):
        run = "config.yaml" in found
        what = "a run" if run else ", ".join(found[:3])
        remedy = "go on with it by --resume=auto, or " if run else ""
        raise ValueError(
            f"output: expected a new or an empty directory, got one that holds {what}: {directory}; "
            f"{remedy}choose another --output"
        )
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def new_run_directory(config: Config) -> Path:
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


def run_in_output(config: Config) -> Path | None:
    """config.output if it holds a run; None when it holds none. Raises ValueError when that is of another config."""
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
    """The directories below runs/<name>/ of runs of this config that have not come to their end, the newest first."""
    for directory in sorted((Path("runs") / config.name).glob("*/"), reverse=True):
        if (directory / "config.yaml").is_file() and not is_done(directory) and not difference(directory, config):
            yield directory.resolve()


def newest_unfinished_run() -> Path | None:
    """The newest directory below runs/, of whatever name and config, of a run that has not come to its end."""
    runs = [directory for directory in Path("runs").glob("*/*/") if (directory / "config.yaml").is_file()]
    return max((run for run in runs if not is_done(run)), key=lambda run: run.name, default=None)


def find_run(given: str) -> Path:
    """Return the directory of a run that is named by its path, by runs/<name>, or by <name> alone.

    A name stands for the newest finished run below it. Raises ValueError, without the command's name, for a path or a
    name without a run, with the nearest names, and for a name whose runs are all unfinished.
    """
    places = [user_path(given, "run"), Path("runs") / given]
    for place in places:
        if (place / "config.yaml").is_file():
            return place
    for place in places:
        if runs := [directory for directory in place.glob("*/") if (directory / "config.yaml").is_file()]:
            finished = [run for run in runs if is_done(run)]
            if finished:
                return max(finished, key=_started)
            newest = max(runs, key=_started)
            raise ValueError(
                f"expected a finished run in {place}, got {len(runs)} unfinished; resume the newest by dist-hdnn train "
                f"--resume=auto --output={newest}, or give one of these directories"
            )
    known = {file.parent.name for file in Path("runs").glob("*/config.yaml")}
    known |= {file.parents[1].name for file in Path("runs").glob("*/*/config.yaml")}
    near = difflib.get_close_matches(Path(given).name, sorted(known), 3, 0.5)
    place = places[0]
    what = "a directory without config.yaml" if place.is_dir() else "a file" if place.exists() else "none"
    remedy = f"did you mean {' or '.join(near)}?" if near else "see the folders below runs/"
    raise ValueError(f"expected a run directory, got {what}: {given}; {remedy}")


def weights_of_run(given: str) -> tuple[Path, Path]:
    """Return a run's directory, and what holds its weights: the run itself, or the checkpoint or file that is given.

    Raises ValueError, one line, when there is no run.
    """
    path = user_path(given, "warm_start").resolve()
    inside = path.is_file() or path.parent.name == "checkpoints"
    if not inside:
        try:
            run = find_run(given).resolve()
        except ValueError as error:
            raise ValueError(f"warm_start: {error}") from error
        return run, run
    if path.exists() and (path.parents[1] / "config.yaml").is_file():
        return path.parents[1], path
    what = "one outside a run" if path.exists() else "none"
    raise ValueError(f"warm_start: expected a run, or a checkpoint or weights inside one, got {what}: {path}")


def _started(run: Path) -> tuple[str, float]:
    """When a run started, as far as its name says so, else when it was made; sorts with others."""
    config = (run / "config.yaml").stat().st_mtime
    named = re.match(r"\d{8}T\d{6}Z", run.name)
    return named[0] if named else datetime.fromtimestamp(config, UTC).strftime("%Y%m%dT%H%M%SZ"), config


def is_done(directory: Path) -> bool:
    """Whether a run has come to its end."""
    return bool(finished(directory))


def finished(directory: Path) -> dict[str, Any]:
    """The summary of a run that has come to its end; empty before that."""
    try:
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) and summary.get("status") == "done" else {}


def difference(directory: Path, config: Config) -> str:
    """In which option a run's config is another one, in words; empty when it is not."""
    try:
        there = run_identity(read_config(directory / "config.yaml"))
    except ValueError as error:
        return f"a config.yaml that cannot be read ({error})"
    key, mine, theirs = _first_difference(run_identity(self_contained(config)), there, "")
    return f"one whose {key} is {theirs!r}, not {mine!r}" if key else ""


def _first_difference(here: Any, there: Any, key: str) -> tuple[str, Any, Any]:
    """(dotted key, value here, value there); an empty key when both are the same."""
    if isinstance(here, dict) and isinstance(there, dict) and here.keys() == there.keys():
        found = (_first_difference(here[k], there[k], f"{key}.{k}" if key else str(k)) for k in here)
        return next((one for one in found if one[0]), ("", None, None))
    return ("", None, None) if here == there else (key, here, there)
