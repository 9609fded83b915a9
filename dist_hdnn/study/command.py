"""`dist-hdnn study`: reads a study, runs what is left of it, writes tables, pictures and the report."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import dist_hdnn
from dist_hdnn.config.files import config_from
from dist_hdnn.launching.launcher import environment_of_runs
from dist_hdnn.launching.supervisor import cores
from dist_hdnn.plots.drawing import pictures
from dist_hdnn.study.inputs import changed, contents, differences
from dist_hdnn.study.optuna_search import OptunaSearch
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.report import LiveTable, write_report
from dist_hdnn.study.results import check_objectives, groups_of, rows_of, write_tables
from dist_hdnn.study.runner import Progress, Runner
from dist_hdnn.study.search import Both, Listed, Search
from dist_hdnn.study.trials import DONE, all_results, read_json, write_json


def run_study(
    plan: Plan, output: Path, command: str, retry_failed: bool = False, most: int | None = None
) -> dict[str, Any]:
    """Run what is left of a study and write its results into `output`; what became of it.

    command: the one that resumes this study, for the report. most: trials to run now (None: all that are left). Returns
    the counts of trials, of those left, too, and the paths written. A stopped study raises what stopped it; the table
    then holds every trial that has ended. Raises ValueError when the folder holds another study, and when no trial at
    all has ended well.
    """
    prepare_folder(plan, output)
    listed = Listed(plan.listed())
    earlier = all_results(output / "trials")
    listed.recall(result for result in earlier if result["status"] == DONE or not retry_failed)
    search: Search = Both(OptunaSearch(plan, output), listed) if plan.search == "optuna" else listed
    parallel = plan.parallel or max(1, cores() // (plan.base["workers"] or 1))
    checked = False

    with LiveTable(plan.name, plan.objectives) as table:

        def on_change(progress: Progress, result: dict[str, Any] | None) -> None:
            nonlocal checked
            if result is not None and result["status"] == DONE and not checked:
                check_objectives(result, plan.objectives)
                checked = True
            if result is not None and result in progress.last[-1:]:
                write_tables(output, rows_of(in_order(plan, all_results(output / "trials")), plan.axes))
            table.changed(progress, result)

        environment = environment_of_runs(cores() // parallel)
        start = {"git_commit": git_commit()}
        Runner(plan, output, search, parallel, environment, start, on_change, retry_failed, most).run()
    found = conclude(plan, output, command)
    return found | {"left": max(0, search.total - found["trials"])}


def conclude(plan: Plan, output: Path, command: str) -> dict[str, Any]:
    """Tables, pictures and report of the trials that have ended. Raises ValueError when none has ended well."""
    results = in_order(plan, all_results(output / "trials"))
    rows = rows_of(results, plan.axes)
    write_tables(output, rows)
    failed = [result for result in results if result["status"] != DONE]
    if len(failed) == len(results):
        first = f"; the first: {failed[0]['error']}" if failed else ""
        raise ValueError(f"study {plan.name}: all {len(failed)} trials failed{first}; see {output / 'results.csv'}")
    groups = groups_of(results)
    with pictures(output / "plots") as album:
        from dist_hdnn.study.plots import plot_study  # matplotlib, for which trials should not wait

        plot_study(plan, groups, album)
    report = write_report(plan, results, groups, album.drawn, output / "report.md", command)
    return {"trials": len(results), "failed": len(failed), "table": output / "results.csv", "report": report}


def in_order(plan: Plan, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results in the order of the study's trials; those that it does not list follow by their start."""
    place = {trial.id: number for number, trial in enumerate(plan.listed())}
    return sorted(results, key=lambda result: (place.get(result["id"], len(place)), str(result.get("started"))))


def prepare_folder(plan: Plan, output: Path) -> None:
    """Make the study's folder, or raise ValueError, one line, when it holds another study."""
    path = output / "study.json"
    own = {
        "name": plan.name,
        "base": plan.base,
        "search": plan.search,
        "seed": plan.seed,
        "objectives": dict(plan.objectives),
        "axes": [axis.name for axis in plan.axes],
    }
    files = contents(plan)
    if path.is_file():
        stored = read_json(path) or {}
        stored["base"] = dataclasses.asdict(
            config_from(stored.get("base", {}))
        )  # options that are newer than the study
        before = stored.pop("files", {})
        for key, old, now in differences(stored, own):
            raise ValueError(
                f"{output}: holds a study with {key} = {old!r}, but now it is {now!r}, so its trials cannot be "
                "compared; change it back, or give --output=DIR for a new study"
            )
        if other := changed(before, files):
            raise ValueError(
                f"{output}: holds a study of another {other}: that file has changed since, so the trials cannot be "
                "compared; change it back, or give --output=DIR for a new study"
            )
        if files.keys() - before.keys():  # an axis has more values
            write_json(path, {**own, "files": before | files})
        return
    try:
        if output.is_dir() and any(not entry.name.startswith("study.json") for entry in output.iterdir()):
            raise ValueError(f"output: expected a new folder or one that holds this study, got files in {output}")
        output.mkdir(parents=True, exist_ok=True)
        write_json(path, {**own, "files": files})
    except OSError as error:
        raise ValueError(f"output: expected a folder that can be written, got {output}: {error.strerror}") from error


def git_commit() -> str | None:
    """Commit of the checkout that this package is imported from, with -dirty when files differ; None without one."""
    folder = Path(dist_hdnn.__file__).resolve().parent

    def ask(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        if not ask("ls-files", "__init__.py"):
            return None
        return ask("rev-parse", "HEAD") + ("-dirty" if ask("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None
