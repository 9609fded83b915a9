"""Run worker processes on this machine, name the first one that fails, and leave none behind.

Workers meet through a file in a folder that is removed at the end, so no port is needed. Each has its own session:
Ctrl-C reaches only this process, which ends them. If it is killed itself, their standard input ends, and so do they.
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

from dist_hdnn.launching.warm import Child
from dist_hdnn.launching.worker import LOST, RESUME, STOPPED, StopRequest

WORKER = "DIST_HDNN_WORKER"  # the variable that tells a process its rank, the number of workers and their store
POLL, SETTLE, TERMINATE = 0.05, 2.0, 3.0  # seconds: between looks, for the others to report, until SIGKILL
LINES = 40  # of the failed worker's output


def run_workers(
    command: list[str], workers: int, timeout: float, environment: Mapping[str, str], stop: StopRequest | None = None
) -> int:
    """Run `command` as workers, and return 0, or the exit code of the first failure after a line on stderr.

    Worker 0 writes to our stdout and stderr; the output of another worker is shown only if it fails first.
    timeout: seconds that a worker may run after the first one has ended well. stop: passed on to the workers, which
    then stop by themselves. Call it from the main thread.
    """
    with tempfile.TemporaryDirectory(prefix="dist_hdnn-") as folder:
        children: list[subprocess.Popen[bytes]] = []
        with ending(children, (signal.SIGHUP,) if stop is not None else (signal.SIGTERM, signal.SIGHUP)):
            for rank in range(workers):
                variables = {**environment, WORKER: f"{rank} {workers} file://{folder}/store"}
                # worker 0 writes to our output
                children.append(_start(command, variables, Path(folder, f"worker-{rank}.txt") if rank else None))
            codes = _wait(children, timeout, stop)
        if len(codes) == workers and set(codes.values()) in ({0}, {STOPPED}):
            return codes[0]
        return _report(codes, workers, folder)


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    """Return exit codes by rank, in the order of the ends. After a failure, only of workers that end soon."""
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
    """Ask the workers to stop by a line. A signal would kill one that does not handle it yet."""
    for child in children:
        with contextlib.suppress(BrokenPipeError):
            assert child.stdin is not None
            child.stdin.write(f"{reason}\n".encode())
            child.stdin.flush()


def _report(codes: dict[int, int], workers: int, folder: str) -> int:
    """Print on stderr which worker failed first and how, and return its exit code.

    Workers that lost a peer exit with LOST. If every failed worker did, the blame is on one that is still running.
    """
    texts = [_text(folder, rank) for rank in range(workers)]
    lines = [[line for line in text[-LINES:] if not line.startswith(RESUME)] for text in texts]
    failed = [rank for rank, code in codes.items() if code not in (0, STOPPED)]
    own = [rank for rank in failed if codes[rank] != LOST]
    running = [rank for rank in range(workers) if rank not in codes]
    if own:
        first = witness = min(rank for rank in own if codes[rank] == codes[own[0]])  # of equal codes the visible worker
    elif running:
        pairs = ((one, rank) for one in running for rank in failed)
        blamed = (pair for pair in pairs if f" worker {pair[0]} in " in "".join(lines[pair[1]][-1:]))
        first, witness = next(blamed, (running[0], (failed or running)[0]))
    else:
        first = witness = failed[0]
    code, said = codes.get(first), "; see above" if witness == 0 else ""
    if lines[witness]:
        last = lines[witness][-1].removeprefix("dist-hdnn: error: ").removeprefix(f"worker {witness}: ")
        said = f"; last line of worker {witness}: {last}"
    shown = lines[witness] if len(lines[witness]) > 1 else []
    shown.append(f"dist-hdnn: error: worker {first} of {workers} failed first, {how_it_ended(code)}{said}")
    print(*shown, *(line for text in texts for line in text if line.startswith(RESUME)), sep="\n", file=sys.stderr)
    return LOST if code is None or code < 0 else code  # gone, whether it hangs or was killed


def _text(folder: str, rank: int) -> list[str]:
    """Return the lines that a worker wrote, none for worker 0, which writes to our output."""
    output = Path(folder, f"worker-{rank}.txt")
    return output.read_text(encoding="utf-8", errors="replace").strip().splitlines() if output.exists() else []


def how_it_ended(code: int | None) -> str:
    """Say how a child ended, None for one that was still running."""
    if code is None:
        return "it did not answer and was stopped"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


@contextlib.contextmanager
def ending(
    children: Sequence[Child],
    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGHUP),
) -> Iterator[None]:
    """End all children at the end of the block, also when SIGINT or one of `signals` ends it."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    handled = (number for number in signals if signal.getsignal(number) != signal.SIG_IGN)  # not those under nohup
    before: dict[signal.Signals, Any] = {number: signal.signal(number, stop) for number in handled}
    before |= {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if number not in before}
    try:
        yield
    finally:
        for number in before:  # nothing may interrupt the next seconds
            signal.signal(number, signal.SIG_IGN)
        _end(children)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(children: Sequence[Child]) -> None:
    """Ask the remaining children to end, then kill them, each with all processes that it has started."""
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


def _signal(child: Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)
