"""The mathematics of one exported agent, from its own two files: a program that pauses in every round of messages.

    agent = Agent(Path("exported/agents/3.json"))
    run = agent.answer(readings)           yields an `Exchange` per round, gets slices by sender, returns its scores

Needs numpy alone. `agent.py` runs it with sockets, `examples/agent_by_agent.py` in one process.
Shapes: slices are (neurons, batch), states and scores (batch, ...).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
PREPARING = ("mark", "fill", "shift", "scale")
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "sigmoid": lambda u: 1 / (1 + np.exp(-u)),
    "arctan": np.arctan,
    "sin": np.sin,
    "softplus": lambda u: np.logaddexp(u, 0),
    "silu": lambda u: u / (1 + np.exp(-u)),
}


@dataclass
class Exchange:
    """A round of messages. out: slices by receiver. sources: rows of a slice, by sender.

    round: counted from 1 in its layer. update: number in the layer. kind: gather, scatter_add or gossip. own: what this
    agent has in place of a lost slice, if its rows are as many.
    """

    layer: int
    round: int
    update: int
    matrix: str
    kind: str
    out: dict[int, Array]
    sources: dict[int, int]
    own: Array


Run = Generator[Exchange, dict[int, Array], Array]  # gets slices by sender in every round; its value is the result


class Agent:
    """The mathematics of one agent, from its .json and .npz."""

    def __init__(self, file: Path) -> None:
        self.about = json.loads(file.read_text(encoding="utf-8"))
        with np.load(file.with_suffix(".npz")) as arrays:
            self.weights = dict(arrays)
        self.number: int = self.about["agent"]
        self.sigma = ACTIVATIONS[self.about["activation"]]
        self.dtype = self.weights[f"{next(iter(self.about['matrices']))}.0"].dtype

    def answer(self, features: Array) -> Run:
        """Map readings (batch, all features), its own among them, to scores (batch, classes); none: (batch, 0)."""
        state = yield from self.run(self.lift(self.sense(features)).astype(self.dtype))
        about = self.about["readout"]
        if about["kind"] == "none":
            return state[:, :0]
        scores: Array = state @ self.weights["readout.weight"].T + self.weights["readout.bias"]
        for number in range(about.get("rounds", 0)):
            average = {int(j): share for j, share in about["average"].items()}
            others, last = [j for j in average if j != self.number], scores
            out, sources = dict.fromkeys(others, last.T), dict.fromkeys(others, int(scores.shape[1]))
            got = yield Exchange(self.about["layers"], number + 1, 0, "", "gossip", out, sources, last.T)
            scores = average[self.number] * last + sum(average[j] * got[j].T for j in others)
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
            state: Array = np.broadcast_to(w.get("lift.constant", 0.0), (len(features), last - first)).copy()
            state[:, about["neurons"]] = features[:, about["features"]]
            return state
        if about["kind"] == "linear":
            seen = padded[:, [-1 if feature is None else feature for feature in about["features"]]]
        else:
            found = np.einsum("ce,besp->bcsp", w["lift.filters"], padded[:, w["lift.windows"]])
            seen = np.maximum(found.max(axis=3) + w["lift.filter_bias"][:, None], 0).reshape(len(features), -1)
        lifted: Array = seen @ w["lift.weight"].T + w["lift.bias"]
        return lifted

    def run(self, state: Array) -> Run:
        """Map the first state (batch, own neurons) to the last."""
        parts = dict(zip(self.about["parts"], np.split(state.T, len(self.about["parts"])), strict=True))
        for layer in range(self.about["layers"]):
            for number, update in enumerate(self.about["schedule"][layer % len(self.about["schedule"])]):
                update = update | {"layer": layer, "number": number}
                v = yield from self.force(update, parts[update["source"]])
                v = update["scale"] * v
                parts[update["part"]] = v if update["replaces"] else parts[update["part"]] + v
        return np.concatenate(list(parts.values())).T

    def force(self, update: dict[str, Any], x: Array) -> Run:
        """Return the force on a part at the slice x (neurons, batch) that it depends on; see `dynamics/terms.py`."""
        if update["kind"] == "drift":
            return x
        K, kind = update["K"], update["kind"]
        b: Array = self.weights[update["b"]][update["layer"]][:, None]
        if kind == "activated_transposed":
            v = yield from self.transposed(update, K, x)
            return self.sigma(update["factor"] * v + b)
        u: Array = b + (yield from self.product(update, K, x))
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
        row, blocks = self.row(update["layer"], name)
        got = yield from self.exchange(update, name, "gather", lambda _: x, x)
        seen = [x if j == self.number else got[j] for j in row["column_agents"]]
        return blocks @ np.concatenate(seen) if seen else np.zeros_like(x)

    def transposed(self, update: dict[str, Any], name: str, z: Array) -> Run:
        """Return own rows of Kᵀ z: multiply, then scatter the contributions, which their owners sum."""
        row, blocks = self.row(update["layer"], name)
        ends = np.cumsum(row["columns"])[:-1]
        shares = dict(zip(row["column_agents"], np.split(blocks.T @ z, ends), strict=True))
        got = yield from self.exchange(update, name, "scatter_add", lambda j: shares[j], z)
        total: Array = sum(got.values(), shares.get(self.number, np.zeros_like(z)))
        return total

    def row(self, layer: int, name: str) -> tuple[dict[str, Any], Array]:
        """Return a layer's own rows of a matrix, and the agents of its columns."""
        rows = self.about["matrices"][name]
        graph = layer % len(rows)
        layers = self.weights[f"{name}.{graph}"]
        return rows[graph], layers[min(layer // len(rows), len(layers) - 1)]

    def exchange(self, update: dict[str, Any], name: str, kind: str, share: Callable[[int], Array], own: Array) -> Any:
        """Send and receive in the matching round of an update; return slices by sender, {} without that round."""
        for each in update["rounds"]:
            if (each["matrix"], each["exchange"]) == (name, kind):
                out = {j: share(j) for j in map(int, each["to"])}
                sources = {int(j): shape[0] for j, shape in each["from"].items()}
                place = update["layer"], each["round"], update["number"]
                return (yield Exchange(*place, name, kind, out, sources, own))
        return {}


class Filling:
    """What stands in for lost slices of a sample: zero, own, hold (the last of that link) or predict (a line).

    Replies know no own slice; gossip keeps its own scores.
    """

    def __init__(self, fill: str) -> None:
        self.fill, self.memory = fill, dict[tuple[Any, ...], list[Array]]()

    def instead(self, exchange: Exchange, j: int, batch: int) -> Array:
        """Return the stand-in for the slice of agent j."""
        shape = exchange.sources[j], batch
        if exchange.kind == "gossip" or (self.fill, exchange.kind) == ("own", "gather"):
            return exchange.own if exchange.own.shape == shape else np.zeros(shape, exchange.own.dtype)
        before = self.memory.get((exchange.update, exchange.matrix, exchange.kind, j), [])
        if self.fill == "predict" and len(before) == 2:
            return 2 * before[1] - before[0]
        return before[-1] if before else np.zeros(shape, exchange.own.dtype)

    def keep(self, exchange: Exchange, got: dict[int, Array]) -> None:
        """Remember what a round has brought, for the next layer."""
        for j, values in got.items() if self.fill in ("hold", "predict") else ():
            key = exchange.update, exchange.matrix, exchange.kind, j
            self.memory[key] = [*self.memory.get(key, []), values][-2:]
