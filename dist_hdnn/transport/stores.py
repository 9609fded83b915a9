"""Where processes meet: a small key-value store, needed at start-up only.

It is a server in one process (tcp://host:port), a file that all can reach (file:///path), or what torchrun provides.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from datetime import timedelta

from torch.distributed import FileStore, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from dist_hdnn.transport.base import PeerLostError
from dist_hdnn.transport.environment import launched

__all__ = [
    "PrefixStore",
    "Store",
    "environment_store",
    "first_line",
    "is_here",
    "on_one_machine",
    "open_store",
    "serve_store",
]


def serve_store(timeout: float = 120.0) -> tuple[Store, str]:
    """A store in this process, reachable from this machine only, and its address tcp://127.0.0.1:port.

    For a launcher: the port is a free one, and the store lasts as long as the returned object.
    """
    store, port = _served("127.0.0.1", 0, timeout)
    return store, f"tcp://127.0.0.1:{port}"


def open_store(address: str, size: int, timeout: float = 120.0) -> Store:
    """The store at tcp://host:port or file:///path.

    Raises ValueError for another address, PeerLostError when no store answers there.
    """
    kind, _, place = address.partition("://")
    host, _, port = place.rpartition(":")
    if kind == "tcp" and host and port.isdigit():
        try:
            return TCPStore(host, int(port), is_master=False, timeout=timedelta(seconds=timeout))
        except RuntimeError as error:
            reason = first_line(error)
            raise PeerLostError(f"no store answers at {address}: {reason}; does its process still run?") from None
    if kind == "file" and place.startswith("/"):
        return FileStore(place, size)
    raise ValueError(f"store: expected tcp://host:port or file:///path, got {address!r}; correct the address")


def environment_store(timeout: float) -> tuple[Store, int, int]:
    """Store, rank and size from RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.

    After a restart by torchrun the old workers' addresses are still in its store, so every attempt has its own prefix.
    On several nodes the attempts are not counted alike: there start torchrun with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1.
    """
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        found = launched()
        by = f"started by {found.launcher}" if found else "started alone"
        raise ValueError(
            f"gloo: expected {', '.join(missing)} in the environment of a process {by}; "
            "use torchrun, or give rank, size and store address"
        )
    host, port = os.environ["MASTER_ADDR"], _port(os.environ["MASTER_PORT"])
    place = f"{host}:{port} (MASTER_ADDR and MASTER_PORT)"
    found = launched()
    try:
        if found is None or not _is_loopback(host) or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            store, rank, size = next(rendezvous("env://", timeout=timedelta(seconds=timeout)))
        else:  # no other machine has to reach it
            address, rank, size = "127.0.0.1" if host == "localhost" else host.strip("[]"), found.rank, found.size
            limit = timedelta(seconds=timeout)
            store = (
                TCPStore(address, port, is_master=False, timeout=limit) if rank else _served(address, port, timeout)[0]
            )
    except OSError as error:
        raise ValueError(
            f"gloo: worker 0 cannot listen at {place}: {error.strerror}; export a free port in MASTER_PORT"
        ) from None
    except RuntimeError as error:
        raise PeerLostError(f"no store answers at {place}: {first_line(error)}; does worker 0 still run?") from None
    one_node = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if one_node else "0"
    return PrefixStore(f"dist_hdnn attempt {attempt}", store), rank, size


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(
            f"gloo: expected a port from 1 to 65535 in the environment variable MASTER_PORT, got {text!r}; export a "
            "number (Kubernetes sets this name for a service called master)"
        )
    return int(text)


def _served(host: str, port: int, timeout: float) -> tuple[Store, int]:
    """A store in this process, reachable at this address only, and its port; PyTorch alone would listen at all."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    port = listener.getsockname()[1]
    store = TCPStore(
        host,
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=timeout),
        master_listen_fd=listener.detach(),
    )
    return store, port


def on_one_machine() -> bool:
    """Whether all workers that the launcher started are on this machine."""
    found = launched()
    if found is not None and found.local_size is not None:
        return found.local_size == found.size
    return _is_loopback(os.environ.get("MASTER_ADDR", ""))


def is_here(address: str) -> bool:
    """Whether this store is for workers of this machine only; a file may be shared by the nodes of a launcher."""
    if address.startswith("tcp://"):
        return _is_loopback(address.removeprefix("tcp://").rpartition(":")[0])
    return launched() is None or on_one_machine()


def first_line(error: BaseException) -> str:
    """The text of torch's errors without source positions and advice."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    text = text.partition("] ")[2] if text.startswith("[/") else text
    return text.partition(". This is typically")[0].rstrip(".")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
