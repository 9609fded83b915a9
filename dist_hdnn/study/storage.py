"""Optuna's storage: a journal file or a database, whole after a crash, and its password kept out of every message."""

from __future__ import annotations

import json
import os
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dist_hdnn.config.paths import user_path

try:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
except ImportError:  # an extra
    optuna = None  # type: ignore[assignment]

SECRET = re.compile(r"(?:pass|pwd|secret|token|key)[^=&;]*=([^&;]+)", re.IGNORECASE)  # in the query of a URL
SHORTEST = 3  # characters of a secret that is looked for wherever it stands


def masked(text: str, storage: str | None) -> str:
    """The text with *** for every password of a storage URL: between user and host, and in the query."""
    given = storage if storage is not None and "://" in storage else ""
    found = re.findall(r"://[^:/@]*:(.+)@", given) + SECRET.findall(given.partition("?")[2])
    for secret in sorted({one for word in found for one in (word, unquote(word))}, key=len, reverse=True):
        if len(secret) >= SHORTEST:
            text = text.replace(secret, "***")
    return re.sub(r"(\w://[^:/@\s]*):[^@\s]+@", r"\1:***@", text)


def open_storage(given: str | None, output: Path) -> Any:
    """The storage that a study file names, or a journal file in the study's folder."""
    if given is not None and "://" in given:
        return optuna.storages.RDBStorage(given)
    path = output / "optuna.journal" if given is None else user_path(given, "storage")
    path.parent.mkdir(parents=True, exist_ok=True)
    backend = JournalFileBackend(str(path))
    mend_journal(path)
    return optuna.storages.JournalStorage(backend)


def mend_journal(path: Path) -> None:
    """Drop the last line of a journal when a crash cut it, with a warning; what it noted is done again.

    Raises ValueError for a line that is damaged before the last.
    """
    if _whole(path.read_bytes()) is None:
        return
    lock = JournalFileSymlinkLock(str(path))  # others of the study may be writing; a line is whole once they let go
    lock.acquire()
    try:
        data = path.read_bytes()
        kept = _whole(data)
        if kept is None:
            return
        lines = data[kept:].count(b"\n") + (not data.endswith(b"\n"))
        number = data[:kept].count(b"\n") + 1
        if lines > 1:
            raise ValueError(
                f"{path}: expected a line of JSON for each step of the search, got a damaged line {number} of "
                f"{number + lines - 1}; remove that line, or give another storage"
            )
        with path.open("rb+") as file:
            file.truncate(kept)
            file.flush()
            os.fsync(file.fileno())
        warnings.warn(
            f"storage: dropped line {number} of {path}, which a crash had cut; the study goes on without it",
            UserWarning,
            stacklevel=3,
        )
    finally:
        lock.release()


def _whole(data: bytes) -> int | None:
    """Bytes before the first line that is not whole; None when all are."""
    start = 0
    for line in data.splitlines(keepends=True):
        with suppress(ValueError):
            if line.endswith(b"\n") and isinstance(json.loads(line), dict):
                start += len(line)
                continue
        return start
    return None
