"""nccl: processes with one GPU each, and one grouped call per round, straight between the memories of the GPUs.

NCCL ignores tags and matches by order, so the operations of a round are sorted by peer and both ends name the same
messages. Only about a hundred operations fit into one call, so a worker with more peers splits a round into sub-rounds,
numbered so that both ends of a message agree.
"""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as distributed
from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

from dist_hdnn.transport.base import Transport
from dist_hdnn.transport.messages import Message
from dist_hdnn.transport.rendezvous import first_line

MOST_OPERATIONS = 100  # per call; about 256 hang (pytorch#174288)


def sub_round(a: int, b: int, size: int, most: int = MOST_OPERATIONS) -> int:
    """Return the sub-round in which workers a and b exchange, of at most `most` operations per worker.

    (a + b) mod size gives each worker one partner per number, so equal ranges of numbers hold equally many peers.
    """
    rounds = -(-2 * size // most)
    return (a + b) % size * rounds // size


class NcclTransport(Transport):
    """One of `size` processes that meet at `store`, over PyTorch's default process group, which must be free.

    device: this worker's GPU. `wait` makes the current stream wait, not the host, so kernels and messages are in order
    without a host synchronization. A lost or late peer ends the process through NCCL's own watchdog.
    backend: "gloo" runs the same code on host memory, for tests.
    """

    name = "nccl"
    stages = False

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        device: torch.device,
        timeout: float = 120.0,
        backend: str = "nccl",
        most_operations: int = MOST_OPERATIONS,
    ) -> None:
        super().__init__(rank, size, timeout)
        self.device = device
        self.most_operations = most_operations
        limit = timedelta(seconds=timeout)
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        distributed.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=limit, device_id=device if on_gpu else None
        )
        # The first batched call must involve all workers (pytorch#74701), so they connect here, once.
        distributed.all_reduce(torch.zeros(1, device=device))

    def _buffer(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.uint8, device=self.device)

    def _wire(self, sends: list[Message], receives: list[Message], label: str) -> NcclWire:
        devices = {message.data.device.type for message in (*sends, *receives)}
        if devices != {self.device.type}:
            raise ValueError(f"{label}: expected buffers on {self.device}, got {sorted(devices)}; move them there")
        return NcclWire(self, sends, receives, label)

    def _release(self) -> None:
        distributed.destroy_process_group()


class NcclWire:
    """The operations of one round, sorted by sub-round and peer, receives and sends of a peer side by side."""

    def __init__(self, transport: NcclTransport, sends: list[Message], receives: list[Message], label: str) -> None:
        self.label = label
        self._transport = transport
        operations: dict[int, list[tuple[int, distributed.P2POp]]] = {}
        for call, messages in ((distributed.irecv, receives), (distributed.isend, sends)):
            for peer, tag, data, _ in messages:
                number = sub_round(transport.rank, peer, transport.size, transport.most_operations)
                operations.setdefault(number, []).append((peer, distributed.P2POp(call, data, peer, tag=tag)))
        self.rounds = [
            [operation for _, operation in sorted(operations[number], key=lambda pair: pair[0])]
            for number in sorted(operations)
        ]
        self._works: list[distributed.Work] = []

    def post(self) -> None:
        try:
            for operations in self.rounds:
                self._works += distributed.batch_isend_irecv(operations)
        except RuntimeError as error:
            raise self._failed(error) from None

    def complete(self, timeout: float) -> None:
        try:
            for work in self._works:
                work.wait()
        except RuntimeError as error:
            raise self._failed(error) from None
        self._works.clear()

    def free(self) -> None:
        self._works.clear()
        self.rounds.clear()

    def _failed(self, error: RuntimeError) -> Exception:
        peers = sorted({operation.peer for operations in self.rounds for operation in operations})
        return self._transport._lost(peers, self.label, first_line(error))
