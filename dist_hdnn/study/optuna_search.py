"""Multi-objective search by Optuna: asks for trials in the process of the study and tells it their results.

Several studies on one storage (SQLite or another database, or a journal file on a shared disk) share the budget of
trials. A trial that was asked for and not finished, because the study was stopped, is run again first.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from dist_hdnn.config.paths import user_path
from dist_hdnn.study.axes import Choice, Range, Trial, trial_of
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.trials import DONE

try:
    import optuna
    from optuna.storages.journal import JournalFileBackend
except ImportError:  # an extra
    optuna = None  # type: ignore[assignment]

FOLDER = "folder"  # attribute of an Optuna trial: the study folder that runs it


class OptunaSearch:
    """Trials that Optuna's multi-objective TPE sampler asks for.

    Raises ValueError when Optuna is not installed or its storage cannot be used.
    """

    def __init__(self, plan: Plan, output: Path) -> None:
        if optuna is None:
            raise ValueError(
                "search: optuna is not installed; pip install -e '.[study]' in the checkout, or use search: random"
            )
        self.plan, self.folder = plan, str(output.resolve())
        self.total = plan.trials or 0
        self.numbers: dict[str, list[int]] = defaultdict(list)  # of one config Optuna may ask twice
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions: list[Any] = list(plan.objectives.values())
        try:
            storage = _storage(plan.storage, output)
            self.study = optuna.create_study(
                study_name=plan.name, storage=storage, directions=[*directions], load_if_exists=True
            )
        except Exception as error:  # each database has errors of its own
            raise ValueError(f"storage: cannot use {plan.storage or output}: {error}") from error
        if [direction.name.lower() for direction in self.study.directions] != directions:
            raise ValueError(f"storage: holds study {plan.name} with other objectives; give this one another name")
        known = self.study.get_trials(deepcopy=False)
        self.study.sampler = optuna.samplers.TPESampler(seed=plan.seed + len(known))  # else it would repeat itself
        self.stopped = [
            trial
            for trial in known
            if trial.state == optuna.trial.TrialState.RUNNING and trial.user_attrs.get(FOLDER) == self.folder
        ]

    def next(self) -> Trial | None:
        """A stopped trial, else a new one while the budget lasts."""
        while self.stopped:
            left = self.stopped.pop(0)
            if len(left.params) == len(self.plan.axes):
                return self._noted(left.params, left.number)
            self.study.tell(left.number, state=optuna.trial.TrialState.FAIL)
        if len(self.study.get_trials(deepcopy=False)) >= self.total:
            return None
        asked = self.study.ask({axis.name: _distribution(axis) for axis in self.plan.axes})
        asked.set_user_attr(FOLDER, self.folder)
        return self._noted(asked.params, asked.number)

    def ended(self, trial: Trial, result: dict[str, Any]) -> None:
        """Tell Optuna the objectives of a trial that it asked for."""
        for number in self.numbers.pop(trial.id, []):
            values = [result.get("summary", {}).get(name) for name in self.plan.objectives]
            good = all(isinstance(value, int | float) and math.isfinite(value) for value in values)
            if result["status"] == DONE and good:
                self.study.tell(number, values)
            else:
                self.study.tell(number, state=optuna.trial.TrialState.FAIL)

    def _noted(self, params: dict[str, Any], number: int) -> Trial:
        trial = trial_of(self.plan.axes, params)
        self.numbers[trial.id].append(number)
        return trial


def _storage(given: str | None, output: Path) -> Any:
    if given is not None and "://" in given:
        return optuna.storages.RDBStorage(given)
    path = output / "optuna.journal" if given is None else user_path(given, "storage")
    path.parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.JournalStorage(JournalFileBackend(str(path)))


def _distribution(axis: Choice | Range) -> Any:
    if isinstance(axis, Choice):
        return optuna.distributions.CategoricalDistribution(list(axis.options))
    if axis.integer:
        return optuna.distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return optuna.distributions.FloatDistribution(float(axis.low), float(axis.high), log=axis.log)
