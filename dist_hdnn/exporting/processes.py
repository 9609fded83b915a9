"""Exported agents as processes of this machine: on loopback, or each in a network namespace of its own.

    with Processes(folder, numbers, environment) as agents:
        agents.tell(3, {"sample": 0, "readings": {}})
        agent, line = agents.next(10.0)

An agent ends with its stdin, so none outlives this process.
"""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

START = 30.0  # seconds within which an agent says its port
UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child")
PRIVATE = "set -e; mount -t tmpfs tmpfs /run; mkdir /run/netns"
CABLE = "ip -n a link add e1 type veth peer name e0 netns b"


class Processes:
    """A process per agent, of the folders of `export_runtime`.

    fates: name of the file of delays and losses in each folder. prefix: words before the command of an agent.
    """

    def __init__(
        self,
        folder: Path,
        numbers: Iterable[int],
        environment: Mapping[str, str],
        fates: str | None = None,
        prefix: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        self.folder, self.numbers, self.environment, self.fates = folder, list(numbers), environment, fates
        self.prefix = prefix or {}
        self.children: dict[int, subprocess.Popen[str]] = {}
        self.lines: queue.SimpleQueue[tuple[int, dict[str, Any] | None]] = queue.SimpleQueue()

    def __enter__(self) -> Processes:
        try:
            for agent in self.numbers:
                self._start(agent)
            self.ports = {agent: self.next(START) for agent in self.numbers}
        except BaseException:
            self.close(0.0)
            raise
        ports = {agent: line["port"] for agent, line in self.ports.values()}
        for agent in self.numbers:
            place = json.loads((self.folder / str(agent) / "neighbors.json").read_text(encoding="utf-8"))
            there = {j: each | {"port": each["port"] or ports[int(j)]} for j, each in place["neighbors"].items()}
            self.tell(agent, {"neighbors": there})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close(5.0 if error is None else 0.0)

    def tell(self, agent: int, line: Mapping[str, Any]) -> None:
        """Send a line to an agent; one that is dead hears nothing."""
        with contextlib.suppress(OSError):
            stream = self.children[agent].stdin
            assert stream is not None
            stream.write(json.dumps(line) + "\n")
            stream.flush()

    def next(self, seconds: float) -> tuple[int, dict[str, Any]]:
        """Return the next line that any agent prints.

        Raises ValueError without one in time, RuntimeError where an agent has ended by itself.
        """
        try:
            agent, line = self.lines.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(
                f"agents: expected an answer within {seconds:.3g} s, got none; raise --deadline"
            ) from None
        if line is None:
            if agent not in self.children:
                return self.next(seconds)  # one that was to end
            text = (self.folder / str(agent) / "errors.txt").read_text(encoding="utf-8").strip()
            raise RuntimeError(f"agent {agent} ended: {(text.splitlines() or ['without a word'])[-1]}")
        return agent, line

    def kill(self, agent: int) -> None:
        """End an agent at once."""
        child = self.children.pop(agent)
        child.kill()
        child.wait()

    def close(self, patience: float) -> None:
        """End all agents: by the end of their stdin, and those that are left after `patience` seconds by a signal."""
        children, self.children = self.children, {}
        until = time.monotonic() + patience
        for child in children.values():
            with contextlib.suppress(OSError):
                assert child.stdin is not None
                child.stdin.close()
        for child in children.values():
            try:
                child.wait(max(until - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _start(self, agent: int) -> None:
        own = (self.folder / str(agent)).resolve()
        words = [] if self.fates is None else [f"--impair={own / self.fates}"]
        with (own / "errors.txt").open("w") as errors:
            child = self.children[agent] = subprocess.Popen(
                [*self.prefix.get(agent, ()), sys.executable, str(own / "agent.py"), str(own), *words],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        threading.Thread(target=self._read, args=(agent, child), daemon=True).start()

    def _read(self, agent: int, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            self.lines.put((agent, json.loads(line)))
        self.lines.put((agent, None))


def obstacle() -> str:
    """Return in one line why there can be no network namespaces here, "" where there can."""
    missing = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
    if missing:
        return f"no {' and no '.join(missing)} on the path"
    probe = f"{PRIVATE}; ip netns add a; ip netns add b; {CABLE}"
    done = subprocess.run([*UNSHARE, "sh", "-c", probe], capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines() or ["no reason told"]
    return f"no CAP_NET_ADMIN in a user namespace: {lines[-1]}" if done.returncode else ""


class Namespaces:
    """A host per agent and a cable per link, in a frame of their own; other agents have no route to each other."""

    def __init__(self, numbers: Iterable[int], links: Iterable[tuple[int, int]]) -> None:
        self.numbers, self.links = list(numbers), list(links)

    def address(self, agent: int) -> str:
        """Return the one address of an agent."""
        return f"10.90.{(agent + 1) >> 8}.{(agent + 1) & 255}"

    def __enter__(self) -> Namespaces:
        plan = [PRIVATE]
        for agent in self.numbers:
            plan += [f"ip netns add a{agent}", f"ip -n a{agent} link set lo up"]
        for i, j in self.links:
            plan.append(f"ip -n a{i} link add e{j} type veth peer name e{i} netns a{j}")
            for here, there in ((i, j), (j, i)):
                plan.append(f"ip -n a{here} link set e{there} up")
                plan.append(f"ip -n a{here} addr add {self.address(here)} peer {self.address(there)} dev e{there}")
        command = [*UNSHARE, "sh", "-c", "\n".join([*plan, "echo ready", "cat"])]
        pipe = subprocess.PIPE
        self.frame = subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe)
        assert self.frame.stdout is not None and self.frame.stderr is not None
        if self.frame.stdout.readline() != "ready\n":
            text = self.frame.communicate()[1].strip()
            raise RuntimeError(f"emulate: expected network namespaces, got: {text}; leave --namespaces out")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.frame.communicate()

    def prefix(self, agent: int) -> list[str]:
        """Return the words that start a command on an agent's host."""
        enter = ["nsenter", f"--target={self.frame.pid}", "--user", "--mount", "--net", "--preserve-credentials"]
        return [*enter, "--", "ip", "netns", "exec", f"a{agent}"]
