"""The network as an `nn.Module`: patterns from communication graphs, weights on them, and one sweep.

    net = HDNN(ring(8), width=2, layers=16, step=0.5)      (batch, agents * width) -> (batch, agents * width)

Columns of the state go agent by agent, p before q. Weights are kept in canonical order (layer, row neuron, column
neuron, the pattern's entries only), so they are the same tensors wherever and however they are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dist_hdnn.dynamics.architectures import architecture as named_architecture
from dist_hdnn.dynamics.architectures import check_options
from dist_hdnn.dynamics.layer import LayerSpec
from dist_hdnn.links.model import Links
from dist_hdnn.network.arguments import (
    check_depth,
    list_of_graphs,
    pattern_name,
    wave_factor,
    with_renamed,
)
from dist_hdnn.network.layout import Layout
from dist_hdnn.network.passage import Passage
from dist_hdnn.network.sharing import register_holder, share_state
from dist_hdnn.network.time_course import TimeCourse, add_smoothness_gradient, smoothness
from dist_hdnn.operators.activations import activation as named_activation
from dist_hdnn.operators.choice import chosen_products
from dist_hdnn.operators.indexed import Indexed
from dist_hdnn.sweep import queries
from dist_hdnn.sweep.execution import Execution
from dist_hdnn.sweep.linearization import Linearization
from dist_hdnn.sweep.surroundings import check_columns, check_kind, check_surroundings, opaque, under_autocast
from dist_hdnn.sweep.sweep import Layers, Sweep
from dist_hdnn.sweep.weights import Weights
from dist_hdnn.topology import Partition
from dist_hdnn.topology.ragged import IntArray
from dist_hdnn.transport import Transport

INITIAL_SCALE = 1.2  # standard deviation of K times the square root of its row length; over time 8 (16 layers of 0.5)
# rotations by about twelve radians, from which training neither collapses (below 0.6) nor turns chaotic (above 2)


class HDNN(Indexed):
    """A deep network on a communication graph, Hamiltonian by default: y' = J Kᵀ σ(K y + b), semi-implicit Euler.

    graph: a CommunicationGraph, an undirected networkx graph, or a list of them that the layers cycle through.
    width: neurons of every agent (even; half are p, half are q), or a mapping agent number or name -> neurons.
        Architectures whose state has one part take odd widths too.
    layers, step: number of layers, and the step h in units of ODE time.
    architecture, integrator: names in `dynamics.architectures`, `dynamics.integrators`; None: the published integrator.
    activation: a name ("tanh", ...) or any smooth elementwise function on tensors.
    K, X: patterns R and T: "neighbours", "block_diagonal", "dense", "hops=k", a mapping such as
        {"kind": "thinned", "keep": 0.5}, a BlockPattern or a 0/1 matrix. X may be "identity": fixed, no weights.
    shared_x: one X for all layers; without it single layers are symplectic, but not the network as a whole.
    gamma: damping of the architecture "antisymmetric", in units of 1/time.
    J: of the architecture "H1": "J1", "J2", "trained" or a skew matrix (neurons x neurons), on the pattern X
        ("identity": within agents), shared by all layers.
    time: weights "free" (a set per layer), "shared" (one set), or a number of knots, piecewise linear between them.
    workers, partition: this worker's transport, and which worker owns which agent: a method ("contiguous", "metis"),
        a mapping or a Partition. The state then has the columns of the owned agents only (`owned`), forward and
        backward are collective, and so are `state_dict` and `load_state_dict`, which speak of the whole network.
    execution: products, order of sums and memory of a training sweep; see `Execution`.
    links: impaired links that the slices travel over; None for perfect ones.
    seed, initial, initial_scale: "random" draws K ~ N(0, initial_scale² / row length), b ~ N(0, 0.1²), X = 1 plus a
        tenth of such noise. "wave" starts as a wave equation on the graph, for signals that cross many hops, see
        `Matrix.wave`. The seed also draws a thinned pattern whose mapping gives none.

    Source: arXiv:2105.13205. Raises ValueError for sizes, widths, patterns or options that do not fit.
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
        *,
        architecture: str = "hamiltonian",
        integrator: str | None = None,
        gamma: float = 0.0,
        J: Any = "J1",
        time: str | int = "free",
        initial: str = "random",
        execution: Execution | None = None,
        links: Links | None = None,
        **renamed: Any,
    ) -> None:
        super().__init__()
        check_depth(layers, step)
        chosen = named_architecture(architecture, integrator)
        check_options(chosen, x=pattern_name(X), shared_x=shared_x, gamma=gamma, J=J)
        self.execution = execution = with_renamed(execution, renamed)
        self.graphs = list_of_graphs(graph, layers)
        self.graph = self.graphs[0]
        self.layers, self.step, self.seed, self.shared_x = layers, float(step), seed, shared_x
        self.layout = Layout(chosen, self.graphs, width, K, X, workers, partition, execution, seed, links)
        self.links = self.layout.links
        self.layout.check(layers, shared_x)
        self.architecture, self.ownership = self.layout.architecture, self.layout.ownership
        self.passage = Passage(self.links, self.ownership)
        self.K_patterns, self.X_patterns = self.layout.K_patterns, self.layout.X_patterns
        self.widths, self.halves = self.ownership.widths, self.ownership.halves
        self.neurons = int(self.widths.sum())
        self._course = TimeCourse(time, layers, len(self.graphs))
        sigma = named_activation(activation, in_blocks=execution.deterministic)
        wave = wave_factor(self.architecture, self.step, initial, initial_scale, INITIAL_SCALE)
        options = (layers, step, shared_x, sigma.name, gamma, J if isinstance(J, str) else "", time, initial)
        self.layout.guard(execution, *options)
        dtype = dtype or torch.get_default_dtype()
        spec = LayerSpec(self.architecture, self.layout.operators, sigma, layers, self.step, gamma)
        kept = execution.kept(self.architecture, layers, len(self.graphs), dtype)
        self.columns = self.layout.columns()
        columns = [torch.from_numpy(index) for index in self.layout.rows()]
        fixed = self.layout.fixed(trains_j=isinstance(J, str) and J == "trained")
        captures = self.ownership.ledger if execution.cuda_graphs and self.ownership.alone else None
        replays = self.ownership.ledger if execution.replay and self.links is None else None
        self.sweep = Sweep(spec, columns, shared_x, fixed, self.ownership.where, kept, captures, replays)
        self._make_parameters(wave or initial_scale, J, dtype, wave=bool(wave))
        for s, places in enumerate(self.layout.unions() if len(self.graphs) > 1 else ()):
            self.keep_index(f"union{s}", places)
        if device is not None:
            self.to(device)

    @property
    def plan(self) -> str:
        """The products in use for the weights as they are: "tiles" or "torch"."""
        weight = next(self.parameters())
        operator = self.layout.operators[0].K
        return chosen_products(operator.products, operator.deterministic, weight.dtype, weight.device)

    @opaque
    def forward(self, y: Tensor) -> Tensor:
        """Return yN (batch, neurons) of y0 (batch, neurons), in memory neuron by neuron (strides (1, batch)).

        Under autocast in the dtype of the weights. Raises ValueError inside transforms, see `sweep.surroundings`.
        """
        check_surroundings(self, self.ownership.alone, self.shards)
        if not self.ownership.alone:
            register_holder(self, self.ownership)
        if under_autocast(y):
            with torch.autocast(y.device.type, enabled=False):
                converted = y.to(next(self.parameters()).dtype) if y.is_floating_point() else y
                return self.forward(converted)  # type: ignore[no-any-return]
        self._check_input(y)
        agreement = self.ownership.agreement
        if agreement is not None:
            agreement.before_forward(len(y))
        moment = self.passage.enter(training=self.training and torch.is_grad_enabled())
        output: Tensor = Layers.apply(*self.sweep.arguments(y, self.weights()))  # type: ignore[no-untyped-call]
        output = self.passage.leave(output, moment)
        if agreement is not None and output.requires_grad:
            output.register_hook(agreement.before_backward)
        return output

    def at(self, step: int | None = None, first: int | None = None, copies: int | None = None) -> None:
        """Say which gradient step or repetition comes next, and its first sample, for the fates of messages.

        copies: consecutive rows of an evaluation that are one sample and meet one fate, one by default.
        Nothing where links are perfect. Without it training sweeps count their steps by themselves.
        """
        if self.links is not None:
            self.links.at(step, first, copies)

    def states(self, y: Tensor) -> Tensor:
        """Return y and the state after every layer, (layers + 1, batch, neurons), without gradients."""
        self._check_input(y)
        self.passage.enter()
        return queries.states(self.sweep, y, self.weights())

    def register_state_hook(self, hook: Callable[[int, Tensor], object]) -> RemovableHandle:
        """Call hook(layer, state) in every forward sweep: before the first layer (0), then after layers 1 .. layers.

        state: (batch, neurons), columns of this worker's agents (`by_agent` takes it apart): a copy without gradients,
        so whatever the hook does to it, the sweep continues unchanged. Not called by `states`, nor by what a backward
        repeats. On several workers the others wait for a slow hook; one that communicates must be on all of them.
        Returns a handle: `handle.remove()` ends it. Costs a copy of the state a layer, and nothing when there is none.
        """
        handle = RemovableHandle(self.sweep.watchers)
        self.sweep.watchers[handle.id] = hook
        return handle

    def by_agent(self, state: Tensor) -> dict[int, Tensor]:
        """Split a state (batch, neurons) into {agent: (batch, its neurons)} of this worker: differentiable views."""
        self._check_columns(state, "by_agent")
        return dict(zip(self.owned.tolist(), state.split(self.widths.tolist(), dim=1), strict=True))

    def local(self, state: Tensor) -> Tensor:
        """Return this worker's columns of the whole network's state: (batch, all neurons) -> (batch, neurons).

        All neurons go agent by agent; in one process this is the state itself. Nothing is sent.
        """
        return self.ownership.local(state)

    def inverse(self, y: Tensor) -> Tensor:
        """Return y0 of yN, (batch, neurons), without gradients; exact up to rounding.

        Raises ValueError for an architecture whose layers cannot be inverted exactly.
        """
        self._check_input(y)
        if not self.architecture.invertible:
            raise ValueError(
                f"inverse: expected an architecture of two parts that advance each other, got "
                f"{self.architecture.name}, whose layers have no exact inverse. Choose hamiltonian, for example."
            )
        self.passage.check_memoryless("inverse")
        self.passage.enter()
        return queries.inverse(self.sweep, y, self.weights())

    def fields(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Return the field f of y' = f(y) at y_0 .. y_N, (batch, neurons) each, without gradients.

        f of the layer that starts at the state; at the last state, of the last layer. All its parts are taken at the
        same state, where a step of two parts takes one after the other. A plain feed-forward layer has its map.
        """
        for state in states:
            self._check_input(state)
        self.passage.check_memoryless("fields")
        return queries.fields(self.sweep, states, self.weights())

    def apply_J(self, v: Tensor, transpose: bool = False, layer: int = 0) -> Tensor:
        """Apply J, or Jᵀ = -J, to states (batch, neurons), without gradients: [[0, -Xᵀ], [X, 0]], or the J of H1.

        layer: whose X, where each layer has its own. Collective. Raises ValueError for an architecture without J.
        """
        self._check_input(v)
        return queries.apply_J(self.sweep, v, self.weights(), -1.0 if transpose else 1.0, layer)

    def linearize(self, y: Tensor) -> Linearization:
        """Return the network at states y (batch, neurons), for products with its Jacobians; see `Linearization`."""
        self._check_input(y)
        self.passage.check_memoryless("linearize")
        self.passage.enter()
        with torch.no_grad():
            return Linearization(self.sweep, y, self.weights())

    def energy(self, y: Tensor, layer: int = 0) -> Tensor:
        """Return H(y) = Σ σ̃(K y + b), σ̃' = σ, of a layer's field y' = J ∇H: (batch,), without gradients.

        On several workers each returns the sum over its own rows; H is the sum over the workers. Of leapfrog,
        |p|² / 2 + Σ σ̃(K q + b). Collective. Raises ValueError for an architecture that has no H.
        """
        self._check_input(y)
        return queries.energy(self.sweep, y, self.weights(), layer)

    def smoothness(self) -> Tensor:
        """Return (h/2) Σ |K_{j+1} - K_j|² + |b_{j+1} - b_j|² over layers, a scalar; see `time_course`."""
        union = [getattr(self, f"union{s}") for s in range(len(self.graphs))] if len(self.graphs) > 1 else None
        weights, names = self.weights(), self.architecture
        return smoothness(
            [weights[name] for name in names.matrices], [weights[name][0] for name in names.biases], self.step, union
        )

    def add_smoothness_gradient(self, weight: float) -> None:
        """Add weight times the gradient of `smoothness` to the gradients that a backward has left."""
        if self._course.free and len(self.graphs) == 1:
            matrices = [getattr(self, name)[0] for name in self.architecture.matrices]
            biases = [getattr(self, name) for name in self.architecture.biases]
            add_smoothness_gradient([*matrices, *biases], weight * self.step)
        else:
            (weight * self.smoothness()).backward()  # type: ignore[no-untyped-call]

    def weights(self) -> Weights:
        """Return all layers' weights by name, as a sweep takes them: the parameters themselves if time is free."""
        course, names = self._course, self.architecture
        if course.free:
            free: Weights = {name: list(getattr(self, name)) for name in names.matrices}
            free |= {name: [getattr(self, name)] for name in names.biases}
            return free | self._interconnection()
        weights = {name: [course(K, s) for s, K in enumerate(getattr(self, name))] for name in names.matrices}
        weights |= {name: [course(getattr(self, name))] for name in names.biases}
        return weights | self._interconnection()

    def _interconnection(self) -> Weights:
        name = self.architecture.interconnection
        if not name:
            return {}
        return {name: [self.get_buffer("skew")] if name in self.sweep.fixed else list(getattr(self, name))}

    def matrices(self) -> list[nn.Parameter]:
        """Return the trained matrices: all parameters but the biases."""
        return [p for name, p in self.named_parameters() if name not in self.architecture.biases]

    def scalar_positions(self, which: str, layer: int) -> tuple[Tensor, Tensor]:
        """Return row and column neuron of every weight of a matrix ("Kp", "X", ...) in a layer, (entries,) each.

        Rows and columns count the neurons of one part (p, q or y), agent by agent.
        """
        pattern = self.layout.matrices[self._family(which)][layer % len(self.graphs)].operator.pattern
        return torch.from_numpy(pattern.scalar_rows()), torch.from_numpy(pattern.scalar_columns())

    def layer_weights(self, which: str, layer: int) -> Tensor:
        """Return a layer's weights of a matrix ("Kp", "X", ...), (entries,): a view if time is free."""
        stage, row = layer % len(self.graphs), layer // len(self.graphs)
        if which == self.architecture.interconnection and self.shared_x:
            stage, row = 0, 0
        return self.weights()[which][stage][row]

    @property
    def owned(self) -> IntArray:
        """The agents whose columns this worker's state has, ascending; all of them in one process."""
        return self.ownership.agents

    @property
    def time(self) -> str | int:
        """The dependence of weights on time: "free", "shared", or the number of knots."""
        return self._course.time

    def traffic(self) -> dict[str, int]:
        """Count what this worker has sent since `reset_traffic`: rounds, messages, bytes, messages to non-neighbours.

        In one process it counts what the agents would have sent, each on its own. agent_messages, agent_bytes: slices
        that the agents of this worker have sent to others, here or elsewhere; their sum is the same on any workers.
        """
        return self.ownership.traffic(self.graphs)

    def link_traffic(self) -> NDArray[np.int64]:
        """Count messages and bytes over each link since `reset_traffic`, both directions together: (links, 2).

        Slices between agents; on several workers those that this worker's agents sent, here or elsewhere.
        """
        return self.ownership.link_traffic()

    def reset_traffic(self) -> None:
        """Start counting messages anew."""
        self.ownership.ledger.reset()

    def hops_per_layer(self) -> int:
        """Return the links that information crosses in one layer, one per round."""
        return self.layout.rounds()

    def reconstruction_error(self) -> float | None:
        """Return the largest relative error so far of a state rebuilt on this worker with memory="reversible".

        None before the first backward. Raises ReconstructionError where it is so large that gradients are wrong.
        """
        return self.sweep.reconstruction.check()

    def _family(self, which: str) -> str:
        return "X" if which == self.architecture.interconnection else "K"

    def extra_repr(self) -> str:
        size = f"{self.graph.agents} agents, {self.neurons} neurons, step={self.step}"
        return f"{self.architecture.name}, {self.graph.name}, {size}"

    def _make_parameters(self, scale: float, J: Any, dtype: torch.dtype, wave: bool) -> None:
        """Draw every weight from its key, in the order of `state_dict`."""
        layout, course, seed, name = self.layout, self._course, self.seed, self.architecture.interconnection
        for matrix, drawn in layout.draw_matrices(course, seed, scale, dtype, wave):
            setattr(self, matrix, drawn)
        if name in self.sweep.fixed:
            self.register_buffer("skew", layout.fixed_skew(J, dtype), persistent=False)
        elif name:
            setattr(self, name, layout.draw_interconnection(self.layers, self.shared_x, seed, scale, dtype))
        for bias, values in layout.draw_biases(course, seed, dtype, wave):
            setattr(self, bias, values)
        self.shards = layout.shards([name for name, _ in self.named_parameters()])
        share_state(self, self.ownership, self.shards, seed)

    def _check_columns(self, y: Tensor, who: str) -> None:
        check_columns(y, self.neurons, self.ownership.all_widths, who)

    def _check_input(self, y: Tensor) -> None:
        self._check_columns(y, "HDNN")
        check_kind(y, next(self.parameters()))
