"""Replace this process by the `mpiexec` that starts the workers of this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

# What Open MPI needs; others ignore it.
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_hwloc_default_binding_policy": "none",  # by default all threads of a worker share one core
}
# All workers are on this machine: mpiexec must not ask the scheduler of a cluster, whose job this may be part of, for
# them, and they need no network. For MPICH, Intel MPI, and Open MPI 5 and 4.
THIS_MACHINE = {
    "HYDRA_LAUNCHER": "fork",
    "HYDRA_RMK": "user",
    "I_MPI_HYDRA_BOOTSTRAP": "fork",
    "PRTE_MCA_plm": "^slurm,tm,lsf",
    "PRTE_MCA_ras": "^slurm,pbs,tm,lsf,gridengine,flux",
    "OMPI_MCA_plm": "^slurm,tm,lsf,alps",
    "OMPI_MCA_ras": "^slurm,tm,lsf,gridengine,alps",
    **({"UCX_NET_DEVICES": "lo", "FI_TCP_IFACE": "lo"} if sys.platform == "linux" else {}),
}
# Only where workers outnumber cores: a waiting worker then gives up its core.
OVERSUBSCRIBED = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}


def become_mpiexec(
    workers: int, program: Sequence[str], environment: Mapping[str, str], oversubscribed: bool
) -> NoReturn:
    """Replace this process by an mpiexec of `workers` times `python -m mpi4py PROGRAM` on this machine.

    Variables that the user has set keep their values. Raises ValueError without MPI.
    """
    command = [_program(), "-n", str(workers), sys.executable, "-m", "mpi4py", *program]
    needed = OPEN_MPI | THIS_MACHINE | (OVERSUBSCRIBED if oversubscribed else {})
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, needed | dict(environment))


def _program() -> str:
    """Return the mpiexec beside this interpreter, which fits its mpi4py, or else the one on the path."""
    if importlib.util.find_spec("mpi4py") is None:
        raise ValueError("transport: mpi needs mpi4py, which is not installed; pip install mpi4py mpich")
    beside = Path(sys.executable).with_name("mpiexec")
    program = str(beside) if os.access(beside, os.X_OK) else shutil.which("mpiexec")
    if program is None:
        raise ValueError(
            f"transport: mpi needs mpiexec, but there is none in {beside.parent} or on the path; pip install mpich"
        )
    return program
