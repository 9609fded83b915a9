"""Who started this process: torchrun, the mpiexec of Open MPI or of MPICH and its kin, srun, or plain variables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """What a launcher told this process. local_rank, local_size: among the workers of this machine, if it said so."""

    launcher: str
    rank: int
    size: int
    local_rank: int | None = None
    local_size: int | None = None


PLAIN = "the variables RANK and WORLD_SIZE"
# Launcher, then the variables of rank, size, local rank, local size. The innermost launcher comes first: torchrun may
# itself be started by srun, and srun may speak the language of MPICH.
KNOWN = (
    ("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    (
        "mpiexec of Open MPI",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    ("mpiexec of MPICH or Intel MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    (PLAIN, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""),
)
SIZES = {launcher: size for launcher, _, size, *_ in KNOWN}


def launched(environ: Mapping[str, str] = os.environ) -> Launch | None:
    """What the environment says, or None when this process was started alone.

    A shell that has the variables of one task, as `srun --pty bash` leaves them, is no job. Raises ValueError when a
    launcher's variables are not numbers that fit each other, or when they and RANK, WORLD_SIZE tell of two jobs.
    """
    found = [launch for launch in _launches(environ) if not _is_shell(launch, environ)]
    if len(found) > 1 and found[1].launcher == PLAIN and found[0].launcher != "torchrun":
        first, plain = found[:2]
        if (first.rank, first.size) != (plain.rank, plain.size):
            raise ValueError(
                f"environment: {first.launcher} made this worker {first.rank} of {first.size}, but RANK={plain.rank} "
                f"and WORLD_SIZE={plain.size} say another; unset those that are left over, RANK and WORLD_SIZE or "
                f"those of {SIZES[first.launcher]}"
            )
    return found[0] if found else None


def _launches(environ: Mapping[str, str]) -> Iterator[Launch]:
    """Every launcher that has left its variables, the innermost first."""
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


def _is_shell(found: Launch, environ: Mapping[str, str]) -> bool:
    """Whether a single task is a shell or a script rather than a job of one worker."""
    of_slurm = found.launcher.startswith("mpiexec of MPICH") and (
        "SLURM_JOB_ID" in environ or "SLURM_PROCID" in environ
    )
    return found.size == 1 and (found.launcher in (PLAIN, "srun") or of_slurm)


def _number(
    environ: Mapping[str, str], name: str, least: int, limit_name: str = "", limit: int | None = None
) -> int | None:
    """The whole number in a variable, at least `least` and below `limit`, which is that of another variable."""
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
