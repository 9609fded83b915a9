"""Runs worker processes on this machine, names the first one that fails, and leaves none behind.

Workers meet through a file in a folder that is removed in the end, so no port is taken. Each has a session of its own:
Ctrl-C reaches this process only, which ends them. If it is killed itself, their standard input ends, and so do they.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from dist_hdnn.launching.stopping import StopRequest
from dist_hdnn.launching.worker import GO_ON, LOST, STOPPED

WORKER = "DIST_HDNN_WORKER"  # the variable that tells a process its rank, the number of workers and their store
POLL, SETTLE, TERMINATE = 0.05, 2.0, 3.0  # seconds: between looks, for the others to report, until SIGKILL
LINES = 40  # of the failed worker's output


def run_workers(
    command: list[str], workers: int, timeout: float, environment: Mapping[str, str], stop: StopRequest | None = None
) -> int:
    """Run `command` as so many workers; returns 0, or the exit code of the first failure after a line on stderr.

    Worker 0 writes to our stdout and stderr; what the others write is shown only if one of them fails first.
    timeout: seconds that a worker may go on after the first one has ended well. stop: the workers know how to stop, and
    when this process is asked to, it asks them. Call it from the main thread.
    """
    with tempfile.TemporaryDirectory(prefix="dist_hdnn-") as folder:
        children: list[subprocess.Popen[bytes]] = []
        with ending(children, (signal.SIGHUP,) if stop is not None else (signal.SIGTERM, signal.SIGHUP)):
            for rank in range(workers):
                variables = {**environment, WORKER: f"{rank} {workers} file://{folder}/store"}
                children.append(_start(command, variables, _output(folder, rank)))
            codes = _wait(children, timeout, stop)
        if len(codes) == workers and set(codes.values()) in ({0}, {STOPPED}):
            return codes[0]
        return _report(codes, workers, folder)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _output(folder: str, rank: int) -> Path | None:
    """Where a worker's output is kept; worker 0 has ours."""
    return Path(folder, f"worker-{rank}.txt") if rank else None


def _start(command: list[str], variables: Mapping[str, str], output: Path | None) -> subprocess.Popen[bytes]:
    with open(output, "wb") if output else contextlib.nullcontext() as file:
        return subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT if file else None,
            start_new_session=True,
        )


def _wait(children: list[subprocess.Popen[bytes]], timeout: float, stop: StopRequest | None = None) -> dict[int, int]:
    """Exit codes by rank, in the order of the ends; soon after a failure, of those that have ended by then."""
    codes: dict[int, int] = {}
    deadline = math.inf
    while len(codes) < len(children) and time.monotonic() < deadline:
        if stop is not None and stop.reason is not None:
            _pass_on(stop.reason, children)
            stop = None
        for rank, child in enumerate(children):
            if rank not in codes and (code := child.poll()) is not None:
                codes[rank] = code
                good = code in (0, STOPPED)
                deadline = min(deadline, time.monotonic() + SETTLE + (timeout if good else 0))
        time.sleep(POLL)
    return codes


def _pass_on(reason: str, children: list[subprocess.Popen[bytes]]) -> None:
    """Ask the workers to stop. Not by a signal, which would kill one that does not listen yet."""
    for child in children:
        with contextlib.suppress(BrokenPipeError):
            assert child.stdin is not None
            child.stdin.write(f"{reason}\n".encode())
            child.stdin.flush()


def _report(codes: dict[int, int], workers: int, folder: str) -> int:
    """Say on stderr which worker failed first, and how; returns its exit code.

    Those that failed because of another one end with LOST; if all did, a worker that still goes on is to blame.
    """
    failed = [rank for rank, code in codes.items() if code not in (0, STOPPED)]
    own = [rank for rank in failed if codes[rank] != LOST]
    late = [rank for rank in range(workers) if rank not in codes]
    if own:
        first = witness = min(rank for rank in own if codes[rank] == codes[own[0]])  # all alike: one that could be seen
    elif late:
        named = ((one, rank) for one in late for rank in failed if f" worker {one} in " in _last_line(folder, rank))
        first, witness = next(named, (late[0], (failed or late)[0]))
    else:
        first = witness = failed[0]
    lines = _last_lines(folder, witness)
    if len(lines) > 1:
        print("\n".join(lines), file=sys.stderr)
    code, said = codes.get(first), "; see above" if witness == 0 else ""
    if lines:
        own_words = lines[-1].removeprefix("dist-hdnn: error: ").removeprefix(f"worker {witness}: ")
        said = f"; last line of worker {witness}: {own_words}"
    print(f"dist-hdnn: error: worker {first} of {workers} failed first, {how_it_ended(code)}{said}", file=sys.stderr)
    _say_how_to_go_on(workers, folder)
    return LOST if code is None or code < 0 else code  # gone, whether it hangs or was killed


def _last_lines(folder: str, rank: int) -> list[str]:
    """Of a worker's output; none of worker 0, whose output has been seen, and not how to go on, which is said last."""
    output = _output(folder, rank)
    lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LINES:] if output else []
    return [line for line in lines if not line.startswith(GO_ON)]


def _last_line(folder: str, rank: int) -> str:
    return (_last_lines(folder, rank) or [""])[-1]


def _say_how_to_go_on(workers: int, folder: str) -> None:
    """The command that goes on with the run, where a worker other than 0 has said it; worker 0 says it to all."""
    for output in (_output(folder, rank) for rank in range(1, workers)):
        text = output.read_text(encoding="utf-8", errors="replace") if output and output.exists() else ""
        for line in text.splitlines():
            if line.startswith(GO_ON):
                print(line, file=sys.stderr)


def how_it_ended(code: int | None) -> str:
    """An exit code of a child in words; None: it has not ended by itself."""
    if code is None:
        return "it did not answer and was stopped"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


@contextlib.contextmanager
def ending(
    children: list[subprocess.Popen[bytes]],
    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGHUP),
) -> Iterator[None]:
    """End all children at the end of the block, also when SIGINT or one of these signals ends it."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    taken = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]  # as under nohup
    before: dict[signal.Signals, Any] = {number: signal.signal(number, stop) for number in taken}
    before |= {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if number not in before}
    try:
        yield
    finally:
        for number in before:  # nothing may interrupt what follows, which takes seconds at most
            signal.signal(number, signal.SIG_IGN)
        _end(children)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    """Ask those that are left to end, then kill them, each with all that it has started."""
    left = [child for child in children if child.poll() is None]
    for child in left:
        _signal(child, signal.SIGTERM)
    deadline = time.monotonic() + TERMINATE
    while any(child.poll() is None for child in left) and time.monotonic() < deadline:
        time.sleep(POLL)
    for child in left:
        if child.poll() is None:
            _signal(child, signal.SIGKILL)
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel does not end what hangs in a disk
            child.wait(TERMINATE)
        if child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)
