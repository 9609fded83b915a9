"""Measure where the time of a training step goes, and how many samples per second it trains.

    python benchmarks/training_step.py --json training_step.json
    python benchmarks/training_step.py --what steps --before /tmp/before

Three networks train by the loop that `dist-hdnn train` runs, on random data, one thread: mnist_grid16 (its config),
swiss_roll_ring8 (its config), and 1024 agents with 16 neurons per half on a ring with two neighbors on each side. Some
steps run unchanged, some with a clock around the methods of every part, which assigns to a part the time not spent in
parts inside it; they take turns by tens, so that both meet the same conditions. The cost of a clock, measured in
the same run on a function that does nothing, is subtracted. Shares are of the sum over all parts, means over the half
of the steps that had the processor most to themselves; "parts over a step" compares this sum with steps without clocks.
Sweeps are run, not replayed (`replay: false`), because a replay has no parts.
"rest" is the loop itself: Python, learning rate, sum of the loss. The products are the batched GEMMs of the sweep,
gradients of the weights included; with register tiles they are the kernels, which also gather, add and apply the
activation and its derivative.
Then whole steps of small networks, in turns with plain PyTorch and with another source tree, see `steps.py`.
"""

from __future__ import annotations

import argparse
import functools
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import header, table, write_report
from steps import whole_steps

from dist_hdnn.build import assembly
from dist_hdnn.config.files import read_config
from dist_hdnn.data import Dataset
from dist_hdnn.dynamics import step
from dist_hdnn.experiment.tasks import split_tensors, train_model
from dist_hdnn.network.hdnn import HDNN
from dist_hdnn.operators import activations, products
from dist_hdnn.sweep import sweep, tape, weight_gradients, weights
from dist_hdnn.training.classifier import AgentClassifier
from dist_hdnn.training.optimizers import OPTIMIZERS
from dist_hdnn.transport import Ledger

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
WIDE = "1024 agents x 16"
NETWORKS: dict[str, tuple[str, list[str]]] = {
    "mnist_grid16": ("mnist_grid16", []),
    "swiss_roll_ring8": ("swiss_roll_ring8", []),
    WIDE: ("swiss_roll_ring8", ["--network.width=32", "--network.layers=4", "--train.batch_size=128"]),
}
WIDE_GRAPH = ["--graph.family=watts_strogatz", "--graph.agents=1024", "--graph.neighbours=4", "--graph.probability=0"]
PRODUCTS, CALLS, REST, TARGET = "sweep: products", "sweep: calls of products", "rest", 0.7
METHODS = (
    *("affine", "activated", "product", "sloped", "transposed", "weight_gradient"),
    *("gradient_value", "gradient_adjoint"),
)
BLOCK, WARM_UP, EVALUATED = 10, 10, 8  # steps; samples, as an epoch ends with an evaluation
Part = tuple[Any, str, str, str]


def parts(model: AgentClassifier) -> list[Part]:
    """Return what is timed: class or module, name, part of the step, and the only part inside which it counts."""
    packing, arranging, activation = "sweep: packing the state", "sweep: arranging weights", "sweep: activation"
    methods = [
        (AgentClassifier, "lift", "lift"),
        (AgentClassifier, "scores", "readout"),
        (type(model.readout), "loss", "loss"),
        (HDNN, "add_smoothness_gradient", "smoothness penalty"),
        (torch.Tensor, "backward", "backward of lift, readout, loss"),
        *((one, name, "optimizer") for one in OPTIMIZERS.values() for name in ("step", "zero_grad")),
        (sweep.Layers, "forward", "sweep: loop over layers"),
        (sweep.Layers, "backward", "sweep: loop over layers"),
        (sweep.Sweep, "pack", packing),
        (sweep.Sweep, "unpack", packing),
        *((weights.WeightPanels, name, arranging) for name in ("hold", "of", "release")),
        *((weight_gradients.GradientPanels, name, arranging) for name in ("__init__", "of", "finish")),
        (step, "forward", "sweep: additions, calls of terms"),
        (tape.Forget, "back", "sweep: additions, calls of terms"),
        (tape.Reverse, "back", "sweep: additions, calls of terms"),
        (activations.Activation, "value", activation),
        (activations.Activation, "times_slope", activation),
        (Ledger, "book", "sweep: ledger"),
        (products.GradientSum, "add_rows", "sweep: gradients of biases"),
        *((one, name, part) for one, part in plans(products.BlockProducts) for name in METHODS if name in vars(one)),
    ]
    inside = [
        *((torch, name, PRODUCTS) for name in ("bmm", "baddbmm")),
        *((torch.Tensor, name, PRODUCTS) for name in ("baddbmm_", "addmm_")),
        (torch, "index_select", "sweep: gather"),
        (torch.Tensor, "index_add_", "sweep: scatter-add"),
        (torch.Tensor, "zero_", "sweep: scatter-add"),
    ]
    batch = (torch.Tensor, "index_select", "samples of a batch", REST)
    return [(*method, "") for method in methods] + [(*function, CALLS) for function in inside] + [batch]


def plans(base: type) -> list[tuple[type, str]]:
    """Return a class of products and its subclasses with their part; a register tile counts as one product."""
    part = PRODUCTS if base.__module__.startswith("dist_hdnn.operators.tiles") else CALLS
    return [(base, part), *(each for child in base.__subclasses__() for each in plans(child))]


class Clock:
    """Seconds of every part, without the parts inside it, and calls of every part, in the timed steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[tuple[str, str], int] = defaultdict(int)  # by enclosing part and part
        self.open: list[str] = [REST]
        self.last = time.perf_counter()

    def start(self) -> None:
        """Start a step."""
        self.seconds, self.calls = defaultdict(float), defaultdict(int)
        self.last = time.perf_counter()

    def parts(self, cost: tuple[float, float]) -> dict[str, float]:
        """Return seconds of every part since `start`, less its clocks; cost: from `cost_of_a_call`."""
        self.charge()
        found = dict(self.seconds)
        for (outer, inner), calls in self.calls.items():
            found[inner] -= calls * cost[0]
            found[outer] -= calls * cost[1]
        return found

    def charge(self) -> None:
        """Add the time since the last call to the innermost open part."""
        now = time.perf_counter()
        self.seconds[self.open[-1]] += now - self.last
        self.last = now

    def around(self, function: Callable[..., Any], part: str, inside: str = "") -> Callable[..., Any]:
        """Return the function, timed; inside: only within a part whose name starts so."""

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            if not self.open[-1].startswith(inside):
                return function(*arguments, **options)
            self.charge()
            self.calls[self.open[-1], part] += 1
            self.open.append(part)
            try:
                return function(*arguments, **options)
            finally:
                self.charge()
                self.open.pop()

        return timed


def cost_of_a_call(calls: int = 20_000) -> tuple[float, float]:
    """Return the seconds that one clock adds to its part and to the enclosing part, without the call itself."""

    class Empty:
        def method(self, argument: object) -> None:
            pass

    clock, empty = Clock(), Empty()
    began = time.perf_counter()
    for _ in range(calls):
        empty.method(None)
    plain = (time.perf_counter() - began) / calls
    Empty.method = clock.around(Empty.method, "empty")  # type: ignore[method-assign]
    clock.start()
    for _ in range(calls):
        empty.method(None)
    clock.charge()
    return clock.seconds["empty"] / calls, clock.seconds[REST] / calls - plain


@contextmanager
def wrapped(clock: Clock, model: AgentClassifier) -> Iterator[None]:
    """Time every part inside the block, and restore it afterwards."""
    wanted = parts(model)
    before = [(owner, name, vars(owner).get(name), getattr(owner, name)) for owner, name, _, _ in wanted]
    for (owner, name, part, inside), (_, _, own, function) in zip(wanted, before, strict=True):
        timed = clock.around(function, part, inside)
        setattr(owner, name, staticmethod(timed) if isinstance(own, staticmethod) else timed)
    try:
        yield
    finally:
        for owner, name, own, _ in before:
            delattr(owner, name) if own is None else setattr(owner, name, own)


def random_data(like: str, samples: int) -> Dataset:
    """Return random points and labels in the shape of a config's data: values do not change the time."""
    generator = np.random.default_rng(0)
    features, classes, image = (784, 10, (28, 28, 1)) if like.startswith("mnist") else (2, 2, None)
    points = [generator.standard_normal((count, features)) for count in (samples, EVALUATED)]
    labels = [generator.integers(0, classes, count) for count in (samples, EVALUATED)]
    names = tuple(f"feature {k}" for k in range(features))
    return Dataset("random", points[0], labels[0], points[1], labels[1], classes, names, image)


class Turns:
    """Steps without and with clocks, in turns by blocks; the first step of each block is not counted."""

    def __init__(self, model: AgentClassifier) -> None:
        self.model, self.clock, self.cost = model, Clock(), cost_of_a_call()
        self.cpu_seconds: list[float] = []  # of steps without clocks
        self.plain: list[tuple[float, dict[str, float]]] = []  # of the same: seconds of waiting, and of the whole step
        self.timed: list[tuple[float, dict[str, float]]] = []  # of steps with clocks: the same, and of every part
        self.on = ExitStack()
        self.steps, self.clocked = 0, False
        self._start()

    def on_step(self, step: int, loss: float) -> None:
        """Record the step that has ended and start the next."""
        cpu, wall = time.thread_time() - self.cpu, time.perf_counter() - self.wall
        if self.steps % BLOCK and self.steps > WARM_UP:
            if self.clocked:
                self.timed.append((wall - cpu, self.clock.parts(self.cost)))
            else:
                self.plain.append((wall - cpu, {"step": wall}))
                self.cpu_seconds.append(cpu)
        self.steps += 1
        if self.steps % BLOCK == 0:
            self.on.close()
            self.clocked = not self.clocked
            if self.clocked:
                self.on.enter_context(wrapped(self.clock, self.model))
        self._start()

    def _start(self) -> None:
        self.clock.start()
        self.cpu, self.wall = time.thread_time(), time.perf_counter()


def quiet(steps: list[tuple[float, dict[str, float]]]) -> dict[str, float]:
    """Return mean seconds by name over the half of the steps that waited least for the processor."""
    kept = [found for _, found in sorted(steps, key=lambda pair: pair[0])[: (len(steps) + 1) // 2]]
    names = dict.fromkeys(name for found in kept for name in found)
    return {name: sum(found.get(name, 0.0) for found in kept) / len(kept) for name in names}


def measured(name: str, steps: int) -> dict[str, Any]:
    """Measure seconds of every part of a training step, and CPU seconds of every step without clocks."""
    file, options = NETWORKS[name]
    options = [*options, *WIDE_GRAPH] if name == WIDE else options
    config = read_config(CONFIGS / f"{file}.yaml", ["--train.epochs=1", "--replay=false", *options])
    data = random_data(file, config.train.batch_size * (2 * steps + BLOCK))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = assembly.build_classifier(config, data)
    training = split_tensors(config, data, "train")
    turns = Turns(model)
    with turns.on:
        train_model(config, model, data, training, on_step=turns.on_step)
    return {
        "batch": config.train.batch_size,
        "step_cpu_seconds": turns.cpu_seconds,
        "step_seconds": quiet(turns.plain)["step"],
        "part_seconds": quiet(turns.timed),
    }


def lines_of(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return a table of shares, one column per network, and the verdict."""
    totals = {name: sum(found["part_seconds"].values()) for name, found in results.items()}
    shares = {
        name: {part: seconds / totals[name] for part, seconds in found["part_seconds"].items()}
        for name, found in results.items()
    }
    largest = {part: 0.0 for found in shares.values() for part in found}
    for part in largest:
        largest[part] = max(found.get(part, 0.0) for found in shares.values())
    rows = [
        (part, *(f"{found.get(part, 0.0):.1%}" for found in shares.values()))
        for part in sorted(largest, key=lambda part: (not part.startswith("sweep"), -largest[part]))
    ]
    sweeps = [sum(share for part, share in found.items() if part.startswith("sweep")) for found in shares.values()]
    steps = {name: float(np.median(found["step_cpu_seconds"])) for name, found in results.items()}
    rows.append(("the whole sweep", *(f"{share:.1%}" for share in sweeps)))
    rows.append(
        ("parts over a step", *(f"{totals[name] / found['step_seconds']:.3f}" for name, found in results.items()))
    )
    rows.append(("a step, CPU ms", *(f"{1e3 * seconds:.2f}" for seconds in steps.values())))
    rows.append(("samples per second", *(f"{found['batch'] / steps[name]:.0f}" for name, found in results.items())))
    lines = table(("part", *results), rows)
    for name in results.keys() & {"mnist_grid16"}:
        share = shares[name][PRODUCTS]
        reached = "reached" if share >= TARGET else "missed"
        lines += ["", f"{name}: {share:.1%} of a step are products of the sweep (target {TARGET:.0%}: {reached})"]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=list(NETWORKS), help="only this one; may be repeated")
    parser.add_argument(
        "--steps", type=int, default=40, help="steps of each network, with clocks and without (default 40)"
    )
    parser.add_argument("--what", choices=("parts", "steps", "both"), default="both", help="(default both)")
    parser.add_argument("--before", type=Path, metavar="PATH", help="root of another source tree, for whole steps")
    parser.add_argument("--blocks", type=int, default=9, help="blocks of whole steps (default 9)")
    parser.add_argument("--json", type=Path, help="also write every time here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(header(), flush=True)
    lines: list[str] = []
    results: dict[str, Any] = {"steps": args.steps}
    if args.what != "steps":
        results["networks"] = {name: measured(name, args.steps) for name in args.network or NETWORKS}
        lines += lines_of(results["networks"])
    if args.what != "parts":
        steps, results["whole"] = whole_steps(args.before, args.blocks)
        lines += ["", *steps] if lines else steps
    print("\n".join(lines))
    write_report(args.json, lines, results)


if __name__ == "__main__":
    main()
