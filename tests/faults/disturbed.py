"""`dist-hdnn train` with a fault in one worker: a program, and `forked`, which starts many such jobs at little cost.

    FAULT='{"kind": "kill", "worker": 2, "step": 5, "phase": "forward", ...}' python disturbed.py ARGUMENTS
    python disturbed.py --jobs FILE       the jobs of a JSON file one after the other, a line of JSON each

The second way imports torch once: jobs and workers are forks, started, watched, blamed and ended by the same launcher.
A fault: kind (kill, raise, exit, stop, slow, none, measure, or one of DIFFERENT), worker, step, phase (forward,
backward, reduce, eval), exchange (how manieth of that step and phase), folder (where pids and its time are left).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

SLOW = 0.05  # seconds a step
PAUSE = 3.0  # seconds in which who watches was not run, so that a time was not measured: the job is done again
TRIES = 8
LOOSE = 60.0  # seconds until a job that does not end is killed, unless it is told


def differ_in_config(key: str, value: Any) -> Callable[[Any], None]:
    """One worker was started with another value of an option."""

    def change(config: Any) -> None:
        *path, last = key.split(".")
        setattr(functools.reduce(getattr, path, config), last, value)

    return change


def another_graph(config: Any) -> None:
    """One worker reads another graph file under the same name: without its last link."""
    from dist_hdnn import path
    from dist_hdnn.build import assembly

    assembly.build_graph = lambda options, key="graph": path(options.agents)


def other_code(config: Any) -> None:
    from dist_hdnn.run import handshake

    handshake._code = lambda: "older"


def other_data(config: Any) -> None:
    from dist_hdnn.build import assembly

    build = assembly.build_dataset

    def build_another(config: Any) -> Any:
        data = build(config)
        data.train_x[0, 0] += 1e-9
        return data

    assembly.build_dataset = build_another


def wrong_plan(change: Callable[[list[Any]], list[Any]]) -> Callable[[Any], None]:
    """One worker builds its messages wrongly. change: of the lists (peer, agents) that it sends."""

    def replace_plan(config: Any) -> None:
        from dist_hdnn.network import ownership
        from dist_hdnn.run import handshake

        build = ownership.build_halo

        def build_wrongly(*arguments: Any) -> Any:
            halo = build(*arguments)
            return dataclasses.replace(halo, send=tuple(change(list(halo.send))))

        ownership.build_halo = handshake.build_halo = build_wrongly

    return replace_plan


DIFFERENT: dict[str, Callable[[Any], None]] = {
    "config": differ_in_config("train.learning_rate", 0.5),
    "dtype": differ_in_config("dtype", "float64"),
    "seed": differ_in_config("seed", 7),
    "partition and message plan": differ_in_config("partition.method", "round_robin"),
    "graph": another_graph,
    "code": other_code,
    "data": other_data,
    "workers": differ_in_config("workers", 3),
    "size of a message": wrong_plan(lambda sends: [(peer, agents[:0]) for peer, agents in sends[:1]] + sends[1:]),
    "order of a message": wrong_plan(lambda sends: [(peer, agents[::-1]) for peer, agents in sends]),
    "one-sided message": wrong_plan(lambda sends: sends[1:]),
}


def leave_time(folder: Path) -> None:
    """When and in which process the fault happens; whoever watches never reads half of it."""
    part = folder / "fault.part"
    part.write_text(json.dumps([time.monotonic(), os.getpid()]))
    part.rename(folder / "fault")


class Saboteur:
    """Does the fault of one worker when its time has come; installed by replacing functions of the library."""

    def __init__(self, fault: Mapping[str, Any]) -> None:
        self.fault, self.folder = fault, Path(fault["folder"])
        self.step, self.evaluating, self.count, self.ready = 0, False, 0, True

    def install(self) -> None:
        from dist_hdnn.training import loop
        from dist_hdnn.transport import base, channel

        step, evaluate = loop._step, loop.evaluate
        start, build = channel.Channel.start, base.Transport.__init__

        def with_pid(owner: Any, rank: int, size: int, timeout: float) -> None:
            build(owner, rank, size, timeout)
            (self.folder / f"pid-{rank}").write_text(str(os.getpid()))

        def stepping(state: Any, *arguments: Any) -> float:
            self.step, self.count = state.step + 1, 0
            if self.fault["kind"] == "measure" and state.step % 500 == 0:
                self.measure(state.step, state.model.network.ownership.rank)
            if self.fault["kind"] == "slow" and state.model.network.ownership.rank == self.fault["worker"]:
                time.sleep(SLOW)
            return step(state, *arguments)

        def evaluating(*arguments: Any) -> Any:
            self.evaluating, self.count = True, 0
            found = evaluate(*arguments)
            self.evaluating = False
            return found

        def starting(channel: Any) -> None:
            self.look(channel)
            start(channel)

        loop._step, loop.evaluate = stepping, evaluating
        channel.Channel.start = starting  # type: ignore[method-assign]
        base.Transport.__init__ = with_pid  # type: ignore[method-assign]

    def look(self, channel: Any) -> None:
        """Is it this exchange?"""
        fault, place = self.fault, channel._owner.context
        if (
            fault["kind"] in ("slow", "none", "measure", *DIFFERENT)
            or channel._owner.rank != fault["worker"]
            or not self.ready
        ):
            return
        phase = "eval" if self.evaluating else "reduce" if place is None else place.sweep
        if self.step != fault["step"] or phase != fault["phase"]:
            return
        self.count += 1
        if self.count >= fault["exchange"]:
            self.ready = False
            self.strike()

    def measure(self, step: int, rank: int) -> None:
        """Resident memory in bytes and open files, after so many steps."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files = len(os.listdir("/proc/self/fd"))
        with (self.folder / f"measured-{rank}").open("a") as file:
            file.write(json.dumps([step, pages * os.sysconf("SC_PAGE_SIZE"), files]) + "\n")

    def strike(self) -> None:
        leave_time(self.folder)
        kind = self.fault["kind"]
        if kind == "raise":
            raise RuntimeError("made to fail")
        if kind == "exit":
            sys.exit(0)
        os.kill(os.getpid(), signal.SIGSTOP if kind == "stop" else signal.SIGKILL)


def command(arguments: list[str]) -> int:
    """The command itself; what it starts comes here again."""
    from dist_hdnn import cli
    from dist_hdnn.launching import launcher, supervisor

    launch = getattr(launcher.launch, "original", launcher.launch)  # a forked worker comes here a second time
    fault = json.loads(os.environ.get("FAULT", "null"))
    if fault is not None and any(name in os.environ for name in (supervisor.WORKER, *launcher.RANKS)):
        Saboteur(fault).install()

    def launch_this(given: list[str], config: Any, run: Any, **options: Any) -> int:
        worker = os.environ.get("DIST_HDNN_WORKER", "none").split()[0]
        if fault is not None and worker == str(fault["worker"]) and fault["kind"] in DIFFERENT:
            leave_time(Path(fault["folder"]))
            DIFFERENT[fault["kind"]](config)
        return launch(given, config, run, **options | {"program": (__file__,)})

    launch_this.original = launch  # type: ignore[attr-defined]
    launcher.launch = launch_this
    try:
        return cli.main(["train", *arguments])
    finally:
        launcher.launch = launch


class Fork:
    """A process that does `work`, in a session of its own; what the launcher needs of a Popen."""

    pipes: list[BinaryIO] = []  # the ends of all, which a new fork closes

    def __init__(self, work: Callable[[], int], environment: Mapping[str, str], output: Path | None) -> None:
        here, there = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
                    signal.signal(number, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                os.setsid()
                os.close(there)
                for pipe in Fork.pipes:
                    pipe.close()
                os.dup2(here, 0)
                if output is not None:
                    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                    os.dup2(file, 1)
                    os.dup2(file, 2)
                os.environ.clear()
                os.environ.update(environment)
                code = work()
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        os.close(here)
        self.stdin = os.fdopen(there, "wb")
        Fork.pipes.append(self.stdin)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        started = time.monotonic()
        while self.poll() is None:
            if timeout is not None and time.monotonic() - started > timeout:
                raise subprocess.TimeoutExpired("a fork", timeout)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode


def fork_instead_of_starting() -> None:
    """From now on the launcher forks its workers. All that they import is imported here, once, by a small training."""
    from dist_hdnn.launching import supervisor
    from dist_hdnn.transport import gloo, shm

    assert gloo and shm
    with tempfile.TemporaryDirectory() as folder:
        command(
            ["--data.samples=40", "--network.layers=1", "--train.epochs=1", "--plots=false", f"--output={folder}/run"]
        )

    def start(command_: list[str], variables: Mapping[str, str], output: Path | None) -> Any:
        return Fork(lambda: command(command_[2:]), variables, output)

    supervisor._start = start


def watch(process: Any, folder: Path, limit: float, resume_after: float | None = None) -> dict[str, Any]:
    """Wait for a job: its exit code, seconds from the fault to its end, and who of its workers is left."""
    began, fault = time.monotonic(), None
    last, paused = began, 0.0
    while process.poll() is None and time.monotonic() < began + limit + paused:
        now = time.monotonic()
        paused, last = paused + (now - last if now - last > PAUSE else 0.0), now
        if fault is None and (folder / "fault").exists():
            fault = json.loads((folder / "fault").read_text())
        if fault is not None and resume_after is not None and time.monotonic() > fault[0] + resume_after:
            os.kill(fault[1], signal.SIGCONT)
            resume_after = None
        time.sleep(0.005)
    ended, code = time.monotonic(), process.poll()
    if fault is None and (folder / "fault").exists():
        fault = json.loads((folder / "fault").read_text())
    deadline = time.monotonic() + 2.0
    pids = [int(path.read_text()) for path in folder.glob("pid-*")]
    while (left := [pid for pid in pids if alive(pid)]) and code is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    if left:
        ended = time.monotonic()
    for pid in (process.pid, *left) if code is None else left:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    if code is None:
        process.wait()
    seconds = None if fault is None else ended - fault[0]
    return {"code": code, "seconds": seconds, "left": left, "struck": fault is not None, "paused": paused}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def start_fork(job: Mapping[str, Any]) -> Fork:
    """A job as a fork; what it prints goes to `said` in its folder."""
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    variables = {**os.environ, **job.get("environment", {}), "TMPDIR": str(folder)}
    if "fault" in job:
        variables["FAULT"] = json.dumps({**job["fault"], "folder": str(folder)})
    return Fork(lambda: command(job["arguments"]), variables, folder / "said")


def main() -> None:
    if sys.argv[1:2] != ["--jobs"]:
        sys.exit(command(sys.argv[1:]))
    with contextlib.redirect_stdout(sys.stderr):
        fork_instead_of_starting()
    jobs = json.loads(Path(sys.argv[2]).read_text())
    together = [jobs] if sys.argv[3:] == ["together"] else [[job] for job in jobs]
    for group in together:
        for _ in range(TRIES):
            for job in group:
                shutil.rmtree(job["folder"], ignore_errors=True)
            started = [(start_fork(job), job) for job in group]
            ended = [
                watch(process, Path(job["folder"]), job.get("limit_of_each", LOOSE), job.get("resume_after"))
                for process, job in started
            ]
            if not any(found["paused"] for found in ended) or "limit_of_each" in group[0]:
                break
        for found in ended:
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
