"""Hosts on one machine: network namespaces, each pair joined by a cable of its own, that vanish with their frame.

    with Lab(4, folder) as lab:
        job = lab.start({"host0": ["hostname"], "host1": ["hostname"]})

The frame is a process in new user, network, mount and process namespaces. When it ends, which it does when this process
ends in whatever way, so does everything in it: hosts, cables, processes, temporary files. Hosts have a name, an address
and /dev/shm of their own, but share the other files. Host a sees host b through its interface `to<b>` only, so the
counters of that interface are the bytes between these two.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child")
PRIVATE = "mount -t tmpfs tmpfs /run && mkdir /run/netns /run/tmp"
PROBE = (
    f"{PRIVATE} && ip netns add here && ip -n here link add to1 type veth peer name to2"
    " && ip netns exec here unshare --uts true"
)
LAUNCHERS = ("TORCHELASTIC", "MASTER_", "RANK", "WORLD_SIZE", "PMI", "OMPI_", "SLURM_", "GLOO_", "TP_SOCKET", "HYDRA")

# host NAME COMMAND...: what a machine does when it boots; its processes share no memory with those of other machines
BOOT = """#!/bin/sh
exec ip netns exec "$1" unshare --uts --ipc --mount sh -c \
    'hostname "$0" && mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs /run/tmp && exec "$@"' "$@"
"""
# what mpiexec takes for rsh or ssh: [options] NAME COMMAND
RSH = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
name=$1
shift
exec "$(dirname "$0")/host" "$name" sh -c "$*"
"""


@functools.cache
def obstacle() -> str:
    """Why hosts cannot be made here, in one line; nothing when they can."""
    missing = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
    if missing:
        return f"no {' and no '.join(missing)} on the path"
    done = subprocess.run([*UNSHARE, "sh", "-c", PROBE], capture_output=True, text=True)
    lines = done.stderr.strip().splitlines() or ["no reason given"]
    return f"no network namespaces here: {lines[-1]}" if done.returncode else ""


def address(host: int) -> str:
    return f"10.90.0.{host + 1}"


class Lab:
    """`hosts` machines named host0, host1, ...; `folder` holds scripts and what jobs print."""

    def __init__(self, hosts: int, folder: Path) -> None:
        self.hosts, self.folder = hosts, folder
        self.rsh = folder / "rsh"
        for name, text in (("host", BOOT), ("rsh", RSH)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        names = [f"{address(host)} host{host}" for host in range(hosts)]
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names, ""]))
        (folder / "build").write_text("\n".join(["set -e", PRIVATE, *self._plan(), "echo ready", "cat", ""]))
        self._jobs = 0

    def _plan(self) -> Iterator[str]:
        """Commands that make hosts and cables; each end of a cable has its host's one address and the other's route."""
        yield f"mount --bind {self.folder}/hosts /etc/hosts"
        for host in range(self.hosts):
            yield f"ip netns add host{host}"
            yield f"ip -n host{host} link set lo up"
        for a, b in itertools.combinations(range(self.hosts), 2):
            yield f"ip -n host{a} link add to{b} type veth peer name to{a} netns host{b}"
            for here, there in ((a, b), (b, a)):
                yield f"ip -n host{here} link set to{there} addrgenmode none up"  # no address: no chatter of IPv6
                yield f"ip -n host{here} addr add {address(here)} peer {address(there)} dev to{there}"

    def __enter__(self) -> Lab:
        self._frame = subprocess.Popen(
            [*UNSHARE, "--mount-proc", "sh", str(self.folder / "build")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._frame.stdout is not None and self._frame.stderr is not None
        if self._frame.stdout.readline() != "ready\n":
            raise RuntimeError(f"no hosts: {self._frame.stderr.read()}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End everything in the frame; when this returns it is gone."""
        self._frame.communicate()

    def inside(self, *command: str) -> list[str]:
        """The command line that runs a command in the frame, on no host."""
        pid = self._frame.pid
        spaces = (f"--pid=/proc/{pid}/ns/pid_for_children", "--user", "--mount", "--net", "--preserve-credentials")
        return ["nsenter", f"--target={pid}", *spaces, "--", *command]

    def ask(self, *command: str) -> str:
        """What a command in the frame, on no host, prints."""
        done = subprocess.run(self.inside(*command), capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def start(self, commands: Mapping[str, Sequence[str]], **variables: str) -> Job:
        """Run one command on each of these hosts at the same time."""
        own = {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": "/run/tmp",
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
        self._jobs += 1
        processes, files = {}, {}
        for host, command in commands.items():
            files[host] = self.folder / f"job{self._jobs}-{host}"
            with open(files[host], "wb") as file:
                processes[host] = subprocess.Popen(
                    self.inside(str(self.folder / "host"), host, *command),
                    env=environment | own | variables,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        return Job(processes, files)

    def sent(self) -> NDArray[np.int64]:
        """(hosts, hosts): bytes that went into each cable from row to column, headers of all layers included."""
        total = np.zeros((self.hosts, self.hosts), np.int64)
        for host in range(self.hosts):
            for link in json.loads(self.ask("ip", "-n", f"host{host}", "-s", "-j", "link", "show")):
                if link["ifname"].startswith("to"):
                    total[host, int(link["ifname"][2:])] = link["stats64"]["tx"]["bytes"]
        return total

    def cut(self, a: int, b: int) -> None:
        """Pull out the cable between two hosts."""
        self.ask("ip", "-n", f"host{a}", "link", "set", f"to{b}", "down")

    def running(self, text: str) -> list[str]:
        """Command lines of the processes in the frame that contain `text`."""
        lines = self.ask("sh", "-c", "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $f; echo; done 2>/dev/null")
        return [line for line in lines.splitlines() if text in line and "/proc/" not in line]


class Job:
    """Commands that run, one per host."""

    def __init__(self, processes: dict[str, subprocess.Popen[bytes]], files: dict[str, Path]) -> None:
        self._processes, self._files = processes, files

    @property
    def hosts(self) -> list[str]:
        """Where it was started."""
        return list(self._processes)

    def runs(self) -> bool:
        """Whether no command has ended yet."""
        return all(process.poll() is None for process in self._processes.values())

    def wait(self, limit: float) -> dict[str, int]:
        """Exit codes by host, of those that have ended within `limit` seconds; the others are killed."""
        deadline = time.monotonic() + limit
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.0))
        codes = {host: code for host, process in self._processes.items() if (code := process.poll()) is not None}
        for host, process in self._processes.items():
            if host not in codes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return codes

    @property
    def output(self) -> str:
        """All that was printed, host by host."""
        return "".join(file.read_text(errors="replace") for file in self._files.values())
