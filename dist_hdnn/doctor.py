"""Software, processor, transports and write access of this machine, for `dist-hdnn doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shlex
import shutil
from pathlib import Path

from dist_hdnn.launching.choice import shared_memory_missing, usual
from dist_hdnn.launching.supervisor import cores
from dist_hdnn.operators.tiles import cache

REQUIRED = ("torch", "numpy", "scipy", "networkx", "scikit-learn", "matplotlib", "rich", "safetensors")
OPTIONAL = {"llvmlite": "", "mpi4py": "mpi", "pymetis": "partition", "optuna": "study", "pyarrow": "tables"}
"""package -> the extra that brings it; llvmlite is a dependency wherever it has a wheel"""


def install_extra(extra: str) -> str:
    """Return the command that installs what an extra of this package brings."""
    try:
        required = importlib.metadata.requires("dist_hdnn") or []
    except importlib.metadata.PackageNotFoundError:  # run from its source
        required = []
    marked = [line.partition(";") for line in required]
    wanted = [name.strip() for name, _, marker in marked if re.search(rf"extra == .{extra}.", marker)]
    if not wanted:
        return f'pip install -e ".[{extra}]" in the checkout of dist_hdnn'
    return f"pip install {' '.join(map(shlex.quote, wanted))}"


ELSEWHERE = "mpi under mpiexec and srun, gloo on GPUs"

Findings = dict[str, tuple[bool, str]]
"""what was looked for -> (whether it is there, what was found or how to get it)"""


def examine() -> dict[str, Findings]:
    """Return the findings by section."""
    return {
        "software": _software(),
        "processor": _processor(),
        "transports": _transports(),
        "runs": {"write access": _write_access(Path("runs")), "kernels": _kernels()},
    }


def _software() -> Findings:
    import dist_hdnn

    findings: Findings = {"dist_hdnn": (True, dist_hdnn.__version__), "python": (True, platform.python_version())}
    for package in (*REQUIRED, *OPTIONAL):
        try:
            findings[package] = (True, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            extra = OPTIONAL.get(package)
            remedy = install_extra(extra) if extra else f"pip install {package}"
            findings[package] = (False, f"not installed; {remedy}")
    return findings


def _processor() -> Findings:
    findings: Findings = {"cores": (True, f"{cores()} for this process, {os.cpu_count()} in the machine")}
    if importlib.util.find_spec("torch") is None:
        return findings
    import torch

    findings["threads"] = (True, f"{torch.get_num_threads()} for PyTorch")
    gpus = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    reason = "this PyTorch is built for CPU only" if torch.version.cuda is None else "PyTorch sees none"
    findings["gpu"] = (bool(gpus), gpus or f"no CUDA device; {reason}")
    return findings


def _transports() -> Findings:
    missing = shared_memory_missing()
    shared = (not missing, missing or "memory that the workers of a machine share")
    findings: Findings = {"local": (True, "one worker"), "shm": shared}
    for name in ("gloo", "nccl"):
        available = importlib.util.find_spec("torch") is not None and _in_torch(name)
        findings[name] = (available, "in this PyTorch" if available else "not in this PyTorch")
    package, launcher = importlib.util.find_spec("mpi4py") is not None, shutil.which("mpiexec")
    parts = ["mpi4py" if package else "no mpi4py", launcher or "no mpiexec on the path"]
    remedy = "" if package and launcher else f"; {install_extra('mpi')}"
    findings["mpi"] = (package and launcher is not None, ", ".join(parts) + remedy)
    choice = usual("torchrun")
    findings["default"] = (True, f"{choice.transport} with --workers and torchrun, as {choice.reason}; {ELSEWHERE}")
    return findings


def _in_torch(backend: str) -> bool:
    import torch.distributed as distributed

    return distributed.is_available() and bool(getattr(distributed, f"is_{backend}_available")())


def _kernels() -> tuple[bool, str]:
    """Say where compiled kernels are kept."""
    place, (entries, size) = cache.folder(), cache.size()
    if place is None:
        return False, f"compiled in every process; {cache.VARIABLE} names a folder to keep them in"
    return True, f"{entries} compiled in {place}, {size / 2**10:.0f} KiB; {cache.VARIABLE}=off keeps none"


def _write_access(directory: Path) -> tuple[bool, str]:
    place = directory.resolve()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        return False, f"cannot write to {place}; choose another --output"
    free = shutil.disk_usage(place).free / 2**30
    return True, f"{directory.resolve()}, {free:.1f} GiB free"
