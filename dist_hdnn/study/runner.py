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
from dist_hdnn.launching.warm import Child, WarmProcess
from dist_hdnn.study.axes import Trial
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.search import Search
from dist_hdnn.study.trials import DONE, FAILED, TrialFolder

POLL = 0.1  # seconds between looks at the trials
ELSEWHERE = 2.0  # seconds between looks at a trial that another process runs
TRAIN = ("-m", "dist_hdnn", "train")  # the command to which a trial's config and run directory are added
IMPORTED = ("dist_hdnn.cli", "dist_hdnn.experiment.tasks", "dist_hdnn.experiment.pictures")  # before a trial starts
STOPPED = {-2, -15, -1, 130, 143, 129, 75}  # exit codes of trials that were told to stop and have not failed


@dataclass
class Running:
    """Trial under way. before: seconds that it ran in earlier sessions."""

    trial: Trial
    folder: TrialFolder
    process: Child
    epochs: int
    before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds so far, in all sessions."""
        return self.before + time.monotonic() - self.started


@dataclass
class Progress:
    """Progress of a study, for the live table.

    elsewhere: trials that another process runs, with the time of the next look. results: of this session and earlier
    ones, by the trial's name. last: results of this session, the newest last.
    """

    search: Search
    running: list[Running] = field(default_factory=list)
    elsewhere: dict[str, tuple[Trial, float]] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    last: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Runner:
    """Pool of processes that runs the trials of a search, `parallel` at once.

    environment: of the trials. start: recorded with every trial (the git commit). on_change: called with the progress
    and each new result, and with None while time passes. retry_failed: run trials again that failed in an earlier
    session. most: trials that this session runs, None for all; those of other processes are then not waited for.
    """

    plan: Plan
    output: Path
    search: Search
    parallel: int
    environment: Mapping[str, str]
    start: Mapping[str, Any]
    on_change: Callable[[Progress, dict[str, Any] | None], None]
    retry_failed: bool = False
    most: int | None = None

    def run(self) -> None:
        """Run until no trial is left, from the main thread. All trials end with it, whatever ends it."""
        self.progress, self.children = Progress(self.search), list[Child]()
        self.warm = WarmProcess(self.environment, IMPORTED)
        try:
            with ending(self.children):
                while self._fill() or self.progress.running or self.progress.elsewhere:
                    self._collect()
                    self.on_change(self.progress, None)
                    time.sleep(POLL)
        finally:
            for job in self.progress.running:
                job.folder.stopped(job.seconds)
            self.warm.close()

    def _fill(self) -> bool:
        """Start trials until enough are running. Returns False when none is left."""
        progress = self.progress
        while len(progress.running) < self.parallel:
            if self.most is not None and len(progress.running) + len(progress.last) >= self.most:
                progress.elsewhere.clear()
                return False
            due = [trial for trial, when in progress.elsewhere.values() if when < time.monotonic()]
            trial = due[0] if due else self.search.next()
            if trial is None:
                return False
            progress.elsewhere.pop(trial.id, None)
            self._take_up(trial)
        return True

    def _take_up(self, trial: Trial) -> None:
        folder = TrialFolder(self.output / "trials" / trial.id)
        if trial.id in self.progress.results:
            self.search.ended(self.progress.results[trial.id])
        elif any(job.trial.id == trial.id for job in self.progress.running):
            pass  # Optuna asked twice: one result for both
        elif (result := self._kept(folder)) is not None:
            self._note(result)
        elif not folder.claim():
            self.progress.elsewhere[trial.id] = (trial, time.monotonic() + ELSEWHERE)
        elif (result := self._kept(folder)) is not None:  # it ended between the look and the claim
            folder.release()
            self._note(result)
        elif folder.result() is None and folder.summary() is not None:  # the study was killed, the trial was not
            self._record(trial, folder, 0, None)
        else:
            self._start(trial, folder)

    def _kept(self, folder: TrialFolder) -> dict[str, Any] | None:
        result = folder.result()
        return None if result is not None and result["status"] == FAILED and self.retry_failed else result

    def _start(self, trial: Trial, folder: TrialFolder) -> None:
        assert folder.lock is not None, "only a claimed trial is started"
        start = {**self.start, "started": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            config = self.plan.config(trial)
            step, before = folder.left_after(config), folder.start()
            if folder.run.is_dir() and folder.result() is None:
                where = "starts again, as it left no checkpoint" if step is None else f"resumes after step {step}"
                print(f"{self.plan.name}: trial {trial.id} was stopped; it {where}", file=sys.stderr, flush=True)
            if step is not None:
                start |= {key: before[key] for key in ("started", "wall_seconds") if key in before}
                start["resumed_after_step"] = step
            path = folder.prepare(config, start, anew=step is None)
        except ValueError as error:  # a combination that Optuna chose
            self._finish(trial, folder, {"status": FAILED, "error": str(error), **self.start})
            return
        command = [*TRAIN, str(path), "--output", str(folder.run)]
        command += [] if step is None else ["--resume=auto"]
        with folder.output.open("wb" if step is None else "ab") as output:
            process: Child = self.warm.start(command, output.fileno(), folder.lock) or subprocess.Popen(
                [sys.executable, *command],
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
        """Record the end of a trial by the summary of its run."""
        summary = folder.summary() or {}
        good = code == 0 and summary.get("status") == DONE
        error = "" if good else folder.last_line() or summary.get("error") or how_it_ended(code)
        ended = {"status": DONE if good else FAILED, "error": error, "exit_code": code, "wall_seconds": seconds}
        self._finish(trial, folder, {**folder.start(), **ended, "summary": summary})

    def _finish(self, trial: Trial, folder: TrialFolder, ended: dict[str, Any]) -> None:
        """Write the result of a trial and release its lock."""
        result = folder.record(trial, ended)
        folder.release()
        self.progress.last.append(result)
        self._note(result)

    def _note(self, result: dict[str, Any]) -> None:
        self.progress.results[result["id"]] = result
        self.search.ended(result)
        self.on_change(self.progress, result)
