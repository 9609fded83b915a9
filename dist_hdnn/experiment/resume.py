"""The directory of a run and the checkpoint that it resumes from, which worker 0 chooses and all check.

A checkpoint is used when its manifest, the hash of every file and its identity (config, graph, data) are right. With
--resume=auto one that is not is skipped with a warning, otherwise it ends the run (exit code 4).
"""

from __future__ import annotations

import json
import secrets
import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from dist_hdnn.config import Config, run_identity
from dist_hdnn.config.paths import user_path
from dist_hdnn.data import Dataset
from dist_hdnn.launching.failure import forget_report
from dist_hdnn.run.directory import (
    difference,
    find_run,
    finished,
    lock_holder,
    prepare_run_directory,
    run_in_output,
    take_lock,
    unfinished_runs,
)
from dist_hdnn.run.handshake import digest_of
from dist_hdnn.training.checkpoints.manifest import (
    NAME,
    CheckpointError,
    Manifest,
    candidates,
    check_identity,
    read_manifest,
    verify,
)
from dist_hdnn.transport import Transport

MESSAGE = 8192  # bytes of a message between workers
WAIT = 0.8  # of the timeout: how long worker 0 waits for a run that another process works on, while the others wait
POLL = 0.2  # seconds between looks at it


@dataclass(frozen=True)
class Start:
    """Knowledge of all workers before the first step.

    directory: of the run. nonce: of this start. seen: whether all workers see the directory. checkpoint: to resume
    from, with its manifest; None to start anew. done: the run has ended already. lock: holds the run on worker 0 until
    it is closed.
    """

    directory: Path
    nonce: str
    seen: bool = True
    checkpoint: tuple[Path, Manifest] | None = None
    done: bool = False
    lock: ExitStack = field(default_factory=ExitStack)


def begin(config: Config, identity: dict[str, Any], transport: Transport | None) -> Start:
    """Make or open the run directory and find the checkpoint to resume from. Collective.

    Raises ValueError for a bad directory, CheckpointError (exit code 4) for a checkpoint that cannot be used.
    """
    first = transport is None or transport.rank == 0
    directory, folders = Path(), list[Path]()
    with ExitStack() as lock:
        if first:
            directory, folders, held = _held_run(config)
            lock.enter_context(held)
            if not finished(directory):
                forget_report(directory)
        message = _tell(transport, {"directory": str(directory), "nonce": secrets.token_hex(4)})
        directory, nonce = Path(message["directory"]), message["nonce"]
        if finished(directory) and config.resume is not None:
            _check_finished(directory, config, identity)
            if first:
                ended = f"resume: {directory} has ended, nothing is trained; for more epochs use --from={directory}"
                warnings.warn(ended, UserWarning, stacklevel=2)
            return Start(directory, nonce, done=True, lock=lock.pop_all())
        seen = not any(_ask(transport, "" if (directory / "config.yaml").is_file() else "not seen"))
        checkpoint = _first_usable(folders, config, identity, transport)
        return Start(directory, nonce, seen, checkpoint, lock=lock.pop_all())


def _first_usable(
    folders: list[Path], config: Config, identity: dict[str, Any], transport: Transport | None
) -> tuple[Path, Manifest] | None:
    """Agree on the first of worker 0's checkpoints that can be used, or on None."""
    left, shares = iter(folders), (0, 1) if transport is None else (transport.rank, transport.size)
    while name := _tell(transport, {"folder": str(next(left, ""))})["folder"]:
        folder, manifest, problem = Path(name), None, ""
        try:
            manifest = read_manifest(folder)
            check_identity(folder, manifest, identity, {"config": run_identity(Config())})
            verify(folder, manifest, *shares)  # the workers divide the hashing
        except CheckpointError as error:
            problem = str(error)
        problems = [text for text in _ask(transport, problem) if text]
        if manifest is not None and not problems:
            return folder, manifest
        if config.resume != "auto":
            raise CheckpointError(problems[0])
        if transport is None or transport.rank == 0:
            warnings.warn(f"resume: skipped: {problems[0]}", UserWarning, stacklevel=3)
    return None


def _check_finished(directory: Path, config: Config, identity: dict[str, Any]) -> None:
    """Raise CheckpointError unless a finished run is one of this config, graph and data."""
    there = finished(directory).get("digests", {})  # none in runs of earlier versions
    others = [name for name in there if there[name] != identity[name]]
    different = difference(directory, config) or (f"one with another {' and another '.join(others)}" if others else "")
    if different:
        raise CheckpointError(
            f"resume: expected a run of this config in {directory}, got {different}, and it has ended. Start a new run "
            f"from its weights with --from={directory}."
        )


def _held_run(config: Config) -> tuple[Path, list[Path], IO[str]]:
    """Return where worker 0 writes, the checkpoints that it may resume from, the best first, and its lock."""
    if config.resume == "auto" and config.output is None:
        for directory in unfinished_runs(config):
            lock = take_lock(directory)
            if lock is not None:
                return directory, _checkpoints(directory), lock
            warnings.warn(
                f"resume: {directory} is left to {lock_holder(directory)}, which works on it; for another run at the "
                "same time give --output or another --name",
                UserWarning,
                stacklevel=3,
            )
    directory, folders = _named_run(config)
    return directory, folders, _lock_of(directory, WAIT * config.timeout)


def _lock_of(directory: Path, seconds: float) -> IO[str]:
    """Lock a run, and wait for a holder that may be about to end. Raises ValueError."""
    last, lock = time.monotonic() + seconds, take_lock(directory)
    if lock is None:
        waits = f"resume: waits up to {seconds:.0f} s for {lock_holder(directory)}, which works on {directory}"
        warnings.warn(waits, UserWarning, stacklevel=4)
    while lock is None:
        if time.monotonic() > last:
            raise ValueError(
                f"resume: expected a run that nobody works on, got {directory}, which {lock_holder(directory)} holds; "
                "let it end, stop it, or give another --output"
            )
        time.sleep(POLL)
        lock = take_lock(directory)
    return lock


def _checkpoints(directory: Path) -> list[Path]:
    return [folder for folder, _ in candidates(directory / "checkpoints")]


def _named_run(config: Config) -> tuple[Path, list[Path]]:
    """Return the run that --output or --resume=PATH names, or a new one, and the checkpoints to resume from."""
    if config.resume in (None, "auto"):
        directory = run_in_output(config) if config.resume and config.output is not None else None
        return (prepare_run_directory(config), []) if directory is None else (directory, _checkpoints(directory))
    run, folders = _source_of(config.resume or "")
    same = config.output is None or user_path(config.output, "output").resolve() == run
    if not folders and not (finished(run) and same):
        remedy = f"It has ended: start from its weights with --from={run}" if finished(run) else "Start a new run"
        raise CheckpointError(f"resume: expected a run with a checkpoint, got none in {run}/checkpoints. {remedy}.")
    return (run if same else prepare_run_directory(config)), folders


def _source_of(resume: str) -> tuple[Path, list[Path]]:
    """Return the run that --resume names, by path or name, and the checkpoint that it names, or the run's newest."""
    path = user_path(resume, "resume").resolve()
    if path.is_file():
        raise CheckpointError(
            f"resume: expected a run or a checkpoint, both of which are folders, got the file {path}. Weights alone do "
            f"not resume a run: start from them with --from={path}."
        )
    if (path / NAME).is_file() or path.parent.name == "checkpoints":
        read_manifest(path)  # raises before a directory is made
        return path.parents[1], [path]
    try:
        run = find_run(resume).resolve()
    except ValueError as error:
        raise CheckpointError(f"resume: {error}") from error
    return run, _checkpoints(run)[:1]


def warn_of_other_data(directory: Path, data: Dataset) -> None:
    """Warn when a config gives other data now than the run was trained on, where the run says."""
    there = finished(directory).get("digests", {}).get("data")
    if not finished(directory):
        manifests = (manifest for _, manifest in candidates(directory / "checkpoints"))
        there = next((one.identity["data"] for one in manifests if isinstance(one, Manifest)), None)
    if there is not None and there != digest_of(data):
        warnings.warn(
            f"{directory}: the data are not those that it was trained on, whose split has changed with them: its test "
            "samples may have trained it. Restore the data, or ask it about the new ones by predict",
            UserWarning,
            stacklevel=2,
        )


def _tell(transport: Transport | None, message: dict[str, str]) -> dict[str, str]:
    """Return the message of worker 0."""
    answer: dict[str, str] = json.loads(_ask(transport, json.dumps(message))[0])
    return answer


def _ask(transport: Transport | None, text: str) -> list[str]:
    """Return the text of every worker, by rank."""
    if transport is None:
        return [text]
    data = text.encode()[:MESSAGE].ljust(MESSAGE)
    return [said.decode(errors="ignore").rstrip() for said in transport.all_gather_bytes(data)]
