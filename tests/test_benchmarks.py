"""Every benchmark starts, and `make bench` writes its tables in their places and nowhere else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
SHARED = {"baselines", "cells", "measure", "rates", "served", "steps", "trees"}  # imported by the others


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """A function that imports a benchmark; afterwards none of them is left in sys.modules."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in {path.stem for path in BENCHMARKS.glob("*.py")} - before:
        sys.modules.pop(name, None)


@pytest.fixture
def run_all(imports: Callable[[str], ModuleType]) -> ModuleType:
    return imports("run_all")


@pytest.mark.parametrize("name", sorted({path.stem for path in BENCHMARKS.glob("*.py")} - SHARED))
def test_a_benchmark_starts_and_its_first_lines_have_its_command(
    name: str, imports: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = imports(name)
    assert f" python benchmarks/{name}.py" in (benchmark.__doc__ or "")
    monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        benchmark.main()
    assert ended.value.code == 0 and (benchmark.__doc__ or "").splitlines()[0][:40] in capsys.readouterr().out


def test_every_benchmark_has_its_place_on_the_page(run_all: ModuleType) -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    for name in run_all.BENCHMARKS:
        assert "| new |" in run_all.insert(page, name, ["| new |"])


def test_a_table_replaces_the_last_one_and_nothing_else(run_all: ModuleType) -> None:
    page = "before\n<!-- table: a -->\nold\n<!-- end -->\nbetween\n<!-- table: b -->\nother\n<!-- end -->\nafter\n"
    once = run_all.insert(page, "a", ["| 1 |"])
    assert once == page.replace("\nold\n", "\n\n| 1 |\n\n")
    assert run_all.insert(once, "a", ["| 1 |"]) == once
    with pytest.raises(ValueError, match="expected its marks once, got 0"):
        run_all.insert(page, "c", [])


def test_columns_are_aligned(run_all: ModuleType) -> None:
    import measure

    lines = measure.table(("agents", "ms"), [(100, 1.23456), (100_000, "12.30")])
    assert lines == ["| agents |    ms |", "|-------:|------:|", "|    100 |  1.23 |", "| 100000 | 12.30 |"]


def test_a_training_step_is_timed_by_parts_of_which_products_are_one(imports: Callable[[str], ModuleType]) -> None:
    training_step = imports("training_step")
    timed = training_step.measured("swiss_roll_ring8", steps=20)["part_seconds"]
    assert timed[training_step.PRODUCTS] > 0 and "sweep: loop over layers" in timed


def test_a_cell_of_the_papers_tables_is_trained_once_even_after_a_line_that_a_kill_has_cut(
    imports: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    published = imports("published")
    results, short = tmp_path / "results.jsonl", '{"epochs": 1, "least_epochs": 1, "restarts": 2}'
    results.write_text('{"table": "double_moons", "netw')
    options = ["--tables", "double_moons", "--cells", "MS1-1", "H2-1", "--recipe", short, "--results", str(results)]

    def output(*more: str) -> str:
        monkeypatch.setattr(sys, "argv", ["benchmarks/published.py", *options, *more])
        published.main()
        return capsys.readouterr().out

    assert "MS1  1 layers" in output("--seeds", "1")
    once = results.read_text()
    assert len(once.splitlines()) == 3 and "1 layers: paper" not in output("--seeds", "1")
    assert "of 15 cells reach" in output("--seeds", "2") and "not trained: 13" in output("--seeds", "2")
    assert results.read_text().startswith(once) and len(results.read_text().splitlines()) == 5


def test_the_tables_hold_every_cell_that_the_paper_prints(imports: Callable[[str], ModuleType]) -> None:
    published = imports("published")
    assert [len(published.paper_cells(name)) for name in published.PAPER] == [25, 15, 10]
    cell = published.Cell(8, "MS1", "swiss_roll", "91.5")
    assert published.reached(cell, {0: {"accuracy": 91.45}}) and not published.reached(cell, {0: {"accuracy": 91.4}})
