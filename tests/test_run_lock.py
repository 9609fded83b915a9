"""A run that a living process works on is not taken by another; one whose process was killed is."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dist_hdnn.cli import COMMANDS
from dist_hdnn.command_line import with_config_of_run
from dist_hdnn.config import Config
from dist_hdnn.config.files import read_config
from dist_hdnn.experiment import resume, tasks
from dist_hdnn.run.directory import finished, lock_holder, prepare_run_directory, take_lock

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("--data.samples=40", "--train.epochs=1", "--network.layers=1", "--train.batch_size=10", "--plots=false")
SHORT = (*SMALL, "--resume=auto")
HOLD = """
import sys, time; from pathlib import Path; from dist_hdnn.run.directory import take_lock
held = take_lock(Path(sys.argv[1])); print("held", flush=True); time.sleep(600)
"""

Hold = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Starts a process that works on a run until it is killed."""
    holders = []

    def start(directory: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(directory)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        holders.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
        assert holders[-1].stdout is not None and holders[-1].stdout.readline() == "held\n"
        return holders[-1]

    yield start
    for process in holders:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return read_config(None, SHORT)


def words_of(given: list[str]) -> list[str]:
    """The words of `train`, with the CONFIG that they mean."""
    return with_config_of_run(COMMANDS["train"].read(given))


def test_a_killed_process_holds_nothing(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path)
    assert take_lock(tmp_path) is None and str(process.pid) in lock_holder(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with take_lock(tmp_path) or pytest.fail("still held"):
        assert take_lock(tmp_path) is None and str(os.getpid()) in lock_holder(tmp_path)
    (take_lock(tmp_path) or pytest.fail("not given back")).close()


def test_auto_takes_the_newest_run_that_no_living_process_holds(config: Config, hold: Hold) -> None:
    older, newer = (prepare_run_directory(config) for _ in range(2))
    assert older < newer
    process = hold(newer)
    with pytest.warns(UserWarning, match=f"{newer.name} is left to process {process.pid} on ") as told:
        assert tasks.train(config) == older
    assert len(told) == 1 and finished(older) and not finished(newer)
    with pytest.warns(UserWarning, match="is left to"):
        assert tasks.train(config) not in (older, newer)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert tasks.train(config) == newer


def test_a_run_asked_for_by_name_is_waited_for_then_refused(
    config: Config, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.output, config.timeout = str(prepare_run_directory(config)), 0.5
    process = hold(Path(config.output))
    with (
        pytest.warns(UserWarning, match=f"waits up to 0 s for process {process.pid}"),
        pytest.raises(ValueError, match=f"nobody works on, got {config.output}, which process {process.pid}"),
    ):
        tasks.train(config)

    def ends(seconds: float) -> None:
        process.kill()
        process.wait()

    config.timeout = 60.0
    monkeypatch.setattr(resume.time, "sleep", ends)
    with pytest.warns(UserWarning, match="waits up to 48 s"):
        assert tasks.train(config) == Path(config.output)


def test_where_a_file_system_has_no_locks_nobody_holds_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    for _ in range(2):
        assert take_lock(tmp_path) is not None


def test_a_run_that_fails_gives_its_lock_back(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("on purpose")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="on purpose"):
        patched.setattr(tasks, "train_model", failing)
        tasks.train(config)
    (run,) = Path("runs/run").iterdir()
    assert tasks.train(config) == run.resolve()


def test_resume_auto_alone_goes_on_with_the_newest_unfinished_run(config: Config, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected an unfinished run below runs/ to resume, got none"):
        words_of(["--resume=auto"])
    older, newer = tmp_path / "runs" / "b" / "20260101T000000Z-s0", tmp_path / "runs" / "a" / "20260102T000000Z-s0"
    for run in (older, newer):
        run.mkdir(parents=True)
        (run / "config.yaml").write_text("name: a\n")
    chosen = words_of(["--resume=auto", "--workers=2", "--partition.method=metis"])
    assert chosen == [str(newer / "config.yaml").replace(f"{tmp_path}/", ""), *chosen[1:]]
    (newer / "summary.json").write_text('{"status": "done"}')
    assert str(older.relative_to(tmp_path)) in words_of(["--resume=auto"])[0]
    for given in (["--resume=auto", "--seed=1"], ["config.yaml", "--resume=auto"], ["--resume=auto", "--output=new"]):
        assert words_of(given) == given
