"""A warm process: it has imported what a training needs, and forks for each one, which then starts in milliseconds.

    study  -- arguments, output file, lock -->  warm process  -- fork -->  a trial, as if it had been started by itself
           <-- number of the process, later its exit code --

It computes nothing itself, so no thread of PyTorch or OpenMP is running when it forks. A trial leads a process group,
outlives a study that is killed, and holds the files that it was given alone. On Linux; elsewhere, and where the warm
process fails, trials are processes of their own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

LONGEST = 1 << 16  # bytes of a message
POLL = 0.02  # seconds between looks at trials that run
UNKNOWN = 1  # exit code of a trial whose warm process is gone


class Child(Protocol):
    """A child process, as `subprocess.Popen` has it. stdin: nothing, or where to write to."""

    pid: int
    stdin: IO[bytes] | None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code at its end. Raises subprocess.TimeoutExpired."""


class Forked:
    """A trial that the warm process has forked, see `Child`."""

    stdin: IO[bytes] | None = None

    def __init__(self, warm: WarmProcess, pid: int) -> None:
        self.warm, self.pid = warm, pid

    def poll(self) -> int | None:
        self.warm.listen()
        code = self.warm.ended.get(self.pid)
        return UNKNOWN if code is None and self.warm.gone and not _runs(self.pid) else code

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and timeout is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a trial", timeout)
            time.sleep(POLL)
        return code


class WarmProcess:
    """The study's end. ended: exit codes by process. gone: it will not answer any more."""

    def __init__(self, environment: Mapping[str, str], imported: Sequence[str]) -> None:
        """environment: of the trials. imported: modules that they share."""
        self.ended: dict[int, int] = {}
        self.gone = sys.platform != "linux"
        if self.gone:
            return
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), *imported],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )

    def start(self, command: Sequence[str], output: int, kept: int) -> Forked | None:
        """Start `python *command`, a module (-m) or a file, or return None where that takes a process of its own.

        output: file descriptor for what it prints. kept: one that it keeps open.
        """
        if self.gone:
            return None
        try:
            socket.send_fds(self._socket, [json.dumps(list(command)).encode()], [output, kept])
        except OSError:
            self.gone = True
            return None
        while not self.gone:
            pid = self.listen(wait=True)
            if pid is not None:
                return Forked(self, pid)
        return None

    def listen(self, wait: bool = False) -> int | None:
        """Note which trials have ended. Returns the process of one that has just started."""
        while not self.gone and (wait or select.select([self._socket], [], [], 0)[0]):
            message = _received(self._socket)
            if not message:
                self.gone = True
                break
            said: dict[str, int] = json.loads(message)
            if "started" in said:
                return said["started"]
            self.ended[said["ended"]] = said["code"]
        return None

    def close(self) -> None:
        """End the warm process; its trials run on."""
        if sys.platform == "linux":
            self._socket.close()
            self.gone = True
            self._process.wait()


def serve(connection: socket.socket) -> list[str]:
    """Fork for every request until the study is gone. Returns, in a trial, its command."""
    running: set[int] = set()
    while True:
        if select.select([connection], [], [], POLL if running else None)[0]:
            try:
                request, files, _, _ = socket.recv_fds(connection, LONGEST, 2)
            except OSError:
                request = b""
            if not request:
                os._exit(0)  # trials run on
            pid = os.fork()
            if pid == 0:
                os.setpgid(0, 0)
                connection.close()
                os.dup2(files[0], 1)
                os.dup2(files[0], 2)
                os.close(files[0])
                return list(json.loads(request))
            for file in files:
                os.close(file)
            with contextlib.suppress(OSError):  # the trial has done it already
                os.setpgid(pid, pid)
            running.add(pid)
            _say(connection, {"started": pid})
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.remove(pid)
                _say(connection, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(connection: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the study is gone, which the next request tells
        connection.send(json.dumps(message).encode())


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(LONGEST)
    except OSError:
        return b""


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    """Import, then serve a socket, and be a trial in every fork. Arguments: number of the socket, modules."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    connection = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.freeze()  # no collection touches, and so copies, what all trials share
    command = serve(connection)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module = command[0] == "-m"
    sys.argv = command[1:] if module else command
    if module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
