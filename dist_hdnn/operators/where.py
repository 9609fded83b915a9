"""The place of a sweep: the layer that exchanges serve, for the ledger and for error messages."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from dist_hdnn.links.fates import Moment
from dist_hdnn.operators.recording import do
from dist_hdnn.transport import Transport


class Place(NamedTuple):
    """A layer of a sweep, as error messages of the transport name it."""

    layer: int
    layers: int
    sweep: str

    def __str__(self) -> str:
        return f"layer {self.layer + 1} of {self.layers}, {self.sweep}"


class Where:
    """The layer and the sweep that exchanges serve now. The ledger and error messages read it.

    phase: what rounds are booked to, "forward" or "backward"; exchanges outside sweeps have a phase of their own.
    layer, layers: of the sweep. moment: of the sweep, for the fates of its messages where links are impaired.
    """

    def __init__(self, transport: Transport | None = None, phase: str = "forward") -> None:
        self.transport, self.phase = transport, phase
        self.layer, self.layers, self.moment = 0, 0, Moment()
        self._places: dict[tuple[str, int], list[Place]] = {}

    def at(self, sweep: str, layer: int, layers: int) -> None:
        """Enter a layer of a sweep: "forward", "backward" or "inverse"."""
        self.phase = "backward" if sweep == "backward" else "forward"
        self.layer, self.layers = layer, layers
        if self.transport is not None:
            places = self._places.get((sweep, layers))
            if places is None:
                places = self._places[sweep, layers] = [Place(j, layers, sweep) for j in range(layers)]
            do(partial(setattr, self.transport, "context", places[layer]))

    def leave(self) -> None:
        """Leave the sweep."""
        self.phase = "forward"
        if self.transport is not None:
            self.transport.context = None

    def __deepcopy__(self, memo: dict[int, object]) -> Where:
        return self  # a copied network has the same workers, and exchanges that know this one
