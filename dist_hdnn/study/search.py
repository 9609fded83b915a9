"""Search of a study: the next trial, of a list or from Optuna, and the count of those that have ended.

Optuna's multi-objective search runs in the process of the study. Several studies on one storage (SQLite or another
database, or a journal file on a shared disk) share the budget of trials. A trial that was asked for and not finished is
run again first. A journal that a crash cut is mended, and no message shows the password of a database.
"""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dist_hdnn.config.paths import user_path
from dist_hdnn.study.axes import Choice, Range, Trial, trial_of
from dist_hdnn.study.inputs import common, extended
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.trials import DONE, FAILED

try:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
    from optuna.trial import TrialState
except ImportError:  # an extra
    optuna = None  # type: ignore[assignment]

SECRET = re.compile(r"(?:pass|pwd|secret|token|key)[^=&;]*=([^&;]+)", re.IGNORECASE)  # in the query of a URL
SHORTEST = 3  # characters of a secret that is masked wherever it stands
STUDY = "study"  # attribute of an Optuna study: the record of its inputs
FOLDER = "folder"  # attribute of an Optuna trial: the study folder that runs it
APART = "give this study another name, or another storage"


class Search:
    """Trials of a list, in its order, each once.

    total: trials of the whole study. done, failed: those of them that have ended, in this session or an earlier one.
    """

    def __init__(self, trials: Iterable[Trial]) -> None:
        self.left = deque({trial.id: trial for trial in trials}.values())
        self.open = {trial.id for trial in self.left}
        self.total, self.done, self.failed = len(self.left), 0, 0

    def next(self) -> Trial | None:
        """Return the next trial, None when there is none."""
        return self.left.popleft() if self.left else None

    def ended(self, result: dict[str, Any]) -> None:
        """Count a trial that ended, now or in an earlier session; result: see `TrialFolder.record`."""
        if result["id"] in self.open:
            self.open.remove(result["id"])
            self.count(result)

    def count(self, result: dict[str, Any], times: int = 1) -> None:
        """Count a result. times: how often the search had asked for the trial."""
        self.done += times
        self.failed += times * (result["status"] == FAILED)


class OptunaSearch(Search):
    """Trials that Optuna's multi-objective TPE sampler asks for, then the baselines.

    files: hashes of the study's inputs. Raises ValueError when Optuna is not installed or its storage cannot be used,
    now or later.
    """

    def __init__(self, plan: Plan, output: Path, files: Mapping[str, str]) -> None:
        if optuna is None:
            raise ValueError("search: optuna is not installed; pip install optuna, or use search: random")
        super().__init__(plan.listed())
        self.plan, self.budget = plan, plan.trials or 0
        self.output, self.folder = output, str(output.resolve())
        self.numbers: dict[str, list[int]] = defaultdict(list)  # of one config Optuna may ask twice
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions: list[Any] = list(plan.objectives.values())
        with self._storage_errors():
            self.study = optuna.create_study(
                study_name=plan.name,
                storage=open_storage(plan.storage, output),
                directions=[*directions],
                load_if_exists=True,
            )
        if [direction.name.lower() for direction in self.study.directions] != directions:
            raise ValueError(f"storage: holds study {plan.name} with other objectives; give this one another name")
        self._check_inputs(files)
        asked = self._asked()
        self._check_options(asked)
        self.study.sampler = optuna.samplers.TPESampler(seed=plan.seed + len(asked))  # else it would repeat itself
        for trial in asked:
            self.done += trial.state in (TrialState.COMPLETE, TrialState.FAIL)
            self.failed += trial.state == TrialState.FAIL
        self.total += self.budget
        shared = plan.storage is not None  # then other folders may run stopped trials
        self.stopped = [
            trial
            for trial in asked
            if trial.state == TrialState.RUNNING and (not shared or trial.user_attrs.get(FOLDER) == self.folder)
        ]

    def next(self) -> Trial | None:
        """Return a stopped trial, else a new one while the budget lasts, else a baseline."""
        if self.stopped:
            trial = self.stopped.pop(0)
        elif len(self._asked()) >= self.budget:
            return super().next()
        else:
            with self._storage_errors():
                trial = self.study.ask({axis.name: _distribution(axis) for axis in self.plan.axes})
                trial.set_user_attr(FOLDER, self.folder)
        own = trial_of(self.plan.axes, trial.params)
        self.numbers[own.id].append(trial.number)
        return own

    def ended(self, result: dict[str, Any]) -> None:
        """Count a trial that ended, and tell Optuna the objectives if it asked for it."""
        super().ended(result)
        numbers = self.numbers.pop(result["id"], [])
        self.count(result, len(numbers))
        values = [result.get("summary", {}).get(name) for name in self.plan.objectives]
        good = all(isinstance(value, int | float) and math.isfinite(value) for value in values)
        for number in numbers:
            with self._storage_errors():
                if result["status"] == DONE and good:
                    self.study.tell(number, values)
                else:
                    self.study.tell(number, state=TrialState.FAIL)

    def _check_inputs(self, files: Mapping[str, str]) -> None:
        """Raise ValueError for a stored study of other data or options, from whose trials Optuna would learn."""
        with self._storage_errors():
            stored = self.study.user_attrs.get(STUDY)
        record = {"base": self.plan.base, "objectives": dict(self.plan.objectives), "files": dict(files)}
        if stored is not None:
            record = extended(stored, record, f"storage: holds study {self.plan.name}", APART, common)
        if record != stored:
            with self._storage_errors():
                self.study.set_user_attr(STUDY, record)

    def _check_options(self, asked: list[Any]) -> None:
        """Raise ValueError for an axis with other options than in a stored trial."""
        for axis in self.plan.axes:
            options = list(axis.options) if isinstance(axis, Choice) else []
            for trial in asked if options else []:
                stored = list(getattr(trial.distributions[axis.name], "choices", ()))
                if stored != options:
                    raise ValueError(
                        f"storage: expected the values {', '.join(map(str, stored))} of axis {axis.name} as in study "
                        f"{self.plan.name}, got {', '.join(map(str, options))}; Optuna cannot change them: {APART}"
                    )

    def _asked(self) -> list[Any]:
        """Return Optuna's trials, without those that a crash left with fewer options than axes."""
        with self._storage_errors():
            trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if len(trial.params) == len(self.plan.axes)]

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        """Make one line, without a password, of any error of a storage: each database has errors of its own."""
        try:
            yield
        except Exception as error:
            text = f"storage: cannot use {self.plan.storage or self.output}: {' '.join(str(error).split())}"
            raise ValueError(masked(text, self.plan.storage)) from None


def _distribution(axis: Choice | Range) -> Any:
    if isinstance(axis, Choice):
        return optuna.distributions.CategoricalDistribution(list(axis.options))
    if axis.integer:
        return optuna.distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return optuna.distributions.FloatDistribution(float(axis.low), float(axis.high), log=axis.log)


def masked(text: str, storage: str | None) -> str:
    """Return text with *** for every password of a storage URL: between user and host, and in the query."""
    url = storage if storage is not None and "://" in storage else ""
    secrets = re.findall(r"://[^:/@]*:(.+)@", url) + SECRET.findall(url.partition("?")[2])
    for secret in sorted({one for word in secrets for one in (word, unquote(word))}, key=len, reverse=True):
        if len(secret) >= SHORTEST:
            text = text.replace(secret, "***")
    return re.sub(r"(\w://[^:/@\s]*):[^@\s]+@", r"\1:***@", text)


def open_storage(storage: str | None, output: Path) -> Any:
    """Open the storage that a study file names, by default a journal file in the study's folder."""
    if storage is not None and "://" in storage:
        return optuna.storages.RDBStorage(storage)
    path = output / "optuna.journal" if storage is None else user_path(storage, "storage")
    path.parent.mkdir(parents=True, exist_ok=True)
    backend = JournalFileBackend(str(path))
    mend_journal(path)
    return optuna.storages.JournalStorage(backend)


def mend_journal(path: Path) -> None:
    """Drop the last line of a journal if a crash cut it, with a warning; its step is done again.

    Raises ValueError for a damaged line before the last.
    """
    if _damage(path.read_bytes()) is None:
        return
    lock = JournalFileSymlinkLock(str(path))  # another process of the study may be in the midst of a line
    lock.acquire()
    try:
        data = path.read_bytes()
        start = _damage(data)
        if start is None:
            return
        number, last = data[:start].count(b"\n") + 1, data.count(b"\n") + (not data.endswith(b"\n"))
        if number < last:
            raise ValueError(
                f"{path}: expected a line of JSON for each step of the search, got a damaged line {number} of {last}; "
                "remove that line, or give another storage"
            )
        with path.open("rb+") as file:
            file.truncate(start)
            file.flush()
            os.fsync(file.fileno())
        text = f"storage: dropped line {number} of {path}, which a crash had cut; the study resumes without it"
        warnings.warn(text, UserWarning, stacklevel=3)
    finally:
        lock.release()


def _damage(data: bytes) -> int | None:
    """Return the place of the first line that is not whole, None when all are."""
    start = 0
    for line in data.splitlines(keepends=True):
        with suppress(ValueError):
            if line.endswith(b"\n") and isinstance(json.loads(line), dict):
                start += len(line)
                continue
        return start
    return None
