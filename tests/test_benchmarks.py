"""The tables that `make bench` writes find their places, and nothing else on the page changes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run_all(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("run_all", ROOT / "benchmarks" / "run_all.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("measure", None)


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
