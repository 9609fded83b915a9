"""What shared memory must do beyond `cases`: each case is called by all workers of one machine as `case(transport)`."""

from __future__ import annotations

import gc
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dist_hdnn.transport import PeerLostError, Transport
from dist_hdnn.transport.shm import ShmTransport, join


def own(transport: Transport) -> ShmTransport:
    assert isinstance(transport, ShmTransport)
    return transport


class Pair:
    """A channel between neighbors on a ring, received in shared memory, or through mailboxes."""

    def __init__(self, transport: Transport, size: int, straight: bool, label: str = "pair") -> None:
        me, workers = transport.rank, transport.size
        self.before, self.after = (me - 1) % workers, (me + 1) % workers
        self.out = torch.zeros(size)
        like = self.out
        self.into: Tensor = (transport.empty((size,), like) if straight else torch.empty(size)).fill_(-1)
        self.channel = transport.channel([(self.after, self.out)], [(self.before, self.into)], label)
        self.me, self.round = me, 0

    def start(self) -> None:
        self.round += 1
        self.out.fill_(100 * self.me + self.round)
        self.channel.start()

    def wait(self) -> None:
        self.channel.wait()
        assert bool((self.into == 100 * self.before + self.round).all()), (self.into[:3], self.round)


def nothing_is_overwritten_before_it_is_given_up(transport: Transport) -> None:
    """Who is fast waits for who is slow, straight or through a mailbox, and the slow one's values stay."""
    clock = random.Random(transport.rank)
    for straight in (True, False):
        pair = Pair(transport, 5000, straight)
        for turn in range(12):
            pair.start()
            pair.wait()
            if turn % 3 == transport.rank % 3:
                time.sleep(clock.random() * 0.01)
            assert bool((pair.into == 100 * pair.before + pair.round).all()), "a later round has come too early"
    for straight in (True, False):
        _one_way(transport, straight)


def _one_way(transport: Transport, straight: bool) -> None:
    """Worker 0 sends rounds as fast as it may, worker 1 looks at each for a while."""
    data = transport.empty((5000,), torch.zeros(0)).fill_(-1) if straight else torch.full((5000,), -1.0)
    buffers = [[(1 - transport.rank, data)], []] if transport.rank < 2 else [[], []]
    channel = transport.channel(buffers[transport.rank == 1], buffers[transport.rank != 1], "one way")
    for turn in range(8 if transport.rank < 2 else 0):
        if transport.rank == 0:
            data.fill_(turn)
        else:
            time.sleep(0.003)
            assert bool((data == turn - 1).all()), f"{data[0]} before round {turn}"
        channel.start()
        channel.wait()
        assert bool((data == turn).all()), f"{data[0]} in round {turn}"
    channel.close()


def memory_is_used_again(transport: Transport) -> None:
    """Channels come and go, workers close them at different moments, and the heap does not grow."""
    clock, heap = random.Random(transport.rank), own(transport).home.heap
    kept: list[Pair] = []
    for turn in range(150):
        pair = Pair(transport, 20_000 + 7 * (turn % 5), straight=turn % 3 > 0, label=f"turn {turn}")
        for _ in range(turn % 3):
            pair.start()
            pair.wait()
        kept.append(pair)
        while len(kept) > 3:
            pair.start()
            pair.wait()
            if clock.random() < 0.5:
                time.sleep(clock.random() * 0.002)
            kept.pop(clock.randrange(3)).channel.close()
            pair.start()
            pair.wait()
    for pair in kept:
        pair.channel.close()
    assert sum(segment.size for segment in heap.segments) <= 4 << 20, [segment.size for segment in heap.segments]


def messages_are_taken_from_runs(transport: Transport) -> None:
    """Rows that do not lie side by side are sent from where they are, into rows or through a mailbox."""
    me, workers = transport.rank, transport.size
    before, after = (me - 1) % workers, (me + 1) % workers
    rows, packed = torch.zeros(9, 5), torch.zeros(6, 5)
    runs = {after: [rows[:2], rows[3:3], rows[4:7], rows[8:]]}
    for into in (transport.empty((6, 5), rows), torch.empty(6, 5)):
        channel = transport.channel([(after, packed)], [(before, into)], "runs", runs)
        for turn in range(5):
            rows.copy_(torch.arange(45.0).view(9, 5) + 100 * me + 7 * turn)
            channel.start()
            channel.wait()
            sent = torch.arange(45.0).view(9, 5) + 100 * before + 7 * turn
            assert torch.equal(into, sent[[0, 1, 4, 5, 6, 8]])
    assert not packed.any()


def many_offers_wait(transport: Transport) -> None:
    """More channels than the ring of offers holds are made before the first round of any."""
    pairs = [Pair(transport, 3, straight=number % 2 == 0) for number in range(1300)]
    if transport.rank == 0:
        time.sleep(0.05)
    for pair in reversed(pairs):
        pair.start()
        pair.wait()
    for pair in pairs:
        pair.channel.close()


def channels_that_never_ran_are_closed(transport: Transport) -> None:
    for straight in (True, False):
        if transport.rank == 0:
            time.sleep(0.01)
        Pair(transport, 10, straight).channel.close()
    transport.barrier()
    pair = Pair(transport, 10, True)
    pair.start()
    pair.wait()
    home = own(transport).home
    transport.barrier()
    home.sweep()
    transport.barrier()
    assert not home._leaving


def a_forked_child_disturbs_nobody(transport: Transport) -> None:
    """A child can use no channel, and neither its end nor what it frees reaches the others."""
    pair = Pair(transport, 10, True)
    pair.start()
    pair.wait()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            pair.channel.start()
        except RuntimeError as error:
            code = 0 if "of the parent process" in str(error) else 2
        pair.channel.close()
        transport.close()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for _ in range(3):
        pair.start()
        pair.wait()
    assert all(peer.alive() for peer in own(transport).peers.values())


def different_sizes_are_an_error_of_the_sender(transport: Transport) -> None:
    if transport.rank == 0:
        channel = transport.channel([(1, torch.zeros(5))], [], "sizes")
        try:
            channel.start()
            channel.wait()
        except PeerLostError as error:
            assert "worker 0 sends 20 bytes in sizes, but worker 1 expects 24; both must make" in str(error)
        else:
            raise AssertionError("the sizes were taken")
    elif transport.rank == 1:
        transport.channel([], [(0, torch.zeros(6))], "sizes")
    transport.barrier()


def transports_follow_each_other(transport: Transport) -> None:
    """Another transport in the same processes, and its memory goes with it."""
    with tempfile.TemporaryDirectory() as folder:
        name = folder if transport.rank == 0 else ""
        place = transport.all_gather_bytes(name.encode().ljust(200))[0].decode().strip()
        for turn in range(3):
            before = len(_segments())
            with join(transport.rank, transport.size, f"file://{place}/{turn}", timeout=20) as another:
                pair = Pair(another, 100, True)
                pair.start()
                pair.wait()
                assert len(_segments()) > before
            del another, pair
            gc.collect()
            assert len(_segments()) == before
        transport.barrier()


def _segments() -> list[str]:
    """Mappings of shared memory in this process."""
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:dist_hdnn" in line]


SHARED: dict[str, Callable[[Transport], None]] = {
    case.__name__: case
    for case in (
        nothing_is_overwritten_before_it_is_given_up,
        memory_is_used_again,
        messages_are_taken_from_runs,
        many_offers_wait,
        channels_that_never_ran_are_closed,
        a_forked_child_disturbs_nobody,
        different_sizes_are_an_error_of_the_sender,
        transports_follow_each_other,
    )
}
