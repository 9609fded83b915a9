"""Start the workers of a run, or join those that torchrun, mpiexec or srun has started.

torch is imported only once this process is known to be a worker, so a launcher never loads it.
`os.environ` is read here and in the transports only.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from dist_hdnn.config import Config
from dist_hdnn.launching.choice import usual
from dist_hdnn.launching.joining import join
from dist_hdnn.launching.mpiexec import become_mpiexec
from dist_hdnn.launching.supervisor import WORKER, cores, run_workers
from dist_hdnn.launching.worker import INTERRUPTED, STOPPED, USAGE, StopRequest, follow_launcher, tell_processes, work
from dist_hdnn.printing import announce
from dist_hdnn.run.directory import new_run_directory

if TYPE_CHECKING:
    from dist_hdnn.transport import Transport
    from dist_hdnn.transport.rendezvous import Launch

    Run = Callable[[Config, Transport | None], int | None]

TRAIN = ("-m", "dist_hdnn", "train")  # program that `launch` gives its arguments to
FINAL_CODES = (0, USAGE, 3, 4, 6, 7, STOPPED, INTERRUPTED)  # of runs that would fail again
RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")  # every known launcher sets one of them
OURS = "dist-hdnn"  # our own launcher, in messages
START_UP = 60.0  # seconds: workers may take at least this long to import torch and to meet
FIXED_KERNELS = ("MKL_CBWR", "AVX2,STRICT")


def prepare_environment(config: Config) -> None:
    """Set the variables that libraries read when they are loaded. Call it before torch is imported.

    MKL_CBWR, unless the user has set it, makes MKL use the same kernels for all shapes in deterministic runs.
    MPLBACKEND: pictures need no window system, and a missing one would fail the import of matplotlib.
    """
    if "MPLBACKEND" in os.environ:
        os.environ["MPLBACKEND"] = "agg"
    name, value = FIXED_KERNELS
    if config.deterministic and name not in os.environ:
        os.environ[name] = value
        if "torch" in sys.modules:
            late = f"deterministic: {name} is set after torch was imported; for equal bits start with {name}={value}"
            warnings.warn(late, UserWarning, stacklevel=2)


def environment_of_runs(threads: int) -> dict[str, str]:
    """Return the environment of a run in its own process, with this many CPU threads and no launcher around it."""
    inherited = _without_launchers(os.environ)
    inherited.pop(WORKER, None)
    return {"OMP_NUM_THREADS": str(max(1, threads)), **inherited}


def launch(
    arguments: Sequence[str],
    config: Config,
    run: Run,
    program: Sequence[str] = TRAIN,
    stop: StopRequest | None = None,
) -> int:
    """Call `run(config, transport)` in every worker of a validated config, and return the exit code.

    A process that is one of several workers already joins them. Otherwise `config.workers` workers are started as
    threads, or as `python PROGRAM ARGUMENTS`, which must call this function again; for mpi this process becomes
    `mpiexec`. A single worker calls `run(config, None)`. Errors of `run` in this process are raised; others end all
    workers, and the first is named on stderr. stop: the note that `run` reads. Call it from the main thread.
    Raises ValueError when config and launcher do not fit, PeerLostError when the workers do not meet.
    """
    place, address = _place()
    if place is None and ((config.workers or 1) > 1 or config.restarts):
        return _start(list(arguments), config, run, program, stop)
    if place is not None:
        _check(place, config.transport, config.workers)
    if address:
        follow_launcher(*([] if stop is None else [stop.ask]))
    if _alone(place, config.transport):
        announce("loading PyTorch")
        return run(config, None) or 0
    meeting = max(config.timeout, START_UP)
    transport = join(config.transport, place, address, config.timeout, meeting, config.device)
    if config.workers not in (None, transport.size):
        transport.abort(USAGE, f"workers: MPI was started with {transport.size}, the config asks for {config.workers}")
    if place is not None and place.launcher.startswith("mpiexec of MPICH") and place.local_size == place.size:
        tell_processes(transport)
    _share_cores(config, (place and place.local_size) or 1)
    return work(transport, config, run)


def connect(timeout: float = 120.0, transport: str | None = None, device: str = "cpu") -> Transport:
    """Return this process's transport to the workers that torchrun, mpiexec or srun started, or to itself alone.

    timeout: seconds that a worker waits for another. transport: shm, gloo, nccl or mpi (default: mpi under mpiexec and
    srun, else shm on CPUs under Linux, else gloo). device: with "cuda" each worker of a machine gets one of its GPUs.
    Use it in a `with` statement, or let all workers call `barrier` and `close` at the end.
    Raises ValueError when launcher and transport do not fit, PeerLostError when the workers do not meet.
    """
    place, address = _place()
    if place is not None:
        _check(place, transport, None)
    if _alone(place, transport):
        _check_group()
        from dist_hdnn.transport import LocalTransport

        return LocalTransport(timeout)
    return join(transport, place, address, timeout, max(timeout, START_UP), device)


def _place() -> tuple[Launch | None, str]:
    """Return the place of this process among several workers, if any, and where those that we started meet."""
    own = os.environ.pop(WORKER, None)  # removed, so that a child process is not mistaken for this worker
    if own is None and not any(name in os.environ for name in RANKS):
        return None, ""
    from dist_hdnn.transport.rendezvous import Launch, launched

    if own is not None:
        rank, size, address = own.split(maxsplit=2)
        return Launch(OURS, int(rank), int(size), int(rank), int(size)), address
    return launched(), ""


def _alone(place: Launch | None, transport: str | None) -> bool:
    """Tell whether this is the only worker. MPI, asked for by name, may know an unknown launcher."""
    return transport != "mpi" if place is None else place.size == 1


def _check(place: Launch, transport: str | None, workers: int | None) -> None:
    """Raise ValueError unless launcher, transport and number of workers fit."""
    if workers not in (None, place.size):
        raise ValueError(
            f"workers: {place.launcher} started {place.size}, but the config asks for {workers}; "
            f"leave workers out, or let {place.launcher} start {workers}"
        )
    name = usual(place.launcher).transport
    if place.launcher == OURS or place.size == 1 or transport in (None, name):
        return
    if transport == "threads":
        raise ValueError(
            f"transport: threads are workers of one process, but {place.launcher} started {place.size} processes; "
            f"use {name}, or start one process"
        )
    if transport == "mpi":
        raise ValueError(
            f"transport: mpi needs mpiexec or srun, but {place.launcher} started this worker ({place.rank} of "
            f"{place.size}); start with mpiexec, or use {name}"
        )
    if name == "mpi" and not (os.environ.get("MASTER_ADDR") and os.environ.get("MASTER_PORT")):
        raise ValueError(
            f"transport: {transport} under {place.launcher} needs MASTER_ADDR and MASTER_PORT, where worker 0 can be "
            "reached; export them, or use mpi"
        )


def _check_group() -> None:
    """Raise ValueError if torch.distributed has other processes that the environment does not name."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        size = distributed.get_world_size()
        if size > 1:
            raise ValueError(
                f"connect: torch.distributed has {size} processes, but RANK and WORLD_SIZE do not say so; set them, "
                "MASTER_ADDR and MASTER_PORT (torch.multiprocessing.spawn sets none), or start with torchrun"
            )


def _share_cores(config: Config, workers: int) -> None:
    """Set the threads of this process, which shares its cores with other workers, unless the user has set them."""
    import torch

    if not config.train.threads and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // workers))


def _start(arguments: list[str], config: Config, run: Run, program: Sequence[str], stop: StopRequest | None) -> int:
    """Start the workers on this machine."""
    workers = config.workers or 1
    if config.restarts and config.transport in ("threads", "mpi"):
        raise ValueError(
            f"restarts: expected workers that are processes of this launcher, got transport={config.transport}; leave "
            "transport out, or start the command again with --resume=auto"
        )
    announce(f"starting {workers} worker{'s' * (workers > 1)}")
    if config.transport == "threads":
        from dist_hdnn.transport import run_threads

        _share_cores(config, workers)
        return max(code or 0 for code in run_threads(workers, lambda transport: run(config, transport), config.timeout))
    environment = _without_launchers(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(config.train.threads or max(1, cores() // workers)))
    if config.transport == "mpi":
        become_mpiexec(workers, [*program, *arguments], environment, workers > cores())
    environment.pop("GLOO_SOCKET_IFNAME", None)  # workers of one machine need no network
    command = [sys.executable, *program, *arguments]
    if config.restarts:
        return _restarted(command, config, workers, environment, stop)
    return run_workers(command, workers, config.timeout, environment, stop)


def _without_launchers(environment: Mapping[str, str]) -> dict[str, str]:
    """Drop the variables of an outer launcher, which the workers would mistake for their own."""
    theirs = (*RANKS, "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    prefixes = ("PMI_", "PMIX_", "OMPI_COMM_WORLD_", "TORCHELASTIC_")
    return {name: value for name, value in environment.items() if name not in theirs and not name.startswith(prefixes)}


def _restarted(
    command: list[str], config: Config, workers: int, environment: Mapping[str, str], stop: StopRequest | None
) -> int:
    """Run the workers, and restart failed ones from the newest checkpoint at most `config.restarts` times.

    A failure that would repeat ends the run: bad input, numbers that are not finite, a full disk, a request to stop.
    """
    directory = config.output or str(new_run_directory(config))
    command = [*command, f"--output={directory}", f"--resume={config.resume or 'auto'}"]
    for attempt in range(config.restarts + 1):
        code = run_workers(command, workers, config.timeout, environment, stop)
        asked = stop is not None and stop.reason is not None
        if attempt == config.restarts or code in FINAL_CODES or asked:
            return code
        command[-1] = "--resume=auto"
        print(f"dist-hdnn: restart {attempt + 1} of {config.restarts} in {directory}", file=sys.stderr, flush=True)
    raise AssertionError("the last attempt returns")
