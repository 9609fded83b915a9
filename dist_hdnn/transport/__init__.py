"""Move fixed buffers between workers, and nothing else: one small protocol and its implementations.

`gloo`, `nccl` and `mpi` are imported where they are used, since each needs something of its own.
"""

from dist_hdnn.transport.base import Transport
from dist_hdnn.transport.channel import Channel
from dist_hdnn.transport.errors import (
    AbortError,
    DisagreementError,
    PeerLostError,
    TransportError,
    TransportTimeoutError,
)
from dist_hdnn.transport.threads import LocalTransport, run_threads
from dist_hdnn.transport.traffic import Ledger, Rounds, Traffic

__all__ = [
    "AbortError",
    "Channel",
    "DisagreementError",
    "Ledger",
    "LocalTransport",
    "PeerLostError",
    "Rounds",
    "Traffic",
    "Transport",
    "TransportError",
    "TransportTimeoutError",
    "run_threads",
]
