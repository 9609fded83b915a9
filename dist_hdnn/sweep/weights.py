"""Bring weights from canonical order, in which parameters live, to the panels of the products.

    weights    name -> tensors: of a matrix one per graph (its layers, entries), of a bias one (layers, rows)

Layer j has graph j mod their number. The interconnection (X or J) may be one for all layers: then it is one tensor
(1, entries). Panels are arranged for some layers of a graph at a time, in memory that the next ones take over. A
tape that keeps everything arranges all layers at once, so that the backward sweep finds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn import Parameter

from dist_hdnn.dynamics.architectures import Architecture
from dist_hdnn.dynamics.layer import LayerSpec
from dist_hdnn.dynamics.terms import TERMS
from dist_hdnn.dynamics.use import TermWeights
from dist_hdnn.operators.choice import arrangement
from dist_hdnn.operators.products import BlockWeights, layer_weights
from dist_hdnn.operators.sparsity import Arrangement

Weights = dict[str, list[Tensor]]
Operators = Sequence[tuple[Arrangement, Arrangement | None]]
"""Of every graph: the arrangement of K, and that of X or J."""

PANEL_BYTES, PANEL_LAYERS = 2**22, 8  # at most, arranged at a time where a sweep keeps none: small networks save calls


def flatten(weights: Weights) -> list[Tensor]:
    """List all tensors, name by name."""
    return [tensor for tensors in weights.values() for tensor in tensors]


def unflatten(tensors: Sequence[Tensor], counts: Mapping[str, int]) -> Weights:
    """Invert `flatten`, given how many tensors each name has."""
    remaining = iter(tensors)
    return {name: [next(remaining) for _ in range(count)] for name, count in counts.items()}


def layers_at_once(architecture: Architecture, operators: Operators, item_bytes: int) -> int:
    """Return the layers of a graph to arrange at a time: the same number from 8 layers on, at any depth."""
    stored = stored_weights(architecture, operators)
    return min(max(1, PANEL_BYTES // max(1, stored * item_bytes)), PANEL_LAYERS)


def stored_weights(architecture: Architecture, operators: Operators) -> int:
    """Return the weights that panels of one layer hold, at most."""
    return max(len(architecture.matrices) * K.stored + (X.stored if X else 0) for K, X in operators)


class Grouping:
    """The layers of every graph in groups of `size` consecutive ones."""

    def __init__(self, layers: int, graphs: int, size: int) -> None:
        self.graphs, self.size = graphs, size
        self.rows = [len(range(s, layers, graphs)) for s in range(graphs)]

    def find(self, layer: int) -> tuple[int, int, int]:
        """Return (graph, first row of the group, place in the group) of a layer."""
        s, row = layer % self.graphs, layer // self.graphs
        return s, row - row % self.size, row % self.size

    def span(self, s: int, start: int) -> slice:
        """Return the rows of the graph that a group holds."""
        return slice(start, min(start + self.size, self.rows[s]))


class WeightPanels:
    """Every layer's weights as views of panels, for `at_once` layers of a graph at a time."""

    def __init__(self, spec: LayerSpec, shared: bool, like: Tensor, at_once: int | None = None) -> None:
        """at_once: layers of a graph whose panels are there at a time; None: as many as fit the cache."""
        self.architecture, self.shared = spec.architecture, shared
        forces = spec.architecture.forces
        self._with_bias = [TERMS[force.kind].adds_bias for force in forces]
        self.biases_in_panels = frozenset(force.b for force in forces if TERMS[force.kind].adds_bias)
        self._memory, self._like = dict[tuple[str, int], Tensor](), like.new_empty(0)
        self.operators: Operators = [
            (arrangement(each.K, like), None if each.X is None else arrangement(each.X, like)) for each in spec.graphs
        ]
        self.stored = stored_weights(spec.architecture, self.operators)
        at_once = at_once or layers_at_once(spec.architecture, self.operators, like.element_size())
        self.groups = Grouping(spec.layers, len(self.operators), min(at_once, spec.layers))
        self.weights: Weights | None = None
        # (graph, first row, layers) of a group -> where its panels lie, and its views
        self._views: dict[tuple[int, int, int], tuple[list[int], list[list[TermWeights]]]] = {}
        self.release()

    def buffer(self, name: str, s: int, layers: int, stored: int) -> Tensor:
        """Return panels (layers, stored) to write weights to, always at the same places: the rest stays zero."""
        key = (name, s)
        if key not in self._memory:
            self._memory[key] = self._like.new_zeros(layers, stored)
        return self._memory[key]

    def hold(self, weights: Weights) -> None:
        """Hold the weights of the coming sweep, which do not change before `release`."""
        self.release()
        self.weights = weights

    def release(self) -> None:
        """Forget the weights."""
        self.weights = None
        self._start = [-1] * len(self.operators)
        self._ready: list[list[list[TermWeights]]] = [[] for _ in self.operators]
        self._shared: list[list[BlockWeights | None]] = [[] for _ in self.operators]
        self._same: dict[tuple[str, int], Tensor] = {}  # panels of matrices that all layers share

    def of(self, layer: int) -> list[TermWeights]:
        """Return a layer's weights for each part's force, valid until another group is asked for."""
        s, start, place = self.groups.find(layer)
        if self._start[s] != start:
            self._ready[s] = self._arranged(s, self.groups.span(s, start))
            self._start[s] = start
        return self._ready[s][place]

    def interconnection(self, layer: int) -> BlockWeights | None:
        """Return a layer's X or J, without arranging the other weights."""
        s, start, place = self.groups.find(layer)
        return self._interconnections(s, self.groups.span(s, start))[place]

    def _arranged(self, s: int, rows: slice) -> list[list[TermWeights]]:
        assert self.weights is not None, "weights are held during a sweep"
        K, count, weights = self.operators[s][0], rows.stop - rows.start, self.weights
        panels = {name: self._panels(name, s, rows) for name in self.architecture.matrices}
        biases = {name: self._bias(name, s, rows) for name in self.architecture.biases}
        X = self._interconnections(s, rows)
        used = [*self.architecture.matrices, *([self.architecture.interconnection] if X[0] else [])]
        in_order = any(operator is not None and operator.stored_in_order for operator in self.operators[s])
        where = [panel.data_ptr() for panel in panels.values()]
        where += [X[0].panels[0].data_ptr()] if X[0] and X[0].panels else []
        key = s, rows.start if in_order else 0, count
        if key not in self._views or self._views[key][0] != where:
            views = self._viewed(K, panels, biases, X)
            if in_order and not all(isinstance(tensor, Parameter) for name in used for tensor in weights[name]):
                return views  # weights that nobody has after this step
            self._views[key] = where, views
        return self._views[key][1]

    def _viewed(
        self,
        K: Arrangement,
        panels: dict[str, Tensor],
        biases: dict[str, Tensor],
        X: list[BlockWeights | None],
    ) -> list[list[TermWeights]]:
        """Make the weights of a group's layers for each part's force."""
        forces = []
        for force, with_bias in zip(self.architecture.forces, self._with_bias, strict=True):
            matrices: Sequence[BlockWeights | None] = [None] * len(X)
            columns: Sequence[Tensor | None] = [None] * len(X)
            if with_bias:
                matrices = layer_weights(K, panels[force.K], biases[force.b])
            elif force.K:
                matrices, columns = layer_weights(K, panels[force.K]), biases[force.b].unsqueeze(-1).unbind(0)
            forces.append([TermWeights(*row) for row in zip(matrices, columns, X, strict=True)])
        return [list(layer) for layer in zip(*forces, strict=True)]

    def _panels(self, name: str, s: int, rows: slice) -> Tensor:
        """Arrange a matrix of a group's layers, once where all layers have the same (`time="shared"`)."""
        assert self.weights is not None, "weights are held during a sweep"
        K, count, weights = self.operators[s][0], rows.stop - rows.start, self.weights[name][s]
        if weights.stride(0):
            return K.arrange(weights[rows], self.buffer(name, s, self.groups.size, K.stored)[:count])
        if (name, s) not in self._same:
            self._same[name, s] = K.arrange(weights[:1], self.buffer(name, s, 1, K.stored))
        return self._same[name, s].expand(count, -1)

    def _bias(self, name: str, s: int, rows: slice) -> Tensor:
        """Copy a bias of a group's layers, in the order in which it is added."""
        assert self.weights is not None, "weights are held during a sweep"
        K, bias = self.operators[s][0], self.weights[name][0][s :: len(self.operators)][rows]
        out = self.buffer(name, s, self.groups.size, K.rows)[: len(bias)]
        return out.copy_(K.order_rows(bias, of_states=name not in self.biases_in_panels))

    def _interconnections(self, s: int, rows: slice) -> list[BlockWeights | None]:
        name, X = self.architecture.interconnection, self.operators[s][1]
        count: int = rows.stop - rows.start
        if not name or X is None:
            return [None] * count
        assert self.weights is not None, "weights are held during a sweep"
        if not self.shared:
            panels = self.buffer(name, s, self.groups.size, X.stored)[:count]
            return [*layer_weights(X, X.arrange(self.weights[name][s][rows], panels))]
        if not self._shared[s]:
            self._shared[s] += layer_weights(X, X.arrange(self.weights[name][0], self.buffer(name, s, 1, X.stored)))
        return self._shared[s] * count
