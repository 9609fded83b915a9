"""Tables of a study: rows, means over seeds, the Pareto front; and its pictures and report."""

from __future__ import annotations

import csv
import dataclasses
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from dist_hdnn.config import Config
from dist_hdnn.plots.drawing import Pictures
from dist_hdnn.plots.figures import save
from dist_hdnn.study import plots
from dist_hdnn.study.axes import Choice, Trial
from dist_hdnn.study.plan import Plan
from dist_hdnn.study.report import write_report
from dist_hdnn.study.results import Group, groups_of, pareto_front, quantity, rows_of, write_tables

AIMS = {"test_accuracy": "maximize", "bytes_per_step": "minimize"}
PATTERNS = {"none": {"network.K.kind": "block_diagonal"}, "all": {"network.K.kind": "dense"}}
AXES = [
    Choice(
        "graph.family", {name: {"graph.family": name} for name in ("ring", "grid")}, {"ring": "ring", "grid": "grid"}
    ),
    Choice("pattern", PATTERNS, {name: name for name in PATTERNS}),
    Choice("seed", {"0": {"seed": 0}, "1": {"seed": 1}}, {"0": 0, "1": 1}),
]


def plan() -> Plan:
    import dataclasses

    base = dataclasses.asdict(Config())
    return Plan("tiny", base, AXES, [], "grid", None, 0, AIMS, None, None, None)


def result(trial: Trial, accuracy: float | None, sent: int = 100) -> dict[str, Any]:
    summary = {
        "status": "done",
        "test_accuracy": accuracy,
        "bytes_per_step": sent,
        "parameters": 10,
        "density": 0.5,
        "components": 1 + sent % 200 // 100,
    }
    more = {"versions": {"torch": "2"}, "bytes_per_link": {"mean": 1.5, "max": 2}, "agent_accuracy": {"A": 1.0}}
    ended = {"status": "done", "error": "", "summary": summary | more, "git_commit": "abc", "wall_seconds": 2.0}
    if accuracy is None:
        ended = {"status": "failed", "error": "network.step: no", "summary": {}}
    return {
        "id": trial.id,
        "baseline": trial.baseline,
        "values": dict(trial.values),
        "settings": trial.settings,
        **ended,
    }


def results() -> list[dict[str, Any]]:
    found = [result(trial, 0.5 + 0.01 * n, 100 * (n // 2)) for n, trial in enumerate(plan().listed())]
    found[3] = result(plan().listed()[3], None)
    dense = [Trial({"seed": seed}, {"network.K.kind": "dense", "seed": seed}, "dense, narrow") for seed in (0, 1)]
    return found + [result(trial, 0.9, 1000) for trial in dense]


def test_every_trial_is_a_row_and_all_rows_have_the_same_columns(tmp_path: Path) -> None:
    rows = rows_of(results(), AXES)
    assert len(rows) == 10 and len({tuple(row) for row in rows}) == 1
    assert list(rows[0])[:6] == ["trial", "status", "baseline", "graph.family", "pattern", "seed"]
    assert rows[0]["network.K.kind"] == "block_diagonal" and rows[0]["version_torch"] == "2"
    assert rows[0]["bytes_per_link_max"] == 2 and not [name for name in rows[0] if name.startswith("agent_accuracy")]
    assert rows[3]["status"] == "failed" and rows[3]["error"] == "network.step: no" and rows[3]["test_accuracy"] is None
    write_tables(tmp_path, rows)
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["test_accuracy"] for row in read] == [
        "" if row["status"] == "failed" else str(row["test_accuracy"]) for row in rows
    ]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_the_same_table_is_written_as_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = rows_of(results(), AXES)
    rows[0]["seed"] = "mixed"
    write_tables(tmp_path, rows)
    read = parquet.read_table(tmp_path / "results.parquet").to_pylist()
    assert [row["bytes_per_step"] for row in read] == [row["bytes_per_step"] for row in rows]


def test_groups_have_the_mean_and_the_spread_of_their_seeds_that_ended_well() -> None:
    groups = groups_of(results())
    assert [(group.label, group.count) for group in groups] == [
        ("ring, none", 2),
        ("ring, all", 1),
        ("grid, none", 2),
        ("grid, all", 2),
        ("dense, narrow", 2),
    ]
    assert groups[0].mean["test_accuracy"] == statistics.fmean([0.5, 0.51])
    assert groups[0].spread["test_accuracy"] == statistics.stdev([0.5, 0.51])
    assert groups[1].spread["test_accuracy"] == 0.0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    groups = [Group("", {"n": n}, 1, {"test_accuracy": a, "bytes_per_step": b}, {}) for n, (a, b) in enumerate(points)]
    front = {group.values["n"] for group in pareto_front(groups, AIMS)}
    for n, (a, b) in enumerate(points):
        beaten = any((x > a and y <= b) or (x >= a and y < b) for x, y in points)
        assert (n in front) == (not beaten)


def test_a_group_without_an_objective_is_not_on_the_front() -> None:
    groups = [Group("", {}, 1, {"test_accuracy": 0.5}, {}), Group("", {}, 1, {"bytes_per_step": 3.0}, {})]
    assert pareto_front(groups, AIMS) == []


def test_pictures_and_report_show_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = results()
    groups = groups_of(found)
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure) or save(figure, path))
    album = Pictures(tmp_path / "plots")
    plots.plot_study(plan(), groups, album)
    drawn = album.drawn
    names = ("bytes_per_step", "density", "parameters")
    assert [path.stem for path in drawn] == [f"test_accuracy_vs_{name}" for name in names]
    for name, figure in zip(names, figures, strict=True):
        axes = figure.axes[0]
        assert (axes.get_xlabel(), axes.get_ylabel()) == (quantity(name).label, quantity("test_accuracy").label)
        points = [tuple(bar.lines[0].get_xydata()[0]) for bar in axes.containers]
        means = [tuple(quantity(key).factor * group.mean[key] for key in (name, "test_accuracy")) for group in groups]
        assert sorted(points) == sorted(means)
    report = write_report(plan(), found, groups, drawn, tmp_path / "report.md", "dist-hdnn study x.yaml").read_text()
    assert "dist-hdnn study x.yaml" in report and "9 trials ended well, 1 failed" in report
    assert "ring, pattern all, seed 1: network.step: no" in report
    assert "50.50 ± 0.71" in report and "plots/test_accuracy_vs_density.png" in report
    assert "joins all agents of ring, all (2 parts); grid, all (2 parts). Agents" in report
    table = [line for line in report.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(groups) and len({line.count("|") for line in table}) == 1


def test_where_validation_data_choose_the_report_tells_test_figures_of_the_chosen_and_the_baselines_only(
    tmp_path: Path,
) -> None:
    found = results()
    for n, one in enumerate(found):
        one["summary"] |= {"validation_accuracy": 0.8 - 0.01 * n} if one["summary"] else {}
    by_validation = dataclasses.replace(
        plan(), objectives={"validation_accuracy": "maximize", "bytes_per_step": "minimize"}
    )

    def report(of: Plan) -> tuple[list[str], list[str]]:
        text = write_report(
            of, found, groups_of(found), [], tmp_path / "report.md", "dist-hdnn study x.yaml"
        ).read_text()
        front = text.partition("## Pareto front")[2].partition("## ")[0].splitlines()
        return [line for line in text.splitlines() if line.startswith("|")], front

    table, front = report(by_validation)
    assert "validation accuracy (%)" in table[0] and "test accuracy" not in table[0]
    chosen = [line for line in front if line.startswith("- ")]
    assert [line.partition(":")[0] for line in chosen] == ["- ring, none", "- baseline dense, narrow"]
    assert "validation accuracy (%) 79.50 ± 0.71, bytes/step 0, test accuracy (%) 50.50 ± 0.71" in chosen[0]
    assert not any("compares test figures" in line for line in front)
    table, front = report(plan())
    assert "test accuracy (%)" in table[0] and any("compares test figures" in line for line in front)
