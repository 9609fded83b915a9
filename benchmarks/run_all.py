"""Run every benchmark of speed and memory and write their tables into docs/performance.md.

    make bench                                       python benchmarks/run_all.py
    python benchmarks/run_all.py --only agents       this one alone; the other tables stay

A table goes between the lines <!-- table: NAME --> and <!-- end --> of the document, with command, machine, versions
and date above it. Benchmarks run in separate processes, one after the other, so leave the machine idle
meanwhile. Their JSON and output go to --results. Exits with 1 if one of them failed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measure import header

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
RESULTS = HERE.parent / "runs" / "benchmarks"
BENCHMARKS = {
    "layer": ["layer.py"],
    "depth_memory": ["depth_memory.py"],
    "agents": ["agents.py", "--layers", "16", "--memory", "reversible"],
    "training_step": ["training_step.py"],
    "exchange": ["exchange.py", "--blocks", "20"],
    "scaling": ["scaling.py", "--blocks", "5", "--widths", "64"],
}
NAMED = ("torch", "numpy")


def run(name: str, results: Path) -> dict[str, Any] | None:
    """Run a benchmark and show its output; return its report with that output, or None on failure."""
    script, *options = BENCHMARKS[name]
    report = results / f"{name}.json"
    report.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / script), *options, "--json", str(report)]
    printed = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "stdout is a pipe"
        for line in process.stdout:
            print(line, end="", flush=True)
            printed.append(line.rstrip("\n"))
    (results / f"{name}.txt").write_text("\n".join(printed) + "\n")
    if process.returncode or not report.exists():
        print(f"{name}: failed with exit code {process.returncode}", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(report.read_text())
    return found | {"command": " ".join(["python", f"benchmarks/{script}", *options]), "printed": printed}


def section(report: dict[str, Any]) -> list[str]:
    """Return the document's lines: the origin of the figures, then the table, or the output if there is none."""
    where = [
        f"`{report['command']}`",
        report.get("machine", ""),
        _threads(report),
        *_versions(report),
        report.get("date", ""),
    ]
    lines = [f"{', '.join(filter(None, where))}.", ""]
    if "table" in report:
        return [*lines, *report["table"]]
    return [*lines, "```text", *report["printed"], "```"]


def _threads(report: dict[str, Any]) -> str:
    threads = report.get("threads")
    return "" if threads is None else f"{threads} thread{'s' * (threads != 1)}"


def _versions(report: dict[str, Any]) -> list[str]:
    return [f"{name} {report['versions'][name]}" for name in NAMED if name in report.get("versions", {})]


def insert(page: str, name: str, lines: list[str]) -> str:
    """Return the page with these lines between the marks of a table. Raises ValueError if it has none."""
    marks = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    text = "\n".join(lines)
    changed, found = marks.subn(lambda mark: f"{mark[1]}\n{text}\n\n{mark[2]}", page)
    if found != 1:
        raise ValueError(
            f"table {name}: expected its marks once, got {found}; add <!-- table: {name} --> and <!-- end -->"
        )
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="only this one; may be repeated")
    parser.add_argument("--page", type=Path, default=PAGE, help="whose tables to write (default docs/performance.md)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for JSON and text (runs/benchmarks)")
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    print(header(), flush=True)
    failed = []
    for name in args.only or BENCHMARKS:
        began = time.perf_counter()
        print(f"\n== {name}", flush=True)
        report = run(name, args.results)
        print(f"== {name}: {time.perf_counter() - began:.0f} s", flush=True)
        if report is None:
            failed.append(name)
            continue
        args.page.write_text(insert(args.page.read_text(), name, section(report)))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; their tables are as they were")


if __name__ == "__main__":
    main()
