"""The report of a study in Markdown: what was asked, what came out, what it costs, what failed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dist_hdnn.study.axes import Choice, label_of
from dist_hdnn.study.live import words
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.results import Group, in_bytes, pareto_front
from dist_hdnn.study.trials import DONE

COLUMNS: Mapping[str, str] = {
    "test_accuracy": "test accuracy (%)",
    "mean_agent_accuracy": "mean agent (%)",
    "worst_agent_accuracy": "worst agent (%)",
    "test_r2": "test R²",
    "mean_agent_r2": "mean agent R²",
    "worst_agent_r2": "worst agent R²",
    "parameters": "parameters",
    "links": "links",
    "links_used": "pairs that exchange",
    "density": "density (%)",
    "messages_per_step": "messages/step",
    "bytes_per_step": "bytes/step",
    "non_neighbour_messages": "past a neighbour",
    "seconds_per_step": "ms/step",
    "peak_memory_bytes": "memory",
    "reach": "reach",
    "diameter": "diameter",
    "components": "parts",
}
SPREAD = (*(name for name in COLUMNS if name.endswith(("accuracy", "r2"))), "seconds_per_step")


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
    columns = [name for name in COLUMNS if any(name in group.mean for group in groups)]
    front = pareto_front([group for group in groups if not group.baseline], plan.objectives)
    rows = [[*axes, *(COLUMNS[name] for name in columns), "n", "Pareto"]]
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
    factor, digits = 1, 0
    if name == "density" or "accuracy" in name:
        factor, digits = 100, 2
    elif name == "seconds_per_step":
        factor, digits = 1000, 2
    elif name.endswith("r2"):
        digits = 4
    if name == "peak_memory_bytes":
        return in_bytes(group.mean[name])
    text = f"{factor * group.mean[name]:,.{digits}f}"
    return f"{text} ± {factor * group.spread[name]:.{digits}f}" if name in SPREAD and group.count > 1 else text


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


def _front(plan: Plan, groups: Iterable[Group]) -> list[str]:
    """The front in words: what each step to a cheaper network costs."""
    first, *others = plan.objectives
    front = pareto_front([group for group in groups if not group.baseline], plan.objectives)
    best = plan.objectives[first] == "maximize"
    front.sort(key=lambda group: group.mean[first], reverse=best)
    aims = " and ".join(f"{direction} {name}" for name, direction in plan.objectives.items())
    lines = ["## Pareto front", "", f"To {aims}; no other mean is at least as good in each and better in one.", ""]
    for group in front:
        figures = [f"{COLUMNS.get(name, name)} {_figure(group, name) or group.mean[name]}" for name in (first, *others)]
        lines.append(f"- {group.label}: {', '.join(figures)}")
    return lines
