"""Start-up: seconds of the shell for imports, a training of two epochs and the trials of a study.

    python benchmarks/startup.py                                    this tree
    python benchmarks/startup.py --before PATH --repeats 5          and another source tree, by turns
    python benchmarks/startup.py --trials 12 --epochs 20            longer trials

Every figure is wall seconds of whole processes, the median over the repeats, and beside it their CPU seconds. "cold":
no kernel on disk, "warm": all of them. The training is of the swiss roll on a ring of 8, with its pictures; the study
trains it with other seeds, its pictures included, and its seconds are divided by the number of trials.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import header, table, write_report

HERE = Path(__file__).resolve().parents[1]
CONFIG = HERE / "configs" / "swiss_roll_ring8.yaml"
IMPORTS = "import dist_hdnn; dist_hdnn.HDNN"
CASES = ("import", "train, cold", "train, warm", "trial, cold", "trial, warm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another source tree, which takes turns with this one")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    print(header(), flush=True)
    trees = {"before": args.before.resolve()} if args.before else {}
    trees["now"] = HERE
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(args.repeats):
            for case in CASES:
                for name, tree in trees.items():
                    place = Path(folder, f"{case.replace(', ', '_')}_{name}_{repeat}")
                    place.mkdir()
                    kernels = place if "cold" in case else Path(folder, f"kernels_{name}")
                    seconds = one(case, tree, place, kernels, args.trials, args.epochs)
                    found.setdefault((case, name), []).append(seconds)
    rows, results = [], {}
    for case in CASES:
        medians = {name: [statistics.median(part) for part in zip(*found[case, name], strict=True)] for name in trees}
        results[case] = medians
        cells = [f"{wall:.2f} ({cpu:.2f})" for wall, cpu in medians.values()]
        ratio = [f"{medians['now'][0] / medians['before'][0]:.2f}"] if args.before else []
        rows.append((case, *cells, *ratio))
    heads = ("", *(f"{name}, wall s (CPU s)" for name in trees), *(["now / before"] if args.before else []))
    lines = table(heads, rows)
    print("\n".join(lines))
    write_report(args.json, lines, results)


def one(case: str, tree: Path, place: Path, kernels: Path, trials: int, epochs: int) -> tuple[float, float]:
    """Return wall and CPU seconds of a case, of a trial where it is a study. The first warm run fills the cache."""
    environment = os.environ | {"PYTHONPATH": str(tree), "DIST_HDNN_KERNELS": str(kernels)}
    if case == "import":
        return timed([sys.executable, "-c", IMPORTS], environment, place)
    train = [sys.executable, "-m", "dist_hdnn", "train", str(CONFIG), f"--train.epochs={epochs}"]
    if "warm" in case and not kernels.exists():
        timed([*train, f"--output={place / 'first'}"], environment, place)
    if "train" in case:
        return timed([*train, f"--output={place / 'run'}"], environment, place)
    study = place / "study.yaml"
    study.write_text(
        f"name: startup\nbase: {CONFIG}\nconfig: {{train.epochs: {epochs}}}\naxes: {{seed: {list(range(trials))}}}\n"
    )
    words = ["study", str(study), f"--output={place / 'out'}", "--parallel=1"]
    wall, cpu = timed([sys.executable, "-m", "dist_hdnn", *words], environment, place)
    return wall / trials, cpu / trials


def timed(command: list[str], environment: dict[str, str], place: Path) -> tuple[float, float]:
    """Run a command that must end well, and return its wall seconds and the CPU seconds of all its processes.

    place: the folder to run it in, where no package lies that Python would take before that of the tree.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        command, env=environment, cwd=place, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
