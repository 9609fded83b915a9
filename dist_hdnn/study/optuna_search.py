"""Multi-objective search by Optuna, which is asked for trials and told their results in the process of the study.

Several studies on one storage (SQLite or another database, or a journal file on a shared disk) share the budget of
trials. A trial that was asked for and not finished is run again first. A journal that a crash cut is mended, and no
message shows the password of a database.
"""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dist_hdnn.config.paths import user_path
from dist_hdnn.study.axes import Choice, Range, Trial, trial_of
from dist_hdnn.study.inputs import changed, common, contents, differences
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.search import Tally
from dist_hdnn.study.trials import DONE

try:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
except ImportError:  # an extra
    optuna = None  # type: ignore[assignment]

SECRET = re.compile(r"(?:pass|pwd|secret|token|key)[^=&;]*=([^&;]+)", re.IGNORECASE)  # in the query of a URL
SHORTEST = 3  # characters of a secret that is looked for wherever it stands


def masked(text: str, storage: str | None) -> str:
    """The text with *** for every password of a storage URL: between user and host, and in the query."""
    given = storage if storage is not None and "://" in storage else ""
    found = re.findall(r"://[^:/@]*:(.+)@", given) + SECRET.findall(given.partition("?")[2])
    for secret in sorted({one for word in found for one in (word, unquote(word))}, key=len, reverse=True):
        if len(secret) >= SHORTEST:
            text = text.replace(secret, "***")
    return re.sub(r"(\w://[^:/@\s]*):[^@\s]+@", r"\1:***@", text)


def open_storage(given: str | None, output: Path) -> Any:
    """The storage that a study file names, or a journal file in the study's folder."""
    if given is not None and "://" in given:
        return optuna.storages.RDBStorage(given)
    path = output / "optuna.journal" if given is None else user_path(given, "storage")
    path.parent.mkdir(parents=True, exist_ok=True)
    backend = JournalFileBackend(str(path))
    mend_journal(path)
    return optuna.storages.JournalStorage(backend)


def mend_journal(path: Path) -> None:
    """Drop the last line of a journal when a crash cut it, with a warning; what it noted is done again.

    Raises ValueError for a line that is damaged before the last.
    """
    if _whole(path.read_bytes()) is None:
        return
    lock = JournalFileSymlinkLock(str(path))  # others of the study may be writing; a line is whole once they let go
    lock.acquire()
    try:
        data = path.read_bytes()
        kept = _whole(data)
        if kept is None:
            return
        lines = data[kept:].count(b"\n") + (not data.endswith(b"\n"))
        number = data[:kept].count(b"\n") + 1
        if lines > 1:
            raise ValueError(
                f"{path}: expected a line of JSON for each step of the search, got a damaged line {number} of "
                f"{number + lines - 1}; remove that line, or give another storage"
            )
        with path.open("rb+") as file:
            file.truncate(kept)
            file.flush()
            os.fsync(file.fileno())
        warnings.warn(
            f"storage: dropped line {number} of {path}, which a crash had cut; the study resumes without it",
            UserWarning,
            stacklevel=3,
        )
    finally:
        lock.release()


def _whole(data: bytes) -> int | None:
    """Bytes before the first line that is not whole; None when all are."""
    start = 0
    for line in data.splitlines(keepends=True):
        with suppress(ValueError):
            if line.endswith(b"\n") and isinstance(json.loads(line), dict):
                start += len(line)
                continue
        return start
    return None


STUDY = "study"  # attribute of an Optuna study: what its trials have in common
FOLDER = "folder"  # attribute of an Optuna trial: the study folder that runs it


class OptunaSearch:
    """Trials that Optuna's multi-objective TPE sampler asks for.

    Raises ValueError when Optuna is not installed or its storage cannot be used, now or later.
    """

    def __init__(self, plan: Plan, output: Path) -> None:
        if optuna is None:
            raise ValueError("search: optuna is not installed; pip install optuna, or use search: random")
        self.plan, self.output, self.folder = plan, output, str(output.resolve())
        self.total, self.tally = plan.trials or 0, Tally()
        self.numbers: dict[str, list[int]] = defaultdict(list)  # of one config Optuna may ask twice
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions: list[Any] = list(plan.objectives.values())
        with self._storage_errors():
            storage = open_storage(plan.storage, output)
            self.study = optuna.create_study(
                study_name=plan.name, storage=storage, directions=[*directions], load_if_exists=True
            )
        if [direction.name.lower() for direction in self.study.directions] != directions:
            raise ValueError(f"storage: holds study {plan.name} with other objectives; give this one another name")
        self._check_common()
        known = self._asked()
        self.study.sampler = optuna.samplers.TPESampler(seed=plan.seed + len(known))  # else it would repeat itself
        states = [trial.state for trial in known]
        failed = states.count(optuna.trial.TrialState.FAIL)
        self.tally = Tally(states.count(optuna.trial.TrialState.COMPLETE) + failed, failed)
        self._check_words(known)
        self.stopped = [
            trial for trial in known if trial.state == optuna.trial.TrialState.RUNNING and self._is_own(trial)
        ]

    def next(self) -> Trial | None:
        """A stopped trial, else a new one while the budget lasts."""
        if self.stopped:
            left = self.stopped.pop(0)
            return self._noted(left.params, left.number)
        if len(self._asked()) >= self.total:
            return None
        with self._storage_errors():
            asked = self.study.ask({axis.name: _distribution(axis) for axis in self.plan.axes})
            asked.set_user_attr(FOLDER, self.folder)
            return self._noted(asked.params, asked.number)

    def ended(self, trial: Trial, result: dict[str, Any]) -> None:
        """Tell Optuna the objectives of a trial that it asked for."""
        numbers = self.numbers.pop(trial.id, [])
        self.tally.note(result, len(numbers))
        for number in numbers:
            values = [result.get("summary", {}).get(name) for name in self.plan.objectives]
            good = all(isinstance(value, int | float) and math.isfinite(value) for value in values)
            with self._storage_errors():
                if result["status"] == DONE and good:
                    self.study.tell(number, values)
                else:
                    self.study.tell(number, state=optuna.trial.TrialState.FAIL)

    def _check_common(self) -> None:
        """Raise ValueError for a stored study of other data or options: Optuna would take its trials for ours."""
        with self._storage_errors():
            there = self.study.user_attrs.get(STUDY)
        objectives, files = dict(self.plan.objectives), contents(self.plan)
        if there is None:
            own = {"base": self.plan.base, "objectives": objectives, "files": files}
            with self._storage_errors():
                self.study.set_user_attr(STUDY, own)
            return
        before = {"objectives": there["objectives"], **common(there["base"])}
        found = [f"{key} = {old!r}, not {new!r}" for key, old, new in differences(before, self._common(objectives))]
        if other := changed(there["files"], files):
            found.append(f"another {other}")
        if found:
            raise ValueError(
                f"storage: holds study {self.plan.name} with {found[0]}, so its trials cannot be compared; give this "
                "study another name, or another storage"
            )

    def _check_words(self, known: list[Any]) -> None:
        """Raise ValueError for an axis of other words than in a stored trial: Optuna cannot take more of them."""
        for axis in self.plan.axes:
            options = list(axis.options) if isinstance(axis, Choice) else []
            for trial in known if options else []:
                stored = list(getattr(trial.distributions[axis.name], "choices", ()))
                if stored != options:
                    raise ValueError(
                        f"storage: expected the values {', '.join(map(str, stored))} of axis {axis.name} as in study "
                        f"{self.plan.name}, got {', '.join(map(str, options))}; Optuna cannot change them: give this "
                        "study another name, or another storage"
                    )

    def _common(self, objectives: dict[str, str]) -> dict[str, Any]:
        return {"objectives": objectives, **common(json.loads(json.dumps(self.plan.base)))}

    def _asked(self) -> list[Any]:
        """Optuna's trials with all their options; a crash may have left one with fewer, which is no trial."""
        with self._storage_errors():
            return [
                trial for trial in self.study.get_trials(deepcopy=False) if len(trial.params) == len(self.plan.axes)
            ]

    def _is_own(self, trial: Any) -> bool:
        """Whether this study's folder runs the trial; a journal of its own has no others."""
        return self.plan.storage is None or trial.user_attrs.get(FOLDER) == self.folder

    def _noted(self, params: dict[str, Any], number: int) -> Trial:
        trial = trial_of(self.plan.axes, params)
        self.numbers[trial.id].append(number)
        return trial

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        """Make one line of whatever a storage raises, without its password: each database has errors of its own."""
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
