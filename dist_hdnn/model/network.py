"""The H-DNN as an `nn.Module`: patterns from communication graphs, weights on them, and one sweep.

    net = HDNN(ring(8), width=2, layers=16, step=0.5)      (batch, agents * width) -> (batch, agents * width)

Columns of the state go agent by agent, p before q. Weights are kept in canonical order (layer, row neuron, column
neuron, the pattern's entries only), so they are the same tensors wherever and however they are computed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dist_hdnn.layers.activations import activation as named_activation
from dist_hdnn.layers.operators import ScalarPattern, offsets, ragged_ranges
from dist_hdnn.layers.sweep import Sweep, Weights
from dist_hdnn.layers.workspace import Stage
from dist_hdnn.model.arguments import agent_widths, is_identity, list_of_graphs
from dist_hdnn.model.initialization import Purpose, normal, normal_blocks
from dist_hdnn.model.ownership import Ownership, share_state
from dist_hdnn.model.regularization import smoothness
from dist_hdnn.topology import Partition, build_pattern, information_reach, non_links
from dist_hdnn.transport import Transport

IntArray = NDArray[np.int64]
INITIAL_SCALE = 1.2  # standard deviation of K times the square root of its row length; over time 8 (16 layers of 0.5)
# rotations by about twelve radians, from which training neither collapses (below 0.6) nor turns chaotic (above 2)
INITIAL_BIAS = 0.1  # standard deviation of b


class HDNN(nn.Module):
    """Hamiltonian network y' = J Kᵀ σ(K y + b) on a communication graph, by semi-implicit Euler steps.

    graph: a CommunicationGraph, an undirected networkx graph, or a list of them that the layers cycle through.
    width: neurons of every agent (even; half are p, half are q), or a mapping agent number or name -> neurons.
    layers, step: number of layers, and the step h in units of ODE time.
    activation: a name ("tanh", ...) or any smooth elementwise function on tensors.
    K, X: patterns R and T: "neighbours", "block_diagonal", "dense", "hops=k", a mapping such as
        {"kind": "thinned", "keep": 0.5}, a BlockPattern or a 0/1 matrix. X may be "identity": fixed, no weights.
    shared_x: one X for all layers; needed for the bound on products of layer Jacobians.
    workers, partition: this worker's transport, and which worker owns which agent: a method ("contiguous", "metis"),
        a mapping or a Partition. The state then has the columns of the owned agents only (`owned`), forward and
        backward are collective, and so are `state_dict` and `load_state_dict`, which speak of the whole network.
    deterministic: the same bits whatever the number of workers, for more bytes and time. The libraries have to play
        along: set MKL_CBWR=AVX2,STRICT in the environment before PyTorch is loaded, and one thread per worker.
    overlap: compute what needs no ghost while slices travel.
    seed, initial_scale: K ~ N(0, initial_scale² / row length), b ~ N(0, 0.1²), X = 1 plus a tenth of such noise.

    Source: arXiv:2105.13205. Raises ValueError for sizes, widths or patterns that do not fit.
    """

    def __init__(
        self,
        graph: Any,
        width: int | Mapping[Any, int] = 2,
        layers: int = 16,
        step: float = 0.5,
        activation: str | Callable[[Tensor], Tensor] = "tanh",
        K: Any = "neighbours",
        X: Any = "identity",
        shared_x: bool = True,
        seed: int = 0,
        initial_scale: float = INITIAL_SCALE,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        workers: Transport | None = None,
        partition: Partition | str | Mapping[Any, int] | Sequence[int] = "contiguous",
        deterministic: bool = False,
        overlap: bool = False,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"network.layers: expected at least 1, got {layers}. Set a positive number of layers.")
        if not (math.isfinite(step) and step > 0):
            raise ValueError(f"network.step: expected a positive number, got {step}. Set a step such as 0.5.")
        self.graphs = list_of_graphs(graph)
        self.graph = self.graphs[0]
        self.layers, self.step, self.seed = layers, float(step), seed
        self.K_patterns = [build_pattern(g, K) for g in self.graphs]
        self.X_patterns = None if is_identity(X) else [build_pattern(g, X) for g in self.graphs]
        self.shared_x = shared_x
        self._check_patterns()
        coupling = self.K_patterns[0] if self.X_patterns is None else self.X_patterns[0]
        self.ownership = Ownership(
            self.graph, agent_widths(self.graph, width), workers, partition, coupling, deterministic, overlap
        )
        self.widths, self.halves = self.ownership.widths, self.ownership.halves
        self.neurons = int(self.widths.sum())
        sigma = named_activation(activation)
        stages, self._column_agents = [], dict[tuple[str, int], IntArray]()
        for s in range(len(self.graphs)):
            K_operator, K_exchange, self._column_agents["K", s] = self.ownership.operator(self.K_patterns[s], "K")
            X_operator, X_exchange = None, None
            if self.X_patterns is not None:
                X_operator, X_exchange, self._column_agents["X", s] = self.ownership.operator(self.X_patterns[s], "X")
            stages.append(Stage(K_operator, K_exchange, X_operator, X_exchange))
        starts = offsets(self.widths)[:-1]
        self.p_columns = ragged_ranges(starts, self.halves)
        self.q_columns = ragged_ranges(starts + self.halves, self.halves)
        columns = torch.from_numpy(self.p_columns), torch.from_numpy(self.q_columns)
        self.sweep = Sweep(stages, sigma, layers, self.step, *columns, shared_x, workers)
        self._make_parameters(initial_scale, dtype or torch.get_default_dtype())
        self._make_union()
        if device is not None:
            self.to(device)

    def forward(self, y: Tensor) -> Tensor:
        """y0 (batch, neurons) -> yN (batch, neurons)."""
        self._check_input(y)
        return self.sweep(y, self.weights())  # type: ignore[no-any-return]

    def states(self, y: Tensor) -> Tensor:
        """The state after every layer, without gradients: (layers + 1, batch, neurons); the first is y itself."""
        self._check_input(y)
        return self.sweep.states(y, self.weights())

    def inverse(self, y: Tensor) -> Tensor:
        """yN -> y0, (batch, neurons), without gradients; exact up to rounding."""
        self._check_input(y)
        return self.sweep.inverse(y, self.weights())

    def smoothness(self) -> Tensor:
        """(h/2) Σ |K_{j+1} - K_j|² + |b_{j+1} - b_j|² over layers, a scalar; see `regularization`."""
        union = [getattr(self, f"union{s}") for s in range(len(self.graphs))] if len(self.graphs) > 1 else None
        return smoothness(list(self.Kp), self.bp, self.step, union) + smoothness(
            list(self.Kq), self.bq, self.step, union
        )

    def weights(self) -> Weights:
        """The parameters in the order of the sweep."""
        return Weights(list(self.Kp), list(self.Kq), self.bp, self.bq, list(self.X))

    def scalar_positions(self, which: str, layer: int) -> tuple[Tensor, Tensor]:
        """Row and column neuron of every weight of `which` ("Kp", "Kq" or "X") in a layer, two (entries,) tensors.

        Rows and columns count the neurons of one half (p or q), agent by agent.
        """
        pattern = self._scalar_pattern(which, layer % len(self.graphs))
        return torch.from_numpy(pattern.scalar_rows()), torch.from_numpy(pattern.scalar_columns())

    def layer_weights(self, which: str, layer: int) -> Tensor:
        """One layer's weights of `which` ("Kp", "Kq" or "X"), a view (entries,) of the parameter."""
        stage, row = layer % len(self.graphs), layer // len(self.graphs)
        if which == "X" and self.shared_x:
            stage, row = 0, 0
        return getattr(self, which)[stage][row]  # type: ignore[no-any-return]

    @property
    def owned(self) -> IntArray:
        """The agents whose columns this worker's state has, ascending; all of them in one process."""
        return self.ownership.agents

    def traffic(self) -> dict[str, int]:
        """What this worker has sent since `reset_traffic`: rounds, messages, bytes, and messages to non-neighbours.

        In one process: what its agents would have sent, each on its own.
        """
        total = self.ownership.ledger.totals()["all"]
        linked = sum(graph.adjacency().astype(np.int64) for graph in self.graphs)
        owners = None if self.ownership.alone else self.ownership.partition.owners
        strays = self.ownership.ledger.non_neighbour_messages(linked, owners)
        return {name: total[name] for name in ("rounds", "messages", "bytes")} | {"non_neighbour_messages": strays}

    def link_traffic(self) -> NDArray[np.int64]:
        """Messages and bytes over each link since `reset_traffic`, both directions together: (links, 2).

        Slices between agents; on several workers those that this worker sent for its agents to others' agents.
        """
        alone, graph = self.ownership.alone, self.graph
        traffic = self.ownership.ledger.per_link(agents=not alone)
        low, high = np.minimum(traffic.sender, traffic.receiver), np.maximum(traffic.sender, traffic.receiver)
        keys, known = low * graph.agents + high, graph.links @ np.array([graph.agents, 1])
        place = np.searchsorted(known, keys)
        linked = place < len(known)
        linked[linked] = known[place[linked]] == keys[linked]
        result = np.zeros((len(known), 2), dtype=np.int64)
        np.add.at(result, place[linked], np.stack([traffic.messages, traffic.bytes], axis=1)[linked])
        return result

    def reset_traffic(self) -> None:
        """Start counting messages anew."""
        self.ownership.ledger.reset()

    def extra_repr(self) -> str:
        return f"{self.graph.name}, {self.graph.agents} agents, {self.neurons} neurons, step={self.step}"

    # -- construction ------------------------------------------------------------------------------------------------

    def _scalar_pattern(self, which: str, stage: int) -> ScalarPattern:
        operator = self.sweep.stages[stage].X if which == "X" else self.sweep.stages[stage].K
        assert operator is not None, "the identity has no weights"
        return operator.pattern

    def _make_parameters(self, scale: float, dtype: torch.dtype) -> None:
        """Draw every weight from its key; rows of K have length Σ columns, so Kp x starts with variance scale²."""
        agents = self.ownership.agents.astype(np.uint64)
        stages = len(self.graphs)
        self.Kp, self.Kq, self.X = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        half = int(self.halves.sum())

        def draw(which: str, purpose: Purpose, stage: int, layers: Sequence[int]) -> Tensor:
            pattern = self._scalar_pattern(which, stage)
            rows = pattern.scalar_rows()
            length = np.bincount(rows, minlength=half)[rows]
            columns = self._column_agents[which[0], stage].astype(np.uint64)
            values = [normal_blocks(self.seed, purpose, j, pattern, agents, columns) for j in layers]
            return torch.from_numpy(np.stack(values) * (scale / np.sqrt(length))).to(dtype)

        for s in range(stages):
            layers = range(s, self.layers, stages)
            self.Kp.append(nn.Parameter(draw("Kp", Purpose.K_P, s, layers)))
            self.Kq.append(nn.Parameter(draw("Kq", Purpose.K_Q, s, layers)))
            if self.X_patterns is not None and (s == 0 or not self.shared_x):
                pattern = self._scalar_pattern("X", s)
                identity = torch.from_numpy(pattern.scalar_rows() == pattern.scalar_columns()).to(dtype)
                noise = draw("X", Purpose.X, s, [0] if self.shared_x else layers)
                self.X.append(nn.Parameter(identity + 0.1 * noise))
        neurons = ragged_ranges(np.zeros_like(self.halves), self.halves).astype(np.uint64)
        owners = np.repeat(agents, self.halves).astype(np.uint64)

        def bias(purpose: Purpose) -> nn.Parameter:
            values = [normal(self.seed, purpose, j, owners, owners, neurons) for j in range(self.layers)]
            return nn.Parameter(torch.from_numpy(INITIAL_BIAS * np.stack(values)).to(dtype))

        self.bp, self.bq = bias(Purpose.BIAS_P), bias(Purpose.BIAS_Q)
        self._share_state()

    def _share_state(self) -> None:
        """`state_dict` shows global weights in canonical order, whatever this worker owns of them."""
        rows = self.ownership.shard_of_agents(self.ownership.all_halves, dimension=1)
        self.shards = {"bp": rows, "bq": rows}
        for s, pattern in enumerate(self.K_patterns):
            self.shards |= {f"{name}.{s}": self.ownership.shard_of_pattern(pattern) for name in ("Kp", "Kq")}
        for s in range(len(self.X)):
            assert self.X_patterns is not None, "only a pattern makes weights of X"
            self.shards[f"X.{s}"] = self.ownership.shard_of_pattern(self.X_patterns[s])
        share_state(self, self.ownership, self.shards)

    def _make_union(self) -> None:
        """Places of every stage's weights in the union of the patterns, for the smoothness of cycled graphs."""
        if len(self.graphs) == 1:
            return
        starts = offsets(self.ownership.all_halves)
        keys = []
        for s in range(len(self.graphs)):
            pattern = self._scalar_pattern("Kp", s)
            columns = pattern.expand(
                starts[self._column_agents["K", s]][pattern.columns]
            )  # global, unlike ghosts' rows
            keys.append(pattern.scalar_rows() * starts[-1] + columns)
        union = np.unique(np.concatenate(keys))
        for s, key in enumerate(keys):
            self.register_buffer(f"union{s}", torch.from_numpy(np.searchsorted(union, key)), persistent=False)

    def _check_patterns(self) -> None:
        strays = 0
        for patterns in (self.K_patterns, self.X_patterns or []):
            for g, pattern in zip(self.graphs, patterns, strict=bool(patterns)):
                beyond = len(non_links(pattern, g))
                strays += beyond
                if beyond == 0:
                    continue
                warnings.warn(
                    f"pattern {pattern.kind} couples {beyond} ordered pairs of agents that {g.name} does not link; "
                    "each of their messages needs a relay and is counted as non-neighbour.",
                    UserWarning,
                    stacklevel=3,
                )
        if self.X_patterns is not None:
            first = self.X_patterns[0]
            same = all(t.contains(first) and first.contains(t) for t in self.X_patterns)
            if self.shared_x and not same:
                raise ValueError(
                    "network.shared_x: expected one pattern of X for all layers, got graphs whose patterns differ. "
                    "Set shared_x=False, or use X='identity' or 'block_diagonal'."
                )
            if not self.shared_x:
                warnings.warn(
                    "every layer has its own X: single layers stay symplectic, but the bound on the products of layer "
                    "Jacobians (gradients do not vanish) needs one X shared by all layers.",
                    UserWarning,
                    stacklevel=3,
                )
        text = information_reach(self.graph, self.layers, self.hops_per_layer())
        if text and not strays:
            warnings.warn(text, UserWarning, stacklevel=3)

    def hops_per_layer(self) -> int:
        """Links that information crosses in one layer, one a round: 4 if K couples agents, 2 if X does, 6 if both."""
        by_k = not all(pattern.is_block_diagonal for pattern in self.K_patterns)
        by_x = self.X_patterns is not None and not all(pattern.is_block_diagonal for pattern in self.X_patterns)
        return 4 * by_k + 2 * by_x

    def _check_input(self, y: Tensor) -> None:
        if y.ndim != 2 or y.shape[1] != self.neurons:
            raise ValueError(
                f"HDNN: expected a state of shape (batch, {self.neurons}), got {tuple(y.shape)}. "
                "Lift the features to the agents' neurons first (see SensorMap)."
            )
        if y.dtype != self.bp.dtype or y.device != self.bp.device:
            raise ValueError(
                f"HDNN: expected a state of {self.bp.dtype} on {self.bp.device}, got {y.dtype} on {y.device}. "
                "Convert one of them with .to(...)."
            )
