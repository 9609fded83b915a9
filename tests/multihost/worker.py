"""One worker of a job that spans hosts: the numbers of a small network, then steps whose bytes are counted.

    torchrun ... worker.py gloo FOLDER STEPS     or     mpiexec ... worker.py mpi FOLDER STEPS

Writes FOLDER/<rank>.npz: owned agents, output, gradients; what the steps sent by three counts: the network's ledger,
the transport, and the interfaces of the host. STEPS 0: steps without end, with a timeout of TIMEOUT seconds; the file
FOLDER/<rank>.steps, with the name of the host, says that they are being taken.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import dist_hdnn
from dist_hdnn.topology.ragged import offsets, ragged_ranges
from dist_hdnn.transport import Transport, TransportError

AGENTS, LAYERS, BATCH = 8, 3, 3
WIDTHS = dict(enumerate((2, 6, 4, 2, 6, 2, 4, 4)))
COUNTED_BATCH = 4096  # makes messages of 32 to 96 KiB
TIMEOUT = 3.0  # seconds


def network(**options: Any) -> dist_hdnn.HDNN:
    return dist_hdnn.HDNN(dist_hdnn.ring(AGENTS), width=WIDTHS, layers=LAYERS, dtype=torch.float64, **options)


def problem() -> tuple[dist_hdnn.HDNN, torch.Tensor, torch.Tensor]:
    """The whole network, its input and the gradient of its output; the same in every process."""
    whole = network()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    y, cotangent = torch.randn(2, BATCH, whole.neurons, generator=generator, dtype=torch.float64)
    return whole, y, cotangent


def columns_of(agents: NDArray[np.int64], whole: dist_hdnn.HDNN) -> NDArray[np.int64]:
    """Columns of the whole state that belong to these agents."""
    return ragged_ranges(offsets(whole.widths)[agents], whole.widths[agents])


def numbers(net: dist_hdnn.HDNN, y: torch.Tensor, cotangent: torch.Tensor) -> dict[str, NDArray[Any]]:
    """Output, gradient of the input, gradient of every weight."""
    y = y.clone().requires_grad_()
    output = net(y)
    (output * cotangent).sum().backward()
    assert y.grad is not None
    gradients = {f"gradient {name}": parameter.grad for name, parameter in net.named_parameters()}
    found = {"output": output.detach(), "gradient y": y.grad} | gradients
    return {name: tensor.numpy().copy() for name, tensor in found.items() if tensor is not None}


def interfaces() -> dict[str, int]:
    """Bytes that this host has put on each cable."""
    files = Path("/sys/class/net").glob("to*/statistics/tx_bytes")
    return {file.parts[-3]: int(file.read_text()) for file in files}


def counted(net: dist_hdnn.HDNN, transport: Transport, steps: int) -> dict[str, Any]:
    """What `steps` steps sent, to each worker and into each cable; the latter includes two barriers."""
    y = torch.zeros(COUNTED_BATCH, net.neurons, dtype=torch.float64)
    net(y).sum().backward()  # opens channels and connections
    transport.barrier()
    wire, handed_over = interfaces(), transport.sent()
    transport.barrier()  # nobody starts before all have read their counters
    net.reset_traffic()
    before = transport.sent()
    for _ in range(steps):
        net(y).sum().backward()
    ledger, after = net.ownership.ledger.per_link(), transport.sent()
    strays = net.traffic()["non_neighbour_messages"]
    transport.barrier()  # nobody reads before all has arrived
    end, handed_over_in_the_end = interfaces(), transport.sent()
    transport.barrier()
    assert set(ledger.sender.tolist()) <= {transport.rank}
    by_ledger = np.zeros((transport.size, 2), np.int64)
    by_ledger[ledger.receiver] = np.stack([ledger.messages, ledger.bytes], axis=1)
    return {
        "ledger": by_ledger,
        "sent": after - before,
        "sent with barriers": handed_over_in_the_end - handed_over,
        "non-neighbour messages": strays,
        "cables": sorted(wire),
        "wire": np.array([end[name] - wire[name] for name in sorted(wire)]),
    }


def steps_without_end(net: dist_hdnn.HDNN, transport: Transport, started: Path) -> None:
    transport.timeout = TIMEOUT
    y = torch.zeros(BATCH, net.neurons, dtype=torch.float64)
    while True:
        for _ in range(20):
            net(y).sum().backward()
        started.write_text(socket.gethostname())


def work(transport: Transport, folder: Path, steps: int) -> None:
    whole, y, cotangent = problem()
    net = network(workers=transport)
    net.load_state_dict(whole.state_dict())
    if steps == 0:
        steps_without_end(net, transport, folder / f"{transport.rank}.steps")
    columns = columns_of(net.owned, whole)
    results: dict[str, Any] = numbers(net, y[:, columns], cotangent[:, columns])
    results |= {f"index {name}": shard.index for name, shard in net.shards.items()}
    results |= {f"dimension {name}": shard.dimension for name, shard in net.shards.items()}
    results |= {"owned": net.owned, "host": socket.gethostname()} | counted(net, transport, steps)
    np.savez(folder / f"{transport.rank}.npz", **results)


def main() -> None:
    kind, folder, steps = sys.argv[1:]
    torch.set_num_threads(1)
    transport: Transport
    if kind == "mpi":
        from dist_hdnn.transport.mpi import MpiTransport

        transport = MpiTransport(timeout=60)
    else:
        from dist_hdnn.transport.gloo import join

        transport = join(timeout=60)
    try:
        work(transport, Path(folder), int(steps))
        transport.barrier()
    except TransportError as error:
        transport.abort(error.exit_code, str(error).removeprefix(f"worker {transport.rank} "))
    print(f"worker {transport.rank} of {transport.size} on {socket.gethostname()} done", flush=True)
    transport.close()


if __name__ == "__main__":
    main()
