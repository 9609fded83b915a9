"""The links of a communication graph with their properties, one row per direction.

Inside the package: seconds, bytes per second, probabilities from 0 to 1, layers, bits.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.topology import CommunicationGraph
from dist_hdnn.topology.ragged import IntArray

FloatArray = NDArray[np.float64]
EXACT = 0
"""The value of `bits` for slices that travel as they are computed."""


@dataclass(eq=False)
class LinkTable:
    """Properties of every directed link of a graph: arrays (directed links,), a link i -> j and a link j -> i each.

    sender, receiver: agents, sorted by (receiver, sender).
    latency, jitter: of a message, in seconds; jitter is the standard deviation. bandwidth: bytes per second, inf where
    it does not matter. loss: probability that a message is lost. burst: mean length of a run of lost messages, in
    messages; 1 for losses that are independent. delay_least, delay_most: layers by which slices are late, drawn per
    link between these. bits: bits per value in the forward sweep, `EXACT` for all. bits_back: in the backward sweep.
    outage: probability that the link is down for a whole sample.
    """

    sender: IntArray
    receiver: IntArray
    latency: FloatArray
    jitter: FloatArray
    bandwidth: FloatArray
    loss: FloatArray
    burst: FloatArray
    delay_least: IntArray
    delay_most: IntArray
    bits: IntArray
    bits_back: IntArray
    outage: FloatArray

    @classmethod
    def perfect(cls, graph: CommunicationGraph) -> LinkTable:
        """Return the links of a graph without any impairment: no latency, no limit, no loss."""
        i, j = graph.links.T
        sender, receiver = np.concatenate([i, j]), np.concatenate([j, i])
        order = np.lexsort((sender, receiver))
        count = len(order)

        def zeros() -> FloatArray:
            return np.zeros(count)

        def whole() -> IntArray:
            return np.zeros(count, dtype=np.int64)

        return cls(
            sender=sender[order],
            receiver=receiver[order],
            latency=zeros(),
            jitter=zeros(),
            bandwidth=np.full(count, np.inf),
            loss=zeros(),
            burst=np.ones(count),
            delay_least=whole(),
            delay_most=whole(),
            bits=whole(),
            bits_back=whole(),
            outage=zeros(),
        )

    def __len__(self) -> int:
        return len(self.sender)

    def find(self, sender: IntArray, receiver: IntArray) -> IntArray:
        """Return the row of each of these directed links. Raises KeyError for one that the graph does not have."""
        agents = int(max(self.sender.max(initial=0), self.receiver.max(initial=0), sender.max(initial=0))) + 1
        keys, wanted = self.receiver * agents + self.sender, receiver * agents + sender
        rows = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        missing = np.flatnonzero(keys[rows] != wanted) if len(keys) else np.arange(len(wanted))
        if len(missing):
            raise KeyError((int(sender[missing[0]]), int(receiver[missing[0]])))
        return rows

    def taken(self, rows: IntArray) -> LinkTable:
        """Return these rows alone."""
        return LinkTable(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})
