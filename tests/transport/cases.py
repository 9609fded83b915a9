"""What every transport must do, written once: each case is called by all workers as `case(transport)`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dist_hdnn.transport import DisagreementError, Transport

Lengths = dict[tuple[int, int], int]  # elements from worker to worker
DTYPES = (torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.complex64)


def shapes(n: int) -> dict[str, Lengths]:
    """Who sends how much to whom, for n workers."""
    ring = {(k, (k + d) % n): 7 for k in range(n) for d in (1, -1) if n > 1}
    some = {(a, b): (3 * a + 5 * b) % 4 * 10 for a in range(n) for b in range(n) if a != b}
    return {
        "nobody": {},
        "ring": ring,
        "star": {pair: 4 for k in range(1, n) for pair in ((0, k), (k, 0))},
        "complete": {(a, b): 9 for a in range(n) for b in range(n) if a != b},
        "directed ring": {(k, (k + 1) % n): 6 for k in range(n) if n > 1},
        "directed, all to the last": {(k, n - 1): 3 for k in range(n - 1)},
        "isolated worker": {pair: 5 for pair in ring if n - 1 not in pair},
        "unequal and empty": some,
        "long": {pair: 100_000 for pair in ring},
    }


class Exchange:
    """One worker's channel for the messages in `lengths`; every round sends other values, known to the receiver."""

    def __init__(self, transport: Transport, lengths: Lengths, dtype: torch.dtype, label: str = "test") -> None:
        me = transport.rank
        self.me, self.dtype, self.round = me, dtype, 0
        self.sends = {b: torch.zeros(n, dtype=dtype) for (a, b), n in lengths.items() if a == me}
        self.receives = {a: torch.zeros(n, dtype=dtype) for (a, b), n in lengths.items() if b == me}
        self.channel = transport.channel(list(self.sends.items()), list(self.receives.items()), label)

    def start(self) -> None:
        self.round += 1
        for peer, tensor in self.sends.items():
            tensor.copy_(self.values(self.me, peer, tensor))
        for tensor in self.receives.values():
            tensor.fill_(-1)
        self.channel.start()

    def wait(self) -> None:
        self.channel.wait()
        for peer, tensor in self.receives.items():
            expected = self.values(peer, self.me, tensor)
            assert torch.equal(tensor, expected), f"worker {self.me} from {peer}, round {self.round}: {tensor[:9]}"

    def values(self, sender: int, receiver: int, like: Tensor) -> Tensor:
        first = 101 * sender + 13 * receiver + 7 * self.round
        return ((torch.arange(len(like)) + first) % 120).to(self.dtype)  # exact in bfloat16, too


def slices_arrive(transport: Transport) -> None:
    for name, lengths in shapes(transport.size).items():
        for dtype in DTYPES:
            exchange = Exchange(transport, lengths, dtype, name)
            for _ in range(3):
                exchange.start()
                exchange.wait()
            exchange.channel.close()


def channels_overlap(transport: Transport) -> None:
    """Three channels between the same workers are started, and waited for in another order."""
    complete = shapes(transport.size)["complete"]
    exchanges = [Exchange(transport, complete, dtype) for dtype in DTYPES[:3]]
    for turn in range(20):
        for exchange in exchanges:
            exchange.start()
        for exchange in exchanges[::-1] if turn % 2 else exchanges:
            exchange.wait()


def sums_are_the_same_bits(transport: Transport) -> None:
    """Whoever comes first, sums are those in rank order, which other orders would not give."""
    clock = random.Random(transport.rank)
    for dtype in (torch.float32, torch.float64, torch.int64, torch.bfloat16):
        inputs = [_awkward(rank, dtype) for rank in range(transport.size)]
        wide = torch.float32 if dtype == torch.bfloat16 else dtype
        expected = inputs[0].to(wide)
        for value in inputs[1:]:
            expected = expected + value.to(wide)
        for _ in range(5):
            time.sleep(clock.random() * 0.004)
            mine = inputs[transport.rank].clone()
            transport.all_reduce(mine)
            assert torch.equal(mine, expected.to(dtype)), f"worker {transport.rank}: {dtype}"
            everybody = transport.all_gather_bytes(mine.view(torch.uint8).numpy().tobytes())
            assert len(set(everybody)) == 1
    for op, value in (("max", transport.size - 1), ("min", 0)):
        scalar = torch.tensor(transport.rank)
        transport.all_reduce(scalar, op)
        assert scalar == value
    strided = torch.ones(4, 6)[:, ::2]
    transport.all_reduce(strided)
    assert torch.equal(strided, torch.full((4, 3), float(transport.size)))
    transport.all_reduce(torch.empty(0))


def _awkward(rank: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(rank)
    values = torch.randn(50, generator=generator, dtype=torch.float64)
    return (values * 10.0 ** torch.randint(0, 9, (50,), generator=generator)).to(dtype)


def bytes_are_gathered(transport: Transport) -> None:
    for length in (0, 1, 32, 1000, 70_000):
        gathered = transport.all_gather_bytes(bytes([65 + transport.rank]) * length)
        assert gathered == [bytes([65 + rank]) * length for rank in range(transport.size)]


def nobody_passes_a_barrier_early(transport: Transport) -> None:
    for slow in range(transport.size):
        began = time.monotonic()
        if transport.rank == slow:
            time.sleep(0.05)
        transport.barrier()
        arrived = torch.tensor(began + 0.05 if transport.rank == slow else 0.0, dtype=torch.float64)
        transport.all_reduce(arrived, "max")  # one machine, one monotonic clock
        assert time.monotonic() >= float(arrived)


def disagreement_is_noticed(transport: Transport) -> None:
    """All get the error, and can go on."""
    last = transport.size - 1
    for theirs, ours in (
        (lambda: transport.barrier(), lambda: transport.all_reduce(torch.zeros(2))),
        (lambda: transport.all_gather_bytes(b"12"), lambda: transport.all_gather_bytes(b"123")),
        (lambda: transport.all_reduce(torch.zeros(1), "max"), lambda: transport.all_reduce(torch.zeros(1), "sum")),
    ):
        try:
            (theirs if transport.rank == last else ours)()
        except DisagreementError as error:
            assert error.peer == last and error.exit_code == 3, error
            first, other = str(error).split(", but ")
            assert first.startswith("worker 0 is in ") and other.startswith(f"worker {last} in "), error
            assert first.removeprefix("worker 0 is in ") != other.split("; ")[0].removeprefix(f"worker {last} in "), (
                error
            )
        else:
            raise AssertionError(f"worker {transport.rank} noticed nothing")
    transport.barrier()


def wrong_buffers_leave_nothing_behind(transport: Transport) -> None:
    """A channel that is refused on one worker only does not disturb the next one."""
    ring = shapes(transport.size)["ring"]
    if transport.rank == 0:
        peers = sorted({b for a, b in ring if a == 0})
        good, bad = torch.zeros(8), torch.zeros(4, 8)[:, ::2]
        try:
            transport.channel([(peers[0], bad)], [(peers[0], good)], "refused")
        except ValueError as error:
            assert "contiguous" in str(error)
        else:
            raise AssertionError("a strided buffer was accepted")
    exchange = Exchange(transport, ring, torch.float64)
    for _ in range(3):
        exchange.start()
        exchange.wait()


class _Count(TorchFunctionMode):
    calls: list[str]

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.calls.append(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))


def rounds_touch_no_tensor(transport: Transport) -> None:
    """Byte views are made once: exporting a tensor costs more than sending a small one."""
    exchange = Exchange(transport, shapes(transport.size)["ring"], torch.float32)
    with _Count() as count:
        count.calls = []
        for _ in range(5):
            exchange.channel.start()
            exchange.channel.wait()
        assert count.calls == []


def bytes_sent_are_counted(transport: Transport) -> None:
    before = transport.sent()
    lengths = {(a, b): a + b for a in range(transport.size) for b in range(transport.size) if a != b}
    exchange = Exchange(transport, lengths, torch.float64)
    for turn in range(4):
        exchange.start()
        exchange.wait()
        if turn == 2:
            exchange.channel.close()
            exchange = Exchange(transport, lengths, torch.float64)
    expected = [
        [4, 32 * (transport.rank + peer)] if peer != transport.rank else [0, 0] for peer in range(transport.size)
    ]
    assert (transport.sent() - before).tolist() == expected


def retired_channels_are_closed_at_the_next_use(transport: Transport) -> None:
    """Retiring one does nothing else: it is called by finalizers, also of other threads and in locked sections."""
    ring = shapes(transport.size)["ring"]
    old, new = Exchange(transport, ring, torch.float32), Exchange(transport, ring, torch.float32)
    for exchange in (old, new):
        exchange.start()
        exchange.wait()
    before = transport.sent()
    old.channel.retire()
    assert old.channel in transport._channels  # type: ignore[attr-defined]
    new.start()
    assert old.channel not in transport._channels  # type: ignore[attr-defined]
    new.wait()
    assert (transport.sent() - before).sum() == sum(1 + 28 for a, _ in ring if a == transport.rank)


CASES: dict[str, Callable[[Transport], None]] = {
    case.__name__: case
    for case in (
        slices_arrive,
        channels_overlap,
        sums_are_the_same_bits,
        bytes_are_gathered,
        nobody_passes_a_barrier_early,
        disagreement_is_noticed,
        wrong_buffers_leave_nothing_behind,
        rounds_touch_no_tensor,
        bytes_sent_are_counted,
        retired_channels_are_closed_at_the_next_use,
    )
}
