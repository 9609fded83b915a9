"""Measure training steps of many networks, calibrate a prediction on one half, and test it on the other half.

    python benchmarks/step_time.py --json docs/step_time.json        # measures, fits, predicts

A step is forward, backward and fused Adam, one thread per worker; kinds of workers are one, and two over threads, gloo,
MPI and shared memory. Cases take turns. Two workers are timed by wall time, the slower one, and their fastest step
counts. One is timed by CPU time, in pieces between rounds: the sum of the fastest is what a step takes while others
keep out of its caches. "repeated" is how far apart the times of odd and of even turns are, median and p90.
Measurements go to --measured, a line each, and are not repeated; with --rounds 2 all are measured twice. Empty --kinds
measure nothing.
--fresh 20 draws new cases, which calibrate nothing and chose no feature, and predicts them by what is in docs/.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exchange import AS_ROOT, launcher
from measure import header, machine, table, write_report
from numpy.typing import NDArray
from scipy.stats import kendalltau

from dist_hdnn import HDNN, connect
from dist_hdnn.inspection.step_time import Case, domain_of, fit, predict
from dist_hdnn.topology import families
from dist_hdnn.transport import Ledger, Transport, run_threads
from dist_hdnn.transport.rendezvous import launched

KINDS = ("one", "threads", "gloo", "mpi", "shm")
CASES = {"one": 160, "threads": 44, "gloo": 44, "mpi": 44, "shm": 44}
PASSES, SECONDS, GROUP = 6, 0.2, 22  # turns of a case, and their seconds; cases in memory at once
NEURONS, BATCHES = (1, 2, 4, 8, 16, 32), (16, 24, 32, 48, 64, 96, 128, 192, 256)  # of the probes
MOST_ARITHMETIC, MOST_STATES, MOST_WEIGHTS = 2.5e8, 4e6, 8e6  # of all layers: multiplications of a product, values, K
DEGREES, LEAST = (2, 6), 1e-9  # of the probes; seconds of an agent or block that are lost in the noise
QUANTILES, QUANTILE = (0.0, 0.02, 0.05, 0.1), 0.0  # that are stored, and the one that counts
CALIBRATION = Path(__file__).resolve().parents[1] / "docs" / "step_time.json"
MEASURED = Path(__file__).resolve().parents[1] / "runs" / "benchmarks" / "step_time.jsonl"


def cases(kind: str, fresh: int = 0) -> list[dict[str, Any]]:
    """Draw the cases of a kind of worker: graphs, widths, depths and batches. fresh: so many that calibrate nothing."""
    draw = np.random.default_rng([8 if fresh else 7, KINDS.index(kind)])
    chosen: list[dict[str, Any]] = []
    while len(chosen) < (fresh or CASES[kind]):
        case = {
            "agents": int(draw.choice([8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256])),
            "degree": int(draw.choice([2, 4, 6])),
            "rewired": float(draw.choice([0.0, 0.0, 0.2])),
            "width": int(draw.choice([2, 4, 8, 12, 16, 24, 32, 48, 64])),
            "layers": int(draw.choice([4, 8, 12, 16, 24, 32, 64])),
            "batch": int(draw.choice([16, 24, 32, 48, 64, 96, 128, 192, 256])),
        }
        half, blocks = case["width"] // 2, case["agents"] * (case["degree"] + 1)
        work = case["layers"] * blocks * half**2 * case["batch"]
        states = case["layers"] * case["agents"] * half * case["batch"]
        weights = case["layers"] * blocks * half**2
        small = work <= MOST_ARITHMETIC and states <= MOST_STATES and weights <= MOST_WEIGHTS
        if small and case not in chosen:
            chosen.append(case)
    return chosen


def probe_cases() -> list[dict[str, Any]]:
    """Return the networks whose times give the seconds of a block and of an agent at every shape."""
    ring = {"agents": 16, "rewired": 0.0, "optimizer": False}
    return [
        ring | {"width": 2 * neurons, "batch": batch, "layers": layers, "degree": degree}
        for neurons in NEURONS
        for batch in BATCHES
        for degree in DEGREES
        for layers in (2, 2 + deeper(neurons, batch))
    ]


def deeper(neurons: int, batch: int) -> int:
    """Return the layers between a shallow and a deep probe, fewer where they take longer."""
    return int(np.clip(1e6 // (neurons**2 * batch), 4, 16))


class Steps:
    """A network and its optimizer. transport: None for one worker."""

    def __init__(self, case: dict[str, Any], transport: Transport | None) -> None:
        graph = families.watts_strogatz(case["agents"], case["degree"], case["rewired"], seed=1)
        self.net = HDNN(graph, case["width"], case["layers"], 0.1, workers=transport)
        self.adam = torch.optim.Adam(self.net.parameters(), lr=1e-4, fused=True)
        self.optimizes = case.get("optimizer", True)
        generator = torch.Generator().manual_seed(0)
        self.y = torch.randn(case["batch"], int(self.net.widths.sum()), generator=generator)
        owners = np.asarray(self.net.ownership.partition.owners)
        sizes = case["width"] // 2, case["layers"], case["batch"]
        kind = "one" if transport is None else transport.name
        self.case = Case.of(kind, self.net.K_patterns[0], owners, *sizes)

    def __call__(self) -> None:
        self.adam.zero_grad(set_to_none=True)
        self.net(self.y).square().mean().backward()
        if self.optimizes:
            self.adam.step()


class Marks(threading.local):
    """The times at which this thread starts a round, in the step at hand."""

    times: list[float] | None = None
    clock = staticmethod(time.perf_counter)


MARKS, BOOK = Marks(), Ledger.book


def marking(ledger: Ledger, *arguments: Any, **options: Any) -> None:
    """Book a round as `Ledger.book` does, and note the time."""
    if MARKS.times is not None:
        MARKS.times.append(MARKS.clock())
    BOOK(ledger, *arguments, **options)


def turn(step: Callable[[], None], transport: Transport | None, warm_up: int) -> NDArray[np.float64]:
    """Return the seconds between rounds, of this worker, for the steps of a turn: (steps, rounds + 1).

    Alone, seconds are CPU time; workers that wait for each other need wall time.
    """
    MARKS.clock = time.thread_time if transport is None else time.perf_counter
    for _ in range(warm_up):
        step()
    began = time.perf_counter()
    step()
    once = torch.tensor(time.perf_counter() - began)
    if transport is not None:
        transport.all_reduce(once, "max")
    marks = []
    for _ in range(int(np.clip(SECONDS / float(once), 3, 300))):
        if transport is not None:
            transport.barrier()
        MARKS.times = [MARKS.clock()]
        step()
        marks.append([*MARKS.times, MARKS.clock()])
        MARKS.times = None
    return np.diff(np.array(marks), axis=1)


def job(transport: Transport | None, kind: str, todo: list[dict[str, Any]], passes: int, file: Path) -> None:
    """Measure cases in turns and add a line each to the file. Collective."""
    warnings.simplefilter("ignore", UserWarning)  # shallow networks are intended
    for start in range(0, len(todo), GROUP):
        group = [(each, Steps(each, transport)) for each in todo[start : start + GROUP]]
        turns: list[list[NDArray[np.float64]]] = [[] for _ in group]
        gc.collect()
        gc.disable()
        for number in range(passes):
            for (_, steps), found in zip(group, turns, strict=True):
                found.append(turn(steps, transport, 0 if number else 3))
        gc.enable()
        lines = []
        for (each, steps), found in zip(group, turns, strict=True):
            alone = transport is None
            times = torch.tensor([undisturbed(part, alone) for part in (found, found[::2], found[1::2])])
            whole = torch.tensor(float(np.median(np.concatenate(found).sum(axis=1))))
            if transport is not None:
                transport.all_reduce(times, "max")
                transport.all_reduce(whole, "max")
            figures = {"seconds": times.tolist(), "median": float(whole)}
            lines.append(json.dumps({"kind": kind, "spec": each, "case": vars(steps.case), **figures}) + "\n")
        if transport is None or transport.rank == 0:
            with file.open("a") as stream:
                stream.writelines(lines)
            print(f"{kind}: {start + len(group)} of {len(todo)}, load {os.getloadavg()[0]:.1f}", flush=True)
        del group


def undisturbed(turns: list[NDArray[np.float64]], pieces: bool) -> list[float]:
    """Return the time of a step while nobody else has its cores: low quantiles of steps, or their sum over pieces.

    A worker that comes late finds its messages there, so pieces of several workers are not independent.
    """
    steps = np.concatenate(turns)
    return np.quantile(steps if pieces else steps.sum(axis=1, keepdims=True), QUANTILES, axis=0).sum(axis=1).tolist()


# -- from measurements to a calibration --------------------------------------------------------------------------------


def measured(file: Path, fresh: int = 0) -> list[dict[str, Any]]:
    """Return every measured network with its time, and that of odd and of even turns.

    Of several lines the least counts where a worker is alone; two workers have more than one way to run, so the mean.
    """
    wanted = {json.dumps([kind, each]): kind for kind in ("probe", *KINDS) for each in networks_of(kind, fresh)}
    found: dict[str, list[dict[str, Any]]] = {}
    for line in file.read_text().splitlines():
        each = json.loads(line)
        name = json.dumps([each["kind"], each["spec"]])
        if name in wanted:
            found.setdefault(name, []).append(each)
    networks = []
    for name, lines in found.items():
        of_all = np.array([each["seconds"] for each in lines])[:, :, QUANTILES.index(QUANTILE)]
        times = (np.min if wanted[name] in ("probe", "one") else np.mean)(of_all, axis=0)
        networks.append(lines[0] | {"seconds": float(times[0]), "halves": times[1:].tolist()})
    return networks


def networks_of(kind: str, fresh: int) -> list[dict[str, Any]]:
    """Return the networks of a kind of worker, or the probes."""
    return probe_cases() if kind == "probe" else cases(kind, fresh)


def probes_of(networks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return seconds of a layer, and of an agent and of a block in it at every shape, from slopes of time.

    By depth, then by degree. What the smallest network takes is the layer's own.
    """
    times = {json.dumps(each["spec"]): each["seconds"] for each in networks if each["kind"] == "probe"}
    order = iter(probe_cases())
    agents, blocks = (np.zeros((len(NEURONS), len(BATCHES))) for _ in range(2))
    for row, neurons in enumerate(NEURONS):
        for column, batch in enumerate(BATCHES):
            slopes = []
            for _ in DEGREES:
                shallow, deep = (times[json.dumps(next(order))] for _ in range(2))
                slopes.append((deep - shallow) / deeper(neurons, batch))
            blocks[row, column] = (slopes[1] - slopes[0]) / (16 * (DEGREES[1] - DEGREES[0]))
            agents[row, column] = slopes[0] / 16 - (DEGREES[0] + 1) * blocks[row, column]
    layer = 16 * agents[0, 0]
    return {
        "neurons": list(NEURONS),
        "batches": list(BATCHES),
        "layer": layer,
        "agent": np.maximum(agents - layer / 16, LEAST).tolist(),
        "block": np.maximum(blocks, LEAST).tolist(),
    }


def halves(kind: str, networks: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split the cases of a kind: one half calibrates, the other is held out."""
    own = [each for each in networks if each["kind"] == kind]
    order = np.random.default_rng(3).permutation(len(own))
    return [own[k] for k in order[::2]], [own[k] for k in order[1::2]]


def calibrated(networks: list[dict[str, Any]]) -> dict[str, Any]:
    """Calibrate on one half of the cases of every kind."""
    calibration: dict[str, Any] = {"probes": probes_of(networks), "coefficients": {}, "domain": {}}
    for kind in KINDS:
        used, _ = halves(kind, networks)
        of_kind = [Case(**each["case"]) for each in used]
        calibration["coefficients"][kind] = fit(of_kind, [each["seconds"] for each in used], calibration)
        numbers = [domain_of(case) for case in of_kind]
        calibration["domain"][kind] = {
            name: [min(n[name] for n in numbers), max(n[name] for n in numbers)] for name in numbers[0]
        }
    return calibration


def report(
    networks: list[dict[str, Any]], calibration: dict[str, Any], fresh: bool = False
) -> tuple[list[str], dict[str, Any]]:
    """Predict the held-out cases, or all of them if fresh; return the lines of a table and all figures."""
    rows, results, everything = [], dict[str, Any](), list[list[float]]()
    for kind in (*KINDS, "all"):
        if kind in KINDS:
            held = [each for each in networks if each["kind"] == kind] if fresh else halves(kind, networks)[1]
            found = []
            for each in held:
                seconds, extrapolated = predict(Case(**each["case"]), calibration)
                apart = abs(np.log(each["halves"][0] / each["halves"][1]))
                found.append([each["seconds"], seconds, float(extrapolated), apart])
            everything += found
        found = everything if kind == "all" else found
        numbers = np.array(found)
        errors = np.abs(numbers[:, 1] / numbers[:, 0] - 1)
        figures = {
            "cases": len(found),
            "median": float(np.median(errors)),
            "p90": float(np.quantile(errors, 0.9)),
            "worst": float(errors.max()),
            "tau": float(kendalltau(numbers[:, 0], numbers[:, 1]).statistic),
            "extrapolated": int(numbers[:, 2].sum()),
            "repeated": float(np.median(numbers[:, 3])),
            "repeated_p90": float(np.quantile(numbers[:, 3], 0.9)),
        }
        results[kind] = figures
        percent = [f"{100 * figures[name]:.1f}" for name in ("median", "p90", "worst")]
        again = f"{100 * figures['repeated']:.1f}, {100 * figures['repeated_p90']:.1f}"
        rows.append([kind, len(found), *percent, f"{figures['tau']:.3f}", figures["extrapolated"], again])
    heads = ("workers", "cases held out", "median error, %", "p90, %", "worst, %", "tau", "extrapolated", "repeated, %")
    return table(heads, rows), results


def missing(kind: str, file: Path, rounds: int, fresh: int) -> list[dict[str, Any]]:
    """Return the networks of a kind that have not been measured in so many rounds."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = [json.dumps(each["spec"]) for each in lines if each["kind"] == kind]
    return [each for each in networks_of(kind, fresh) if done.count(json.dumps(each)) < rounds]


def measure(kind: str, file: Path, rounds: int, passes: int, fresh: int) -> None:
    """Measure what a kind of worker lacks, in its own processes."""
    todo = missing(kind, file, rounds, fresh)
    if not todo:
        return
    if kind in ("probe", "one"):
        job(None, kind, todo, passes, file)
    elif kind == "threads":
        run_threads(2, lambda transport: job(transport, kind, todo, passes, file), timeout=3600.0)
    else:
        options = ["--transport", kind, "--measured", str(file), "--rounds", str(rounds), "--passes", str(passes)]
        options += ["--fresh", str(fresh)]
        program = [*launcher(kind), __file__, *options]
        subprocess.run(program, env=AS_ROOT | os.environ | {"OMP_NUM_THREADS": "1"}, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=MEASURED, help="lines of measurements (default: in runs/)")
    parser.add_argument(
        "--kinds", nargs="*", choices=("probe", *KINDS), default=("probe", *KINDS), help="measure these"
    )
    parser.add_argument("--rounds", type=int, default=1, help="times that every case is measured (default 1)")
    parser.add_argument("--passes", type=int, default=PASSES, help=f"turns of a case in a round (default {PASSES})")
    parser.add_argument("--transport", choices=("gloo", "mpi", "shm"), help=argparse.SUPPRESS)
    parser.add_argument("--fresh", type=int, default=0, help="predict so many new cases of every kind by --calibration")
    parser.add_argument("--calibration", type=Path, default=CALIBRATION, help="of the new cases (default: of docs/)")
    parser.add_argument("--json", type=Path, help="write the calibration and its errors here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    Ledger.book = marking  # type: ignore[method-assign]
    if launched() is not None:
        transport = connect(transport=args.transport)
        job(
            transport,
            args.transport,
            missing(args.transport, args.measured, args.rounds, args.fresh),
            args.passes,
            args.measured,
        )
        transport.barrier()
        transport.close()
        return
    print(header(), flush=True)
    args.measured.parent.mkdir(parents=True, exist_ok=True)
    for number in range(args.rounds):
        for kind in args.kinds:
            if kind != "probe" or not args.fresh:
                measure(kind, args.measured, number + 1, args.passes, args.fresh)
    networks = measured(args.measured, args.fresh)
    calibration = json.loads(args.calibration.read_text())["results"] if args.fresh else calibrated(networks)
    lines, results = report(networks, calibration, bool(args.fresh))
    print("", *lines, sep="\n")
    if args.fresh:
        write_report(args.json, lines, {"machine": machine(), "errors": results})
        return
    figures = {"machine": machine(), "errors": results, **calibration, "cases": rows_of(networks, calibration)}
    write_report(args.json, lines, figures)


def rows_of(networks: list[dict[str, Any]], calibration: dict[str, Any]) -> list[str]:
    """Return every case as a line: its numbers, milliseconds measured and predicted, and which half it was in."""
    rows = [" ".join((*Case.__dataclass_fields__, "milliseconds", "predicted", "half"))]
    for kind in KINDS:
        for half, group in zip(("fitted", "held-out"), halves(kind, networks), strict=True):
            for each in group:
                times = 1e3 * each["seconds"], 1e3 * predict(Case(**each["case"]), calibration)[0]
                rows.append(" ".join([*map(str, each["case"].values()), *(f"{t:.3f}" for t in times), half]))
    return rows


if __name__ == "__main__":
    main()
