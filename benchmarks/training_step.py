"""Where does the time of a whole training step go?

    python benchmarks/training_step.py --json training_step.json

Three networks train by the loop that `dist-hdnn train` runs, on random data, one thread: mnist_grid16 (its config),
swiss_roll_ring8 (its config), and 1024 agents with 16 neurons per half on a ring with two neighbours each side. From
outside, methods are wrapped by a clock that gives every part the time not spent in parts inside it, medians over the
steps. The clocks take time themselves, which counts for the part around: "clocks" is how much longer a step takes with
them, a lot for the smallest network. "rest" is the loop itself: choosing a batch, Python. The products are the batched
GEMMs of the sweep, gradients of the weights included; with the plan of register tiles they are its kernels, which
gather, add and apply the activation and its derivative on the way.
"""

from __future__ import annotations

import argparse
import functools
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import header, table, write_report

from dist_hdnn import assembly
from dist_hdnn.config import Config
from dist_hdnn.config.files import read_config
from dist_hdnn.data import Dataset
from dist_hdnn.experiment import split_tensors, train_model
from dist_hdnn.layers import (
    activations,
    frame,
    linear,
    products,
    sweep,
    updates,
    weight_gradients,
    weights,
)
from dist_hdnn.model.network import HDNN
from dist_hdnn.training.classifier import AgentClassifier
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
METHODS = ("affine", "activated", "product", "sloped", "transposed", "weight_gradient")
WARM_UP, EVALUATED = 3, 8  # steps; samples, as an epoch ends with an evaluation
Part = tuple[Any, str, str, str]


def parts(model: AgentClassifier) -> list[Part]:
    """What is wrapped: class or module, name, part of the step, and inside which part alone."""
    packing, arranging, activation = "sweep: packing the state", "sweep: arranging weights", "sweep: activation"
    methods = [
        (AgentClassifier, "lift", "lift"),
        (AgentClassifier, "scores", "readout"),
        (type(model.readout), "loss", "loss"),
        (HDNN, "smoothness", "smoothness penalty"),
        (torch.Tensor, "backward", "backward of lift, readout, loss, penalty"),
        (torch.optim.Adam, "step", "optimiser"),
        (torch.optim.Optimizer, "zero_grad", "optimiser"),
        (sweep.Sweep, "forward", "sweep: loop over layers"),
        (sweep._SweepFunction, "backward", "sweep: loop over layers"),
        (frame.Frame, "pack", packing),
        (frame.Frame, "unpack", packing),
        *((weights.WeightPanels, name, arranging) for name in ("hold", "of", "release")),
        *((weight_gradients.GradientPanels, name, arranging) for name in ("__init__", "of", "collected")),
        (updates.Update, "advance", "sweep: additions, calls of terms"),
        (updates.Update, "pull", "sweep: additions, calls of terms"),
        (activations.Activation, "value", activation),
        (activations.Activation, "times_slope", activation),
        (Ledger, "book", "sweep: ledger"),
        (linear.GradientSum, "add_sum", "sweep: gradients of biases"),
        *((one, name, part) for one, part in plans(products.BlockProducts) for name in METHODS if name in vars(one)),
    ]
    inside = [
        *((torch, name, PRODUCTS) for name in ("bmm", "baddbmm")),
        *((torch.Tensor, name, PRODUCTS) for name in ("baddbmm_", "addmm_")),
        (torch, "index_select", "sweep: gather"),
        (torch.Tensor, "index_add_", "sweep: scatter-add"),
        (torch.Tensor, "zero_", "sweep: scatter-add"),
    ]
    return [(*method, "") for method in methods] + [(*function, CALLS) for function in inside]


def plans(base: type) -> list[tuple[type, str]]:
    """A class of products and all that inherit from it; register tiles are one kernel with all that goes with it."""
    part = PRODUCTS if base.__module__.startswith("dist_hdnn.layers.tiles") else CALLS
    return [(base, part), *(each for child in base.__subclasses__() for each in plans(child))]


class Clock:
    """Seconds of every part, without the parts inside it, step by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps: list[dict[str, float]] = []
        self.open: list[str] = [REST]
        self.last = time.perf_counter()

    def end_step(self) -> None:
        """Start the next step."""
        self.tell()
        self.steps.append(self.seconds)
        self.seconds = defaultdict(float)

    def medians(self) -> dict[str, float]:
        """Of every part over the steps after the first few."""
        steps = self.steps[WARM_UP:]
        names = dict.fromkeys(name for step in steps for name in step)
        return {name: float(np.median([step[name] for step in steps])) for name in names}

    def tell(self) -> None:
        """Give what has passed to the innermost open part."""
        now = time.perf_counter()
        self.seconds[self.open[-1]] += now - self.last
        self.last = now

    def around(self, function: Callable[..., Any], part: str, inside: str = "") -> Callable[..., Any]:
        """The function, timed; inside: only where the part around it is called so."""

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            if not self.open[-1].startswith(inside):
                return function(*arguments, **options)
            self.tell()
            self.open.append(part)
            try:
                return function(*arguments, **options)
            finally:
                self.tell()
                self.open.pop()

        return timed


@contextmanager
def wrapped(clock: Clock, model: AgentClassifier) -> Iterator[None]:
    """Everything timed, and back as it was afterwards."""
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
    """Points of the shape that a config's data have, with random labels: numbers do not change the time."""
    generator = np.random.default_rng(0)
    features, classes, image = (784, 10, (28, 28, 1)) if like.startswith("mnist") else (2, 2, None)
    points = [generator.standard_normal((count, features)) for count in (samples, EVALUATED)]
    labels = [generator.integers(0, classes, count) for count in (samples, EVALUATED)]
    names = tuple(f"feature {k}" for k in range(features))
    return Dataset("random", points[0], labels[0], points[1], labels[1], classes, names, image)


def train(config: Config, model: AgentClassifier, data: Dataset, clock: Clock | None = None) -> list[float]:
    """CPU seconds of every step after the first few, in one epoch of training, with or without clocks."""
    ends: list[float] = []

    def on_step(step: int, loss: float) -> None:
        ends.append(time.thread_time())
        if clock is not None:
            clock.end_step()

    training, test = (split_tensors(config, data, which) for which in ("train", "test"))
    train_model(config, model, data, training, test, on_step=on_step)
    return np.diff(ends[WARM_UP - 1 :]).tolist()


def measured(name: str, steps: int) -> dict[str, Any]:
    """Seconds of every part of a network's training step, medians over steps, and CPU seconds of the whole."""
    file, options = NETWORKS[name]
    options = [*options, *WIDE_GRAPH] if name == WIDE else options
    config = read_config(CONFIGS / f"{file}.yaml", ["--train.epochs=1", *options])
    data = random_data(file, config.train.batch_size * (steps + WARM_UP))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = assembly.build_classifier(config, data)
    plain = train(config, model, data)
    clock = Clock()
    with wrapped(clock, model):
        timed = train(config, model, data, clock)
    return {
        "step_seconds": plain,
        "timed_step_seconds": timed,
        "part_seconds": clock.medians(),
    }


def lines_of(results: dict[str, dict[str, Any]]) -> list[str]:
    """A table of shares, a column for each network, and the verdict."""
    totals = {name: sum(found["part_seconds"].values()) for name, found in results.items()}
    names = {part: 0.0 for found in results.values() for part in found["part_seconds"]}
    for part in names:
        names[part] = max(found["part_seconds"].get(part, 0) / totals[name] for name, found in results.items())
    rows = [
        (part, *(f"{found['part_seconds'].get(part, 0.0) / totals[name]:.1%}" for name, found in results.items()))
        for part in sorted(names, key=lambda part: (not part.startswith("sweep"), -names[part]))
    ]
    sweeps = [
        f"{sum(value for part, value in found['part_seconds'].items() if part.startswith('sweep')) / totals[name]:.1%}"
        for name, found in results.items()
    ]
    medians = {name: float(np.median(found["step_seconds"])) for name, found in results.items()}
    clocks = [f"{np.median(found['timed_step_seconds']) / medians[name] - 1:.1%}" for name, found in results.items()]
    rows += [("the whole sweep", *sweeps), ("clocks", *clocks)]
    rows.append(("a step without clocks, CPU ms", *(f"{1e3 * seconds:.2f}" for seconds in medians.values())))
    lines = table(("part", *results), rows)
    for name in results.keys() & {"mnist_grid16"}:
        share = results[name]["part_seconds"][PRODUCTS] / totals[name]
        reached = "reached" if share >= TARGET else "missed"
        lines += ["", f"{name}: {share:.1%} of a step are products of the sweep (target {TARGET:.0%}: {reached})"]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=list(NETWORKS), help="only this one; may be repeated")
    parser.add_argument("--steps", type=int, default=20, help="steps of each network, with and without clocks (20)")
    parser.add_argument("--json", type=Path, help="also write every time here")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(header(), flush=True)
    results = {name: measured(name, given.steps) for name in given.network or NETWORKS}
    lines = lines_of(results)
    print("\n".join(lines))
    write_report(given.json, lines, {"steps": given.steps, "networks": results})


if __name__ == "__main__":
    main()
