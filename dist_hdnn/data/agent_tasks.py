"""Generated tasks in which every agent has features and answers of its own, from the literature on long ranges.

    barbell         two cliques of n agents and one bridge: every agent names the mean of the OTHER clique's inputs
    ring_transfer   agent 0 of a ring names the payload that the agent `distance` hops away holds

Both cannot be solved without messages over the bridge or along the ring. The "graph transfer" task of the same
literature is not here: its target at every node is a function of the node's own input.
Shapes: x (samples, agents · features), y (samples, agents, targets), NaN where an agent does not answer.
"""

from __future__ import annotations

import math

import numpy as np

from dist_hdnn.data.arrays import Task, dataset_of
from dist_hdnn.data.batches import keyed_stream
from dist_hdnn.data.dataset import Dataset
from dist_hdnn.data.preparation import Preparation
from dist_hdnn.data.splits import Cut


def barbell(agents: int, samples: int, cut: Cut) -> Dataset:
    """Return the barbell task on two cliques of n = agents / 2, agents 0 .. n - 1 and n .. 2n - 1.

    Inputs of the first clique are uniform with mean -√(3n) and standard deviation √n, those of the second with mean
    √(3n). The target of every agent is the mean of the other clique's inputs in the sample. Guessing the expected
    mean has a squared error of 1, so whatever is below has crossed the bridge.
    Source: Bamberger, Barbero, Dong, Bronstein, Bundle Neural Networks, ICLR 2025.
    """
    if agents < 4 or agents % 2:
        raise ValueError(f"data.name=barbell: expected graph.agents even and at least 4, got {agents}; use 20")
    n = agents // 2
    uniform = np.random.Generator(keyed_stream(cut.seed, "barbell")).random((samples, 2, n))
    width = math.sqrt(3.0 * n)
    x = width * (2.0 * uniform - 1.0) + np.array([-width, width])[:, None]  # (samples, cliques, n)
    y = np.repeat(x.mean(axis=2)[:, ::-1], n, axis=1)  # (samples, agents)
    names = [str(agent) for agent in range(agents)]
    blank = Preparation(observers=dict(zip(names, range(agents), strict=True)))
    task = Task("barbell", regression=True, cut=cut, blank=blank, own=True)
    return dataset_of({"x": x.reshape(samples, agents), "y": y}, task, names)


def ring_transfer(agents: int, samples: int, cut: Cut, distance: int | None = None, payload: int = 1) -> Dataset:
    """Return the ring transfer of a real payload of `payload` numbers, uniform with mean 0 and variance 1.

    Agent 0 receives: its features are 0, it alone answers. The agent `distance` hops away (by default the opposite one)
    sends: its features are the payload. All others have features 1.
    Source: Bodnar et al., NeurIPS 2021 (CWN), and Di Giovanni et al., ICML 2023, whose payload is one of 5 classes; a
    real one asks for generalization too.
    """
    if agents < 2:
        raise ValueError(f"data.name=ring_transfer: expected graph.agents of at least 2, got {agents}; use 32")
    distance = agents // 2 if distance is None else distance
    if not 1 <= distance <= agents // 2:
        raise ValueError(
            f"data.distance: expected 1 to {agents // 2} hops on a ring of {agents} agents, got {distance}; lower it, "
            "or raise graph.agents"
        )
    if payload < 1:
        raise ValueError(f"data.payload: expected at least 1 number, got {payload}; use 1")
    uniform = np.random.Generator(keyed_stream(cut.seed, "ring transfer")).random((samples, payload))
    values = math.sqrt(3.0) * (2.0 * uniform - 1.0)
    x = np.ones((samples, agents, payload))
    x[:, 0], x[:, distance] = 0.0, values
    names = [f"{agent}.{k}" if payload > 1 else str(agent) for agent in range(agents) for k in range(payload)]
    observers = {name: number // payload for number, name in enumerate(names)}
    targets = {f"payload.{k}": 0 for k in range(payload)}
    blank = Preparation(observers=observers, targets=targets)
    task = Task("ring_transfer", regression=True, cut=cut, blank=blank, own=True)
    return dataset_of({"x": x.reshape(samples, -1), "y": values[:, None]}, task, names)
