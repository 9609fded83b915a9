"""What the layers of each graph exchange, from options alone: patterns, placement and rounds, without a weight."""

from __future__ import annotations

from dataclasses import dataclass

from dist_hdnn.build import assembly
from dist_hdnn.config import Config
from dist_hdnn.dynamics.architectures import Architecture, architecture
from dist_hdnn.dynamics.terms import rounds, rounds_reversed
from dist_hdnn.network.arguments import strict_upper
from dist_hdnn.topology import BlockPattern, CommunicationGraph


@dataclass(frozen=True)
class Stage:
    """What the layers of one graph exchange; layer j uses stage j mod the number of stages.

    K, X: patterns as asked for. stored_K, stored_X: their blocks that have weights (of a skew matrix the upper half).
    """

    graph: CommunicationGraph
    architecture: Architecture
    K: BlockPattern
    X: BlockPattern

    @property
    def stored_K(self) -> BlockPattern:
        return strict_upper(self.K, "K") if self.architecture.skew else self.K

    @property
    def stored_X(self) -> BlockPattern:
        return strict_upper(self.X, "X") if self.architecture.interconnection == "J" else self.X

    @property
    def rounds(self) -> list[tuple[BlockPattern, int]]:
        """(pattern, forward rounds of one layer) of each pattern that couples agents."""
        of = self.architecture
        both = ((self.stored_K, rounds(of, True, False)), (self.stored_X, rounds(of, False, True)))
        return [(pattern, count) for pattern, count in both if not pattern.is_block_diagonal]

    @property
    def rounds_reversed(self) -> list[int]:
        """Of the same patterns, rounds of a layer's backward sweep that rebuilds the state."""
        of = self.architecture
        both = ((self.stored_K, rounds_reversed(of, True, False)), (self.stored_X, rounds_reversed(of, False, True)))
        return [count for pattern, count in both if not pattern.is_block_diagonal]

    @property
    def placement(self) -> str:
        """Which matrices couple the agents."""
        coupled = not self.K.is_block_diagonal, not self.X.is_block_diagonal
        return {(True, False): "K", (False, True): "X", (True, True): "K and X", (False, False): "none"}[coupled]


def stages_of(config: Config) -> list[Stage]:
    """One stage per graph of a validated config. Raises ValueError as `assembly` does."""
    options = config.network
    found = architecture(options.architecture, options.integrator)
    if options.X.kind == "identity" and found.interconnection != "J":
        found = found.with_identity()
    stages = [
        Stage(
            graph, found, *(assembly.build_block_pattern(part, graph, config.seed) for part in (options.K, options.X))
        )
        for graph in assembly.build_graphs(config)
    ]
    first = stages[0].X
    if options.shared_x and not all(stage.X.contains(first) and first.contains(stage.X) for stage in stages):
        raise ValueError(
            "network.shared_x: expected one pattern of X for all layers, got graphs whose patterns differ; set "
            "network.shared_x=false, or network.X.kind=identity or block_diagonal"
        )
    return stages


def layers_of_stages(layers: int, stages: int) -> list[int]:
    """How many of the layers use each stage."""
    return [len(range(stage, layers, stages)) for stage in range(stages)]
