"""Errors between workers, which name the worker, its peers, the exchange and where the sweep was."""

from __future__ import annotations

from collections.abc import Sequence


class TransportError(RuntimeError):
    """A failure between workers. worker: reports it. peer: is concerned. label: the exchange.

    exit_code: for the process.
    """

    exit_code = 5

    def __init__(self, message: str, worker: int | None = None, peer: int | None = None, label: str = "") -> None:
        super().__init__(message)
        self.worker = worker
        self.peer = peer
        self.label = label


class PeerLostError(TransportError):
    """A worker that others wait for is gone."""


class TransportTimeoutError(TransportError):
    """A worker that others wait for is late."""


class DisagreementError(TransportError):
    """Workers called different collectives at the same time."""

    exit_code = 3


class AbortError(TransportError):
    """A worker asked to end all of them, where that does not end the process. exit_code: the code it gave."""

    def __init__(self, message: str, code: int, worker: int, peer: int | None = None) -> None:
        super().__init__(message, worker, peer)
        self.exit_code = code


def naming(peers: Sequence[int]) -> str:
    """Return "worker 3", "workers 1 and 3" or "workers 0, 1 and 3"."""
    if len(peers) == 1:
        return f"worker {peers[0]}"
    return f"workers {', '.join(map(str, peers[:-1]))} and {peers[-1]}"
