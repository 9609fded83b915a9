"""What all sweeps of a network share: the model, the edges of the state, and where a sweep is.

Shapes: y (batch, neurons) at the edge, columns agent by agent, p before q; inside, (neurons of one part, batch).
A y that a sweep returns lies in memory as inside, neuron by neuron: transposed copies would cost as much as a layer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dist_hdnn.operators.choice import arrangement
from dist_hdnn.operators.indexed import Indexed
from dist_hdnn.sweep.buffers import Model
from dist_hdnn.sweep.weights import Operators
from dist_hdnn.transport import Transport


class Place(NamedTuple):
    """Where a sweep is; what error messages of the transport add."""

    layer: int
    layers: int
    sweep: str

    def __str__(self) -> str:
        return f"layer {self.layer + 1} of {self.layers}, {self.sweep}"


class Frame(Indexed):
    """The layers of a model, without their weights.

    columns: of every part, the columns of y that hold it, (neurons of the part,).
    shared: one interconnection for all layers. fixed: names of weights that are constants.
    transport: is told where the sweep is, so that its errors name layer and sweep.
    """

    def __init__(
        self,
        model: Model,
        columns: Sequence[Tensor],
        shared: bool,
        fixed: frozenset[str] = frozenset(),
        transport: Transport | None = None,
    ) -> None:
        super().__init__()
        self.model, self.layers, self.shared, self.fixed = model, model.layers, shared, fixed
        self.transport = transport
        self._places: dict[str, list[Place]] = {}
        operators = [operator for stage in model.stages for operator in (stage.K, stage.X) if operator is not None]
        self.operators = nn.ModuleList(operators)  # so that their index tensors follow the module to its device
        self.stages, self.sigma = model.stages, model.sigma
        self.owned, self.parts = len(columns[0]), len(columns)
        for part, index in enumerate(columns):
            self.keep_index(f"columns{part}", index)
        self.watchers: dict[int, Callable[[int, Tensor], object]] = OrderedDict()  # called with every layer's state
        self._shows = False

    def plans(self, like: Tensor) -> Operators:
        """Of every stage, how K and X lie in memory for products of tensors of the type and device of `like`."""
        return [(arrangement(s.K, like), None if s.X is None else arrangement(s.X, like)) for s in self.stages]

    def told(self, sweep: str, layers: Iterable[int]) -> Iterator[int]:
        """The layers of a sweep, one after the other, while the transport knows of it."""
        transport = self.transport
        if transport is None:
            yield from layers
            return
        places = self._places.get(sweep)
        if places is None:
            places = self._places[sweep] = [Place(layer, self.layers, sweep) for layer in range(self.layers)]
        for layer in layers:
            transport.context = places[layer]
            yield layer
        transport.context = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, sweeps show their states to the watchers; one that is run again for its adjoint does not."""
        self._shows = bool(self.watchers)
        try:
            yield
        finally:
            self._shows = False

    def show(self, position: int, parts: Sequence[Tensor]) -> None:
        """Call the watchers with a copy of the state that a sweep has reached; position 0 is the input."""
        if self._shows:
            with torch.no_grad():
                state = self.unpack(parts)
            for watcher in list(self.watchers.values()):
                watcher(position, state)

    def pack(self, y: Tensor, parts: Sequence[Tensor]) -> None:
        """y (batch, neurons) -> parts, (neurons of the part, batch) each."""
        rows = y.t().contiguous()  # no copy where neurons already lie row by row, as lifts and readouts have them
        for part, tensor in enumerate(parts):
            torch.index_select(rows, 0, getattr(self, f"columns{part}"), out=tensor)

    def unpack(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts (neurons of the part, batch) -> a new y (batch, neurons), in memory neuron by neuron."""
        batch = parts[0].shape[1]
        y = parts[0].new_empty_strided((batch, self.parts * self.owned), (1, batch))  # no view: may change in place
        for part, tensor in enumerate(parts):
            y.t().index_copy_(0, getattr(self, f"columns{part}"), tensor)
        return y
