"""The machine's rates for `layer.py`: multiply-adds of a compiled loop, and copies, and what a layer cannot beat.

peak     registers alone: independent chains of fused multiply-adds in the widest vectors of the host
gemm     a product of 1024 x 1024 by PyTorch's library, which need not use the widest vectors
copy     memmove of as much as a sweep moves, so from the cache where all of it fits there
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from measure import take_turns

from dist_hdnn import HDNN
from dist_hdnn.operators.tiles import machine, vectors

CHAINS, TURNS = 12, 1 << 20  # two units with a latency of 4 need 8 chains; 16 registers hold 12 and the factors
LEAST, MOST = 1 << 17, 1 << 26  # bytes of a copy: calls cost more below, and no cache holds more
STATE_PASSES, WEIGHT_PASSES = 9, 3
Passes = tuple[int, int]


def machine_rates() -> dict[str, float]:
    """Measure GFlop/s of registers alone and of a GEMM, and GB/s of a copy of 64 MiB (read and written)."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    gemm = 2 * 1024**3 / min(take_turns({"": lambda: torch.mm(a, b)}, repeats=10)[""]) / 1e9
    peak = register_rate() if machine.available() else 0.0  # without llvmlite the GEMM is all that is known
    return {"peak_gflops": max(peak, gemm), "gemm_gflops": gemm, "copy_gbytes": copy_rate(MOST)}


def register_rate() -> float:
    """Measure GFlop/s of float32 multiply-adds that touch no memory."""
    lanes = machine.host().vector_bytes // 4
    data = np.full(lanes * (CHAINS + 2), 1e-3, dtype=np.float32)
    loop = multiply_adds(lanes)
    seconds = min(take_turns({"": lambda: loop.call(data.ctypes.data, TURNS)}, repeats=20)[""])
    return 2 * lanes * CHAINS * TURNS / seconds / 1e9


@machine.once
def multiply_adds(lanes: int) -> machine.Compiled:
    """Compile f(data, n): n turns of CHAINS independent sums s <- a b + s. data: a, b, then the first sums."""

    def write(code: machine.Code, arguments: list[machine.Value]) -> None:
        data, turns = arguments
        writer = vectors.Writer(code, 4, lanes)
        places = [writer.at(data, code.number(lanes * place)) for place in range(CHAINS + 2)]
        a, b, *first = [writer.load(place) for place in places]
        sums = [code.variable(value) for value in first]
        with code.loop(code.number(0), turns):
            for place in sums:
                code.builder.store(writer.multiply_add(a, b, code.get(place, writer.vector)), place)
        for value, place in zip(sums, places[2:], strict=True):
            writer.store(code.get(value, writer.vector), place)

    return machine.compile_function(f"multiply_adds_{lanes}_{CHAINS}", 1, 1, write)


@cache
def copy_rate(size: int) -> float:
    """Measure GB/s, read and written, of copying `size` bytes."""
    source, target = np.ones(size, dtype=np.uint8), np.ones(size, dtype=np.uint8)
    move: Callable[[], object] = lambda: ctypes.memmove(target.ctypes.data, source.ctypes.data, size)  # noqa: E731
    calls = max(1, MOST // size // 4)
    return 2 * size / min(take_turns({"": move}, repeats=10, inner=calls)[""]) / 1e9


def roofline(net: HDNN, batch: int, layers: int, rates: dict[str, float]) -> dict[str, float]:
    """Return the least milliseconds per layer, forward and backward: arithmetic or memory, whichever is more.

    Arithmetic: six products at the rate of registers. Memory: what a layer must move if every part is one pass
    forward and one backward. Forward it reads the source x and the old part, and writes the new one and z; backward it
    reads the cotangent of the part, z and x, and reads and writes that of the source: 9 passes over half states for
    either part, and 3 over weights (twice read, gradients written).
    """
    weights = sum(p.numel() for name, p in net.named_parameters() if name.startswith("K")) / net.layers
    flops = 6 * 2 * weights * batch
    moved = 4 * (STATE_PASSES * net.neurons * batch + WEIGHT_PASSES * weights)
    size = int(np.clip(2 ** np.ceil(np.log2(layers * moved / 2)), LEAST, MOST))
    copy = rates["copy_gbytes"] if size == MOST else copy_rate(size)
    arithmetic, memory = flops / rates["peak_gflops"] / 1e6, moved / copy / 1e6
    return {"roofline": max(arithmetic, memory), "arithmetic": arithmetic, "memory": memory}
