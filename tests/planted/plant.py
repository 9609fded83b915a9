"""Plant known bugs, one at a time, in a copy of the repository, and see whether the nearest tests notice.

    python tests/planted/plant.py [--only WORD] [--jobs 2] [--json FILE]

A table, and exit code 0 where at least 95 % are noticed and nobody survives unexplained, else 1. Takes about eight
minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

sys.path.insert(0, str(Path(__file__).parent))
from bugs import BUGS, Bug  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
ENOUGH = 0.95  # share that must be noticed
LIMIT = 600.0  # seconds for the tests of one bug; a bug that hangs is noticed


def copy_of_repository(folder: Path) -> Path:
    """The tracked and new files, and what lies beside the repository for its tests."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    copy = folder / "repository"
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    if (ROOT.parent / "shared").is_dir():
        (folder / "shared").symlink_to(ROOT.parent / "shared")
    return copy


def existing(bugs: tuple[Bug, ...]) -> list[str]:
    """All test files that the bugs name."""
    return sorted({f"tests/{test}" for bug in bugs for test in bug.tests})


def failed(copy: Path, tests: list[str]) -> tuple[str, str]:
    """What the tests say of a copy, "" where they pass: the first failure; and the last line."""
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "--no-header", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return "hangs", f"more than {LIMIT:g} s"
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    if done.returncode not in (0, 1, 2):
        raise RuntimeError(f"pytest ended with {done.returncode}: {lines[-1]}")
    first = next((line for line in lines if line.startswith(("FAILED", "ERROR"))), "ERROR while collecting")
    return (first.split(" - ")[0] if done.returncode else ""), lines[-1]


def tried(copy: Path, bug: Bug) -> dict[str, object]:
    """Plant one bug, run its tests, take it out again."""
    file, started = copy / "dist_hdnn" / bug.file, time.perf_counter()
    text = file.read_text(encoding="utf-8")
    assert text.count(bug.old) == 1, f"{bug.name}: expected its text once in {bug.file}, got {text.count(bug.old)}"
    file.write_text(text.replace(bug.old, bug.new), encoding="utf-8")
    try:
        by, _ = failed(copy, [f"tests/{test}" for test in bug.tests])
    finally:
        file.write_text(text, encoding="utf-8")
    return {"name": bug.name, "file": bug.file, "by": by, "why": bug.survives, "seconds": time.perf_counter() - started}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="plant only bugs with this word in their name or file")
    parser.add_argument("--jobs", type=int, default=2, help="bugs at a time, each in a copy of its own (default: 2)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    chosen = tuple(bug for bug in BUGS if options.only in bug.name or options.only in bug.file)
    with tempfile.TemporaryDirectory(prefix="planted") as folder, ThreadPoolExecutor(options.jobs) as pool:
        copies: Queue[Path] = Queue()
        for number in range(options.jobs):
            copies.put(copy_of_repository(Path(folder, str(number))))
        first = copies.queue[0]
        print(f"{len(chosen)} bugs; their tests without any ...", flush=True)
        by, last = failed(first, existing(chosen))
        if by:
            print(f"expected tests that pass before a bug is planted, got {by}: {last}", file=sys.stderr)
            return 1

        def one(bug: Bug) -> dict[str, object]:
            copy = copies.get()
            try:
                result = tried(copy, bug)
            finally:
                copies.put(copy)
            verdict = "noticed " if result["by"] else "explained" if bug.survives else "SURVIVED"
            print(f"{verdict:9} {result['seconds']:6.1f} s  {bug.name} ({bug.file})  {result['by']}", flush=True)
            return result

        results = list(pool.map(one, chosen))
    noticed = sum(bool(result["by"]) for result in results)
    survivors = [result for result in results if not result["by"]]
    print(f"noticed {noticed} of {len(results)} ({100 * noticed / max(len(results), 1):.1f} %)")
    for result in survivors:
        print(f"survived: {result['name']}: {result['why'] or 'no reason known'}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return int(noticed < ENOUGH * len(results) or any(not result["why"] for result in survivors))


if __name__ == "__main__":
    sys.exit(main())
