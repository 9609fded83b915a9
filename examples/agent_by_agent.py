"""Run exported agents one by one, each with only its own two files, and let them exchange slices.

    dist-hdnn export runs/swiss_roll_ring8/<run> --output=exported
    python examples/agent_by_agent.py exported/agents readings.csv

readings.csv has a column for every feature, as measured; each agent reads its own, scales them and answers. Without it,
the agents propagate random states.

Agents are coroutines that share a mailbox, a dict: an agent posts its slices of a round and pauses until those of its
neighbors arrive. Needs numpy, and neither PyTorch nor dist_hdnn: a starting point for agents that run on their own
devices.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Mailbox = dict[tuple[Any, ...], Array]
Run = Generator[None, None, Array]  # pauses while messages are missing; its value is the result

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": lambda u: 1 / (1 + np.exp(-u)),
    "arctan": np.arctan,
    "sin": np.sin,
    "softplus": lambda u: np.logaddexp(u, 0),
    "silu": lambda u: u / (1 + np.exp(-u)),
}
PREPARING = ("mark", "fill", "shift", "scale")


class Agent:
    """One agent: the contents of its .json and .npz, and a mailbox shared with the others."""

    def __init__(self, file: Path, mailbox: Mailbox) -> None:
        self.about = json.loads(file.read_text(encoding="utf-8"))
        with np.load(file.with_suffix(".npz")) as arrays:
            self.weights = dict(arrays)
        self.mailbox = mailbox
        self.number, self.layer = self.about["agent"], 0
        self.sigma = ACTIVATIONS[self.about["activation"]]

    def answer(self, features: Array) -> Run:
        """Map readings (batch, all features), its own among them, to scores (batch, classes); none: (batch, 0)."""
        state = yield from self.run(self.lift(self.sense(features)))
        about = self.about["readout"]
        if about["kind"] == "none":
            return state[:, :0]
        scores = state @ self.weights["readout.weight"].T + self.weights["readout.bias"]
        for number in range(about.get("rounds", 0)):
            average = {int(j): share for j, share in about["average"].items()}
            others, last = [j for j in average if j != self.number], scores
            got = yield from self.post(("gossip", number), others, others, lambda _, last=last: last)
            scores = average[self.number] * last + sum(average[j] * got[j] for j in others)
        return scores

    def sense(self, readings: Array) -> Array:
        """Map raw readings (batch, all readings), NaN in gaps, to features as in training; others' stay zero."""
        if "readings" not in self.about:  # exported without a run: features as they are
            return readings
        about, of = self.about["readings"], {name: self.weights[f"readings.{name}"] for name in PREPARING}
        seen = readings[:, about["sources"]]
        gaps = np.isnan(seen)
        values = np.where(of["mark"], gaps, np.where(gaps, of["fill"], seen))
        features = np.zeros((len(readings), about["count"]))
        features[:, about["features"]] = (values - of["shift"]) * of["scale"]
        return features

    def lift(self, features: Array) -> Array:
        """Map features (batch, all features) to the first state (batch, own neurons)."""
        about, w = self.about["lift"], self.weights
        padded = np.pad(features, ((0, 0), (0, 1)))  # the last one is zero
        if about["kind"] == "sensors":
            first, last = self.about["state_columns"]
            state = np.broadcast_to(w.get("lift.constant", 0.0), (len(features), last - first)).copy()
            state[:, about["neurons"]] = features[:, about["features"]]
            return state
        if about["kind"] == "linear":
            seen = padded[:, [-1 if feature is None else feature for feature in about["features"]]]
        else:
            found = np.einsum("ce,besp->bcsp", w["lift.filters"], padded[:, w["lift.windows"]])
            seen = np.maximum(found.max(axis=3) + w["lift.filter_bias"][:, None], 0).reshape(len(features), -1)
        return seen @ w["lift.weight"].T + w["lift.bias"]

    def run(self, state: Array) -> Run:
        """Map the first state (batch, own neurons) to the last."""
        parts = dict(zip(self.about["parts"], np.split(state.T, len(self.about["parts"])), strict=True))
        for layer in range(self.about["layers"]):
            self.layer = layer
            for update in self.about["schedule"][self.layer % len(self.about["schedule"])]:
                v = yield from self.force(update, parts[update["source"]])
                v = update["scale"] * v
                parts[update["part"]] = v if update["replaces"] else parts[update["part"]] + v
        return np.concatenate(list(parts.values())).T

    def force(self, update: dict[str, Any], x: Array) -> Run:
        """Return the force on a part at the slice x (neurons, batch) that it depends on; see `dynamics/terms.py`."""
        if update["kind"] == "drift":
            return x
        K, b, kind = update["K"], self.weights[update["b"]][self.layer][:, None], update["kind"]
        if kind == "activated_transposed":
            v = yield from self.transposed(update, K, x)
            return self.sigma(update["factor"] * v + b)
        u = (yield from self.product(update, K, x)) + b
        if kind == "activated":
            return self.sigma(u)
        if kind == "near_identity":
            return u + self.sigma(x + self.about["step"] * u)
        if kind == "activated_skew":
            other = yield from self.transposed(update, K, x)
            return self.sigma(u - other - self.about["gamma"] * x)
        v = yield from self.transposed(update, K, self.sigma(u))  # a gradient, Kᵀ σ(K x + b)
        coupling = update["interconnection"]
        if coupling == "X":
            return (yield from self.product(update, "X", v))
        if coupling == "Xᵀ":
            return (yield from self.transposed(update, "X", v))
        if coupling == "J":
            above = yield from self.product(update, "J", v)
            return above - (yield from self.transposed(update, "J", v))
        return v

    def product(self, update: dict[str, Any], name: str, x: Array) -> Run:
        """Return own rows of K x: gather the neighbors' slices, then multiply."""
        row, blocks = self.row(name)
        got = yield from self.exchange(update, name, "gather", lambda _: x)
        seen = [x if j == self.number else got[j] for j in row["column_agents"]]
        return blocks @ np.concatenate(seen) if seen else np.zeros_like(x)

    def transposed(self, update: dict[str, Any], name: str, z: Array) -> Run:
        """Return own rows of Kᵀ z: multiply, then scatter the contributions, which their owners sum."""
        row, blocks = self.row(name)
        ends = np.cumsum(row["columns"])[:-1]
        shares = dict(zip(row["column_agents"], np.split(blocks.T @ z, ends), strict=True))
        got = yield from self.exchange(update, name, "scatter_add", lambda j: shares[j])
        return sum(got.values(), shares.get(self.number, np.zeros_like(z)))

    def row(self, name: str) -> tuple[dict[str, Any], Array]:
        """Return this layer's own rows of a matrix, and the agents of its columns."""
        rows = self.about["matrices"][name]
        graph = self.layer % len(rows)
        layers = self.weights[f"{name}.{graph}"]
        return rows[graph], layers[min(self.layer // len(rows), len(layers) - 1)]

    def exchange(self, update: dict[str, Any], name: str, kind: str, share: Callable[[int], Array]) -> Any:
        """Send and receive in the matching round of an update; return slices by sender, {} without that round."""
        for each in update["rounds"]:
            if (each["matrix"], each["exchange"]) == (name, kind):
                key = self.layer, each["round"]
                return (yield from self.post(key, map(int, each["to"]), map(int, each["from"]), share))
        return {}

    def post(self, key: Any, to: Iterable[int], sources: Iterable[int], share: Callable[[int], Array]) -> Any:
        """Put slices into the mailbox and pause until the expected ones arrive."""
        for j in to:
            self.mailbox[key, self.number, j] = share(j).copy()
        expected = [(key, j, self.number) for j in sources]
        while any(message not in self.mailbox for message in expected):
            yield
        return {message[1]: self.mailbox.pop(message) for message in expected}


def run_together(runs: dict[int, Run]) -> dict[int, Array]:
    """Resume agents in turn until all are done; return their results."""
    results: dict[int, Array] = {}
    while len(results) < len(runs):
        for number, run in runs.items():
            if number not in results:
                try:
                    next(run)
                except StopIteration as done:
                    results[number] = done.value
    return dict(sorted(results.items()))


def load_agents(folder: Path) -> dict[int, Agent]:
    """Load the agents of a folder, with one mailbox for all."""
    mailbox: Mailbox = {}
    agents = [Agent(file, mailbox) for file in folder.glob("*.json")]
    return {agent.number: agent for agent in sorted(agents, key=lambda agent: agent.number)}


def read(file: Path, agents: dict[int, Agent]) -> Array:
    """Read raw readings (rows, all features) of a .csv file, columns by the names that the agents know."""
    names = {int(i): name for agent in agents.values() for i, name in agent.about["readings"]["names"].items()}
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return np.array([[float(row[names[i]] or "nan") for i in sorted(names)] for row in rows])


def answer_text(scores: Array, about: dict[str, Any]) -> str:
    """Format scores (rows, classes) as names of classes, targets as they are."""
    if about["targets"]:
        return np.array2string(scores.squeeze(1) if scores.shape[1] == 1 else scores, precision=4)
    return ", ".join(str(about["classes"][best]) for best in scores.argmax(axis=1))


def main() -> None:
    agents = load_agents(Path(sys.argv[1] if len(sys.argv) > 1 else "exported/agents"))
    if not agents:
        sys.exit("expected the folder agents/ of dist-hdnn export, got no agents; run the first command of this file")
    if len(sys.argv) > 2:
        readings = read(Path(sys.argv[2]), agents)
        answers = run_together({i: agent.answer(readings) for i, agent in agents.items()})
        if agents[min(agents)].about["readout"]["kind"] == "sum":
            print(f"all agents: {answer_text(sum(answers.values()), agents[min(agents)].about)}")
            return
        for i, scores in answers.items():
            if scores.shape[1]:
                print(f"agent {i} ({agents[i].about['name']}): {answer_text(scores, agents[i].about)}")
        return
    columns = max(agent.about["state_columns"][1] for agent in agents.values())
    y = np.random.default_rng(0).standard_normal((3, columns))
    last = run_together({i: agent.run(y[:, slice(*agent.about["state_columns"])]) for i, agent in agents.items()})
    for i, state in last.items():
        print(f"agent {i} ({agents[i].about['name']}): {np.array2string(state[0], precision=4)}")


if __name__ == "__main__":
    main()
