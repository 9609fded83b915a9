"""Partitions of agents among workers, by a method or as the user says, and their costs.

Workers are 0..workers-1 and each owns at least one agent. The methods are in `partitioners`.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dist_hdnn.topology.graphs import CommunicationGraph, whole_number
from dist_hdnn.topology.partitioners import METHODS
from dist_hdnn.topology.patterns import BlockPattern, neighbours
from dist_hdnn.topology.ragged import IntArray


@dataclass(frozen=True, eq=False)
class Partition:
    """The worker of every agent. owners: (agents,) int64, read-only. method: for reports.

    Raises ValueError when an owner is no worker or a worker owns no agent.
    """

    owners: IntArray
    workers: int
    method: str

    def __post_init__(self) -> None:
        owners = np.array(self.owners, dtype=np.int64)
        owners.setflags(write=False)
        object.__setattr__(self, "owners", owners)
        workers = whole_number(f"partition {self.method}", "workers", self.workers, 1)
        strange = np.flatnonzero((owners < 0) | (owners >= workers))
        if len(strange):
            raise ValueError(
                f"partition {self.method}: expected an owner 0..{workers - 1} of agent {strange[0]}, got "
                f"{owners[strange[0]]}; change the owner or the number of workers"
            )
        idle = np.setdiff1d(np.arange(workers), owners)
        if len(idle):
            raise ValueError(
                f"partition {self.method}: expected an agent for each of {workers} workers, got none for worker "
                f"{idle[0]}{f' and {len(idle) - 1} more' if len(idle) > 1 else ''}; give it one or use fewer workers"
            )

    @property
    def agents(self) -> int:
        """The number of agents."""
        return len(self.owners)

    def owned(self, worker: int) -> IntArray:
        """Return the agents of a worker, ascending."""
        worker = whole_number(f"partition {self.method}", "worker", worker, 0, self.workers - 1)
        return np.flatnonzero(self.owners == worker)

    def crossings(self, pattern: BlockPattern) -> tuple[IntArray, IntArray]:
        """Return (workers, agents), both (pairs,) and sorted: each worker with its ghosts.

        A pair is one slice on the wire in every round: to the worker in a gather, back in a scatter-add.
        """
        pattern.check_agents(self.agents)
        needing = self.owners[pattern.rows()]  # per entry, the worker of its row
        between = needing != self.owners[pattern.columns]
        pairs = np.unique(needing[between] * self.agents + pattern.columns[between])  # one number per pair
        workers, agents = np.divmod(pairs, self.agents)
        return workers, agents


def make_partition(
    graph: CommunicationGraph,
    workers: int,
    method: str = "contiguous",
    widths: ArrayLike | None = None,
    pattern: BlockPattern | None = None,
    seed: int = 0,
) -> Partition:
    """Share the agents out by one of METHODS, with even loads and few ghosts.

    widths: (agents,) neurons of every agent, default 1 each; only their ratios matter. pattern: the slices that agents
    read, default `neighbours`. seed: for metis. An agent's load is its share of all neurons plus its share of all block
    products; `round_robin` ignores it. Every worker may compute the partition for itself: only `spectral` (rounding)
    and `metis` could differ between machines with different libraries, which `plan_digest` reveals.
    Raises ValueError for more workers than agents, an unknown method, widths that do not fit, metis without pymetis.
    """
    workers = whole_number("make_partition", "workers", workers, 1)
    if workers > graph.agents:
        raise ValueError(
            f"make_partition: expected at most {graph.agents} workers, one per agent of {graph.name}, got {workers}; "
            "use fewer workers"
        )
    if method not in METHODS:
        nearest = difflib.get_close_matches(str(method), METHODS, n=1, cutoff=0.3) or ["contiguous"]
        raise ValueError(
            f"make_partition: expected a method of {', '.join(METHODS)}, got {method!r}; did you mean {nearest[0]!r}?"
        )
    neurons = agent_neurons(np.ones(graph.agents) if widths is None else widths, graph.agents)
    pattern = neighbours(graph) if pattern is None else pattern
    pattern.check_agents(graph.agents)
    products = _block_products(pattern, neurons)
    load = neurons / neurons.sum() + products / max(products.sum(), 1)
    coupled = pattern.to_scipy().astype(np.float64)
    coupled = (coupled + coupled.T).tocsr()  # symmetric for the methods: either direction makes a ghost
    coupled.setdiag(0)
    coupled.eliminate_zeros()
    seed = whole_number("make_partition", "seed", seed, 0)
    return Partition(METHODS[method](coupled, load, workers, seed), workers, method)


def from_mapping(
    graph: CommunicationGraph,
    mapping: Mapping[Any, int] | Sequence[int] | NDArray[np.integer],
    workers: int | None = None,
) -> Partition:
    """Return the partition of a mapping agent (name or number) -> worker, or of one worker per agent in order.

    workers: by default one more than the largest owner.
    Raises ValueError for an agent that is unknown, missing or repeated, for a worker that is no whole number or out of
    range, and for a worker without an agent.
    """
    who = f"partition of {graph.name}"
    owners: Any = mapping
    if isinstance(mapping, Mapping):
        owner: dict[int, int] = {}
        for agent, worker in mapping.items():
            if (number := graph.index_of(agent)) in owner:
                raise ValueError(f"{who}: expected one worker per agent, got agent {agent!r} twice; remove one")
            owner[number] = whole_number(who, f"the worker of agent {agent!r}", worker, 0)
        if missing := [graph.names[i] for i in range(graph.agents) if i not in owner]:
            names = f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}"
            raise ValueError(f"{who}: expected a worker for every agent, got none for {names}; add them")
        owners = [owner[i] for i in range(graph.agents)]
    owners = np.asarray(owners)
    if owners.shape != (graph.agents,) or owners.dtype.kind not in "iu":
        raise ValueError(
            f"{who}: expected {graph.agents} worker numbers, got {owners.dtype} of shape {owners.shape}; "
            "give a whole number for each agent in order"
        )
    return Partition(owners, max(int(owners.max()) + 1, 1) if workers is None else workers, "mapping")


def describe_partition(
    partition: Partition,
    graph: CommunicationGraph,
    patterns: Sequence[BlockPattern],
    half_widths: ArrayLike,
    batch: int,
    itemsize: int,
    parts: int = 2,
) -> dict[str, Any]:
    """Return the cost of a partition for JSON. Figures per worker are min, mean, max, and imbalance = max / mean.

    neurons: of the whole state. block_products: multiplications in all patterns' blocks, per part and batch column.
    cut_links: links between agents of different workers. rounds: for each pattern the ghosts per worker, and the
    messages and bytes of one gather or scatter-add.
    half_widths: (agents,) neurons of a slice. batch: columns of the state. itemsize: bytes per number. parts: slices
    that an agent's state has.
    """
    halves = agent_neurons(half_widths, partition.agents)
    ends = partition.owners[graph.links]
    rounds = []
    for pattern in patterns:
        workers, agents = partition.crossings(pattern)
        messages = np.unique(partition.owners[agents] * partition.workers + workers)
        rounds.append(
            {
                "pattern": pattern.kind,
                "ghosts": _spread(np.bincount(workers, minlength=partition.workers)),
                "messages": len(messages),
                "bytes": int(halves[agents].sum()) * batch * itemsize,
            }
        )
    products = sum((_block_products(pattern, halves) for pattern in patterns), np.zeros(partition.agents))
    return {
        "method": partition.method,
        "workers": partition.workers,
        "agents": _spread(np.bincount(partition.owners)),
        "neurons": _spread(np.bincount(partition.owners, parts * halves)),
        "block_products": _spread(np.bincount(partition.owners, products)),
        "cut_links": int((ends[:, 0] != ends[:, 1]).sum()),
        "rounds": rounds,
    }


def agent_neurons(neurons: ArrayLike, agents: int) -> IntArray:
    """Return (agents,) int64 from an array of a positive whole number per agent, or raise ValueError."""
    numbers = np.asarray(neurons)
    if numbers.shape != (agents,) or numbers.dtype.kind not in "iuf" or np.any(numbers < 1) or np.any(numbers % 1 != 0):
        raise ValueError(
            f"neurons of the agents: expected {agents} whole numbers of at least 1, got {numbers.dtype} of shape "
            f"{numbers.shape}{f', least {numbers.min()}' if numbers.size and numbers.dtype.kind in 'iuf' else ''}; "
            "give one for each agent in order"
        )
    return numbers.astype(np.int64)


def _block_products(pattern: BlockPattern, neurons: IntArray) -> NDArray[np.float64]:
    """Return (agents,): the entries of all blocks in the agent's rows, multiplications per batch column."""
    return np.asarray(neurons * (pattern.to_scipy().astype(np.float64) @ neurons), dtype=np.float64)


def _spread(values: NDArray[Any]) -> dict[str, float]:
    """Return min, mean, max and imbalance over the workers, 1.0 when there is nothing to share."""
    mean = float(values.mean())
    least, most = values.min().item(), values.max().item()
    return {"min": least, "mean": mean, "max": most, "imbalance": most / mean if mean else 1.0}
