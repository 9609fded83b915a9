"""Where a run writes and what it goes on from: worker 0 decides, all check, and all know.

A checkpoint is used when its manifest, the hash of every file and its identity (config, graph, data) are right. With
--resume=auto one that is not is skipped with a warning, otherwise it ends the run (exit code 4).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dist_hdnn.config import Config, run_identity
from dist_hdnn.config.files import self_contained
from dist_hdnn.config.paths import user_path
from dist_hdnn.data import Dataset
from dist_hdnn.launching.failure import forget_report
from dist_hdnn.run.directory import (
    difference,
    find_run,
    finished,
    is_done,
    prepare_run_directory,
    run_in_output,
    unfinished_runs,
)
from dist_hdnn.run.lock import RunLock, holder, take
from dist_hdnn.topology import CommunicationGraph
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

MESSAGE = 8192  # bytes of what workers tell each other
WAIT = 0.8  # of the timeout that the other workers wait for worker 0, for a run that another process works on
POLL = 0.2  # seconds between looks at it


@dataclass(frozen=True)
class Start:
    """What all workers know before the first step.

    directory: of the run. nonce: of this start. seen: whether all workers see the directory. checkpoint: what to go on
    from, with its manifest; None from the beginning. lock: what keeps others from this run, on worker 0; to be released
    in the end. done: the run has come to its end already.
    """

    directory: Path
    nonce: str
    seen: bool
    checkpoint: tuple[Path, Manifest] | None
    lock: RunLock
    done: bool = False


def identity_of(config: Config, graphs: list[CommunicationGraph], data: Dataset) -> dict[str, Any]:
    """What must be the same in a run that goes on: options, graphs, data."""
    graph = hashlib.sha256("".join(graph.digest() for graph in graphs).encode()).hexdigest()
    return {"config": run_identity(self_contained(config)), "graph": graph, "data": digest_of(data)}


def digest_of(data: Dataset) -> str:
    """The sha256 of the points and answers of all parts."""
    found = hashlib.sha256()
    for array in itertools.chain(*data.parts.values()):
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def warn_of_other_data(directory: Path, data: Dataset) -> None:
    """Warn where a run was trained on other data than its config gives now; runs of earlier versions do not say."""
    there = finished(directory).get("digests", {}).get("data")
    if not is_done(directory):
        manifests = (manifest for _, manifest in candidates(directory / "checkpoints"))
        there = next((one.identity["data"] for one in manifests if isinstance(one, Manifest)), None)
    if there is not None and there != digest_of(data):
        warnings.warn(
            f"{directory}: the data are not those that it was trained on, whose split has changed with them: its test "
            "samples may have trained it. Restore the data, or ask it about the new ones by predict",
            UserWarning,
            stacklevel=2,
        )


def begin(config: Config, identity: dict[str, Any], transport: Transport | None) -> Start:
    """Make or open the run directory and find the checkpoint to go on from. Collective.

    Raises ValueError for a bad directory, CheckpointError (exit code 4) for a checkpoint that cannot be used.
    """
    first = transport is None or transport.rank == 0
    directory, found, lock = _held_run(config) if first else (Path(), [], RunLock())
    try:
        return _started(config, identity, transport, directory, found, lock)
    except BaseException:
        lock.release()
        raise


def _started(
    config: Config,
    identity: dict[str, Any],
    transport: Transport | None,
    directory: Path,
    found: list[Path],
    lock: RunLock,
) -> Start:
    """Tell all workers of the directory, and agree on the first of the checkpoints found that can be used."""
    first = transport is None or transport.rank == 0
    if first and not is_done(directory):
        forget_report(directory)
    told = _tell(transport, {"directory": str(directory), "nonce": secrets.token_hex(4)})
    directory, nonce = Path(told["directory"]), told["nonce"]
    if is_done(directory) and config.resume is not None:
        _check_finished(directory, config, identity)
        if first:
            ended = f"resume: {directory} has ended, nothing is trained; for more epochs use --from={directory}"
            warnings.warn(ended, UserWarning, stacklevel=2)
        return Start(directory, nonce, True, None, lock, done=True)
    seen = not any(_ask(transport, "" if (directory / "config.yaml").is_file() else "not seen"))
    tries: Iterator[Path] = iter(found)
    while True:
        folder = _tell(transport, {"folder": str(next(tries, ""))})["folder"]
        if not folder or folder == ".":
            break
        manifest, problem = _checked(Path(folder), identity, transport)
        if manifest is not None:
            return Start(directory, nonce, seen, (Path(folder), manifest), lock)
        if config.resume != "auto":
            raise CheckpointError(problem)
        if first:
            warnings.warn(f"resume: skipped: {problem}", UserWarning, stacklevel=2)
    return Start(directory, nonce, seen, None, lock)


def _check_finished(directory: Path, config: Config, identity: dict[str, Any]) -> None:
    """Raise CheckpointError unless what a finished run has trained is what this config, graph and data describe."""
    there = finished(directory).get("digests", {})  # none of runs of earlier versions
    others = [name for name in there if there[name] != identity[name]]
    different = difference(directory, config) or (f"one with another {' and another '.join(others)}" if others else "")
    if different:
        raise CheckpointError(
            f"resume: expected a run of this config in {directory}, got {different}, and it has ended. Start a new run "
            f"from its weights with --from={directory}."
        )


def _held_run(config: Config) -> tuple[Path, list[Path], RunLock]:
    """Where worker 0 will write, the checkpoints that it may go on from, the best first, and its lock."""
    if config.resume == "auto" and config.output is None:
        for directory in unfinished_runs(config):
            lock = take(directory)
            if lock is not None:
                return directory, _checkpoints(directory), lock
            warnings.warn(
                f"resume: {directory} is left to {holder(directory)}, which works on it; for another run at the same "
                "time give --output or another --name",
                UserWarning,
                stacklevel=4,
            )
    directory, folders = _named_run(config)
    return directory, folders, _lock_of(directory, WAIT * config.timeout)


def _lock_of(directory: Path, seconds: float) -> RunLock:
    """The lock of a run that is asked for by name: whoever holds it may be about to end. Raises ValueError."""
    last, lock = time.monotonic() + seconds, take(directory)
    if lock is None:
        waits = f"resume: waits up to {seconds:.0f} s for {holder(directory)}, which works on {directory}"
        warnings.warn(waits, UserWarning, stacklevel=5)
    while lock is None:
        if time.monotonic() > last:
            raise ValueError(
                f"resume: expected a run that nobody works on, got {directory}, which {holder(directory)} holds; let "
                "it end, stop it, or give another --output"
            )
        time.sleep(POLL)
        lock = take(directory)
    return lock


def _checkpoints(directory: Path) -> list[Path]:
    return [folder for folder, _ in candidates(directory / "checkpoints")]


def _named_run(config: Config) -> tuple[Path, list[Path]]:
    """The run that --output or --resume=PATH names, or a new one, and the checkpoints to go on from."""
    if config.resume in (None, "auto"):
        directory = run_in_output(config) if config.resume and config.output is not None else None
        return (prepare_run_directory(config), []) if directory is None else (directory, _checkpoints(directory))
    run, folders = _given(config.resume or "")
    same = config.output is None or user_path(config.output, "output").resolve() == run
    if not folders and not (is_done(run) and same):
        ended = is_done(run)
        remedy = f"It has ended: start from its weights with --from={run}" if ended else "Start it anew"
        raise CheckpointError(f"resume: expected a run with a checkpoint, got none in {run}/checkpoints. {remedy}.")
    return (run if same else prepare_run_directory(config)), folders


def _given(resume: str) -> tuple[Path, list[Path]]:
    """The run that --resume names, and the checkpoint that it names there, or the run's newest. Raises CheckpointError.

    resume: a run or its name as in `find_run`, or a checkpoint.
    """
    path = user_path(resume, "resume").resolve()
    if path.is_file():
        raise CheckpointError(
            f"resume: expected a run or a checkpoint, both of which are folders, got the file {path}. Weights alone do "
            f"not resume a run: start from them with --from={path}."
        )
    if (path / NAME).is_file() or path.parent.name == "checkpoints":
        read_manifest(path)  # complains before a directory is made
        return path.parents[1], [path]
    try:
        run = find_run(resume).resolve()
    except ValueError as error:
        raise CheckpointError(f"resume: {error}") from error
    return run, _checkpoints(run)[:1]


def _checked(folder: Path, identity: dict[str, Any], transport: Transport | None) -> tuple[Manifest | None, str]:
    """The manifest of a usable checkpoint, or what is wrong: the workers divide the hashing and share the answer."""
    manifest, problem = None, ""
    try:
        manifest = read_manifest(folder)
        check_identity(folder, manifest, identity, {"config": run_identity(Config())})
        verify(folder, manifest, *((0, 1) if transport is None else (transport.rank, transport.size)))
    except CheckpointError as error:
        problem = str(error)
    problems = [text for text in _ask(transport, problem) if text]
    return (None, problems[0]) if problems else (manifest, "")


def _tell(transport: Transport | None, message: dict[str, str]) -> dict[str, str]:
    """What worker 0 says."""
    told: dict[str, str] = json.loads(_ask(transport, json.dumps(message))[0])
    return told


def _ask(transport: Transport | None, text: str) -> list[str]:
    """What every worker says, by rank."""
    if transport is None:
        return [text]
    data = text.encode()[:MESSAGE].ljust(MESSAGE)
    return [said.decode(errors="ignore").rstrip() for said in transport.all_gather_bytes(data)]
