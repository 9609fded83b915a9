"""Run the same measurement in other source trees, in turns: `--before PATH` of the benchmarks.

A tree is a checkout of this project, such as `git worktree add /tmp/before COMMIT`. Each runs in a process of its own
with PYTHONPATH before everything else, and runs `served.py`, of which it asks one block after the other.
The new tree runs so too, hence under the same conditions, and all processes take turns block by block.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

OWN = Path(__file__).resolve().parents[1]
SERVED = str(Path(__file__).with_name("served.py"))


class Measured(NamedTuple):
    """Seconds per call of every block, and what the process said first."""

    seconds: list[float]
    hello: dict[str, Any]

    @property
    def milliseconds(self) -> float:
        """The median of the blocks."""
        return 1e3 * float(np.median(self.seconds))


class Tree:
    """A process that measures one case with the package of a source tree. hello: what it says first."""

    def __init__(self, root: Path, case: Mapping[str, Any]) -> None:
        command = [sys.executable, "-W", "ignore", SERVED, json.dumps(dict(case))]
        environment = os.environ | {"PYTHONPATH": str(root.resolve()), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.hello: dict[str, Any] = self._line()
        if Path(self.hello["package"]) != root.resolve() / "dist_hdnn":
            raise RuntimeError(f"{root}: expected its own package, got {self.hello['package']}; give the tree's root")

    def block(self) -> float:
        """Ask for one block, and return its seconds per call."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._line())

    def _line(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args}: expected a line, got the end of the process; see above")
        return json.loads(line)

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.communicate()


def in_turns(cases: Mapping[str, tuple[Path, Mapping[str, Any]]], blocks: int) -> dict[str, Measured]:
    """Measure cases, each in the tree of its root, block by block in turns."""
    with ExitStack() as stack:
        trees = {name: stack.enter_context(Tree(root, case)) for name, (root, case) in cases.items()}
        times = [{name: tree.block() for name, tree in trees.items()} for _ in range(blocks)]
        return {name: Measured([block[name] for block in times], tree.hello) for name, tree in trees.items()}


def ratios(above: Measured, below: Measured) -> tuple[float, float]:
    """Return the ratio of the medians, and that of the least."""
    return float(np.median(above.seconds) / np.median(below.seconds)), min(above.seconds) / min(below.seconds)
