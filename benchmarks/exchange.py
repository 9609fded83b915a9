"""Measure one halo round on 2 workers against the raw exchange of the same bytes.

    python benchmarks/exchange.py --json exchange.json        # starts these two jobs, one after the other:
    mpiexec -n 2 python -m mpi4py benchmarks/exchange.py --transport mpi
    torchrun --standalone --nproc-per-node=2 benchmarks/exchange.py --transport gloo

A halo round is `HaloExchange.gather`: pack the slice, send and receive, unpack into the ghost rows. Raw is a persistent
mpi4py exchange on numpy views, or torch.distributed's isend and irecv, of buffers that are never written or read, so
its bytes stay in the caches; "raw + 2 copies" shows the cost of moving fresh ones. The round back is the scatter-add.
Blocks of all methods take turns in one job. A block's time is the slower worker's; p10 and median are over blocks.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from measure import command, p10_and_median, packages

from dist_hdnn import connect, path
from dist_hdnn.operators.exchange import HaloExchange
from dist_hdnn.operators.where import Where
from dist_hdnn.run.files import versions
from dist_hdnn.topology import build_halo, build_pattern, make_partition
from dist_hdnn.transport import Ledger, Transport
from dist_hdnn.transport.rendezvous import launched, open_store, serve_store

BATCH = 128
SIZES = {"1 KB": 1 << 10, "64 KB": 1 << 16, "1 MB": 1 << 20}  # of the slice that goes each way
BLOCK_SECONDS = 5e-3  # what one block should take: long against the clock, short against other jobs' time slices
HALO, BACK, RAW, COPIES = "halo round", "scatter-add", "raw", "raw + 2 copies"
TARGET = 1.5
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # for Open MPI; others ignore it

Method = Callable[[], None]


def methods(transport: Transport, size: int, at_end: ExitStack) -> dict[str, Method]:
    """Return one round of each method, for a slice of `size` bytes each way; `at_end` frees what they hold."""
    graph, neurons = path(4), size // (BATCH * 4)
    pattern, partition = build_pattern(graph, "neighbours"), make_partition(graph, 2)
    halo = build_halo(pattern, partition, transport.rank)
    per_agent = np.full(graph.agents, neurons, np.int64)
    exchange = HaloExchange(
        halo, pattern, np.asarray(partition.owners), per_agent, Ledger(), Where(transport), f"K of {size} bytes"
    )
    slices = torch.full((3 * neurons, BATCH), float(transport.rank))  # two owned slices, one ghost
    x = exchange.ghosted(slices)
    exchange.gather(x)
    if not bool((slices[2 * neurons :] == 1 - transport.rank).all()):
        raise RuntimeError(f"worker {transport.rank} did not receive the slice of the other worker")
    slices.zero_()  # so that sums stay finite
    out, into = torch.zeros(neurons, BATCH), torch.zeros(neurons, BATCH)
    raw = (raw_mpi if transport.name == "mpi" else raw_gloo)(1 - transport.rank, out, into, at_end)
    mine, ghosts = slices[:neurons], slices[2 * neurons :]

    def with_copies() -> None:
        out.copy_(mine)
        raw()
        ghosts.copy_(into)

    return {
        RAW: raw,
        COPIES: with_copies,
        HALO: lambda: exchange.gather(x),
        BACK: lambda: exchange.scatter_add(x),
    }


def raw_mpi(peer: int, out: torch.Tensor, into: torch.Tensor, at_end: ExitStack) -> Method:
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    requests = [world.Recv_init(into.numpy(), peer, 7), world.Send_init(out.numpy(), peer, 7)]
    for request in requests:
        at_end.callback(request.Free)
    start, wait = MPI.Prequest.Startall, MPI.Request.Waitall

    def exchange() -> None:
        start(requests)
        wait(requests)

    return exchange


def raw_gloo(peer: int, out: torch.Tensor, into: torch.Tensor, at_end: ExitStack) -> Method:
    def exchange() -> None:
        received = distributed.irecv(into, peer, tag=7)
        sent = distributed.isend(out, peer, tag=7)
        assert received is not None and sent is not None, "both workers are in the group"
        received.wait()
        sent.wait()

    return exchange


def join_group(transport: Transport) -> None:
    """Join torch.distributed's gloo group of the same workers, on the same loopback interface as ours."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    served, address = serve_store() if transport.rank == 0 else (None, "")
    address = transport.all_gather_bytes(address.encode().ljust(64))[0].decode().strip()
    store = served or open_store(address, transport.size)
    distributed.init_process_group("gloo", store=store, rank=transport.rank, world_size=transport.size)


def measure(transport: Transport, size: int, blocks: int) -> dict[str, list[float]]:
    """Measure seconds per round of every method and block, on the slower worker."""
    with ExitStack() as at_end:
        calls = methods(transport, size, at_end)
        rounds = {name: calibrate(transport, call) for name, call in calls.items()}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(blocks):
            for name, call in calls.items():
                transport.barrier()
                call()  # the workers leave the barrier one after the other
                began = time.perf_counter()
                for _ in range(rounds[name]):
                    call()
                times[name].append((time.perf_counter() - began) / rounds[name])
    return {name: slowest(transport, mine) for name, mine in times.items()}


def calibrate(transport: Transport, call: Method) -> int:
    """Return the rounds that fill a block, the same on all workers."""
    for _ in range(5):
        call()
    began = time.perf_counter()
    for _ in range(10):
        call()
    seconds = torch.tensor((time.perf_counter() - began) / 10)
    transport.all_reduce(seconds, "max")
    return min(1000, max(5, round(BLOCK_SECONDS / float(seconds))))


def slowest(transport: Transport, values: list[float]) -> list[float]:
    """Return the maximum over workers, element by element."""
    maximum = torch.tensor(values, dtype=torch.float64)
    transport.all_reduce(maximum, "max")
    return maximum.tolist()


def table(name: str, times: dict[str, list[float]]) -> list[str]:
    raw = p10_and_median(times[RAW])
    lines = []
    for method, values in times.items():
        low, middle = p10_and_median(values)
        by_low, by_middle = low / raw[0], middle / raw[1]
        verdict = "" if method != HALO else "within" if max(by_low, by_middle) <= TARGET else "over"
        numbers = f"{1e6 * low:9.1f} {1e6 * middle:9.1f} {by_low:8.2f} {by_middle:8.2f}"
        lines.append(f"{name:6} {method:15} {numbers}  {verdict}".rstrip())
    return lines


def header(transport: Transport) -> str:
    """Return one line on the software and the machine."""
    library = f"gloo of torch {torch.__version__}"
    if transport.name == "mpi":
        from mpi4py import MPI

        words = MPI.Get_library_version().rstrip("\0").splitlines()[0].split()
        library = f"mpi4py {importlib.metadata.version('mpi4py')}, {' '.join(words[:3]).rstrip(',')}"
    threads, load = torch.get_num_threads(), ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{transport.name}: {library}; {threads} thread each, {os.cpu_count()} cores, load {load}"


def work(transport: Transport, blocks: int) -> dict[str, Any]:
    """Do one worker's part of a job; return the job's results."""
    if transport.name == "gloo":
        join_group(transport)
    result: dict[str, Any] = {"header": header(transport), "blocks": blocks, "seconds": {}}
    if transport.rank == 0:
        print(result["header"])
        print(f"{'slice':6} {'method':15} {'p10 us':>9} {'median us':>9} {'/raw p10':>8} {'/raw med':>8}")
    for name, size in SIZES.items():
        result["seconds"][name] = measure(transport, size, blocks)
        if transport.rank == 0:
            print("\n".join(table(name, result["seconds"][name])), flush=True)
    result["load at the end"] = os.getloadavg()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transport", choices=["mpi", "gloo"], help="only this one; needed under a launcher")
    parser.add_argument("--blocks", type=int, default=60, help="blocks per method (default 60)")
    parser.add_argument("--json", type=Path, help="also write the time of every block here")
    args = parser.parse_args()
    run_jobs(__file__, args, ["--blocks", str(args.blocks)], lambda transport: work(transport, args.blocks))


def run_jobs(script: str, args: argparse.Namespace, arguments: list[str], work: Callable[[Transport], Any]) -> None:
    """Work in the job that a launcher has started, or start the jobs and gather their results in args.json."""
    if launched() is not None:
        torch.set_num_threads(1)
        transport = connect(transport=args.transport)
        result = work(transport)
        if transport.rank == 0 and args.json:
            report = {"versions": versions(), "command": command(), "jobs": {transport.name: result}}
            args.json.write_text(json.dumps(report, indent=2))
        transport.barrier()
        transport.close()
        return
    print(f"{command()}   {packages()}", flush=True)
    reports = []
    for name in [args.transport] if args.transport else ["mpi", "gloo"]:
        if name == "mpi" and importlib.util.find_spec("mpi4py") is None:
            print("mpi: left out, mpi4py is not installed")
            continue
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "report.json"
            program = [script, "--transport", name, "--json", str(file), *arguments]
            ended = subprocess.run([*launcher(name), *program], env=AS_ROOT | os.environ | {"OMP_NUM_THREADS": "1"})
            if ended.returncode:
                sys.exit(f"{name}: the job ended with exit code {ended.returncode}; see above")
            reports.append(json.loads(file.read_text()))
    if args.json and reports:
        jobs = {name: result for report in reports for name, result in report["jobs"].items()}
        args.json.write_text(json.dumps(reports[0] | {"command": command(), "jobs": jobs}, indent=2))


def launcher(name: str) -> list[str]:
    """Return the command that starts 2 workers; the mpiexec beside this interpreter fits its mpi4py."""
    if name == "gloo":
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec") or "mpiexec"
    return [mpiexec, "-n", "2", sys.executable, "-m", "mpi4py"]


if __name__ == "__main__":
    main()
