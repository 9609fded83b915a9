"""Machine code of kernels on disk, so that a process need not compile what another one has compiled.

    $DIST_HDNN_KERNELS, else $XDG_CACHE_HOME/dist_hdnn/kernels, else ~/.cache/dist_hdnn/kernels; "off" keeps nothing

An entry belongs to everything that decides its bytes: name and types of the function, the sources that write it, the
versions of llvmlite and LLVM, the processor and its features. It begins with its own digest, so a damaged one is
compiled again, and it is written under another name first, so several processes may do so at once. Code is executed, so
a folder that others may write to is not used. Nothing here raises: without a cache kernels are compiled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from functools import cache
from pathlib import Path

VARIABLE = "DIST_HDNN_KERNELS"
KEPT = 512  # entries, of some kilobytes each; the oldest go first
DIGEST = 32  # bytes


def folder() -> Path | None:
    """Return the folder of the cache, which need not exist; None where there is none."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dist_hdnn" / "kernels"
    except RuntimeError:  # no home
        return None


def key_of(source: str, *decides: object) -> str:
    """Return the name of an entry. source: the file that writes it. decides: what its bytes depend on besides."""
    folders = sorted({Path(source).parent, Path(__file__).parent})
    return hashlib.sha256(repr((*map(_sources, folders), *decides)).encode()).hexdigest()


def load(key: str) -> bytes | None:
    """Return the machine code of an entry, None if there is none that is whole."""
    place = folder()
    if place is None:
        return None
    with contextlib.suppress(OSError):
        if not _mine(place):
            return None
        data = (place / key).read_bytes()
        if hashlib.sha256(data[DIGEST:]).digest() == data[:DIGEST]:
            return data[DIGEST:]
    return None


def keep(key: str, code: bytes) -> None:
    """Write an entry, where that is possible."""
    place = folder()
    if place is None:
        return
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _mine(place):
            return
        handle, name = tempfile.mkstemp(dir=place)  # for this user alone
        try:
            with open(handle, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            os.replace(name, place / key)
        except OSError:
            os.unlink(name)
        _drop_oldest(place)


def size() -> tuple[int, int]:
    """Return the number of entries and their bytes."""
    entries = _entries(folder())
    return len(entries), sum(about.st_size for _, about in entries)


def _drop_oldest(place: Path) -> None:
    entries = sorted(_entries(place), key=lambda entry: entry[1].st_mtime)
    for path, _ in entries[:-KEPT]:
        path.unlink(missing_ok=True)


def _entries(place: Path | None) -> list[tuple[Path, os.stat_result]]:
    """List the entries and their figures; another process may remove some meanwhile."""
    found = []
    with contextlib.suppress(OSError):
        for path in place.iterdir() if place is not None else ():
            with contextlib.suppress(OSError):
                found.append((path, path.stat()))
    return found


def _mine(place: Path) -> bool:
    """Tell whether nobody but this user, or root, can write to a folder."""
    if os.name != "posix":
        return True
    about = place.stat()
    return about.st_uid in (os.getuid(), 0) and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@cache
def _sources(folder: Path) -> str:
    """Return the digest of the modules in a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()
