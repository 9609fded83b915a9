"""Report of a study: report.md, and before it progress on stderr, a live table on a terminal or a line per trial."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.console import Group as Stack
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dist_hdnn.study.axes import Choice, label_of
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.results import (
    OF_TEST_DATA,
    QUANTITIES,
    SPREAD,
    Group,
    figure,
    pareto_front,
    quantity,
    spoken,
    words,
)
from dist_hdnn.study.runner import Progress
from dist_hdnn.study.trials import DONE, FAILED, replacing

SHOWN = 8  # of the newest results
REFRESH = 0.5  # seconds


class LiveTable(Live):
    """Progress of a study on stderr: a table on a terminal, elsewhere a line per trial. A `Runner` calls `changed`."""

    def __init__(self, name: str, objectives: Iterable[str]) -> None:
        self.name, self.begun, self.drawn, self.terminal = name, time.monotonic(), 0.0, sys.stderr.isatty()
        self.shown = list(dict.fromkeys([*objectives, "parameters"]))
        super().__init__(console=Console(stderr=True, quiet=not self.terminal), auto_refresh=False)

    def changed(self, progress: Progress, result: dict[str, Any] | None) -> None:
        """Show that a trial has ended, or that time has passed (None)."""
        if self.terminal and (result is not None or time.monotonic() - self.drawn > REFRESH):
            self.drawn = time.monotonic()
            self.update(self.table(progress), refresh=True)
        if not self.terminal and result is not None and progress.last and result is progress.last[-1]:
            place = f"trial {progress.search.done}/{progress.search.total}"
            figures = [spoken(name, number) for name, number in self._numbers(result).items() if number is not None]
            end = [f"failed: {result['error']}"] if result["status"] == FAILED else figures
            line = "  ".join([place, words(result["baseline"], result["values"]), *end])
            print(f"{self.name}: {line}", file=sys.stderr, flush=True)

    def _numbers(self, result: dict[str, Any]) -> dict[str, Any]:
        """Return objectives and parameters of a trial that has ended."""
        return {name: result.get("summary", {}).get(name) for name in self.shown}

    def table(self, progress: Progress) -> Stack:
        """Return the view of a terminal: counts, a bar, the newest results and the trials under way."""
        done, total = progress.search.done, progress.search.total
        minutes, seconds = divmod(int(time.monotonic() - self.begun), 60)
        counts = f"{self.name}  {done} of {total} trials, {progress.search.failed} failed  {minutes}:{seconds:02d}"
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("trial", "state", *(quantity(name).heading for name in self.shown)):
            table.add_column(column, justify="left" if column in ("trial", "state") else "right", no_wrap=True)
        for result in progress.last[-SHOWN:]:
            state = Text(result["status"], style="red" if result["status"] == FAILED else "green")
            figures = ["" if number is None else figure(name, number) for name, number in self._numbers(result).items()]
            table.add_row(Text(words(result["baseline"], result["values"])), state, *figures)
        for job in progress.running:
            epoch = Text(f"epoch {job.folder.epochs()}/{job.epochs}", style="cyan")
            table.add_row(Text(words(job.trial.baseline, job.trial.values)), epoch)
        for trial, _ in progress.elsewhere.values():
            table.add_row(Text(words(trial.baseline, trial.values)), Text("another process", style="dim"))
        bar = Table.grid()  # a bar alone does not end its line
        bar.add_row(ProgressBar(total, done, width=40))
        return Stack(Text(counts, style="bold"), bar, table)


def write_report(
    plan: Plan,
    results: Sequence[Mapping[str, Any]],
    groups: Sequence[Group],
    plots: Sequence[Path],
    path: Path,
    command: str,
) -> Path:
    """Write report.md beside the tables, and return its path."""
    failed = [result for result in results if result["status"] != DONE]
    lines = [f"# Study {plan.name}", "", *_origin(plan, results, command), ""]
    lines += ["## Results", "", "Mean ± standard deviation over seeds; n is their number.", ""]
    lines += [*_table(plan, groups), "", *_parted(groups), *_front(plan, groups), ""]
    if plots:
        lines += ["## Pictures", ""]
        lines += [f"![{plot.stem}]({os.path.relpath(plot, path.parent)})" for plot in plots] + [""]
    if failed:
        lines += ["## Failed trials", ""]
        lines += [f"- {words(each['baseline'], each['values'])}: {each['error']}" for each in failed] + [""]
    lines += ["All trials, one row each, are in `results.csv`; each trial's config and run are below `trials/`."]
    with replacing(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _origin(plan: Plan, results: Sequence[Mapping[str, Any]], command: str) -> list[str]:
    """Write the command, the counts, axes and baselines, the time and the versions."""
    done = [result for result in results if result["status"] == DONE]
    seconds = sum(result.get("wall_seconds") or result["summary"].get("seconds", 0) for result in done)
    counts = f"{len(done)} trials ended well, {len(results) - len(done)} failed; search {plan.search}."
    lines = [f"    {command}", "", counts]
    for axis in plan.axes:
        options = ", ".join(axis.options) if isinstance(axis, Choice) else f"{axis.low} to {axis.high}"
        lines.append(f"- {axis.name}: {options}")
    lines += [f"- baseline {name}" for name in dict.fromkeys(trial.baseline for trial in plan.baselines)]
    versions = {label_of(result["summary"].get("versions", {})) for result in done}
    commits = {str(result.get("git_commit")) for result in done}
    lines += ["", f"{seconds / 60:.1f} minutes of run time in all. Commit {', '.join(sorted(commits))}; "]
    lines[-1] += f"{'; '.join(sorted(versions))}. Seconds per step were taken while other trials ran."
    return lines


def _table(plan: Plan, groups: Sequence[Group]) -> list[str]:
    axes = [axis.name for axis in plan.axes if any(axis.name in group.values for group in groups if not group.baseline)]
    hidden = () if plan.by_test else OF_TEST_DATA  # shown of the chosen only
    columns = [name for name in QUANTITIES if name not in hidden and any(name in group.mean for group in groups)]
    front = pareto_front(groups, plan.objectives)
    rows = [[*axes, *(quantity(name).heading for name in columns), "n", "Pareto"]]
    for group in groups:
        options = [label_of(group.values.get(axis, "")) for axis in axes]
        if group.baseline:
            options = [f"*{group.label}*", *[""] * (len(axes) - 1)]
        figures = [_figure(group, name) for name in columns]
        rows.append([*options, *figures, str(group.count), "yes" if any(group is one for one in front) else ""])
    rows.insert(1, ["---"] * len(axes) + ["---:"] * (len(columns) + 1) + ["---"])
    return [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]


def _figure(group: Group, name: str) -> str:
    if name not in group.mean:
        return ""
    text = figure(name, group.mean[name])
    return f"{text} ± {figure(name, group.spread[name])}" if name in SPREAD and group.count > 1 else text


def _parted(groups: Iterable[Group]) -> list[str]:
    """Name the networks that fall into parts; no lines when none does."""
    parted = [group for group in groups if group.mean.get("components", 1) > 1]
    if not parted:
        return []
    names = "; ".join(f"{group.label} ({group.mean['components']:.3g} parts)" for group in parted)
    return [
        f"**Not joined:** no path of exchanges joins all agents of {names}. Agents of different parts never influence "
        "each other; `network.K.spanning_forest: true` lets a thinned pattern keep every connection.",
        "",
    ]


def _front(plan: Plan, groups: Sequence[Group]) -> list[str]:
    """Write the front from the best to the cheapest network, with test figures where validation data chose."""
    first, *others = plan.objectives
    front = pareto_front(groups, plan.objectives)
    front.sort(key=lambda group: group.mean[first], reverse=plan.objectives[first] == "maximize")
    aims = " and ".join(f"{direction} {name}" for name, direction in plan.objectives.items())
    lines = ["## Pareto front", "", f"To {aims}; no other mean is at least as good in each and better in one."]
    if plan.by_test:
        lines.append(
            "It compares test figures, so it describes these networks; the test figure of one that is chosen from it "
            "is too good. To choose, set `data.validation_fraction`."
        )
    lines.append("")
    named = [first, *others, *([] if plan.by_test else OF_TEST_DATA)]
    for group in [*front, *(() if plan.by_test else (group for group in groups if group.baseline))]:
        shown = [name for name in dict.fromkeys(named) if name in group.mean]
        figures = [f"{quantity(name).heading} {_figure(group, name)}" for name in shown]
        lines.append(f"- {'baseline ' if group.baseline else ''}{group.label}: {', '.join(figures)}")
    return lines
