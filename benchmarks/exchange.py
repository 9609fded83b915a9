"""Measure rounds between workers over shared memory, MPI and gloo, which take turns in one job.

    python benchmarks/exchange.py --json exchange.json        # starts these two jobs, one after the other:
    mpiexec -n 2 python -m mpi4py benchmarks/exchange.py
    mpiexec -n 4 python -m mpi4py benchmarks/exchange.py      # 4 workers, which share the cores of the machine
    torchrun --standalone --nproc-per-node=2 benchmarks/exchange.py   # such jobs without mpi4py, and without MPI

Every worker has two agents and sends a slice to each of its neighbors: on a path with 2 workers, on a ring with more.
A halo round is `HaloExchange.gather`, the round back is the scatter-add. Raw is the same exchange without the product:
persistent requests of mpi4py, isend and irecv of torch.distributed, put and wait of our shared memory. Buffers that
nobody writes or reads stay in the caches; in "written and read" the slices are, and "write and read" is that alone.
Before each block worker 0 waits until the machine is idle. A block's time is the slowest worker's; p10 and median are
over blocks. The last lines are ratios of two rows of the table.
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
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from measure import Quiet, command, p10_and_median, packages

from dist_hdnn import connect, path, ring
from dist_hdnn.operators.exchange import HaloExchange
from dist_hdnn.operators.ghosted import GhostedTensor
from dist_hdnn.operators.where import Where
from dist_hdnn.run.files import versions
from dist_hdnn.topology import build_halo, build_pattern, make_partition
from dist_hdnn.transport import Ledger, Transport
from dist_hdnn.transport.rendezvous import launched, open_store, serve_store

BATCH = 128
SIZES = {"1 KB": 1 << 10, "64 KB": 1 << 16, "1 MB": 1 << 20}  # of the slice that goes each way
BLOCK_SECONDS = 5e-3  # what one block should take: long against the clock, short against other jobs' time slices
WORK = 90e-6  # seconds of CPU time between rounds, where there is work
RAW, HALO, BACK, TOUCHED, WORKING = "raw", "halo round", "scatter-add", "written and read", "halo round, work"
LOCAL = "write and read"
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # for Open MPI; others ignore it
ASKED = {  # workers -> slice, row and its transport, row and transport under it, what the ratio should be at most
    2: [
        ("1 KB", RAW, "shm", RAW, "mpi", 0.7),
        ("64 KB", RAW, "shm", RAW, "mpi", 0.4),
        ("1 MB", RAW, "shm", RAW, "mpi", 0.5),
        ("1 KB", HALO, "shm", HALO, "mpi", 0.9),
        ("1 MB", TOUCHED, "shm", TOUCHED, "mpi", 0.6),
        ("1 KB", HALO, "shm", HALO, "gloo", None),
        ("1 KB", HALO, "mpi", RAW, "mpi", None),
    ],
    4: [
        ("1 KB", HALO, "shm", HALO, "mpi", 0.2),
        ("1 KB", HALO, "shm", RAW, "mpi", None),
        ("1 KB", HALO, "shm", HALO, "gloo", None),
        ("1 KB", WORKING, "shm", WORKING, "mpi", None),
        ("64 KB", HALO, "shm", HALO, "mpi", None),
    ],
}

Method = Callable[[], None]
Times = dict[tuple[str, str], list[float]]  # (row, transport) -> seconds per round of every block


class Slices:
    """The tensor of one worker, (two owned slices and the ghosts, batch), and its exchange over one transport."""

    def __init__(self, transport: Transport, size: int) -> None:
        workers, neurons = transport.size, size // (BATCH * 4)
        graph = path(4) if workers == 2 else ring(2 * workers)
        pattern, partition = build_pattern(graph, "neighbours"), make_partition(graph, workers)
        halo = build_halo(pattern, partition, transport.rank)
        per_agent, owners = np.full(graph.agents, neurons, np.int64), np.asarray(partition.owners)
        self.exchange = HaloExchange(halo, pattern, owners, per_agent, Ledger(), Where(transport), f"K of {size} bytes")
        self.peers = [peer for peer, _ in halo.receive]
        self.tensor = receivable(transport, ((2 + len(self.peers)) * neurons, BATCH))
        self.own, self.ghosts = self.tensor[: 2 * neurons], self.tensor[2 * neurons :]
        rows = torch.cat(self.exchange.send_rows)
        self.sent = self.tensor[int(rows.min()) : int(rows.max()) + 1]
        self.x: GhostedTensor = self.exchange.ghosted(self.tensor)
        self.check(transport.rank, neurons)

    def check(self, rank: int, neurons: int) -> None:
        """Raise RuntimeError unless the first round brings the slices of the others."""
        self.own.fill_(float(rank))
        self.exchange.gather(self.x)
        for place, peer in enumerate(self.peers):
            if not bool((self.ghosts[place * neurons : (place + 1) * neurons] == peer).all()):
                raise RuntimeError(f"worker {rank} did not receive the slice of worker {peer}")
        self.tensor.zero_()  # so that sums stay finite

    def gather(self) -> None:
        self.exchange.gather(self.x)

    def scatter_add(self) -> None:
        self.exchange.scatter_add(self.x)

    def touch(self) -> None:
        """Write what is sent and read what has come, without a round."""
        self.sent.add_(1.0)
        self.ghosts.sum()

    def touched(self) -> None:
        self.sent.add_(1.0)
        self.gather()
        self.ghosts.sum()

    def working(self) -> None:
        self.gather()
        end = time.thread_time() + WORK
        while time.thread_time() < end:
            pass


def receivable(transport: Transport, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a tensor, zero, in memory that this transport likes to receive into, as sweeps have it."""
    return transport.empty(shape, torch.empty(0)).zero_()


def methods(
    transports: Mapping[str, Transport], size: int, crowded: bool, at_end: ExitStack
) -> dict[tuple[str, str], Method]:
    """Return one round of every row and transport, for slices of `size` bytes; `at_end` frees what they hold."""
    calls: dict[tuple[str, str], Method] = {}
    slices = {name: Slices(transport, size) for name, transport in transports.items()}
    for name, transport in transports.items():
        calls[RAW, name] = RAWS[name](transport, slices[name].peers, size, at_end)
        calls[HALO, name] = slices[name].gather
        if crowded:
            calls[WORKING, name] = slices[name].working
        else:
            calls[BACK, name] = slices[name].scatter_add
            calls[TOUCHED, name] = slices[name].touched
            calls[LOCAL, name] = slices[name].touch
    return calls


def raw_mpi(transport: Transport, peers: list[int], size: int, at_end: ExitStack) -> Method:
    from mpi4py import MPI

    requests = []
    for peer in peers:
        out, into = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        requests += [MPI.COMM_WORLD.Recv_init(into, peer, 7), MPI.COMM_WORLD.Send_init(out, peer, 7)]
    for request in requests:
        at_end.callback(request.Free)
    start, wait = MPI.Prequest.Startall, MPI.Request.Waitall

    def exchange() -> None:
        start(requests)
        wait(requests)

    return exchange


def raw_gloo(transport: Transport, peers: list[int], size: int, at_end: ExitStack) -> Method:
    buffers = [(peer, torch.zeros(size // 4), torch.zeros(size // 4)) for peer in peers]

    def exchange() -> None:
        works = [distributed.irecv(into, peer, tag=7) for peer, _, into in buffers]
        works += [distributed.isend(out, peer, tag=7) for peer, out, _ in buffers]
        for work in works:
            assert work is not None, "all workers are in the group"
            work.wait()

    return exchange


def raw_shm(transport: Transport, peers: list[int], size: int, at_end: ExitStack) -> Method:
    """Return the compiled post and complete of a channel, without its own account of rounds and waits."""
    memory = receivable(transport, (len(peers), size // 4))
    sends = [(peer, torch.zeros(size // 4)) for peer in peers]
    channel = transport.channel(sends, list(zip(peers, memory, strict=True)), f"raw of {size} bytes")
    at_end.callback(channel.close)
    channel.start()  # from now on every worker knows where the others want its slices
    channel.wait()
    wire: Any = channel._wire
    post, complete, address, timeout = wire._post, wire._complete, wire.address, transport.timeout

    def exchange() -> None:
        post(address)
        if complete(address):  # a nap without news
            wire._wait(timeout)

    return exchange


RAWS: dict[str, Callable[[Transport, list[int], int, ExitStack], Method]] = {
    "shm": raw_shm,
    "mpi": raw_mpi,
    "gloo": raw_gloo,
}


def all_transports(first: Transport, wanted: Sequence[str]) -> dict[str, Transport]:
    """Return the wanted transports between the workers of the first one, which is one of them or not."""
    served, address = serve_store() if first.rank == 0 else (None, "")
    address = first.all_gather_bytes(address.encode().ljust(64))[0].decode().strip()
    found: dict[str, Transport] = {}
    for name in wanted:
        found[name] = first if name == first.name else JOINS[name](first.rank, first.size, address)
    first.barrier()
    del served
    return found


def join_shm(rank: int, size: int, address: str) -> Transport:
    from dist_hdnn.transport.shm import join

    return join(rank, size, address)


def join_gloo(rank: int, size: int, address: str) -> Transport:
    from dist_hdnn.transport.gloo import join

    return join(rank, size, address)


JOINS: dict[str, Callable[[int, int, str], Transport]] = {"shm": join_shm, "gloo": join_gloo}


def join_group(transport: Transport) -> None:
    """Join torch.distributed's gloo group of the same workers, on the same loopback interface as ours."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    served, address = serve_store() if transport.rank == 0 else (None, "")
    address = transport.all_gather_bytes(address.encode().ljust(64))[0].decode().strip()
    store = served or open_store(address, transport.size)
    distributed.init_process_group("gloo", store=store, rank=transport.rank, world_size=transport.size)


def measure(first: Transport, calls: Mapping[tuple[str, str], Method], blocks: int, quiet: Quiet) -> Times:
    """Measure seconds per round of every row and block, on the slowest worker."""
    rounds = {name: calibrate(first, call) for name, call in calls.items()}
    times: Times = {name: [] for name in calls}
    for _ in range(blocks):
        for name, call in calls.items():
            if first.rank == 0:
                quiet.wait()
            first.barrier()
            call()  # the workers leave the barrier one after the other
            began = time.perf_counter()
            for _ in range(rounds[name]):
                call()
            times[name].append((time.perf_counter() - began) / rounds[name])
    return {name: slowest(first, mine) for name, mine in times.items()}


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


def table(size: str, times: Times) -> list[str]:
    """Return a line per row of the table: p10 and median in microseconds for every transport."""
    names = list(dict.fromkeys(name for _, name in times))
    lines = []
    for row in dict.fromkeys(row for row, _ in times):
        cells = []
        for name in names:
            low, middle = p10_and_median(times[row, name])
            cells.append(f"{1e6 * low:10.2f} {1e6 * middle:10.2f}")
        lines.append(f"{size:6} {row:17} " + " ".join(cells))
    return lines


def ratios(workers: int, found: Mapping[str, Times]) -> list[str]:
    """Return a line per ratio that is asked for and was measured: by p10, by median."""
    lines = []
    for size, row, name, under, other, limit in ASKED.get(workers, ASKED[4]):
        times = found.get(size, {})
        if (row, name) not in times or (under, other) not in times:
            continue
        over, below = p10_and_median(times[row, name]), p10_and_median(times[under, other])
        by_low, by_middle = over[0] / below[0], over[1] / below[1]
        target = "" if limit is None else f"; target {limit:g} {'reached' if by_middle <= limit else 'missed'}"
        lines.append(f"{size}, {row} {name} / {under} {other}: p10 {by_low:.3f}, median {by_middle:.3f}{target}")
    return lines


def header(transports: Mapping[str, Transport]) -> str:
    """Return one line on the software and the machine."""
    said = [f"gloo of torch {torch.__version__}"]
    if "mpi" in transports:
        from mpi4py import MPI

        words = MPI.Get_library_version().rstrip("\0").splitlines()[0].split()
        said.append(f"mpi4py {importlib.metadata.version('mpi4py')}, {' '.join(words[:3]).rstrip(',')}")
    threads, load = torch.get_num_threads(), ", ".join(f"{value:.1f}" for value in os.getloadavg())
    workers = next(iter(transports.values())).size
    return f"{workers} workers: {'; '.join(said)}; {threads} thread each, {os.cpu_count()} cores, load {load}"


def work(first: Transport, args: argparse.Namespace) -> dict[str, Any]:
    """Do one worker's part of a job; return the job's results."""
    join_group(first)
    transports, quiet = all_transports(first, args.transports), Quiet(args.patience)
    crowded, found = first.size > 2, dict[str, Times]()
    result: dict[str, Any] = {"header": header(transports), "blocks": args.blocks, "seconds": {}}
    if first.rank == 0:
        print(result["header"])
        print(f"{'slice':6} {'us':17} " + " ".join(f"{name + ' p10':>10} {'median':>10}" for name in transports))
    for name, size in list(SIZES.items())[: 2 if crowded else None]:
        with ExitStack() as at_end:
            found[name] = measure(first, methods(transports, size, crowded, at_end), args.blocks, quiet)
        result["seconds"][name] = {f"{row}, {kind}": values for (row, kind), values in found[name].items()}
        if first.rank == 0:
            print("\n".join(table(name, found[name])), flush=True)
    result["ratios"] = [*ratios(first.size, found), str(quiet)]
    if first.rank == 0:
        print("\n".join(result["ratios"]), flush=True)
    for transport in transports.values():
        if transport is not first:
            transport.barrier()
            transport.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=60, help="blocks per row and transport (default 60)")
    add_options(parser, [2, 4])
    args = parser.parse_args()
    run_jobs(__file__, args, ["--blocks", str(args.blocks)], lambda transport: work(transport, args))


def add_options(parser: argparse.ArgumentParser, workers: list[int]) -> None:
    """Add the options of jobs with several transports."""
    installed = ["shm", "mpi", "gloo"] if importlib.util.find_spec("mpi4py") else ["shm", "gloo"]
    parser.add_argument("--transports", nargs="+", choices=["shm", "mpi", "gloo"], default=installed, help="only these")
    parser.add_argument("--workers", type=int, nargs="+", default=workers, help=f"jobs of so many (default {workers})")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds a job may wait for an idle machine")
    parser.add_argument("--json", type=Path, help="also write the time of every block here")


def run_jobs(script: str, args: argparse.Namespace, arguments: list[str], work: Callable[[Transport], Any]) -> None:
    """Work in the job that a launcher has started, or start the jobs and gather their results in args.json."""
    if launched() is not None:
        torch.set_num_threads(1)
        transport = connect(transport=None if "mpi" in args.transports else "gloo")
        result = work(transport)
        if transport.rank == 0 and args.json:
            jobs = {f"{transport.size} workers": result}
            args.json.write_text(json.dumps({"versions": versions(), "command": command(), "jobs": jobs}, indent=2))
        transport.barrier()
        transport.close()
        return
    print(f"{command()}   {packages()}", flush=True)
    reports, name = [], "mpi" if "mpi" in args.transports else "gloo"
    arguments = [*arguments, "--transports", *args.transports, "--patience", str(args.patience)]
    for workers in args.workers:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "report.json"
            program = [*launcher(name, workers), script, "--json", str(file), *arguments]
            ended = subprocess.run(program, env=AS_ROOT | os.environ | {"OMP_NUM_THREADS": "1"})
            if ended.returncode:
                sys.exit(f"{workers} workers: the job ended with exit code {ended.returncode}; see above")
            reports.append(json.loads(file.read_text()))
    if args.json and reports:
        jobs = {name: result for report in reports for name, result in report["jobs"].items()}
        args.json.write_text(json.dumps(reports[0] | {"command": command(), "jobs": jobs}, indent=2))


def launcher(name: str, workers: int = 2) -> list[str]:
    """Return the command that starts workers; the mpiexec beside this interpreter fits its mpi4py."""
    if name != "mpi":
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec") or "mpiexec"
    return [mpiexec, "-n", str(workers), sys.executable, "-m", "mpi4py"]


if __name__ == "__main__":
    main()
