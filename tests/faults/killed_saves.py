"""Trainings that are killed while they save; a program, as it forks.

    python killed_saves.py FOLDER bytes|loop|calls REPETITIONS SEED     one line of JSON a repetition

bytes: after a good checkpoint the kernel kills the process (SIGXFSZ) at a random byte of a file. loop: SIGKILL at a
random time of a training that saves after every step. calls: SIGKILL before the nth call that changes names or syncs.
Each repetition then looks what is there, as a start with --resume=auto would, and goes on with that.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
from faults.small import STEPS, Setting, same, step_folder, trained  # noqa: E402

from dist_hdnn.training.checkpoints.manifest import read_manifest  # noqa: E402
from dist_hdnn.training.checkpoints.saver import PART  # noqa: E402
from dist_hdnn.training.checkpoints.weights_file import CheckpointError, newest_checkpoint  # noqa: E402

GOOD = 3  # the step of the checkpoint that is there before anything goes wrong
CALLS = ((os, "fsync"), (os, "replace"), (os, "rename"), (os, "mkdir"), (os, "unlink"), (shutil, "rmtree"))


def in_a_child(work: Callable[[], Any], kill_after: float | None = None) -> int:
    """The signal that ended a fork which does this, 0 if none did."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the training failed by itself"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def dies_at_byte(folder: Path, workers: int, byte: int) -> None:
    """Any file that is written past `byte` ends the process, from the first save on."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (byte, resource.RLIM_INFINITY))
    trained(folder, workers, Setting(every=3), step_folder(folder, GOOD), nonce="again")


def dies_before_call(folder: Path, workers: int, number: int) -> None:
    """SIGKILL before the nth call, counted over all threads."""
    calls = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for module, name in CALLS:
        setattr(module, name, counted(getattr(module, name)))
    trained(folder, workers, Setting(every=3, keep=1), step_folder(folder, GOOD), nonce="again")


def look(folder: Path) -> dict[str, Any]:
    """What a restart finds: the newest step, and how many leftovers."""
    try:
        newest = newest_checkpoint(folder)
    except CheckpointError as error:
        return {"newest": None, "error": str(error)}
    return {"newest": read_manifest(newest).step, "leftovers": len(list(folder.glob(f"*{PART}*")))}


def finish(folder: Path, workers: int, whole: Path) -> bool:
    """Go on with the newest: does it end as the undisturbed run?"""
    trained(folder, workers, Setting(every=3), newest_checkpoint(folder), nonce="last")
    return same(newest_checkpoint(folder), step_folder(whole, STEPS))


def main() -> None:
    base, how, times, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    random.seed(seed)
    for workers in (1, 2):  # here, so that all is imported; no thread is left when the first child is made
        trained(base / f"whole {workers}", workers, Setting(every=3))
    for turn in range(times):
        workers = 1 + turn % 2
        folder, whole = base / f"run {turn}", base / f"whole {workers}"
        good = step_folder(whole, GOOD)
        largest = max(path.stat().st_size for path in good.iterdir())
        shutil.copytree(good, folder / good.name)
        started = time.monotonic()
        if how == "bytes":
            at: float = random.randrange(largest)
            ended = in_a_child(lambda: dies_at_byte(folder, workers, int(at)))  # noqa: B023
        elif how == "calls":
            at = 1 + turn * 2 if times >= 40 else random.randrange(1, 40)
            ended = in_a_child(lambda: dies_before_call(folder, workers, int(at)))  # noqa: B023
        else:
            at = random.uniform(0.02, 0.4)
            setting = Setting(every=1, keep=2)
            ended = in_a_child(lambda: trained(folder, workers, setting, good, nonce="again"), at)  # noqa: B023
        found: dict[str, Any] = {"turn": turn, "workers": workers, "at": at, "signal": ended, **look(folder)}
        if found["newest"] is not None and turn < 4:
            code = in_a_child(lambda: finish(folder, workers, whole) or os._exit(1))  # noqa: B023
            found["same"] = code == 0
        print(json.dumps(found | {"seconds": time.monotonic() - started}), flush=True)


if __name__ == "__main__":
    main()
