"""Run the trials of a study as processes, several at once. Stopping the study ends them and loses no result."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dist_hdnn.launching.supervisor import ending, how_it_ended
from dist_hdnn.study.axes import Trial
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.search import Search
from dist_hdnn.study.trials import DONE, FAILED, TrialFolder

POLL = 0.1  # seconds between looks at the trials
ELSEWHERE = 2.0  # seconds between looks at a trial that another process runs
TRAIN = ("-m", "dist_hdnn", "train")  # what the config and the run directory of a trial come after
STOPPED = {-2, -15, -1, 130, 143, 129, 75}  # a trial that was told to stop has not failed


@dataclass
class Running:
    """A trial under way."""

    trial: Trial
    folder: TrialFolder
    process: subprocess.Popen[bytes]
    epochs: int
    before: float = 0.0
    """seconds that it has run in earlier sessions"""
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """So far, in all sessions."""
        return self.before + time.monotonic() - self.started


@dataclass
class Progress:
    """Where a study is; what the live table shows."""

    search: Search
    running: list[Running] = field(default_factory=list)
    elsewhere: dict[str, tuple[Trial, float]] = field(default_factory=dict)
    """trials that another process runs, and when to look again"""
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """by the trial's name, of this session and earlier ones"""
    last: list[dict[str, Any]] = field(default_factory=list)
    """results of this session, the newest last"""

    @property
    def total(self) -> int:
        """Trials of the whole study."""
        return self.search.total

    @property
    def done(self) -> int:
        """Trials that have ended, in this session or an earlier one, well or not."""
        return self.search.tally.done

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return self.search.tally.failed


Listener = Callable[[Progress, dict[str, Any] | None], None]


@dataclass
class Runner:
    """Runs the trials that a search gives, `parallel` at once.

    environment: of the trials. start: recorded with every trial (the git commit). retry_failed: run trials again that
    failed in an earlier session. most: trials that this session runs, None for all that are left; those of
    other processes are then not waited for. on_change: called with the progress and with each new result, and while
    time passes.
    """

    plan: Plan
    output: Path
    search: Search
    parallel: int
    environment: Mapping[str, str]
    start: Mapping[str, Any]
    on_change: Listener
    retry_failed: bool = False
    most: int | None = None
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self) -> Progress:
        """Run until no trial is left; call it from the main thread. All trials end with it, whatever ends it."""
        self.progress = Progress(self.search)
        try:
            with ending(self.children):
                while self._fill() or self.progress.running or self.progress.elsewhere:
                    self._collect()
                    self.on_change(self.progress, None)
                    time.sleep(POLL)
        finally:
            for job in self.progress.running:
                job.folder.stopped(job.seconds)
        return self.progress

    def _fill(self) -> bool:
        """Start trials until enough are running. Returns False when none is left."""
        while len(self.progress.running) < self.parallel:
            now = time.monotonic()
            if self.most is not None and len(self.progress.running) + len(self.progress.last) >= self.most:
                self.progress.elsewhere.clear()
                return False
            again = [trial for trial, when in self.progress.elsewhere.values() if when < now]
            trial = again[0] if again else self.search.next()
            if trial is None:
                return False
            self.progress.elsewhere.pop(trial.id, None)
            self._take_up(trial)
        return True

    def _take_up(self, trial: Trial) -> None:
        folder = TrialFolder(self.output / "trials" / trial.id)
        if trial.id in self.progress.results:
            self.search.ended(trial, self.progress.results[trial.id])
            return
        if any(job.trial.id == trial.id for job in self.progress.running):  # Optuna asked twice: one result for both
            return
        if (result := self._kept(folder)) is not None:
            self._note(trial, result, new=False)
        elif not folder.claim():
            self.progress.elsewhere[trial.id] = (trial, time.monotonic() + ELSEWHERE)
        elif (result := self._kept(folder)) is not None:  # it ended between the look and the claim
            folder.release()
            self._note(trial, result, new=False)
        elif folder.result() is None and folder.summary() is not None:  # the study was killed, the trial was not
            self._record(trial, folder, 0, None)
        else:
            self._start(trial, folder)

    def _kept(self, folder: TrialFolder) -> dict[str, Any] | None:
        result = folder.result()
        return None if result is not None and result["status"] == FAILED and self.retry_failed else result

    def _start(self, trial: Trial, folder: TrialFolder) -> None:
        assert folder.lock is not None, "only a claimed trial is started"
        try:
            config = self.plan.config(trial)
            step, before = folder.left_after(config), folder.start()
            self._say_where(folder, step)
            start = {**self.start, "started": datetime.now(UTC).isoformat(timespec="seconds")}
            if step is not None:
                start |= {key: before[key] for key in ("started", "wall_seconds") if key in before}
                start["resumed_after_step"] = step
            path = folder.prepare(config, start, anew=step is None)
        except ValueError as error:  # a combination that Optuna found
            self._note(trial, folder.record(trial, {"status": FAILED, "error": str(error), **self.start}), new=True)
            folder.release()
            return
        command = [sys.executable, *TRAIN, str(path), "--output", str(folder.run)]
        command += [] if step is None else ["--resume=auto"]
        with folder.output.open("wb" if step is None else "ab") as output:
            process = subprocess.Popen(
                command,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[folder.lock],
            )
        self.children.append(process)
        seconds = start.get("wall_seconds") or 0.0
        self.progress.running.append(Running(trial, folder, process, config.train.epochs, seconds))

    def _say_where(self, folder: TrialFolder, step: int | None) -> None:
        """Say where a stopped trial starts now."""
        if folder.run.is_dir() and folder.result() is None:
            where = "starts again, as it left no checkpoint" if step is None else f"resumes after step {step}"
            print(f"{self.plan.name}: trial {folder.path.name} was stopped; it {where}", file=sys.stderr, flush=True)

    def _collect(self) -> None:
        """Record the trials that have ended."""
        for job in list(self.progress.running):
            code = job.process.poll()
            if code is None:
                continue
            self.progress.running.remove(job)
            self.children.remove(job.process)
            if code in STOPPED:
                job.folder.stopped(job.seconds)
            else:
                self._record(job.trial, job.folder, code, job.seconds)

    def _record(self, trial: Trial, folder: TrialFolder, code: int, seconds: float | None) -> None:
        """Record the end of a trial whose lock is ours, and release the lock."""
        summary = folder.summary() or {}
        good = code == 0 and summary.get("status") == DONE
        error = "" if good else folder.last_line() or summary.get("error") or how_it_ended(code)
        ended = {"status": DONE if good else FAILED, "error": error, "exit_code": code, "wall_seconds": seconds}
        result = folder.record(trial, {**folder.start(), **ended, "summary": summary})
        folder.release()
        self._note(trial, result, new=True)

    def _note(self, trial: Trial, result: dict[str, Any], new: bool) -> None:
        self.progress.results[trial.id] = result
        if new:
            self.progress.last.append(result)
        self.search.ended(trial, result)
        self.on_change(self.progress, result)
