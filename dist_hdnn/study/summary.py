"""The report of a study in Markdown: what was asked, what came out, what it costs, what failed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dist_hdnn.study.axes import Choice, label_of
from dist_hdnn.study.figures import OF_TEST_DATA, QUANTITIES, SPREAD, figure, quantity
from dist_hdnn.study.live import words
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.results import Group, pareto_front
from dist_hdnn.study.trials import DONE


def write_report(
    plan: Plan,
    results: Sequence[Mapping[str, Any]],
    groups: Sequence[Group],
    plots: Sequence[Path],
    path: Path,
    command: str,
) -> Path:
    """report.md beside the tables; the path written."""
    failed = [result for result in results if result["status"] != DONE]
    lines = [f"# Study {plan.name}", "", *_asked(plan, results, command), ""]
    lines += ["## Results", "", "Mean ± standard deviation over seeds; n is their number.", ""]
    lines += [*_table(plan, groups), "", *_parted(groups), *_front(plan, groups), ""]
    if plots:
        lines += ["## Pictures", ""]
        lines += [f"![{plot.stem}]({os.path.relpath(plot, path.parent)})" for plot in plots] + [""]
    if failed:
        lines += ["## Failed trials", ""]
        lines += [f"- {words(dict(result))}: {result['error']}" for result in failed] + [""]
    lines += ["All trials, one row each, are in `results.csv`; each trial's config and run are below `trials/`."]
    part = path.with_name(f"{path.name}.part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(part, path)
    return path


def _asked(plan: Plan, results: Sequence[Mapping[str, Any]], command: str) -> list[str]:
    done = [result for result in results if result["status"] == DONE]
    seconds = sum(result.get("wall_seconds") or result["summary"].get("seconds", 0) for result in done)
    lines = [
        f"    {command}",
        "",
        f"{len(done)} trials ended well, {len(results) - len(done)} failed; search {plan.search}.",
    ]
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
    hidden = () if plan.by_test else OF_TEST_DATA  # of which the report tells those of the chosen
    columns = [name for name in QUANTITIES if name not in hidden and any(name in group.mean for group in groups)]
    front = pareto_front([group for group in groups if not group.baseline], plan.objectives)
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
    """Which networks fall into parts that never hear of each other; nothing when none does."""
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
    """The front in words: what each step to a cheaper network costs; of test data, where validation data chose."""
    first, *others = plan.objectives
    front = pareto_front([group for group in groups if not group.baseline], plan.objectives)
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
