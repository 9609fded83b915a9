"""Whole training steps of small networks for `training_step.py`, in turns: ours, plain PyTorch, and another tree.

ours       sweep, linear readout, cross-entropy, backward, fused Adam
dense      the same network, readout, loss and optimizer, with every K a dense matrix times its mask
compiled   torch.compile of that forward, where there is a C++ compiler
before     ours by the package of another source tree
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from measure import table
from trees import OWN, in_turns, ratios

BATCH, LAYERS, CLOSE = 125, 16, 1e-4  # CLOSE: how far the first losses may be apart


class Asked(NamedTuple):
    """The ratios that were asked for, None for those that are only reported."""

    over_dense: float | None = None
    over_before: float | None = None


CELLS = {"8x2": Asked(over_dense=0.33), "64x4": Asked(over_before=0.6)}


def compiler() -> str | None:
    """Return the C++ compiler that torch.compile would call, or None."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


def whole_steps(before: Path | None, blocks: int) -> tuple[list[str], dict[str, Any]]:
    """Return the lines of a table, and the seconds of every block."""
    codes = ["ours", "dense", *(["compiled"] if compiler() else [])]
    rows, found, verdicts = [], dict[str, Any](), list[str]()
    for cell, asked in CELLS.items():
        case = {"kind": "step", "cell": cell, "layers": LAYERS, "batch": BATCH}
        cases = {code: (OWN, case | {"code": code}) for code in codes}
        if before is not None:
            cases["before"] = before, case | {"code": "ours"}
        measured = in_turns(cases, blocks)
        losses = [each.hello["loss"] for each in measured.values()]
        if max(losses) - min(losses) > CLOSE:
            raise RuntimeError(f"{cell}: expected equal losses before the first step, got {losses}")
        over = {code: ratios(measured["ours"], measured[code])[0] for code in list(measured)[1:]}
        rows.append([cell, *(each.milliseconds for each in measured.values()), *(f"{x:.2f}" for x in over.values())])
        for code, target in (("dense", asked.over_dense), ("before", asked.over_before)):
            if target is not None and code in over:
                met = "met" if over[code] <= target else "missed"
                verdicts.append(f"- {cell}: ours / {code}: {over[code]:.2f} (target <= {target}: {met})")
        found[cell] = {code: each.seconds for code, each in measured.items()}
    names = [*codes, *(["before"] if before is not None else [])]
    heads = ["agents x neurons", *(f"{name}, ms" for name in names), *(f"ours / {name}" for name in names[1:])]
    said = [] if compiler() else ["", "torch.compile: no C++ compiler on this machine."]
    return [*table(heads, rows), *said, "", *verdicts], found
