"""`dist-hdnn doctor`: what this machine offers. Looks only; starts no process and no MPI."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shlex
import shutil
from pathlib import Path
from typing import Any, NamedTuple

REQUIRED = ("torch", "numpy", "scipy", "networkx", "scikit-learn", "matplotlib", "jsonargparse", "rich", "safetensors")
OPTIONAL = {"llvmlite": "", "mpi4py": "mpi", "pymetis": "partition", "optuna": "study", "pyarrow": "tables"}
"""package -> the extra that brings it; llvmlite comes by itself where it has a wheel"""


def install_extra(extra: str) -> str:
    """How to get what an extra of this package brings, wherever the package is installed from."""
    try:
        required = importlib.metadata.requires("dist_hdnn") or []
    except importlib.metadata.PackageNotFoundError:  # run from its source
        required = []
    marked = [line.partition(";") for line in required]
    wanted = [name.strip() for name, _, marker in marked if re.search(rf"extra == .{extra}.", marker)]
    if not wanted:
        return f'pip install -e ".[{extra}]" in the checkout of dist_hdnn'
    return f"pip install {' '.join(map(shlex.quote, wanted))}"


class Finding(NamedTuple):
    """One thing looked for: whether it is there, and what was found or how to get it."""

    name: str
    ok: bool
    detail: str


def examine() -> dict[str, list[Finding]]:
    """Findings by section."""
    return {
        "software": _software(),
        "processor": _processor(),
        "transports": _transports(),
        "runs": [_write_access(Path("runs"))],
    }


def to_json(findings: dict[str, list[Finding]]) -> dict[str, Any]:
    """The same, JSON-ready."""
    return {
        section: {found.name: {"ok": found.ok, "detail": found.detail} for found in group}
        for section, group in findings.items()
    }


def _software() -> list[Finding]:
    import dist_hdnn

    found = [Finding("dist_hdnn", True, dist_hdnn.__version__), Finding("python", True, platform.python_version())]
    for package in (*REQUIRED, *OPTIONAL):
        try:
            found.append(Finding(package, True, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            extra = OPTIONAL.get(package)
            remedy = install_extra(extra) if extra else f"pip install {package}"
            found.append(Finding(package, False, f"not installed; {remedy}"))
    return found


def _processor() -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = [Finding("cores", True, f"{cores} for this process, {os.cpu_count()} in the machine")]
    if importlib.util.find_spec("torch") is None:
        return found
    import torch

    found.append(Finding("threads", True, f"{torch.get_num_threads()} for PyTorch"))
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        found.append(Finding("gpu", True, names))
    else:
        built = "this PyTorch is built for CPU only" if torch.version.cuda is None else "PyTorch sees none"
        found.append(Finding("gpu", False, f"no CUDA device; {built}"))
    return found


def _transports() -> list[Finding]:
    found = [Finding("local", True, "one worker")]
    for name in ("gloo", "nccl"):
        available = importlib.util.find_spec("torch") is not None and _in_torch(name)
        found.append(Finding(name, available, "in this PyTorch" if available else "not in this PyTorch"))
    package, launcher = importlib.util.find_spec("mpi4py") is not None, shutil.which("mpiexec")
    parts = ["mpi4py" if package else "no mpi4py", launcher or "no mpiexec on the path"]
    remedy = "" if package and launcher else f"; {install_extra('mpi')}"
    found.append(Finding("mpi", package and launcher is not None, ", ".join(parts) + remedy))
    return found


def _in_torch(backend: str) -> bool:
    import torch.distributed as distributed

    return distributed.is_available() and bool(getattr(distributed, f"is_{backend}_available")())


def _write_access(directory: Path) -> Finding:
    place = directory.resolve()
    while not place.exists() and place != place.parent:
        place = place.parent
    writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    if not writable:
        return Finding("write access", False, f"cannot write to {place}; choose another --output")
    free = shutil.disk_usage(place).free / 2**30
    return Finding("write access", True, f"{directory.resolve()}, {free:.1f} GiB free")
