"""The owners of all agents, seen by one worker: the only place where a network learns that there are several.

A worker holds parts of global tensors that exist nowhere as a whole: `Shard` says which part, see `sharing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dist_hdnn.links.model import Links
from dist_hdnn.network.agreement import Agreement
from dist_hdnn.operators.choice import check_products, panels
from dist_hdnn.operators.deterministic import OrderedSum
from dist_hdnn.operators.exchange import HaloExchange, SimulatedExchange
from dist_hdnn.operators.ghosted import Exchange
from dist_hdnn.operators.sparsity import BlockOperator
from dist_hdnn.operators.where import Where
from dist_hdnn.operators.wires import Wires
from dist_hdnn.sweep.execution import DEFAULT, Execution
from dist_hdnn.topology import (
    BlockPattern,
    CommunicationGraph,
    Partition,
    build_halo,
    from_mapping,
    make_partition,
)
from dist_hdnn.topology.ragged import IntArray, offsets, ragged_ranges
from dist_hdnn.transport import Ledger, Transport


@dataclass(frozen=True)
class Shard:
    """A worker's part of a global tensor: its indices along one dimension of a given global length."""

    dimension: int
    length: int
    index: IntArray


class Ownership:
    """One worker's agents and its means to reach the others.

    partition: a Partition, a method of `make_partition`, or a mapping agent -> worker.
    execution: whether sums are deterministic, and which products compute them.
    agents: owned agents, ascending. widths, halves: neurons of the owned agents and half of them; all_widths,
    all_halves: of every agent. ledger: what this worker has sent. agreement: compares batches, if anything does.
    alone: whether this worker owns every agent.
    """

    def __init__(
        self,
        graph: CommunicationGraph,
        all_widths: IntArray,
        transport: Transport | None = None,
        partition: Partition | str | Mapping[Any, int] | Sequence[int] = "contiguous",
        pattern: BlockPattern | None = None,
        execution: Execution = DEFAULT,
    ) -> None:
        check_products(execution.products, execution.deterministic)
        self.deterministic, self.products = execution.deterministic, execution.products
        self.graph, self.transport, self.ledger = graph, transport, Ledger()
        self._collectives: dict[int, int] = {}
        self.agreement: Agreement | None = None
        self.rank, self.workers = (0, 1) if transport is None else (transport.rank, transport.size)
        self.alone = self.workers == 1
        self.where = Where(None if self.alone else transport)
        if isinstance(partition, str):
            partition = make_partition(graph, self.workers, partition, all_widths, pattern)
        elif not isinstance(partition, Partition):
            partition = from_mapping(graph, partition, self.workers)
        if partition.workers != self.workers or partition.agents != graph.agents:
            raise ValueError(
                f"partition: expected {graph.agents} agents on {self.workers} workers, got {partition.agents} on "
                f"{partition.workers}. Make it for this graph and this number of workers."
            )
        self.partition = partition
        self.agents = partition.owned(self.rank)
        self.all_widths, self.all_halves = all_widths, all_widths // 2
        self.widths, self.halves = all_widths[self.agents], self.all_halves[self.agents]

    def operator(
        self,
        pattern: BlockPattern,
        label: str,
        sizes: IntArray | None = None,
        strictly_upper: bool = False,
        phase: str | None = None,
        links: Links | None = None,
        order: IntArray | None = None,
    ) -> tuple[BlockOperator, Exchange, IntArray]:
        """Return this worker's rows of a pattern, their exchange, and the global number of each column agent.

        sizes: rows of every agent's slice, (agents,); None for half of its neurons. label: for error messages.
        strictly_upper: of diagonal blocks only the entries above the diagonal are weights. phase: what rounds are
        booked to; None: to the sweep at hand. links: impaired links of the slices; None for perfect ones. order: owned
        agents, as positions, in the order of their rows in memory; None as they are.
        """
        sizes = self.all_halves if sizes is None else sizes
        own, owners = sizes[self.agents], np.asarray(self.partition.owners)
        where = self.where if phase is None else Where(self.where.transport, phase)
        exchange: HaloExchange | SimulatedExchange
        if self.alone:
            exchange = SimulatedExchange(pattern, sizes, self.ledger, where)
            rows, columns, column_agents = pattern.row_start, pattern.columns, self.agents
        else:
            halo = build_halo(pattern, self.partition, self.rank)
            exchange = HaloExchange(halo, pattern, owners, sizes, self.ledger, where, label, order)
            rows, columns, column_agents = halo.row_start, halo.columns, halo.agents
        operator = BlockOperator(
            rows,
            columns,
            own,
            sizes[column_agents],
            column_agents=None if self.alone else column_agents,
            deterministic=self.deterministic,
            strictly_upper=strictly_upper,
            products=self.products if links is None or links.only_lose else "torch",
            by_link=links is not None,
            order=order,
        )
        if self.deterministic:
            ordered = panels(operator), pattern, owners, sizes, column_agents
            exchange.links = OrderedSum(*ordered, self.ledger, where, label)
        if links is not None:
            exchange.wires = Wires(links, panels(operator), self.agents, column_agents, self.graph.names, where)
        return operator, exchange, column_agents

    def compare_batches(self, graphs: Sequence[CommunicationGraph], network: int) -> None:
        """Compare batches, and the number of the network, with the workers that these graphs link to this one."""
        owners = np.asarray(self.partition.owners)
        pairs = np.concatenate([owners[graph.links] for graph in graphs])
        peers = np.unique(pairs[(pairs == self.rank).any(axis=1)])
        assert self.transport is not None, "several workers have a transport"
        self.agreement = Agreement(self.transport, self.ledger, [int(peer) for peer in peers if peer != self.rank])
        self.agreement.network = network

    def local(self, state: Tensor) -> Tensor:
        """Return this worker's columns of the whole network's state, (batch, all neurons) -> (batch, neurons)."""
        everyone = int(self.all_widths.sum())
        if state.ndim != 2 or state.shape[1] != everyone:
            raise ValueError(
                f"local: expected a state of the whole network, (batch, {everyone}), got {tuple(state.shape)}. Give "
                "the columns of all agents, agent by agent."
            )
        if self.alone:
            return state
        self.note("features", state)
        return state[:, torch.from_numpy(self.shard_of_agents(self.all_widths, dimension=1).index).to(state.device)]

    def note(self, what: str, values: Tensor) -> None:
        """Record a batch's "features" or "labels", which all workers must see alike."""
        if self.agreement is not None:
            self.agreement.note(what, values)

    def all_reduce(self, values: Tensor, phase: str, op: str = "sum") -> None:
        """Replace `values` by their sum or maximum over all workers and book it under a phase such as "readout"."""
        assert self.transport is not None, "several workers have a transport"
        key = values.numel()
        if key not in self._collectives:
            self._collectives[key] = self.ledger.register_collective(self.rank, self.workers, key)
        self.transport.all_reduce(values, op)
        self.ledger.book(self._collectives[key], phase, values.element_size())

    def shard_of_pattern(
        self, pattern: BlockPattern, sizes: IntArray | None = None, strictly_upper: bool = False
    ) -> Shard:
        """Return the places of the owned rows' weights among all weights of a pattern, (layers, entries) along entries.

        sizes, strictly_upper: as in `operator`.
        """
        sizes = self.all_halves if sizes is None else sizes
        rows = pattern.rows()
        weights = np.bincount(rows, sizes[pattern.columns], pattern.agents).astype(np.int64) * sizes
        if strictly_upper:
            own = rows[rows == pattern.columns]
            weights[own] -= sizes[own] * (sizes[own] + 1) // 2
        return self.shard_of_agents(weights, dimension=1)

    def shard_of_agents(self, sizes: IntArray, dimension: int) -> Shard:
        """Return the places of the owned agents' parts in a tensor with a run of `sizes` elements per agent."""
        starts = offsets(sizes)
        index = ragged_ranges(starts[self.agents], sizes[self.agents])
        return Shard(dimension, int(starts[-1]), index)

    def traffic(self, graphs: Sequence[CommunicationGraph]) -> dict[str, int]:
        """Count the messages since the last reset, see `HDNN.traffic`, without those of `Agreement`."""
        totals = self.ledger.totals()
        total = {name: number - totals["check"][name] for name, number in totals["all"].items()}
        slices, slice_bytes = self.ledger.between_agents()
        linked = sum(graph.adjacency().astype(np.int64) for graph in graphs)
        strays = self.ledger.non_neighbour_messages(linked, None if self.alone else self.partition.owners)
        counts = {name: total[name] for name in ("rounds", "messages", "bytes")}
        return counts | {"non_neighbour_messages": strays, "agent_messages": slices, "agent_bytes": slice_bytes}

    def link_traffic(self) -> NDArray[np.int64]:
        """Count messages and bytes over each link since the last reset, both directions together: (links, 2)."""
        graph = self.graph
        traffic = self.ledger.per_link(agents=not self.alone)
        low, high = np.minimum(traffic.sender, traffic.receiver), np.maximum(traffic.sender, traffic.receiver)
        keys, known = low * graph.agents + high, graph.links @ np.array([graph.agents, 1])
        place = np.searchsorted(known, keys)
        linked = place < len(known)
        linked[linked] = known[place[linked]] == keys[linked]
        result = np.zeros((len(known), 2), dtype=np.int64)
        np.add.at(result, place[linked], np.stack([traffic.messages, traffic.bytes], axis=1)[linked])
        return result

    def __deepcopy__(self, memo: dict[int, object]) -> Ownership:
        return self  # a copied network has the same workers

    def __copy__(self) -> Ownership:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        if not self.alone:
            raise ValueError(
                f"pickle: expected a network of one process, got worker {self.rank}'s part of one on {self.workers}. "
                "Save state_dict(), which all workers call together; it loads on any number of workers."
            )
        return self.__dict__
