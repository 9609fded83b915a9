"""Whether a living process works on a run: a lock in its directory, which the kernel drops with the process.

The main process of a run (worker 0) holds an flock on `lock` as long as it trains, so a kill leaves nothing to clean
up. The file names its holder: the process and its machine. On NFS the server keeps the lock: it drops that of a killed
process at once, that of a lost machine when it notices (NFSv4: about 90 s). A file system without locks gives every
process the run.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import IO

NAME = "lock"


def take(directory: Path) -> IO[str] | None:
    """Hold the run in this directory until the returned file is closed; None when another process holds it.

    Raises OSError when the directory cannot be written.
    """
    file = (directory / NAME).open("a+", encoding="utf-8")
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


def holder(directory: Path) -> str:
    """Return the process that last took the lock, as it names itself."""
    try:
        return (directory / NAME).read_text(encoding="utf-8").strip() or "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"
