"""What a worker shows to the others of its machine, and what it sees of them.

    home     a segment of fixed size: bell and sleepers, the table of its heap's segments, a ring of offers per sender
    box      three cache lines in the receiver's heap for every message that it receives, whatever the round
               flag, closed     written by the sender
               allowed          written by the receiver
               tag, memory, slots, bytes    the offer: where the sender is to write

A receiver offers a box when it makes a channel, and the sender finds it at its first round, by sender, receiver and
tag. Every worker holds a lock on a file of its own, which the kernel gives back at its end, whatever that is.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dist_hdnn.transport.shm.memory import LINE, SEGMENTS, SHIFT, Heap, Piece, Segment, open_of
from dist_hdnn.transport.shm.rounds import rounds

WORD = 8
TABLE = 8  # word of the home where the table of segments begins: (descriptor, size) each
RINGS = TABLE + 2 * SEGMENTS  # where the rings of offers begin
RING = 512  # offers that wait for one sender in shared memory; further ones wait here
BOX = 3 * LINE  # bytes
CLOSED, ALLOWED, OFFER = WORD, LINE, 2 * LINE  # of a box; the flag comes first
WHOLE_FILE = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)  # Linux' struct flock


class Box(NamedTuple):
    """A message's box as its sender sees it. address: of the box. memory: where to write."""

    address: int
    memory: int
    slots: int
    bytes: int


class Home:
    """This worker's own end: its heap, and what it shows to `workers` others.

    bell: address of the word that wakes it. lock: the descriptor of the file that tells whether it lives.
    """

    def __init__(self, workers: int) -> None:
        self._rounds = rounds()
        self.segment = Segment.new(-(-WORD * (RINGS + RING * workers) // 4096) * 4096)
        self.bell = self.segment.address
        self.heap = Heap(self._announce)
        self.lock = os.memfd_create("dist_hdnn alive")
        fcntl.lockf(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._offered = [0] * workers
        self._waiting: list[deque[tuple[int, int]]] = [deque() for _ in range(workers)]  # (place, bell of the sender)
        self._leaving: list[tuple[NDArray[np.int64], list[Piece], object]] = []

    def _announce(self, number: int, segment: Segment) -> None:
        at = TABLE + 2 * number
        self.segment.words[at : at + 2] = segment.descriptor, segment.size

    def box(self, tag: int, memory: int, slots: int, size: int) -> Piece:
        """Return a new box for a message with this tag, to be written to `memory`, a place. Raises OSError."""
        piece = self.heap.take(BOX)
        words = self.words(piece)
        words[:] = 0
        words[ALLOWED // WORD] = slots
        words[OFFER // WORD : OFFER // WORD + 4] = tag, memory, slots, size
        return piece

    def words(self, piece: Piece) -> NDArray[np.int64]:
        """Return the words of a piece of the heap."""
        return self.heap.segments[piece.segment].words[piece.start // WORD : (piece.start + piece.size) // WORD]

    def offer(self, sender: int, place: int, bell: int) -> None:
        """Offer a box to its sender. bell: of that worker."""
        self._waiting[sender].append((place, bell))
        self.publish()

    def publish(self) -> None:
        """Put offers where their senders find them, as far as there is room."""
        for sender, offers in enumerate(self._waiting):
            while offers:
                word = self._ring(sender, self._offered[sender])
                if self._rounds.look(word):
                    break
                place, bell = offers.popleft()
                self._rounds.publish(word, place + 1, bell)
                self._offered[sender] += 1

    def _ring(self, sender: int, number: int) -> int:
        return self.segment.address + WORD * (RINGS + RING * sender + number % RING)

    def retire(self, box: Piece, mail: Piece | None, keep: object) -> None:
        """Take a box and its mailbox back as soon as the sender has closed its end. keep: memory until then."""
        self._leaving.append((self.words(box), [box, *([mail] if mail else [])], keep))

    def sweep(self) -> None:
        """Take back what senders have closed."""
        closed = [entry for entry in self._leaving if self._rounds.look(int(entry[0].ctypes.data) + CLOSED)]
        if closed:
            self._leaving = [entry for entry in self._leaving if not any(entry is other for other in closed)]
            for _, pieces, _ in closed:
                for piece in pieces:
                    self.heap.give(piece)

    def close(self) -> None:
        self._leaving.clear()
        self.heap.close()
        self.segment.close()
        os.close(self.lock)


class Peer:
    """Another worker of this machine, as worker `me` sees it. home, lock: descriptors in that process."""

    def __init__(self, rank: int, me: int, process: int, home: int, size: int, lock: int) -> None:
        self.rank, self.process = rank, process
        self._rounds = rounds()
        self._home = Segment.of(process, home, size)
        self.bell = self._home.address
        self._lock = open_of(process, lock)
        self._segments: dict[int, Segment] = {}
        self._seen = 0
        self._ring = self._home.address + WORD * (RINGS + RING * me)
        self._boxes: dict[int, Box] = {}  # by tag
        self._abandoned: set[int] = set()  # tags whose channel was closed here before the box was offered

    def alive(self) -> bool:
        """Tell whether it holds its lock, that is, neither has ended nor closed its transport."""
        answer = fcntl.fcntl(self._lock, fcntl.F_GETLK, WHOLE_FILE)
        return bool(struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK)

    def find(self, tag: int) -> Box | None:
        """Return the box of a message to this worker, or None if it has not offered it so far."""
        if tag not in self._boxes:
            self._drain()
        return self._boxes.pop(tag, None)

    def leave(self, address: int) -> None:
        """Tell the receiver that nothing more will be written for this box."""
        self._rounds.publish(address + CLOSED, 1, self.bell)

    def abandon(self, tag: int) -> None:
        """Leave the box of a tag, now or when it is offered."""
        box = self.find(tag)
        if box is None:
            self._abandoned.add(tag)
        else:
            self.leave(box.address)

    def _drain(self) -> None:
        while offered := self._rounds.look(word := self._ring + WORD * (self._seen % RING)):
            address = self._address(offered - 1)
            self._rounds.publish(word, 0, self.bell)
            self._seen += 1
            tag, memory, slots, size = self._words(offered - 1 + OFFER, 4)
            if tag in self._abandoned:
                self._abandoned.remove(tag)
                self.leave(address)
            else:
                self._boxes[tag] = Box(address, self._address(memory), slots, size)

    def _words(self, place: int, count: int) -> list[int]:
        segment, offset = self._segment(place >> SHIFT), place % (1 << SHIFT) // WORD
        return [int(word) for word in segment.words[offset : offset + count]]

    def _address(self, place: int) -> int:
        return self._segment(place >> SHIFT).address + place % (1 << SHIFT)

    def _segment(self, number: int) -> Segment:
        """Map a segment of its heap, once. Raises OSError when the worker has ended."""
        if number not in self._segments:
            at = TABLE + 2 * number
            descriptor, size = (int(word) for word in self._home.words[at : at + 2])
            self._segments[number] = Segment.of(self.process, descriptor, size)
        return self._segments[number]

    def close(self) -> None:
        os.close(self._lock)
