"""Who started this process: torchrun, the mpiexec of Open MPI or of MPICH and its kin, srun, or plain variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """What a launcher told this process. local_rank, local_size: among the workers of this machine, if it said so."""

    launcher: str
    rank: int
    size: int
    local_rank: int | None = None
    local_size: int | None = None


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
    ("the variables RANK and WORLD_SIZE", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""),
)


def launched(environ: Mapping[str, str] = os.environ) -> Launch | None:
    """What the environment says, or None when this process was started alone.

    Raises ValueError when a launcher's variables are not numbers.
    """
    for launcher, *names in KNOWN:
        if launcher == "torchrun" and "TORCHELASTIC_RUN_ID" not in environ:
            continue
        if names[0] in environ and names[1] in environ:
            rank, size, local_rank, local_size = (_number(environ, name) for name in names)
            assert rank is not None and size is not None
            return Launch(launcher, rank, size, local_rank, local_size)
    return None


def _number(environ: Mapping[str, str], name: str) -> int | None:
    if name not in environ:
        return None
    try:
        return int(environ[name])
    except ValueError:
        raise ValueError(
            f"environment: expected a whole number in {name}, got {environ[name]!r}; correct or unset it"
        ) from None
