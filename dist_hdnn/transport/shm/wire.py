"""The messages of one channel through shared memory: straight into the receiver's tensor where that lies in its heap.

Where it does not, the receiver has a mailbox of two slots, which it empties when it waits.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from dist_hdnn.transport.errors import PeerLostError
from dist_hdnn.transport.messages import Message
from dist_hdnn.transport.shm.memory import Piece
from dist_hdnn.transport.shm.peers import ALLOWED, Box
from dist_hdnn.transport.shm.rounds import CHANNEL, MESSAGE, rounds

if TYPE_CHECKING:
    from dist_hdnn.transport.shm.transport import ShmTransport

SLOTS = 2  # of a mailbox: a sender may be one round ahead
NAP = 20_000_000  # nanoseconds that a worker sleeps before it looks whether the others live
SHORT_NAP = 200_000  # the same while it looks for boxes that others are about to offer


class ShmWire:
    """One worker's end of the messages of a channel: an array of words, see `rounds`."""

    def __init__(self, transport: ShmTransport, sends: list[Message], receives: list[Message], label: str) -> None:
        self.label = label
        self._transport = transport
        self._messages = [*sends, *receives]
        self._sends = len(sends)
        self._unknown = dict(enumerate(sends))  # sends whose boxes are not known, by number
        self._boxes: dict[int, Box] = {}
        self._inboxes: dict[int, tuple[Piece, Piece | None]] = {}
        self._made = rounds()
        self._complete = self._made.complete
        self._post = self._made.post
        self._never = np.array([-1], dtype=np.int64)  # what `allowed` is as long as there is no box
        runs = [message.runs or (message.data,) for message in self._messages]
        self._runs = [np.array([(run.data_ptr(), run.numel()) for run in parts], dtype=np.int64) for parts in runs]
        self._words = np.zeros(len(CHANNEL) + len(MESSAGE) * len(self._messages), dtype=np.int64)
        self._table = self._words[len(CHANNEL) :].reshape(-1, len(MESSAGE))
        self.address = int(self._words.ctypes.data)
        self._describe()
        for number, message in enumerate(receives, start=self._sends):
            self._inboxes[number] = self._offer(number, message)

    def _describe(self) -> None:
        transport, words = self._transport, self._words
        for name, value in {
            "sends": self._sends,
            "messages": len(self._messages),
            "bell": transport.home.bell,
            "spins": transport.patience[0],
            "yields": transport.patience[1],
            "nanoseconds": SHORT_NAP if self._unknown else NAP,
            "waited": transport.waited.ctypes.data,
        }.items():
            words[CHANNEL[name]] = value
        for number, message in enumerate(self._messages):
            self._set(
                number,
                allowed=self._never.ctypes.data,
                bell=transport.peers[message.peer].bell,
                bytes=message.data.numel(),
                runs=len(self._runs[number]),
                table=self._runs[number].ctypes.data,
                peer=message.peer,
            )

    def _set(self, number: int, **values: int) -> None:
        for name, value in values.items():
            self._table[number, MESSAGE[name]] = value

    def _offer(self, number: int, message: Message) -> tuple[Piece, Piece | None]:
        """Offer the memory for a message to its sender: the tensor itself, or a mailbox."""
        home, size = self._transport.home, message.data.numel()
        place, slots, mail = home.heap.place(message.data.data_ptr(), size), 0, None
        if place is None:
            slots, mail = SLOTS, home.heap.take(SLOTS * size)
            place = mail.place
            self._set(number, memory=mail.address)
        box = home.box(message.tag, place, slots, size)
        self._set(number, flag=box.address, allowed=box.address + ALLOWED, slots=slots)
        home.offer(message.peer, box.place, self._transport.peers[message.peer].bell)
        return box, mail

    def post(self) -> None:
        if self._unknown:
            self._look_for_boxes()
        self._post(self.address)

    def complete(self, timeout: float) -> None:
        if self._complete(self.address):
            self._wait(timeout)

    def _wait(self, timeout: float) -> None:
        """Nap, and look after every nap without news who lives and what time it is."""
        transport, deadline = self._transport, time.monotonic() + timeout
        while True:
            transport.home.publish()
            if self._unknown:
                self._look_for_boxes()
            gone = [peer for peer in self._open() if not transport.peers[peer].alive()]
            if not self._complete(self.address):
                return
            waited_for = self._open()
            gone = [peer for peer in gone if peer in waited_for]  # what came before its end has been taken
            if gone:
                raise transport._lost(gone, self.label, "its process has ended")
            if time.monotonic() > deadline:
                raise transport._timed_out(waited_for, self.label, timeout)

    def _open(self) -> list[int]:
        """Return the peers whose messages of this round are not through."""
        late = self._table[:, MESSAGE["done"]] != self._words[CHANNEL["round"]]
        return sorted(set(self._table[late, MESSAGE["peer"]].tolist()))

    def _look_for_boxes(self) -> None:
        """Find the boxes that receivers have offered by now. Raises PeerLostError when sizes differ."""
        for number, message in list(self._unknown.items()):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended, which the wait reports
                box = self._transport.peers[message.peer].find(message.tag)
                if box is not None:
                    self._check(number, message.peer, box)
                    self._boxes[number] = box
                    self._set(
                        number, flag=box.address, allowed=box.address + ALLOWED, memory=box.memory, slots=box.slots
                    )
                    del self._unknown[number]
        if not self._unknown:
            self._words[CHANNEL["nanoseconds"]] = NAP

    def _check(self, number: int, peer: int, box: Box) -> None:
        mine, rank = self._table[number, MESSAGE["bytes"]], self._transport.rank
        if box.bytes != mine:
            raise PeerLostError(
                f"worker {rank} sends {mine} bytes in {self.label}, but worker {peer} expects {box.bytes}; "
                "both must make the same channels in the same order",
                rank,
                peer,
                self.label,
            )

    def free(self) -> None:
        """Give up the boxes. What a sender may still write to stays until it has closed its end."""
        peers, home = self._transport.peers, self._transport.home
        with suppress(OSError):  # a worker that has ended reads no more
            for number, message in enumerate(self._messages[: self._sends]):
                if number in self._boxes:
                    peers[message.peer].leave(self._boxes[number].address)
                else:
                    peers[message.peer].abandon(message.tag)
        cut_short = bool(self._open())
        for box, mail in self._inboxes.values():
            home.retire(box, mail, self._messages if cut_short else None)
        self._messages, self._inboxes, self._boxes = [], {}, {}
