"""The command `dist-hdnn study`, from the plan to tables, pictures and the report."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import dist_hdnn
from dist_hdnn.launching.launcher import environment_of_runs
from dist_hdnn.launching.supervisor import cores
from dist_hdnn.plots.drawing import pictures
from dist_hdnn.study.inputs import prepare_folder
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.report import LiveTable, write_report
from dist_hdnn.study.results import check_objectives, groups_of, rows_of, write_tables
from dist_hdnn.study.runner import Progress, Runner
from dist_hdnn.study.search import OptunaSearch, Search
from dist_hdnn.study.trials import DONE, all_results


def run_study(
    plan: Plan, output: Path, command: str, retry_failed: bool = False, most: int | None = None
) -> dict[str, Any]:
    """Run the trials of a study that are left and write its results into `output`.

    command: the one that resumes this study, for the report. most: trials to run now (None: all that are left). Returns
    the counts of trials, of failed ones and of those left, and the paths written. A stopped study raises what stopped
    it, and the table then holds every trial that has ended. Raises ValueError when the folder holds another study, and
    when no trial at all has ended well.
    """
    files = prepare_folder(plan, output)
    search = OptunaSearch(plan, output, files) if plan.search == "optuna" else Search(plan.listed())
    for result in all_results(output / "trials"):
        if result["status"] == DONE or not retry_failed:
            Search.ended(search, result)  # Optuna's own trials are counted by its storage
    parallel = plan.parallel or max(1, cores() // (plan.base["workers"] or 1))
    checked = False

    table = LiveTable(plan.name, plan.objectives)

    def on_change(progress: Progress, result: dict[str, Any] | None) -> None:
        nonlocal checked
        if result is not None and result["status"] == DONE and not checked:
            check_objectives(result, plan.objectives)
            checked = True
        if result is not None and result in progress.last[-1:]:
            write_tables(output, rows_of(ordered_results(plan, output), plan.axes))
        table.changed(progress, result)

    environment = environment_of_runs(cores() // parallel)
    start = {"git_commit": git_commit()}
    with table:
        Runner(plan, output, search, parallel, environment, start, on_change, retry_failed, most).run()
    outcome = conclude(plan, output, command)
    return outcome | {"left": max(0, search.total - outcome["trials"])}


def conclude(plan: Plan, output: Path, command: str) -> dict[str, Any]:
    """Write tables, pictures and report of the trials that have ended. Raises ValueError when none has ended well."""
    results = ordered_results(plan, output)
    write_tables(output, rows_of(results, plan.axes))
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


def ordered_results(plan: Plan, output: Path) -> list[dict[str, Any]]:
    """Return the results in the order of the study's trials, those of Optuna's trials after them by their start."""
    place = {trial.id: number for number, trial in enumerate(plan.listed())}
    return sorted(
        all_results(output / "trials"),
        key=lambda result: (place.get(result["id"], len(place)), str(result.get("started"))),
    )


def git_commit() -> str | None:
    """Return the commit of this package's checkout, with -dirty when files differ, None without a checkout."""
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
