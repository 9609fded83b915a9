"""The meeting of the processes of a job: their launcher, and the small key-value store where they meet.

A launcher is torchrun, the mpiexec of Open MPI or of MPICH and its kin, srun, or whoever sets RANK and WORLD_SIZE. A
store is a server in one process (tcp://host:port), a file that all can reach (file:///path), or torchrun's own.
"""

from __future__ import annotations

import ipaddress
import os
import select
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import FileStore, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from dist_hdnn.transport.errors import PeerLostError

LAST_WORDS = 0.2  # seconds for mpiexec to pass on what was printed; MPICH's drops it when it sees the end


@dataclass(frozen=True)
class Launch:
    """A launcher's account of this process. local_rank, local_size: among the workers of this machine, where known."""

    launcher: str
    rank: int
    size: int
    local_rank: int | None = None
    local_size: int | None = None


PLAIN = "the variables RANK and WORLD_SIZE"
# Launcher, then its variables of rank, size, local rank, local size. The innermost launcher comes first: torchrun may
# itself be started by srun, and srun may set the variables of MPICH.
OMPI = "OMPI_COMM_WORLD_"
KNOWN = (
    ("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    ("mpiexec of Open MPI", f"{OMPI}RANK", f"{OMPI}SIZE", f"{OMPI}LOCAL_RANK", f"{OMPI}LOCAL_SIZE"),
    ("mpiexec of MPICH or Intel MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    (PLAIN, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""),
)
SIZES = {launcher: size for launcher, _, size, *_ in KNOWN}


def launched(environ: Mapping[str, str] = os.environ) -> Launch | None:
    """Return what the environment says of this process, or None when it was started alone.

    A shell that has the variables of one task, as `srun --pty bash` leaves them, is no job. Raises ValueError when a
    launcher's variables are not numbers that fit each other, or when they and RANK, WORLD_SIZE describe two jobs.
    """
    launches = [launch for launch in _launches(environ) if not _is_shell(launch, environ)]
    if len(launches) > 1 and launches[1].launcher == PLAIN and launches[0].launcher != "torchrun":
        first, plain = launches[:2]
        if (first.rank, first.size) != (plain.rank, plain.size):
            raise ValueError(
                f"environment: {first.launcher} made this worker {first.rank} of {first.size}, but RANK={plain.rank} "
                f"and WORLD_SIZE={plain.size} disagree; unset those that are left over, RANK and WORLD_SIZE or "
                f"those of {SIZES[first.launcher]}"
            )
    return launches[0] if launches else None


def _launches(environ: Mapping[str, str]) -> Iterator[Launch]:
    """Yield every launcher that has left its variables, the innermost first."""
    for launcher, *names in KNOWN:
        if launcher == "torchrun" and "TORCHELASTIC_RUN_ID" not in environ:
            continue
        if names[0] in environ and names[1] in environ:
            size = _number(environ, names[1], 1)
            rank = _number(environ, names[0], 0, names[1], size)
            local_size = _number(environ, names[3], 1)
            local_rank = _number(environ, names[2], 0, names[3], local_size)
            assert rank is not None and size is not None
            yield Launch(launcher, rank, size, local_rank, local_size)


def _is_shell(launch: Launch, environ: Mapping[str, str]) -> bool:
    """Tell whether a single task is a shell or a script rather than a job of one worker."""
    by_slurm = launch.launcher.startswith("mpiexec of MPICH") and (
        "SLURM_JOB_ID" in environ or "SLURM_PROCID" in environ
    )
    return launch.size == 1 and (launch.launcher in (PLAIN, "srun") or by_slurm)


def _number(
    environ: Mapping[str, str], name: str, least: int, limit_name: str = "", limit: int | None = None
) -> int | None:
    """Return the whole number in a variable, at least `least` and below `limit`, the value of another variable."""
    if name not in environ:
        return None
    below = "" if limit is None else f", less than {limit_name}={limit}"
    try:
        value = int(environ[name])
    except ValueError:
        value = None
    if value is None or value < least or (limit is not None and value >= limit):
        raise ValueError(
            f"environment: expected a whole number in {name}, {least} or more{below}, got {environ[name]!r}; "
            "correct or unset it"
        )
    return value


def serve_store(host: str = "127.0.0.1", port: int = 0, timeout: float = 120.0) -> tuple[Store, str]:
    """Return a store in this process and its address tcp://host:port. It lasts as long as the returned object.

    It listens at this address only, PyTorch alone at all of them. port: 0 for a free one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family)
    port, limit = listener.getsockname()[1], timedelta(seconds=timeout)
    descriptor = listener.detach()
    store = TCPStore(host, port, is_master=True, wait_for_workers=False, timeout=limit, master_listen_fd=descriptor)
    return store, f"tcp://{host}:{port}"


def open_store(address: str, size: int, timeout: float = 120.0) -> Store:
    """Open the store at tcp://host:port or file:///path.

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
    """Return store, rank and size from RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.

    After a restart by torchrun the old workers' addresses are still in its store, so every attempt has its own prefix.
    On several nodes the attempts are not counted alike: there start torchrun with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1.
    """
    launch = launched()
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        by = f"started by {launch.launcher}" if launch else "started alone"
        raise ValueError(
            f"gloo: expected {', '.join(missing)} in the environment of a process {by}; "
            "use torchrun, or give rank, size and store address"
        )
    host, port = os.environ["MASTER_ADDR"], _port(os.environ["MASTER_PORT"])
    place = f"{host}:{port} (MASTER_ADDR and MASTER_PORT)"
    limit = timedelta(seconds=timeout)
    try:
        if launch is None or not _is_loopback(host) or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            store, rank, size = next(rendezvous("env://", timeout=limit))
        else:  # no other machine has to reach it
            address, rank, size = "127.0.0.1" if host == "localhost" else host.strip("[]"), launch.rank, launch.size
            store = (
                TCPStore(address, port, is_master=False, timeout=limit)
                if rank
                else serve_store(address, port, timeout)[0]
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


def is_local(address: str | None = None) -> bool:
    """Return whether all workers are on this machine, by a store's address or else by the launcher.

    A file may be shared by the nodes of a launcher.
    """
    if address is not None and address.startswith("tcp://"):
        return _is_loopback(address.removeprefix("tcp://").rpartition(":")[0])
    launch = launched()
    if launch is not None and launch.local_size is not None:
        return launch.local_size == launch.size
    return (address is not None and launch is None) or _is_loopback(os.environ.get("MASTER_ADDR", ""))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def first_line(error: BaseException) -> str:
    """Return the text of torch's errors without source positions and advice."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    text = text.partition("] ")[2] if text.startswith("[/") else text
    return text.partition(". This is typically")[0].rstrip(".")


@contextmanager
def limit_start_up(seconds: float, who: str) -> Iterator[None]:
    """End this process, after a line on stderr, when the block lasts longer, and remove the shared memory of its MPI.

    MPI waits in its start-up for all workers, for ever if one never comes. It holds the interpreter meanwhile, so no
    thread and no signal handler would run: another process watches this one. who: for the line, "worker 1 of 2".
    """
    waiting = os.getpid()
    before = shared_memory(waiting)
    reader, writer = os.pipe()
    watcher = os.fork()
    if watcher == 0:
        try:
            os.close(writer)
            if not select.select([reader], [], [], seconds)[0]:  # readable at the end of the block and of the process
                _end(waiting, before, f"{who} waited {seconds:.0f} s for the others in the start-up of MPI")
        finally:
            os._exit(0)
    os.close(reader)
    try:
        yield
    finally:
        os.close(writer)
        os.waitpid(watcher, 0)


def _end(process: int, before: set[str], text: str) -> None:
    try:
        os.write(2, f"dist-hdnn: error: {text}; check their logs, or raise `timeout`\n".encode())
        time.sleep(LAST_WORDS)
    finally:
        left = shared_memory(process) - before
        os.kill(process, signal.SIGKILL)
        for path in left:
            with suppress(OSError):
                os.unlink(path)


def shared_memory(process: int) -> set[str]:
    """Return the files in /dev/shm that a process has mapped, or none where there is no /proc."""
    with suppress(OSError), open(f"/proc/{process}/maps", encoding="utf-8", errors="replace") as maps:
        return {path for line in maps if (path := line.split()[-1]).startswith("/dev/shm/")}
    return set()
