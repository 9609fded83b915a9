"""How big the package is, and how far a state travels from a readout to the product: figures to keep small.

    python tests/count.py

Per folder: modules, lines, classes. Of all: the longest function, the most parameters, and of one training step of a
torus of 8 x 8 agents the modules that it enters and the frames of ours above the deepest product, forward.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dist_hdnn"
sys.path.insert(0, str(ROOT))


def folders() -> None:
    """Print modules, lines and classes per folder."""
    modules, lines, classes = Counter[str](), Counter[str](), Counter[str]()
    functions, parameters = [], []
    for file in sorted(PACKAGE.rglob("*.py")):
        where, text = file.relative_to(PACKAGE), file.read_text(encoding="utf-8")
        room = where.parts[0] if len(where.parts) > 1 else "root"
        modules[room] += 1
        lines[room] += text.count("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                classes[room] += 1
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                functions.append((node.end_lineno - node.lineno + 1, f"{where}:{node.lineno} {node.name}"))
                given = len(node.args.args) + len(node.args.kwonlyargs) + len(node.args.posonlyargs)
                own = bool(node.args.args) and node.args.args[0].arg in ("self", "cls")
                parameters.append((given - own, f"{where}:{node.lineno} {node.name}"))
    print(f"{'folder':12} {'modules':>7} {'lines':>7} {'classes':>7}")
    for room in sorted(modules, key=lambda room: -lines[room]):
        print(f"{room:12} {modules[room]:7} {lines[room]:7} {classes[room]:7}")
    print(f"{'all':12} {modules.total():7} {lines.total():7} {classes.total():7}")
    print("longest function  ", *max(functions))
    print("most parameters   ", *max(parameters), "then", *sorted(parameters)[-2])


def walk() -> None:
    """Print the modules that a training step enters, and the frames above its deepest product."""
    import torch

    import dist_hdnn

    net = dist_hdnn.HDNN(dist_hdnn.torus(8, 8), width=8, layers=16, execution=dist_hdnn.Execution(products="torch"))
    readout = dist_hdnn.SumReadout(net.ownership, classes=2)
    state, labels = torch.randn(32, net.neurons), torch.randint(2, (32,))

    def step() -> None:
        readout.loss(readout(net(state)), labels).sum().backward()

    for _ in range(2):
        step()
    entered, deepest = set[str](), 0

    def own(frame: FrameType | None) -> int:
        depth = 0
        while frame is not None:
            depth += frame.f_code.co_filename.startswith(str(PACKAGE))
            frame = frame.f_back
        return depth

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal deepest
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            entered.add(str(Path(frame.f_code.co_filename).relative_to(PACKAGE)))
        elif event == "c_call" and getattr(argument, "__name__", "") in ("baddbmm", "bmm"):
            deepest = max(deepest, own(frame))

    sys.setprofile(watch)
    try:
        step()
    finally:
        sys.setprofile(None)
    print("modules entered by a training step  ", len(entered), *sorted(entered))
    print("frames of ours above the product    ", deepest)


if __name__ == "__main__":
    folders()
    walk()
