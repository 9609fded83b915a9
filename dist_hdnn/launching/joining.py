"""Join the other workers of a job over the transport that all of them take."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dist_hdnn.launching.choice import agreed, usual

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

    from dist_hdnn.transport import Transport
    from dist_hdnn.transport.rendezvous import Launch


def join(
    asked: str | None, place: Launch | None, address: str, timeout: float, meeting: float, device: str
) -> Transport:
    """Meet the other workers, and return this one's transport.

    asked: the transport, or None for the usual one. place: None where only MPI knows. address: of the store where
    workers of our launcher meet. timeout, meeting: seconds that a worker waits for another, and at the start.
    Raises ValueError, PeerLostError, and DisagreementError when workers were told different transports.
    """
    choice = usual(place.launcher if place else "mpiexec", device)
    if device == "cuda" or asked == "nccl":
        _take_gpu(asked or choice.transport, place)
    if (asked or choice.transport) == "mpi":
        return _join_mpi(place, timeout, meeting)
    assert place is not None, f"{asked} needs a launcher"
    from dist_hdnn.transport.rendezvous import environment_store, open_store

    if not address:  # srun and mpiexec do not set the names that torch reads
        os.environ.update(RANK=str(place.rank), WORLD_SIZE=str(place.size))
    store = open_store(address, place.size, meeting) if address else environment_store(meeting)[0]
    name = agreed(store, place.rank, place.size, asked, choice, meeting)
    transport = open_transport(name, store, place, address, meeting if name != "nccl" else timeout)
    transport.timeout = timeout
    return transport


def open_transport(name: str, store: Store, place: Launch, address: str, meeting: float) -> Transport:
    """Return the transport of this name between all who meet at the store within `meeting` seconds."""
    if name == "nccl":
        import torch

        from dist_hdnn.transport.nccl import NcclTransport

        gpu = torch.device("cuda", torch.cuda.current_device())
        return NcclTransport(store, place.rank, place.size, gpu, meeting)  # its limit is fixed
    if name == "shm":
        from dist_hdnn.transport.shm import ShmTransport

        return ShmTransport(store, place.rank, place.size, meeting)
    from dist_hdnn.transport.gloo import GlooTransport
    from dist_hdnn.transport.rendezvous import is_local

    return GlooTransport(store, place.rank, place.size, meeting, is_local(address or None))


def _join_mpi(place: Launch | None, timeout: float, meeting: float) -> Transport:
    from dist_hdnn.transport.rendezvous import limit_start_up

    with limit_start_up(meeting, f"worker {place.rank} of {place.size}" if place else "a worker"):
        try:
            from dist_hdnn.transport.mpi import MpiTransport
        except ImportError as error:
            raise ValueError(f"transport: {error}") from None
        return MpiTransport(timeout)


def _take_gpu(name: str, place: Launch | None) -> None:
    """Make one GPU of this machine the current one. NCCL refuses two workers on one GPU."""
    import torch

    here, gpus = (place and place.local_size) or 1, torch.cuda.device_count()
    if gpus == 0 or (name == "nccl" and here > gpus):
        raise ValueError(
            f"transport: {name} with device=cuda has {here} workers on this machine, but PyTorch sees {gpus} GPUs; "
            "gloo and mpi let workers share a GPU, device=cpu needs none"
        )
    torch.cuda.set_device(((place and place.local_rank) or 0) % gpus)
