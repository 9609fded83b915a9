"""Kill workers of one machine while they exchange slices: how soon the others notice, and what is left.

    python tests/faults/killed_rounds.py                               100 kills over shm
    python tests/faults/killed_rounds.py --kills 20 --transport gloo --seed 3

2, 3, 4 or 8 workers, forks of this process, exchange on a ring as fast as they can, 256 bytes, 64 KB or 8 MB each way,
so that a kill strikes in and between writes, flags and waits. The victim and the moment are random. Prints the seconds
until the first worker noticed (error raised) and until the last process ended; exits with 1 if a kill was noticed later
than 0.5 s, a job lasted longer than 10 s, an error names nobody, or a process or a file in /dev/shm is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
import torch  # noqa: E402
from forked import join  # noqa: E402
from transport.cases import Exchange, shapes  # noqa: E402

from dist_hdnn.transport import Transport, TransportError  # noqa: E402

NOTICED, OVER = 0.5, 10.0  # seconds after the kill, at most
LENGTHS = (64, 16_384, 2_097_152)  # float32 each way
SHARED = Path("/dev/shm")


@dataclass
class Job:
    """A job after its end. noticed, over: seconds from the fault. said: what every worker that failed reported."""

    workers: int
    length: int
    victim: int
    noticed: float = float("nan")
    over: float = float("nan")
    codes: dict[int, int] = field(default_factory=dict)
    said: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def problems(self, noticed: float = NOTICED) -> list[str]:
        """What is wrong with the end of a job whose victim was killed."""
        found = [f"left behind: {name}" for name in self.left]
        if not self.noticed <= noticed:
            found.append(f"noticed after {self.noticed:.2f} s")
        if not self.over <= OVER:
            found.append(f"over after {self.over:.2f} s")
        others = [code for rank, code in self.codes.items() if rank != self.victim]
        if others != [5] * (self.workers - 1):
            found.append(f"exit codes {self.codes}")
        beside = [one for one in self.said if abs(one["rank"] - self.victim) in (1, self.workers - 1)]
        if not any(f"worker {self.victim} in ring" in one["error"] for one in beside):
            found.append(f"no neighbor names worker {self.victim}: {self.said}")
        return found


def on_ring(transport: Transport, length: int) -> Exchange:
    return Exchange(transport, {pair: length for pair in shapes(transport.size)["ring"]}, torch.float32, "ring")


def rounds(transport: Transport, length: int, met: Callable[[], None]) -> None:
    """Exchange for ever, with values that are checked every 50th round."""
    exchange = on_ring(transport, length)
    for turn in range(10**9):
        if turn == 3:
            met()
        if turn % 50 < 2:
            exchange.start()
            exchange.wait()
        else:
            exchange.channel.start()
            exchange.channel.wait()


def work(rank: int, job: Job, name: str, folder: str, timeout: float, body: Callable[..., None]) -> None:
    """Do one worker's part in a fork, which ends here as a worker of the launcher would."""
    os.setsid()
    out = os.open(f"{folder}/output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    code = 1
    try:
        transport = join(name, rank, job.workers, f"file://{folder}/store", 60.0)
        transport.timeout = timeout
        try:
            body(transport, job.length, lambda: Path(folder, f"met-{rank}").touch())
            code = 0
        except TransportError as error:
            said = {"rank": rank, "at": time.monotonic(), "error": str(error), "peer": error.peer}
            Path(folder, f"said-{rank}.part").write_text(json.dumps(said))
            os.rename(f"{folder}/said-{rank}.part", f"{folder}/said-{rank}")
            transport.abort(error.exit_code, str(error))
    except BaseException as error:
        print(f"worker {rank}: {type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def run_job(
    job: Job,
    fault: Callable[[dict[int, int]], float],
    transport: str = "shm",
    timeout: float = 60.0,
    body: Callable[..., None] = rounds,
) -> Job:
    """Run a job, call `fault(pids)` once all exchange, which returns when it struck, and wait for the end.

    timeout: of the workers' waits. body: what they do.
    """
    before = set(os.listdir(SHARED)) if SHARED.is_dir() else set()
    with tempfile.TemporaryDirectory(prefix="killed-") as folder:
        pids: dict[int, int] = {}
        for rank in range(job.workers):
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                work(rank, job, transport, folder, timeout, body)
            pids[rank] = pid
        try:
            wait_for(lambda: all(Path(folder, f"met-{rank}").exists() for rank in pids), 60.0, folder)
            struck = fault(pids)
            deadline = time.monotonic() + 2 * OVER
            while len(job.codes) < job.workers and time.monotonic() < deadline:
                collect(pids, job.codes)
                time.sleep(0.002)
            job.over = time.monotonic() - struck
        finally:
            end(pids, job)
        job.said = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("said-?"))]
        if job.said:
            job.noticed = min(one["at"] for one in job.said) - struck
    job.left += sorted(set(os.listdir(SHARED)) - before) if SHARED.is_dir() else []
    return job


def collect(pids: dict[int, int], codes: dict[int, int]) -> None:
    """Note the exit codes of the workers that have ended."""
    for rank, pid in pids.items():
        if rank not in codes:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                codes[rank] = os.waitstatus_to_exitcode(status)


def end(pids: dict[int, int], job: Job) -> None:
    """Kill who is left, which is a failure, and note it."""
    for rank, pid in pids.items():
        if rank not in job.codes:
            job.left.append(f"worker {rank}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def wait_for(found: Callable[[], bool], limit: float, folder: str) -> None:
    deadline = time.monotonic() + limit
    while not found():
        if time.monotonic() > deadline:
            output = Path(folder, "output")
            raise AssertionError(f"the workers did not meet: {output.read_text() if output.exists() else ''}")
        time.sleep(0.002)


def kill(job: Job, after: float) -> Callable[[dict[int, int]], float]:
    """A fault: SIGKILL of the victim this many seconds after all have met."""

    def strike(pids: dict[int, int]) -> float:
        time.sleep(after)
        now = time.monotonic()
        os.kill(pids[job.victim], signal.SIGKILL)
        return now

    return strike


def a_job(chance: random.Random) -> Job:
    """A job whose workers, messages and victim are random."""
    workers = chance.choice((2, 3, 4, 8))
    return Job(workers, chance.choice(LENGTHS), chance.randrange(workers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--transport", default="shm", choices=["shm", "gloo"])
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    args = parser.parse_args()
    torch.set_num_threads(1)
    chance, jobs, failed = random.Random(args.seed), list[Job](), 0
    print(f"{args.kills} kills over {args.transport}, seed {args.seed}", flush=True)
    for number in range(args.kills):
        job = a_job(chance)
        jobs.append(run_job(job, kill(job, chance.uniform(0.0, 0.05)), args.transport))
        problems = job.problems()
        failed += bool(problems)
        for problem in problems:
            print(f"kill {number}, {job.workers} workers, {4 * job.length} bytes: {problem}", flush=True)
    for what in ("noticed", "over"):
        seconds = sorted(getattr(job, what) for job in jobs)
        p95 = seconds[int(0.95 * (len(seconds) - 1))]
        print(f"{what}: median {statistics.median(seconds):.3f} s, p95 {p95:.3f} s, longest {seconds[-1]:.3f} s")
    print(f"{args.kills - failed} of {args.kills} passed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
