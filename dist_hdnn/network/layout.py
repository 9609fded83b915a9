"""Places of the weights of an architecture: block patterns on communication graphs, and one worker's rows of them.

    K patterns (R), one per graph    ->  operator and exchange of each, the `GraphOperators` that layers cycle through
    X patterns (T), or the identity

Matrices count the neurons of one part of the state (p, q or y), agent by agent.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dist_hdnn.dynamics.architectures import Architecture
from dist_hdnn.dynamics.interconnection import rounds
from dist_hdnn.dynamics.layer import GraphOperators
from dist_hdnn.links.model import Links
from dist_hdnn.links.table import LinkTable
from dist_hdnn.network.agreement import mark
from dist_hdnn.network.arguments import agent_widths, pattern_name, strict_upper
from dist_hdnn.network.optimizer_guard import watch_optimizers
from dist_hdnn.network.ownership import Ownership, Shard
from dist_hdnn.network.parameters import Matrix, draw_bias, skew_values
from dist_hdnn.network.time_course import TimeCourse
from dist_hdnn.operators.tiles.machine import available
from dist_hdnn.sweep.execution import Execution
from dist_hdnn.topology import (
    BlockPattern,
    CommunicationGraph,
    Partition,
    build_pattern,
    memory_order,
    non_links,
    reach_warnings,
)
from dist_hdnn.topology.ragged import IntArray, offsets, ragged_ranges
from dist_hdnn.transport import Transport


class Layout:
    """Patterns, owners, operators and exchanges of a network, without its weights.

    architecture: with X = 1 where X is the identity. K_patterns, X_patterns: as asked for, one per graph; X_patterns is
    None for the identity. stored: of each, the blocks that have weights: of a skew matrix those not below the diagonal.
    sizes: neurons of a part that each agent has, (agents,). matrices: this worker's rows of "K" and "X", per graph.
    seed: of thinned patterns without a seed of their own. stated_links: also those that only take time; links: those
    that impair slices, None where none does. order: see `topology.locality`.
    """

    def __init__(
        self,
        architecture: Architecture,
        graphs: list[CommunicationGraph],
        width: int | Mapping[Any, int],
        K: Any,
        X: Any,
        workers: Transport | None,
        partition: Partition | str | Mapping[Any, int] | Sequence[int],
        execution: Execution,
        seed: int,
        links: Links | None = None,
    ) -> None:
        self.graphs = graphs
        self.stated_links = links
        self.links = links if links is not None and links.impairs else None
        self.K_patterns = [build_pattern(graph, K, seed) for graph in graphs]
        self.X_patterns: list[BlockPattern] | None = None
        identity = pattern_name(X) == "identity"
        if identity and architecture.interconnection != "J":
            architecture = architecture.with_identity()
        else:
            self.X_patterns = [build_pattern(graph, "block_diagonal" if identity else X, seed) for graph in graphs]
        self.architecture = architecture
        if self.links is not None:
            self._check_links(self.links, execution)
        skew = {"K": architecture.skew, "X": architecture.interconnection == "J"}
        whole = {"K": self.K_patterns, "X": self.X_patterns or []}
        self.stored = {
            which: [strict_upper(pattern, which) if skew[which] else pattern for pattern in patterns]
            for which, patterns in whole.items()
        }
        parts = len(architecture.parts)
        widths = agent_widths(graphs[0], width, halves=parts == 2)
        pattern = self.K_patterns[0] if self.X_patterns is None else self.X_patterns[0]
        self.ownership = Ownership(graphs[0], widths, workers, partition, pattern, execution)
        self.sizes, self.agents = widths // parts, self.ownership.agents
        self.order = self._order(execution)
        self.matrices: dict[str, list[Matrix]] = {"K": [], "X": []}
        self.operators = []
        for s in range(len(graphs)):
            made: list[Any] = [None] * 4
            for place, which in ((0, "K"), (2, "X")):
                if self.stored[which]:
                    operator, exchange, columns = self.ownership.operator(
                        self.stored[which][s],
                        which,
                        self.sizes,
                        skew[which],
                        links=self.links if which == "K" else None,
                        order=self.order,
                    )
                    self.matrices[which].append(Matrix(operator, whole[which][s], self.agents, columns, self.sizes))
                    made[place : place + 2] = operator, exchange
            self.operators.append(GraphOperators(*made))

    def _check_links(self, links: Links, execution: Execution) -> None:
        """Raise ValueError for a network whose slices cannot go over impaired links."""
        forces = {force.kind for force in self.architecture.forces} - {"drift"}
        if forces != {"gradient"}:
            raise ValueError(
                f"links: expected an architecture whose force is Kᵀ σ(K y + b), got {self.architecture.name}. Choose "
                "hamiltonian, H1 or leapfrog, or leave the links out."
            )
        if self.X_patterns is not None and not all(pattern.is_block_diagonal for pattern in self.X_patterns):
            raise ValueError(
                "links: expected an interconnection within agents, got one that couples them. Choose network.X.kind "
                "identity or block_diagonal."
            )
        if len(self.graphs) > 1:
            raise ValueError(f"links: expected one graph, got {len(self.graphs)} that layers cycle through. Use one.")
        everyone = LinkTable.perfect(self.graphs[0])
        if links.agents == self.graphs[0].agents and not (
            np.array_equal(links.table.sender, everyone.sender)
            and np.array_equal(links.table.receiver, everyone.receiver)
        ):
            raise ValueError("links: expected the links of the graph, got a table of others. Make it of this graph.")
        if links.agents != self.graphs[0].agents:
            raise ValueError(
                f"links: expected those of {self.graphs[0].agents} agents, got those of {links.agents}. Make them for "
                "this graph."
            )
        if execution.cuda_graphs:
            raise ValueError(
                "cuda_graphs: expected false with impaired links, whose fates differ by step, got true. Leave it out."
            )
        if execution.memory == "reversible" and links.table.bits.any():
            raise ValueError(
                "network.memory: expected store or recompute with few bits, where a rebuilt state may be rounded to "
                "another value, got reversible. Choose recompute."
            )
        if links.has_memory and execution.memory != "store":
            raise ValueError(
                f"network.memory: expected store with delays and the fills hold and predict, which remember earlier "
                f"slices, got {execution.memory}. Choose store, or fill zero without delays."
            )

    def digest(self) -> int:
        """Return a number that tells graphs, widths, patterns and owners apart."""
        patterns = [*self.K_patterns, *(self.X_patterns or [])]
        arrays = [graph.links for graph in self.graphs] + [a for p in patterns for a in (p.row_start, p.columns)]
        arrays += [self.ownership.all_widths, np.asarray(self.ownership.partition.owners)]
        return zlib.crc32(b"|".join(np.ascontiguousarray(array, np.int64).tobytes() for array in arrays))

    def guard(self, execution: Execution, *options: object) -> None:
        """Watch optimizers on several workers, and compare batches and these options if wanted."""
        if not self.ownership.alone:
            watch_optimizers()
            if execution.check_batches:
                names = self.architecture.name, self.architecture.integrator.name
                network = (
                    *names,
                    *options,
                    replace(execution, products="", cuda_graphs=False, replay=True),
                    self.digest(),
                )
                self.ownership.compare_batches(self.graphs, mark(repr(network)))

    def fixed(self, trains_j: bool) -> frozenset[str]:
        """Return the names of weights that are not trained."""
        return frozenset("J") if self.architecture.interconnection == "J" and not trains_j else frozenset()

    def columns(self) -> list[IntArray]:
        """Return the columns of this worker's state that hold each part."""
        parts, sizes = len(self.architecture.parts), self.sizes[self.agents]
        starts = offsets(parts * sizes)[:-1]
        return [ragged_ranges(starts + part * sizes, sizes) for part in range(parts)]

    def rows(self) -> list[IntArray]:
        """Return the same columns in the order in which a sweep has the rows of each part."""
        if self.order is None:
            return self.columns()
        sizes = self.sizes[self.agents]
        index = ragged_ranges(offsets(sizes)[self.order], sizes[self.order])
        return [columns[index] for columns in self.columns()]

    def _order(self, execution: Execution) -> IntArray | None:
        """Return the owned agents in the order of their rows in memory, None as they are.

        Tiles alone gain; sums link by link, and links that impair slices, find agents by their numbers.
        """
        if execution.deterministic or execution.products == "torch" or self.links is not None or not available():
            return None
        patterns = [*self.K_patterns, *(self.X_patterns or [])]
        return memory_order(patterns, self.agents, int(self.sizes[self.agents].sum()))

    def shards(self, names: Sequence[str]) -> dict[str, Shard]:
        """Return this worker's part of each of these parameters, such as "bp" or "Kp.0"."""
        rows = self.ownership.shard_of_agents(self.sizes, dimension=1)
        found = {}
        for name in names:
            matrix, _, stage = name.partition(".")
            if not stage:
                found[name] = rows
                continue
            which = "X" if matrix == self.architecture.interconnection else "K"
            stored = self.stored[which][int(stage)]
            skew = self.architecture.skew if which == "K" else matrix == "J"
            found[name] = self.ownership.shard_of_pattern(stored, self.sizes, skew)
        return found

    # -- first values, each entry from a key of its own, so whoever owns it draws the same -----------------------------

    def draw_matrices(
        self, course: TimeCourse, seed: int, scale: float, dtype: torch.dtype, wave: bool = False
    ) -> Iterator[tuple[str, nn.ParameterList]]:
        """Draw the matrices K by name: for each graph (sets of its layers, entries). wave: scale is that of a wave."""
        for name in self.architecture.matrices:
            draws = [matrix.wave if wave else matrix.draw for matrix in self.matrices["K"]]
            yield name, nn.ParameterList(draw(seed, name, course.sets(s), scale, dtype) for s, draw in enumerate(draws))

    def draw_biases(
        self, course: TimeCourse, seed: int, dtype: torch.dtype, wave: bool = False
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Draw the biases by name, (sets of all layers, neurons) each; zero for a wave."""
        for name in self.architecture.biases:
            drawn = draw_bias(seed, name, course.sets(), self.agents, self.sizes[self.agents], dtype)
            yield name, nn.Parameter(torch.zeros_like(drawn) if wave else drawn)

    def draw_interconnection(
        self, layers: int, shared: bool, seed: int, scale: float, dtype: torch.dtype
    ) -> nn.ParameterList:
        """Draw X around the identity, or a trained J around J1. shared: one set for all layers."""
        name, drawn = self.architecture.interconnection, []
        for s, matrix in enumerate(self.matrices["X"][: 1 if shared else None]):
            sets = [0] if shared else range(s, layers, len(self.graphs))
            start = matrix.identity() if name == "X" else matrix.canonical_skew()
            drawn.append(matrix.draw(seed, name, sets, scale, dtype, start))
        return nn.ParameterList(drawn)

    def fixed_skew(self, J: Any, dtype: torch.dtype) -> Tensor:
        """Return a J that is not trained, (1, entries above the diagonal)."""
        return torch.from_numpy(skew_values(self.matrices["X"][0], J))[None].to(dtype)

    def unions(self) -> list[Tensor]:
        """Return the places of every graph's weights in the union of the patterns of K, for smoothness."""
        neurons = int(self.sizes.sum())
        keys = [rows * neurons + columns for rows, columns in (matrix.positions() for matrix in self.matrices["K"])]
        union = np.unique(np.concatenate(keys))
        return [torch.from_numpy(np.searchsorted(union, key)) for key in keys]

    def rounds(self) -> int:
        """Count the exchanges of a layer forward; its backward has as many where it rebuilds no state."""
        by_k, by_x = (
            not all(pattern.is_block_diagonal for pattern in patterns)
            for patterns in (self.K_patterns, self.X_patterns or [])
        )
        return rounds(self.architecture, by_k, by_x)

    def check(self, layers: int, shared_x: bool) -> None:
        """Warn of blocks beyond the links, own X per layer and too few layers; refuse one X on several patterns."""
        for which in (self.K_patterns, self.X_patterns or []):
            for graph, pattern in zip(self.graphs, which, strict=bool(which)):
                beyond = len(non_links(pattern, graph))
                if beyond:
                    _warn(
                        f"pattern {pattern.kind} couples {beyond} ordered pairs of agents that {graph.name} does not "
                        "link; each of their messages needs a relay and is counted as non-neighbour."
                    )
        if self.X_patterns is not None:
            first = self.X_patterns[0]
            same = all(t.contains(first) and first.contains(t) for t in self.X_patterns)
            if shared_x and not same:
                raise ValueError(
                    "network.shared_x: expected one pattern of X for all layers, got graphs whose patterns differ. "
                    "Set shared_x=False, or use X='identity' or 'block_diagonal'."
                )
            if not shared_x:
                _warn(
                    "every layer has its own X: single layers stay symplectic, each with its own J, but the network "
                    "as a whole is not; that needs one X shared by all layers. Gradients still cannot vanish."
                )
        patterns = [*self.K_patterns, *(self.X_patterns or [])]
        for line in reach_warnings(self.graphs[0], patterns, layers, self.rounds()):
            _warn(line)


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=4)
