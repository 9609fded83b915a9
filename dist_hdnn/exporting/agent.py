"""One agent of an exported network as a program that needs Python and numpy, and talks to its neighbors alone.

    python agent.py [FOLDER] [--impair=FATES.npz]        FOLDER: one of `dist-hdnn export RUN --runtime`

It reads lines from stdin: {"sample": 7, "readings": {"x1": 0.61}} starts a sample with what this agent senses. Without
"sample" the readings stand: the first message of a neighbor about a new sample starts it. {"neighbors": {"2": {"host":
"10.0.0.2", "port": 7002}}} says where they are, if neighbors.json has port 0. It prints answers and their cost.
In every round it sends slices and waits for those of its neighbors. Round r of a sample closes r deadlines after the
sample's start at the latest, so a wait in one round makes no message of the next one late; what lacks is filled.
Shapes: slices are (neurons, batch), states and scores (batch, ...).
"""

from __future__ import annotations

import heapq
import json
import queue
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from dist_hdnn.exporting.one_agent import Agent, Array, Exchange, Filling, Run

Inbox = queue.SimpleQueue[str | bytes]  # of lines from stdin, and of messages
HEADER = struct.Struct("!4sIIHHI")  # 20 bytes: MARK, sender, sample, layer, round, bytes of the slice
MARK = b"hdn1"
SILENT = 50  # messages missed in a row after which nobody waits for a neighbor until it is heard again
KEPT = 100_000  # rounds of samples that have not started here


class Datagrams:
    """A UDP socket: a message that is too long for a datagram, or finds nobody, is lost."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
        self.socket.bind((host, port))

    def join(self, number: int, addresses: dict[int, tuple[str, int]], inbox: Inbox) -> None:
        self.addresses = {j: (socket.gethostbyname(host), port) for j, (host, port) in addresses.items()}
        threading.Thread(target=self._read, args=(inbox,), daemon=True).start()

    def send(self, j: int, message: bytes) -> None:
        self.socket.sendto(message, self.addresses[j])

    def _read(self, inbox: Inbox) -> None:
        while True:
            inbox.put(self.socket.recv(2**16))


class Streams:
    """A TCP connection per neighbor, opened by the agent of the lower number, which begins with its number."""

    def __init__(self, host: str, port: int) -> None:
        self.socket, self.peers = socket.create_server((host, port)), dict[int, socket.socket]()

    def join(self, number: int, addresses: dict[int, tuple[str, int]], inbox: Inbox, patience: float = 30.0) -> None:
        until = time.monotonic() + patience
        self.socket.settimeout(patience)
        for j in filter(lambda j: j > number, addresses):
            while j not in self.peers:
                try:
                    self.peers[j] = socket.create_connection(addresses[j])
                    self.peers[j].sendall(struct.pack("!I", number))
                except ConnectionRefusedError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)
        while len(self.peers) < len(addresses):
            peer, _ = self.socket.accept()
            self.peers[struct.unpack("!I", peer.recv(4, socket.MSG_WAITALL))[0]] = peer
        for peer in self.peers.values():
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._read, args=(peer, inbox), daemon=True).start()

    def send(self, j: int, message: bytes) -> None:
        self.peers[j].sendall(message)

    def _read(self, peer: socket.socket, inbox: Inbox) -> None:
        with peer.makefile("rb") as stream:
            while head := stream.read(HEADER.size):
                inbox.put(head + stream.read(HEADER.unpack(head)[-1]))


class Sample:
    """A sample under way: its program, the round that it waits in, and what it has cost."""

    def __init__(self, run: Run, fill: str) -> None:
        self.run, self.began, self.filling = run, time.monotonic(), Filling(fill)
        self.at: Exchange | None = None
        self.unheard: dict[tuple[int, str], list[int]] = {}  # by update and matrix: not heard in the gather
        self.rounds = self.messages = self.bytes = self.withheld = self.filled = 0
        self.busy = 0.0  # seconds of computing and sending


class Node:
    """An agent at work: samples under way, mail for rounds to come, messages on their way to a link."""

    def __init__(self, folder: Path, impair: str | None = None) -> None:
        (file,) = (file for file in folder.glob("*.json") if file.stem.isdecimal())
        self.agent, self.place = Agent(file), json.loads((folder / "neighbors.json").read_text(encoding="utf-8"))
        self.number, self.deadline = self.agent.number, self.place["deadline"]
        self.wire = self.agent.dtype.newbyteorder("<")
        links = Streams if self.place["protocol"] == "tcp" else Datagrams
        self.links: Datagrams | Streams = links(self.place["host"], self.place["port"])
        self.delays = dict(np.load(impair)) if impair else {}  # (samples, rounds) by neighbor: seconds, inf if lost
        self.samples: dict[int, Sample] = {}
        self.mail: dict[tuple[int, int, int], dict[int, Array]] = {}
        self.missed: dict[int, int] = {}  # by neighbor, messages in a row
        self.standing: dict[str, Any] | None = None
        self.newest, self.late, self.open = -1, 0, True
        self.due: list[tuple[float, int, int, bytes]] = []
        self.last_due: dict[int, tuple[float, int]] = {}
        self.inbox: Inbox = queue.SimpleQueue()

    def serve(self) -> None:
        """Answer until stdin ends and nothing is left to do."""
        threading.Thread(target=self._read, daemon=True).start()
        print(json.dumps({"agent": self.number, "port": self.links.socket.getsockname()[1]}), flush=True)
        self._join(self.place["neighbors"])
        while self.open or self.samples or self.due:
            events = [self.due[0][0]] if self.due else []
            events += [sample.began + sample.rounds * self.deadline for sample in self.samples.values()]
            try:
                news = self.inbox.get(timeout=max(min(events) - time.monotonic(), 0.0) if events else None)
                self._listen(news) if isinstance(news, str) else self._arrive(news)
            except queue.Empty:
                pass
            while self.due and self.due[0][0] <= time.monotonic():
                self._send(*heapq.heappop(self.due)[2:])
            if self.inbox.empty() or events and min(events) <= time.monotonic():
                for number in list(self.samples):
                    self._advance(number)

    def _read(self) -> None:
        for line in sys.stdin:
            self.inbox.put(line)
        self.inbox.put("")

    def _listen(self, line: str) -> None:
        """Do what a line of stdin says."""
        self.open = line != ""
        said = json.loads(line) if line.strip() else {}
        if "neighbors" in said:
            self._join(said["neighbors"])
        if "sample" in said:
            self._begin(said["sample"], said["readings"])
        elif "readings" in said:
            self.standing = said["readings"]

    def _join(self, neighbors: dict[str, Any]) -> None:
        if all(each["port"] for each in neighbors.values()) and not self.missed:
            self.missed = dict.fromkeys(map(int, neighbors), 0)
            addresses = {int(j): (each["host"], each["port"]) for j, each in neighbors.items()}
            self.links.join(self.number, addresses, self.inbox)

    def _begin(self, number: int, readings: dict[str, float | None]) -> None:
        """Start a sample. Readings that lack are gaps."""
        names = {int(i): name for i, name in self.agent.about["readings"]["names"].items()}
        row = np.full((1, max(names, default=0) + 1), np.nan)
        for i, name in names.items():
            row[0, i] = np.nan if readings.get(name) is None else readings[name]
        sample = self.samples[number] = Sample(self.agent.answer(row), self.place["fill"])
        self.newest = max(self.newest, number)
        self._resume(number, sample, None)

    def _arrive(self, message: bytes) -> None:
        """Put a message into the mail of its round, if that is still to come."""
        mark, sender, number, layer, turn, size = HEADER.unpack_from(message.ljust(HEADER.size, b"\0"))
        if mark != MARK or sender not in self.missed or len(message) != HEADER.size + size:
            return
        self.missed[sender] = 0
        if number > self.newest and self.standing is not None:
            self._begin(number, self.standing)
        at = self.samples[number].at if number in self.samples else None
        if (layer, turn) < (at.layer, at.round) if at else number <= self.newest:
            self.late += 1
        elif len(self.mail) < KEPT:
            values = np.frombuffer(message, self.wire, offset=HEADER.size).astype(self.agent.dtype)
            self.mail.setdefault((number, layer, turn), {})[sender] = values[:, None]

    def _advance(self, number: int) -> None:
        """Go on with a sample, round by round, until a slice lacks that may still come."""
        while (sample := self.samples.get(number)) and (at := sample.at):
            mail = self.mail.get((number, at.layer, at.round), {})
            came = {j: mail[j] for j, rows in at.sources.items() if j in mail and len(mail[j]) == rows}
            lacking = [j for j in at.sources if j not in came]
            waits = any(self.missed[j] < SILENT for j in lacking)
            if waits and time.monotonic() < sample.began + sample.rounds * self.deadline:
                return
            self.mail.pop((number, at.layer, at.round), None)
            for j in lacking:
                self.missed[j] += 1
            sample.filled += len(lacking)
            if at.kind == "gather" and self.place["pair"]:
                sample.unheard[at.update, at.matrix] = lacking
            got = {j: came[j] if j in came else sample.filling.instead(at, j, 1) for j in at.sources}
            sample.filling.keep(at, got)
            self._resume(number, sample, got)

    def _resume(self, number: int, sample: Sample, got: Any) -> None:
        """Compute up to the next round and send its slices, or print the answer."""
        start = time.monotonic()
        try:
            at = sample.at = sample.run.send(got)
        except StopIteration as done:
            sample.busy += time.monotonic() - start
            self._answer(number, sample, done.value[0])
            return
        unheard = sample.unheard.get((at.update, at.matrix), []) if at.kind == "scatter_add" else []
        for j, values in at.out.items():
            if j not in unheard:
                payload = np.ascontiguousarray(values, self.wire).tobytes()
                header = HEADER.pack(MARK, self.number, number, at.layer, at.round, len(payload))
                self._post(j, header + payload, self.delays[str(j)][number, sample.rounds] if self.delays else 0.0)
                sample.messages, sample.bytes = sample.messages + 1, sample.bytes + len(header + payload)
        sample.withheld += len(unheard)
        sample.rounds += 1
        sample.busy += time.monotonic() - start

    def _post(self, j: int, message: bytes, delay: float) -> None:
        """Send a message at once, later but in order, or (inf) not at all."""
        if delay == 0.0:
            self._send(j, message)
        elif delay != np.inf:
            before, count = self.last_due.get(j, (0.0, 0))
            self.last_due[j] = max(time.monotonic() + delay, before), count + 1
            heapq.heappush(self.due, (*self.last_due[j], j, message))

    def _send(self, j: int, message: bytes) -> None:
        try:
            self.links.send(j, message)
        except OSError:  # the neighbor is gone: lost
            pass

    def _answer(self, number: int, sample: Sample, scores: Array) -> None:
        del self.samples[number]
        for key in [key for key in self.mail if key[0] == number]:
            self.late += len(self.mail.pop(key))
        line = {"sample": number, "scores": scores.tolist(), "seconds": time.monotonic() - sample.began}
        if len(scores) and self.agent.about["readout"]["kind"] != "sum" and not self.agent.about["targets"]:
            line["answer"] = self.agent.about["classes"][int(scores.argmax())]
        costs = {name: getattr(sample, name) for name in ("messages", "bytes", "withheld", "filled", "busy")}
        print(json.dumps(line | costs | {"late": self.late}), flush=True)


if __name__ == "__main__":
    impairments = [word.partition("=")[2] for word in sys.argv if word.startswith("--impair=")]
    Node(Path(*[word for word in sys.argv[1:2] if word[0] != "-"]), *impairments).serve()
