"""What the networks compute, frozen: every architecture, memory mode and way of running it, in a few numbers.

    python tests/frozen/digests.py                 write tests/frozen/digests.json
    python tests/frozen/digests.py --compare       compare bit by bit with it, and name every case that differs

Of each case: scalar products of the output, of the input's gradient and of every weight's gradient with fixed random
numbers (they tell a changed result from a rounded one), the traffic in every phase, and the first bits of a SHA-256 of
all of them, which is equal on machines of one kind alone. A change that should change nothing leaves all of it alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")  # before PyTorch is loaded, as in tests/conftest.py
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from networks import FAMILY, network, quiet_graph, uneven_widths  # noqa: E402
from on_workers import columns_of, random_owners  # noqa: E402

from dist_hdnn.dynamics.architectures import architecture  # noqa: E402
from dist_hdnn.transport import Transport, run_threads  # noqa: E402

FILE = Path(__file__).with_name("digests.json")
BATCH, LAYERS, AGENTS = 5, 4, 8
MODES: dict[str, dict[str, Any]] = {
    "store": {},
    "recompute": {"memory": "recompute", "keep_every": 3},
    "reversible": {"memory": "reversible"},
    "anchored": {"memory": "reversible", "keep_every": 2},
}
WAYS: dict[str, dict[str, Any]] = {
    "torch": {"plan": "torch"},
    "tiles": {"plan": "tiles"},
    "deterministic": {"deterministic": True},
}
Digest = dict[str, Any]


def machine() -> str:
    """What bits depend on besides the code."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    widest = "avx512" if "avx512f" in flags else "avx2" if "avx2" in flags else platform.machine()
    return f"{model}, {widest}, torch {torch.__version__}, numpy {np.__version__}"


def cases() -> Iterator[tuple[str, dict[str, Any], int]]:
    """(name, options, workers) of every case."""
    for options in FAMILY:
        words = ", ".join(f"{key}={value}" for key, value in options.items())
        for mode, of_mode in MODES.items():
            if mode in ("reversible", "anchored") and not architecture(options["architecture"]).invertible:
                continue
            for way, of_way in WAYS.items():
                for workers in (1, 3):
                    yield f"{words}; {mode}; {way}; {workers} workers", options | of_mode | of_way, workers


def digest(options: dict[str, Any], workers: int) -> Digest:
    """What one case computes."""
    graph, options = quiet_graph("ring"), {"width": uneven_widths(AGENTS), "layers": LAYERS, "step": 0.3, **options}
    whole = network(graph, **options)
    state, generator = whole.state_dict(), torch.Generator().manual_seed(11)
    y, cotangent = torch.randn(2, BATCH, whole.neurons, generator=generator, dtype=torch.float64)
    owners = random_owners(AGENTS, workers)

    def work(transport: Transport | None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        shared = {} if transport is None else {"workers": transport, "partition": owners}
        net = network(graph, **options, **shared)
        net.load_state_dict(state)
        columns = columns_of(net.owned, whole.widths)
        mine = y[:, columns].requires_grad_()
        net.reset_traffic()
        output = net(mine)
        output.backward(cotangent[:, columns])
        totals = net.ownership.ledger.totals()
        traffic = {phase: totals[phase] for phase in ("forward", "backward") if totals[phase]["rounds"]}
        assert mine.grad is not None
        found = {"output": _whole(output.detach(), 1, columns, whole.neurons)}
        found["input"] = _whole(mine.grad, 1, columns, whole.neurons)
        for name, parameter in net.named_parameters():
            shard = net.shards[name]
            assert parameter.grad is not None
            found[name] = _whole(parameter.grad, shard.dimension, shard.index, shard.length)
        return found, traffic

    parts = [work(None)] if workers == 1 else run_threads(workers, work, timeout=60)
    tensors = {name: sum(part[name] for part, _ in parts) for name in parts[0][0]}  # disjoint, zero elsewhere
    bits, numbers = hashlib.sha256(), []
    for name, tensor in tensors.items():
        assert isinstance(tensor, torch.Tensor)
        bits.update(name.encode() + tensor.contiguous().numpy().tobytes())
        probe = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(12), dtype=torch.float64)
        numbers.append(float(f"{float((probe * tensor).sum()):.15e}"))
    keys = {name: list(tensor.shape) for name, tensor in state.items()}
    return {
        "bits": bits.hexdigest()[:16],
        "numbers": numbers,
        "traffic": [_words(traffic) for _, traffic in parts],
        "keys": hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:16],
    }


def _whole(part: torch.Tensor, dimension: int, index: Any, length: int) -> torch.Tensor:
    """A worker's part of a global tensor in its place, zeros elsewhere."""
    shape = [*part.shape]
    shape[dimension] = length
    return part.new_zeros(shape).index_copy_(dimension, torch.as_tensor(np.asarray(index)), part)


def _words(traffic: dict[str, Any]) -> str:
    """Such as "forward 16/96/3840": rounds, messages, bytes."""
    return ", ".join(f"{phase} {of['rounds']}/{of['messages']}/{of['bytes']}" for phase, of in traffic.items())


def all_digests() -> dict[str, Digest]:
    """Those of all cases, by name."""
    return {name: digest(options, workers) for name, options, workers in cases()}


def differences(found: dict[str, Digest], frozen: dict[str, Digest], bitwise: bool) -> list[str]:
    """One line for each case that differs; numbers within 1e-10 are equal unless bits are asked for."""
    lines = [f"{name}: {'new' if name in found else 'gone'}" for name in sorted(found.keys() ^ frozen.keys())]
    for name in found.keys() & frozen.keys():
        new, old = found[name], frozen[name]
        far = not np.allclose(new["numbers"], old["numbers"], rtol=1e-10, atol=1e-10)
        odd = [key for key in ("traffic", "keys") if new[key] != old[key]] + ["numbers"] * far
        odd += ["bits"] * (bitwise and new["bits"] != old["bits"])
        lines += [f"{name}: {key} are {new[key]}, were {old[key]}" for key in odd]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--compare", action="store_true", help="compare with digests.json instead of writing it")
    found = all_digests() if (options := parser.parse_args()) else {}
    if not options.compare:
        text = ",\n".join(f"{json.dumps(name)}: {json.dumps(of)}" for name, of in found.items())
        FILE.write_text(f'{{"machine": {json.dumps(machine())}, "cases": {{\n{text}\n}}}}\n', encoding="utf-8")
        return 0
    frozen = json.loads(FILE.read_text(encoding="utf-8"))
    lines = differences(found, frozen["cases"], bitwise=frozen["machine"] == machine())
    print(*lines, f"{len(lines)} differences in {len(found)} cases", sep="\n")
    return int(bool(lines))


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
